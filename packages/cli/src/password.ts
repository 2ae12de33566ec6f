import { createHash } from 'node:crypto';
import { OperatorError } from '@hawser/server';
import askPassword from '@inquirer/password';

/**
 * Asks for a password, or reads the first line of standard input. Returned as clients send it: the hex MD5 of what
 * was typed.
 */
export async function readPassword(question: string, fromStdin: boolean): Promise<string> {
  if (!fromStdin && !process.stdin.isTTY) {
    throw new OperatorError('there is no terminal to ask for the password: pipe it in, with --password-stdin');
  }
  const typed = fromStdin ? await firstLine() : await ask(question);
  if (typed === '') throw new OperatorError('the password must not be empty');
  return createHash('md5').update(typed).digest('hex');
}

/** On stderr: what the command prints may go elsewhere. */
async function ask(question: string): Promise<string> {
  const stopped = new AbortController();
  // The prompt ends by itself at Ctrl-C, but would never end at Ctrl-D.
  const onKey = (_text: unknown, key: { ctrl?: boolean; name?: string }): void => {
    if (key.ctrl && key.name === 'd') stopped.abort();
  };
  process.stdin.on('keypress', onKey);
  try {
    return await askPassword({ message: question, mask: true }, { output: process.stderr, signal: stopped.signal });
  } catch (error) {
    throw new OperatorError('no password was given, so nothing was changed', { cause: error });
  } finally {
    process.stdin.off('keypress', onKey);
  }
}

async function firstLine(): Promise<string> {
  let text = '';
  for await (const chunk of process.stdin.setEncoding('utf8')) text += chunk as string;
  return text.split(/\r?\n/, 1)[0] ?? '';
}

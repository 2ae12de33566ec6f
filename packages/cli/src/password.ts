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

async function ask(question: string): Promise<string> {
  try {
    return await typedPassword(question, process.stdin);
  } catch (error) {
    throw new OperatorError('no password was given, so nothing was changed', { cause: error });
  }
}

/**
 * Asks for a password on this terminal, as it is typed and without showing it. Rejects at Ctrl-C and Ctrl-D. The
 * question goes to stderr: what the command prints may go elsewhere.
 */
export async function typedPassword(question: string, input: NodeJS.ReadStream): Promise<string> {
  const stopped = new AbortController();
  // The prompt ends by itself at Ctrl-C, but would never end at Ctrl-D.
  const onKey = (_text: unknown, key: { ctrl?: boolean; name?: string }): void => {
    if (key.ctrl && key.name === 'd') stopped.abort();
  };
  input.on('keypress', onKey);
  try {
    return await askPassword(
      { message: question, mask: true },
      { input, output: process.stderr, signal: stopped.signal },
    );
  } finally {
    input.off('keypress', onKey);
  }
}

async function firstLine(): Promise<string> {
  let text = '';
  for await (const chunk of process.stdin.setEncoding('utf8')) text += chunk as string;
  return text.split(/\r?\n/, 1)[0] ?? '';
}

import { createHash } from 'node:crypto';
import askPassword from '@inquirer/password';

/**
 * Asks for a password, or reads the first line of standard input. Returned as clients send it: the hex MD5 of what
 * was typed.
 */
export async function readPassword(question: string, fromStdin: boolean): Promise<string> {
  const typed = fromStdin ? await firstLine() : await askPassword({ message: question, mask: true });
  if (typed === '') throw new Error('the password must not be empty');
  return createHash('md5').update(typed).digest('hex');
}

async function firstLine(): Promise<string> {
  let text = '';
  for await (const chunk of process.stdin.setEncoding('utf8')) text += chunk as string;
  return text.split(/\r?\n/, 1)[0] ?? '';
}

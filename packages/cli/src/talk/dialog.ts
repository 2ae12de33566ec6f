import { openSync, readFileSync } from 'node:fs';
import { createInterface } from 'node:readline/promises';
import { ReadStream } from 'node:tty';
import { visible } from '../output.ts';
import { typedPassword } from '../password.ts';
import type { Ending } from './ending.ts';
import { ExitError, exitCode, UsageError } from './exit.ts';
import type { Lines } from './lines.ts';
import type { AppOptions } from './options.ts';

/** The password as the person typed it. */
export async function passwordFor(name: string, source: AppOptions, lines: Lines | undefined): Promise<string> {
  const password = await givenPassword(name, source, lines);
  if (password === '') throw new UsageError('the password must not be empty');
  return password;
}

async function givenPassword(name: string, source: AppOptions, lines: Lines | undefined): Promise<string> {
  if (source.passwordStdin) return (await lines?.next()) ?? '';
  if (source.passwordFile !== undefined) return firstLineOf(source.passwordFile);
  return ask(`Password for ${visible(name)}`);
}

function firstLineOf(path: string): string {
  try {
    return readFileSync(path, 'utf8').split(/\r?\n/, 1)[0] ?? '';
  } catch (cause) {
    throw new UsageError(`the password file cannot be read: ${(cause as Error).message}`);
  }
}

/** On the terminal, also where standard input is a pipe with messages. */
async function ask(question: string): Promise<string> {
  const input = process.stdin.isTTY ? process.stdin : terminal();
  try {
    return await typedPassword(question, input);
  } catch (cause) {
    const isInterrupted = cause instanceof Error && cause.name === 'ExitPromptError';
    throw new ExitError(isInterrupted ? 130 : exitCode.failed, isInterrupted ? '' : 'no password was given', { cause });
  } finally {
    if (input !== process.stdin) input.destroy();
  }
}

function terminal(): ReadStream {
  try {
    return new ReadStream(openSync('/dev/tty', 'r'));
  } catch {
    throw new UsageError(
      'there is no terminal to ask for the password: give --password-file, or --password-stdin and the password as the first line',
    );
  }
}

/** Asks in the clear. At Ctrl-D the answer is empty. */
export async function question(text: string, ending: Ending): Promise<string> {
  const asking = createInterface({ input: process.stdin, output: process.stderr });
  try {
    asking.on('SIGINT', () => ending.interrupt());
    const closed = new Promise<string>((resolve) => asking.once('close', () => resolve('')));
    return await ending.over(Promise.race([asking.question(text), closed]));
  } finally {
    asking.close();
  }
}

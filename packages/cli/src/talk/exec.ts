import { type ChildProcessByStdio, spawn } from 'node:child_process';
import type { Readable, Writable } from 'node:stream';
import type { Message } from '@hawser/client';
import { terminalLimits } from '@hawser/protocol';

type Child = ChildProcessByStdio<Writable, Readable, null>;

/** Why a command has given no answer: its message is not acked. */
export class ExecError extends Error {}

/**
 * Runs a shell command with the message on its standard input, and gives what it prints, without the line break at the
 * end. A string is given as its text, any other value as JSON.
 *
 * @throws ExecError when it fails, takes too long, prints too much, or is called off
 */
export async function execute(
  command: string,
  { from, to, msgId, json }: Message,
  asJson: boolean,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<string> {
  const child: Child = spawn(command, {
    shell: true,
    // A group of its own, so that what it has started is killed with it.
    detached: true,
    stdio: ['pipe', 'pipe', 'inherit'],
    // What the device proves itself by is not the command's.
    env: { ...process.env, HAWSER_SECRET: undefined, HAWSER_FROM: from, HAWSER_TO: to, HAWSER_MSGID: msgId },
  });
  const input = !asJson && json.startsWith('"') ? (JSON.parse(json) as string) : json;
  // A command need not read it.
  child.stdin.on('error', () => {});
  child.stdin.end(`${input}\n`);
  return outputOf(child, timeoutMs, signal);
}

function outputOf(child: Child, timeoutMs: number, signal: AbortSignal): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const giveUp = (why: string): void => {
    reject(new ExecError(why));
    kill(child);
  };
  const onAbort = (): void => giveUp('the command was stopped');
  const timer = setTimeout(() => giveUp(`the command took more than ${timeoutMs} ms`), timeoutMs);
  signal.addEventListener('abort', onAbort);
  if (signal.aborted) onAbort();
  const chunks: Buffer[] = [];
  let bytes = 0;
  child.stdout.on('data', (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes <= terminalLimits.execOutputBytesMax) chunks.push(chunk);
    else giveUp(`the command printed more than ${terminalLimits.execOutputBytesMax} bytes`);
  });
  child.once('error', (cause) => reject(new ExecError(`the command cannot be run: ${cause.message}`, { cause })));
  child.once('close', (code, killedBy) => {
    if (code === 0)
      resolve(
        Buffer.concat(chunks)
          .toString()
          .replace(/\r?\n$/, ''),
      );
    else reject(new ExecError(`the command ended with ${code ?? killedBy}`));
  });
  return promise.finally(() => {
    clearTimeout(timer);
    signal.removeEventListener('abort', onAbort);
  });
}

function kill({ pid }: Child): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // It has ended by itself.
  }
}

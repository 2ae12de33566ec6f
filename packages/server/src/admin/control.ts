import { chmodSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, request, type Server } from 'node:http';
import { connect } from 'node:net';
import { join } from 'node:path';

/** The control socket in a data folder, for the command line. Whoever may open it may do everything. */
export function controlPath(folder: string): string {
  return join(folder, 'control.sock');
}

/** A path of a socket can be no longer than this, on Linux (108 with its NUL) and macOS (104). */
export const CONTROL_PATH_BYTES_MAX = 103;

const BODY_BYTES_MAX = 64 * 1024;
/** A server that says nothing for this long is taken to be stuck: no operation takes as long. */
const ANSWER_TIMEOUT_MS = 30_000;

/** Runs the operation of that name; throws for one that there is not. */
export type Operate = (name: string, argument: unknown) => Promise<unknown>;

type Answer = { readonly result: unknown } | { readonly error: string };

/**
 * Serves operations on the control socket: `POST /<name>` with a JSON argument, answered `{"result":…}` or
 * `{"error":…}`. Only the owner of the process may open it (mode 0600).
 */
export async function serveControl(path: string, operate: Operate): Promise<Server> {
  // The store's lock on the folder says that no server runs here: a socket that is there is left from a crash.
  rmSync(path, { force: true });
  const server = createServer((incoming, response) => {
    void run(incoming, operate).then((answer) => {
      const body = JSON.stringify(answer);
      // What is left of a request that was too large is not waited for.
      if (!incoming.complete) response.setHeader('Connection', 'close');
      response.writeHead('error' in answer ? 400 : 200, {
        'Content-Type': 'application/json',
        'Content-Length': Buffer.byteLength(body),
      });
      response.end(body);
    });
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    // The socket is made within `listen`: nobody may connect between that and its mode.
    const mask = process.umask(0o177);
    try {
      server.listen(path, resolve);
    } finally {
      process.umask(mask);
    }
  });
  chmodSync(path, 0o600);
  return server;
}

async function run(incoming: IncomingMessage, operate: Operate): Promise<Answer> {
  try {
    const argument = await readArgument(incoming);
    return { result: (await operate((incoming.url ?? '').slice(1), argument)) ?? null };
  } catch (error) {
    return { error: error instanceof Error ? error.message : String(error) };
  }
}

/** Rejects as soon as the argument is too large; the request stays readable, so that the answer reaches its sender. */
function readArgument(incoming: IncomingMessage): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let length = 0;
    incoming.on('data', (chunk: Buffer) => {
      length += chunk.length;
      if (length > BODY_BYTES_MAX) reject(new Error('the argument is too large'));
      else chunks.push(chunk);
    });
    incoming.on('error', reject);
    incoming.on('end', () => {
      try {
        resolve(JSON.parse(Buffer.concat(chunks).toString()));
      } catch {
        reject(new Error('the argument is not JSON'));
      }
    });
  });
}

/** No server listens on the control socket. */
export class NoServer extends Error {}

/** Whether a server listens on the control socket. Rejects when that cannot be told, as for a folder of another user. */
export function isServed(path: string): Promise<boolean> {
  // No socket can be there.
  if (Buffer.byteLength(path) > CONTROL_PATH_BYTES_MAX) return Promise.resolve(false);
  return new Promise((resolve, reject) => {
    const socket = connect(path, () => {
      socket.destroy();
      resolve(true);
    });
    socket.on('error', (error) => {
      const failure = failureOf(path, error);
      if (failure instanceof NoServer) resolve(false);
      else reject(failure);
    });
  });
}

/** Has a running server run an operation. Rejects with `NoServer` when none runs, else with what went wrong. */
export function callControl(path: string, name: string, argument: unknown): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const fail = (error: Error): void => reject(failureOf(path, error));
    const outgoing = request({ socketPath: path, path: `/${name}`, method: 'POST' }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('error', fail);
      response.on('end', () => {
        try {
          const answer = JSON.parse(Buffer.concat(chunks).toString()) as Answer;
          if ('error' in answer) reject(new Error(answer.error));
          else resolve(answer.result);
        } catch (error) {
          fail(error as Error);
        }
      });
    });
    outgoing.setTimeout(ANSWER_TIMEOUT_MS, () => outgoing.destroy(new Error('no answer in time')));
    outgoing.on('error', fail);
    outgoing.end(JSON.stringify(argument));
  });
}

function failureOf(path: string, error: NodeJS.ErrnoException): Error {
  switch (error.code) {
    case 'ENOENT':
    case 'ENOTDIR':
    case 'ECONNREFUSED':
      return new NoServer('no server runs on this data folder', { cause: error });
    case 'EACCES':
      return new Error(`${path} may be used only by the user that the server runs as`, { cause: error });
    default:
      return new Error(`the server did not answer on ${path}: ${error.message}`, { cause: error });
  }
}

import { chmodSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, request, type Server } from 'node:http';
import { join } from 'node:path';

/** The control socket in a data folder, for the command line. Whoever may open it may do everything. */
export function controlPath(folder: string): string {
  return join(folder, 'control.sock');
}

/** A path of a socket can be no longer than this, on Linux (108 with its NUL) and macOS (104). */
export const CONTROL_PATH_BYTES_MAX = 103;

const BODY_BYTES_MAX = 64 * 1024;

/** Runs the operation of that name; throws for one that there is not. */
export type Operate = (name: string, argument: unknown) => Promise<unknown>;

/**
 * Serves operations on the control socket: `POST /<name>` with a JSON argument, answered `{"result":…}` or
 * `{"error":…}`. Only the owner of the process may open it (mode 0600).
 */
export async function serveControl(path: string, operate: Operate): Promise<Server> {
  // The store's lock on the folder says that no server runs here: a socket that is there is left from a crash.
  rmSync(path, { force: true });
  const server = createServer((incoming, response) => {
    void run(incoming, operate).then((answer) => {
      response.writeHead('error' in answer ? 400 : 200, { 'Content-Type': 'application/json' });
      response.end(JSON.stringify(answer));
    });
  });
  // Nobody may connect between the making of the socket and its mode.
  const mask = process.umask(0o177);
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(path, resolve);
    });
  } finally {
    process.umask(mask);
  }
  chmodSync(path, 0o600);
  return server;
}

async function run(incoming: IncomingMessage, operate: Operate): Promise<{ result: unknown } | { error: string }> {
  try {
    let body = '';
    for await (const chunk of incoming.setEncoding('utf8')) {
      body += chunk as string;
      if (body.length > BODY_BYTES_MAX) throw new Error('the argument is too large');
    }
    return { result: (await operate((incoming.url ?? '').slice(1), JSON.parse(body))) ?? null };
  } catch (error) {
    return { error: error instanceof Error ? error.message : String(error) };
  }
}

/** No server listens on the control socket. */
export class NoServer extends Error {}

/** Has a running server run an operation. Rejects with `NoServer` when none runs, else with what went wrong there. */
export function callControl(path: string, name: string, argument: unknown): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const outgoing = request({ socketPath: path, path: `/${name}`, method: 'POST' }, (response) => {
      let body = '';
      response.setEncoding('utf8').on('data', (chunk: string) => {
        body += chunk;
      });
      response.on('end', () => {
        const answer = JSON.parse(body) as { result: unknown } | { error: string };
        if ('error' in answer) reject(new Error(answer.error));
        else resolve(answer.result);
      });
    });
    outgoing.on('error', (error: NodeJS.ErrnoException) => {
      const isNone = error.code === 'ENOENT' || error.code === 'ECONNREFUSED';
      reject(isNone ? new NoServer('no server runs on this data folder', { cause: error }) : error);
    });
    outgoing.end(JSON.stringify(argument));
  });
}

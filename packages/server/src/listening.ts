import type { Server as HttpServer } from 'node:http';
import type { Server as HttpsServer } from 'node:https';
import { StartError } from './parts.ts';

export interface Endpoint {
  readonly host: string;
  readonly port: number;
}

/** Starts to listen; what stands in the way is told in a line, with the option whose port it is. */
export async function listen<Listening>(
  option: string,
  port: number,
  start: () => Promise<Listening>,
): Promise<Listening> {
  try {
    return await start();
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === 'EADDRINUSE') throw new StartError(`${option}: port ${port} is in use`, { cause: error });
    if (code === 'EACCES')
      throw new StartError(`${option}: port ${port} needs more rights than this user has`, { cause: error });
    if (code === 'EADDRNOTAVAIL') {
      throw new StartError(`${option}: this machine does not have the address (${message})`, { cause: error });
    }
    throw new StartError(`${option}: cannot listen on port ${port}: ${message}`, { cause: error });
  }
}

export function closeHttp(server: HttpServer | HttpsServer | undefined): void {
  server?.close();
  server?.closeAllConnections();
}

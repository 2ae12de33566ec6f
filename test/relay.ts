// A WebSocket in front of a TCP server: what comes in binary messages goes on as bytes, and back.

import type { AddressInfo } from 'node:net';
import { connect as connectSocket } from 'node:net';
import { WebSocketServer } from 'ws';

export class WebSocketRelay implements AsyncDisposable {
  readonly #server: WebSocketServer;

  private constructor(server: WebSocketServer, target: { readonly host: string; readonly port: number }) {
    this.#server = server;
    server.on('connection', (client) => {
      const socket = connectSocket({ host: target.host, port: target.port, noDelay: true });
      client.on('message', (data) => socket.write(data as Buffer));
      client.on('close', () => socket.destroy());
      client.on('error', () => socket.destroy());
      socket.on('data', (bytes) => client.send(bytes));
      socket.on('error', () => client.terminate());
      socket.on('end', () => client.close());
      socket.on('close', () => client.close());
    });
  }

  static async listen(target: { readonly host: string; readonly port: number }): Promise<WebSocketRelay> {
    const server = new WebSocketServer({ host: '127.0.0.1', port: 0 });
    const relay = new WebSocketRelay(server, target);
    await new Promise((resolve) => server.once('listening', resolve));
    return relay;
  }

  get url(): string {
    return `ws://127.0.0.1:${(this.#server.address() as AddressInfo).port}/`;
  }

  /** Cuts all connections there are. */
  cutAll(): void {
    for (const client of this.#server.clients) client.terminate();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.cutAll();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

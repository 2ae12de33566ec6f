// How long the dispatcher bears with those who connect and do not ask. It waits in real time, for all of them at once.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { Server } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { serverLimits } from '@hawser/protocol';
import { Authority } from '../../../test/certificates.ts';
import { createDispatcher, createTlsDispatcher } from './dispatcher/http.ts';

const { httpRequestTimeoutMs, tlsHandshakeTimeoutMs, closeTimeoutMs } = serverLimits;
/** Well beyond the deadlines, also where the machine is busy; without them connections would stay for a minute, or for ever. */
const LATEST_MS = 45_000;
const chosen = { ip: '192.0.2.1', port: 8888 };
const open = { mayAsk: () => true, refusedConnection() {} };

describe('a connection', { concurrency: true }, () => {
  let plain: Server;
  let secure: Server;
  let failed = 0;
  before(async () => {
    const authority = new Authority();
    const { cert, key } = authority.issue({ hosts: ['hawser.test'] });
    plain = createDispatcher(() => chosen);
    secure = createTlsDispatcher(
      () => chosen,
      open,
      { cert, key },
      () => failed++,
    );
    for (const server of [plain, secure]) {
      server.listen(0, '127.0.0.1');
      await once(server, 'listening');
    }
  });
  after(() => {
    for (const server of [plain, secure]) {
      server.close();
      server.closeAllConnections();
    }
  });

  /** How long the server has it open, and what it was sent. The client never closes its side. */
  async function lasts(server: () => Server, sends: (socket: Socket) => void): Promise<{ ms: number; text: string }> {
    const { port } = server().address() as AddressInfo;
    const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
    // How the server ends it does not matter.
    socket.on('error', () => {});
    let text = '';
    socket.setEncoding('latin1').on('data', (piece: string) => {
      text += piece;
    });
    const held = new Promise<Socket>((resolve) => {
      server().on('connection', (each: Socket) => {
        if (each.remotePort === socket.localPort) resolve(each);
      });
    });
    await once(socket, 'connect');
    const began = performance.now();
    const closed = once(await held, 'close', { signal: AbortSignal.timeout(LATEST_MS) });
    sends(socket);
    try {
      await closed;
      return { ms: performance.now() - began, text };
    } finally {
      socket.destroy();
    }
  }

  /** A byte of it twice a second, and then zeros. */
  function dribbles(text: string): (socket: Socket) => void {
    return (socket) => {
      let at = 0;
      const timer = setInterval(() => socket.write(text[at++] ?? '0'), 500);
      socket.once('close', () => clearInterval(timer));
    };
  }

  const deadlines: Readonly<Record<string, readonly [() => Server, (socket: Socket) => void, number]>> = {
    'that says nothing': [() => plain, () => {}, httpRequestTimeoutMs],
    'whose request comes byte by byte': [() => plain, dribbles('GET /?id=lamp HTTP/1.1\r\nX: '), httpRequestTimeoutMs],
    'whose request stops in its midst': [
      () => plain,
      (socket) => socket.write('GET /?id=lamp HTTP/1.1\r\n'),
      httpRequestTimeoutMs,
    ],
    'that was answered and asks nothing more': [
      () => plain,
      (socket) => socket.write('GET /?id=lamp HTTP/1.1\r\nHost: x\r\n\r\n'),
      httpRequestTimeoutMs,
    ],
    'that made no sense and stays open from its side': [
      () => plain,
      (socket) => socket.write('\0\r\n\r\n'),
      closeTimeoutMs,
    ],
    'with no handshake, where it is to be TLS': [() => secure, () => {}, tlsHandshakeTimeoutMs],
    'whose handshake comes byte by byte': [
      () => secure,
      dribbles(Buffer.from(`160301006b010000670303${'11'.repeat(100)}`, 'hex').toString('latin1')),
      tlsHandshakeTimeoutMs,
    ],
  };
  for (const [what, [server, sends, afterMs]] of Object.entries(deadlines)) {
    test(`${what} is closed after ${afterMs / 1000} s`, async () => {
      const { ms } = await lasts(server, sends);
      assert.ok(ms > afterMs * 0.8, `${ms} ms`);
    });
  }
});

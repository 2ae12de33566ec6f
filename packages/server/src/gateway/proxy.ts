/** PROXY protocol, version 2: a proxy says in front of what it passes on who its client is. */

import { type Socket, SocketAddress } from 'node:net';
import { serverLimits } from '@hawser/protocol';

/** What a proxy says of its client. */
export interface Proxied {
  /** `undefined`: the connection is the proxy's own, such as to look whether the server is there. */
  readonly address: string | undefined;
  /** The client came to the proxy over TLS. */
  readonly isTls: boolean;
}

const SIGNATURE = Buffer.from('0d0a0d0a000d0a515549540a', 'hex');
const HEAD_BYTES = 16;
const VERSION_2 = 2;
const command = { local: 0, proxy: 1 } as const;
/** Family and transport: TCP over IPv4 and IPv6. */
const family = { tcp4: 0x11, tcp6: 0x21 } as const;
/** What follows the addresses, if it says that the client came over TLS. */
const TYPE_SSL = 0x20;
const CLIENT_SSL = 1;

/**
 * Reads a header from the beginning of what came; `undefined` when more bytes are needed, and `invalid` as soon as they
 * cannot become one.
 */
export function readProxyHeader(
  bytes: Buffer,
): { readonly proxied: Proxied; readonly length: number } | undefined | 'invalid' {
  const begun = Math.min(bytes.length, SIGNATURE.length);
  if (!bytes.subarray(0, begun).equals(SIGNATURE.subarray(0, begun))) return 'invalid';
  if (bytes.length < HEAD_BYTES) return undefined;
  const [version, number] = [bytes[12]! >> 4, bytes[12]! & 0xf];
  const length = HEAD_BYTES + bytes.readUInt16BE(14);
  if (version !== VERSION_2 || length > serverLimits.proxyHeaderBytesMax) return 'invalid';
  if (bytes.length < length) return undefined;
  if (number === command.local) return { proxied: { address: undefined, isTls: false }, length };
  if (number !== command.proxy) return 'invalid';
  const proxied = readClient(bytes[13]!, bytes.subarray(HEAD_BYTES, length));
  return proxied === undefined ? 'invalid' : { proxied, length };
}

/** Two addresses and two ports, and what else the proxy says, each with its type and length. */
function readClient(kind: number, bytes: Buffer): Proxied | undefined {
  const addressBytes = kind === family.tcp4 ? 4 : kind === family.tcp6 ? 16 : undefined;
  if (addressBytes === undefined || bytes.length < 2 * addressBytes + 4) return undefined;
  const address = textOf(bytes.subarray(0, addressBytes));
  let isTls = false;
  for (let at = 2 * addressBytes + 4; at < bytes.length; ) {
    if (at + 3 > bytes.length) return undefined;
    const end = at + 3 + bytes.readUInt16BE(at + 1);
    if (end > bytes.length) return undefined;
    if (bytes[at] === TYPE_SSL && end > at + 3) isTls = (bytes[at + 3]! & CLIENT_SSL) !== 0;
    at = end;
  }
  return { address, isTls };
}

function textOf(bytes: Buffer): string {
  if (bytes.length === 4) return bytes.join('.');
  const groups = Array.from({ length: 8 }, (_, group) => bytes.readUInt16BE(2 * group).toString(16));
  return new SocketAddress({ family: 'ipv6', address: groups.join(':') }).address;
}

/**
 * Takes the header from the front of a connection; what came behind it is read again by whoever reads next. `undefined`
 * when there was none that is valid, in time.
 */
export function takeProxyHeader(socket: Socket): Promise<Proxied | 'invalid' | 'ended'> {
  const { promise, resolve } = Promise.withResolvers<Proxied | 'invalid' | 'ended'>();
  let received = Buffer.alloc(0);
  const deadline = setTimeout(() => done('invalid'), serverLimits.proxyHeaderTimeoutMs);
  const onData = (chunk: Buffer): void => {
    received = Buffer.concat([received, chunk]);
    const found = readProxyHeader(received);
    if (found === 'invalid') done('invalid');
    else if (found !== undefined) {
      const rest = received.subarray(found.length);
      done(found.proxied);
      if (rest.length > 0) socket.unshift(rest);
    }
  };
  // One that only looked whether somebody listens is no fault.
  const onEnd = (): void => done(received.length === 0 ? 'ended' : 'invalid');
  const done = (outcome: Proxied | 'invalid' | 'ended'): void => {
    clearTimeout(deadline);
    socket.off('data', onData).off('end', onEnd).off('close', onEnd).pause();
    resolve(outcome);
  };
  socket.on('data', onData).on('end', onEnd).on('close', onEnd);
  return promise;
}

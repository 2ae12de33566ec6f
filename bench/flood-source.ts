// The flood's process: new connections at a steady rate, each with a key exchange, and sockets that dribble a byte a second.
// Told by messages of its parent to begin and to pause; answers each with what it has done so far.
import { randomBytes } from 'node:crypto';
import { connect, type Socket } from 'node:net';
import { setPriority } from 'node:os';
import type { Endpoint } from './link.ts';
import { CMD, emptyEnvelope, frame, Keys, readEnvelope } from './wire.ts';

const SOURCE = '127.0.0.2';
const PER_SECOND = 2000;
const SLOW_SOCKETS = 200;
const TICK_MS = 5;
/** What a late tick catches up on. */
const OPENED_PER_TICK_MAX = 100;
/** Connections that have no answer yet: as many as an attacker may have open here. */
const OPEN_MAX = 4000;
const CIPHERTEXT_SIZE = 256;
/** The measured clients share its core, and must not wait for it. */
const NICE = 19;

export type FloodCounts = {
  opened: number;
  /** Key exchanges answered 100, and 200. */
  agreed: number;
  refused: number;
  /** Connections that ended before an answer. */
  ended: number;
  slowEnded: number;
};

const endpoint: Endpoint = JSON.parse(process.argv[2] ?? '');
const keys = new Keys(randomBytes(16));
const envelope = emptyEnvelope();
const counts: FloodCounts = { opened: 0, agreed: 0, refused: 0, ended: 0, slowEnded: 0 };
let open = 0;
let timer: NodeJS.Timeout | undefined;
const slow = new Set<Socket>();

function dial(): Socket {
  const socket = connect({ ...endpoint, localAddress: SOURCE, noDelay: true });
  socket.on('error', () => {});
  return socket;
}

/** Every second one sends a real ciphertext, the others random bytes of its length. */
function handshake(): void {
  const isReal = counts.opened++ % 2 === 0;
  let isAnswered = false;
  open++;
  const socket = dial();
  let rest: Buffer = Buffer.alloc(0);
  socket.on('data', (chunk: Buffer) => {
    rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    while (rest.length >= 4 && rest.length >= 4 + rest.readUInt32BE(0)) {
      const end = 4 + rest.readUInt32BE(0);
      if (!readEnvelope(rest, 4, end, envelope)) return socket.destroy();
      const data = rest.subarray(envelope.dataStart, envelope.dataEnd);
      if (envelope.cmd === CMD.publicKey) {
        const ciphertext = isReal ? keys.sealedFor(data) : randomBytes(CIPHERTEXT_SIZE);
        socket.write(frame(CMD.negotiate, 'flood', false, ciphertext));
      } else {
        isAnswered = true;
        if (data.includes('"code":100')) counts.agreed++;
        else counts.refused++;
        // No port is left waiting.
        socket.resetAndDestroy();
        return;
      }
      rest = rest.subarray(end);
    }
  });
  socket.on('close', () => {
    open--;
    if (!isAnswered) counts.ended++;
  });
}

/** A frame that is promised and comes a byte a second. */
function dribble(): void {
  const socket = dial();
  slow.add(socket);
  socket.resume();
  socket.write(Buffer.from([0, 0, 1, 0]));
  const dribbling = setInterval(() => socket.write(Buffer.from([0x0a])), 1000);
  socket.on('close', () => {
    clearInterval(dribbling);
    slow.delete(socket);
    if (timer === undefined) return;
    counts.slowEnded++;
    dribble();
  });
}

function begin(): void {
  for (let i = slow.size; i < SLOW_SOCKETS; i++) dribble();
  let lastMs = performance.now();
  let due = 0;
  timer = setInterval(() => {
    const nowMs = performance.now();
    due = Math.min(OPENED_PER_TICK_MAX, due + ((nowMs - lastMs) * PER_SECOND) / 1000);
    lastMs = nowMs;
    for (; due >= 1; due--) if (open < OPEN_MAX) handshake();
  }, TICK_MS);
}

function pause(): void {
  clearInterval(timer);
  timer = undefined;
  for (const socket of slow) socket.resetAndDestroy();
}

setPriority(NICE);
process.on('message', (message) => {
  if (message === 'begin') begin();
  else if (message === 'pause') pause();
  process.send?.(counts);
});
process.on('disconnect', () => process.exit());

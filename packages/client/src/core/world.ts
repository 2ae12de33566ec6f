/** For tests: a world on virtual time, in which a test plays the dispatcher and the servers. Nothing in it sleeps. */

import {
  cmd,
  decodeEnvelope,
  decodeText,
  type Envelope,
  encodeFrame,
  encodeText,
  FrameCutter,
  OK_BODY,
  wireLimits,
} from '@hawser/protocol';
import type { Address, KeyExchange, Ports, Time, Timer, WireEvents } from './ports.ts';

interface Due extends Timer {
  readonly at: number;
  readonly order: number;
  readonly call: () => void;
  isCancelled: boolean;
}

/** Time that stands still until it is advanced. Calls come in the order of their times. */
export class VirtualTime implements Time {
  #now = 0;
  #order = 0;
  /** A binary heap, the earliest first. */
  readonly #heap: Due[] = [];

  now(): number {
    return this.#now;
  }

  after(ms: number, call: () => void): Timer {
    const due: Due = {
      at: this.#now + Math.max(0, ms),
      order: this.#order++,
      call,
      isCancelled: false,
      cancel() {
        this.isCancelled = true;
      },
    };
    this.#push(due);
    return due;
  }

  endOfTurn(call: () => void): void {
    queueMicrotask(call);
  }

  /** Lets everything happen that happens within `ms`; what a call brings about is done before the next one. */
  async advance(ms: number): Promise<void> {
    const until = this.#now + ms;
    await turn();
    while (this.#heap.length > 0 && this.#heap[0]!.at <= until) {
      const due = this.#pop();
      if (due.isCancelled) continue;
      this.#now = due.at;
      due.call();
      await turn();
    }
    this.#now = until;
  }

  #push(due: Due): void {
    const heap = this.#heap;
    let at = heap.push(due) - 1;
    while (at > 0 && isBefore(due, heap[(at - 1) >> 1]!)) {
      heap[at] = heap[(at - 1) >> 1]!;
      at = (at - 1) >> 1;
    }
    heap[at] = due;
  }

  #pop(): Due {
    const heap = this.#heap;
    const first = heap[0]!;
    const last = heap.pop()!;
    if (heap.length === 0) return first;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && isBefore(heap[child + 1]!, heap[child]!)) child++;
      if (!isBefore(heap[child]!, last)) break;
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = last;
    return first;
  }
}

function isBefore(a: Due, b: Due): boolean {
  return a.at < b.at || (a.at === b.at && a.order < b.order);
}

/** Until all promises that can settle have. */
function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** Numbers from 0 up to 1, the same ones for the same seed (mulberry32). */
export function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A frame as a server gets it. */
export interface Got {
  readonly cmd: number;
  readonly msgId: string;
  readonly isEncrypt: boolean;
  /** As it came: views do not outlive the turn. */
  readonly data: Uint8Array;
  readonly at: number;
}

export function jsonOf(frame: Pick<Envelope, 'data'> | undefined): unknown {
  return frame === undefined || frame.data.length === 0 ? undefined : JSON.parse(decodeText(frame.data) ?? '');
}

/** The server's end of a connection. */
export class Peer {
  readonly address: Address;
  readonly got: Got[] = [];
  /** What the client did to the connection; `undefined` while it stands. */
  closedBy: 'end' | 'destroy' | 'server' | undefined;
  readonly #world: World;
  readonly #events: WireEvents;
  readonly #cutter = new FrameCutter();

  constructor(world: World, address: Address, events: WireEvents) {
    this.#world = world;
    this.address = address;
    this.#events = events;
  }

  open(): void {
    if (this.closedBy === undefined) this.#events.opened();
  }

  /** Bytes from the client. */
  received(bytes: Uint8Array): void {
    this.#cutter.push(bytes);
    for (;;) {
      const body = this.#cutter.next(wireLimits.frameBytesMax);
      if (body === undefined) return;
      const frame = body === 'too long' ? undefined : decodeEnvelope(body);
      if (frame === undefined) throw new Error('the client has sent what is not a frame');
      const got = { ...frame, data: frame.data.slice(), at: this.#world.time.now() };
      this.got.push(got);
      // Later, as from afar: never from within the client's own call.
      this.#world.time.after(0, () => this.#world.onFrame(this, got));
    }
  }

  send(number: number, msgId: string, body: unknown = undefined): void {
    const data = body === undefined ? new Uint8Array(0) : encodeText(JSON.stringify(body));
    this.sendRaw(encodeFrame(number, msgId, false, data));
  }

  sendRaw(bytes: Uint8Array): void {
    if (this.closedBy === undefined) this.#events.received(bytes);
  }

  push(...messages: { from: string; msg: unknown; msgid: string; ts?: number }[]): void {
    this.send(
      cmd.push,
      '',
      messages.map((message) => ({ to: 'me', ...message })),
    );
  }

  close(cause?: Error): void {
    if (this.closedBy !== undefined) return;
    this.closedBy = 'server';
    this.#events.closed(cause);
  }

  /** The frames of one command. */
  all(number: number): Got[] {
    return this.got.filter((frame) => frame.cmd === number);
  }

  /** The msgIds of the messages that came. */
  messageIds(): string[] {
    return this.all(cmd.message).map(({ msgId }) => msgId);
  }

  /** The ids that were acked, frame by frame. */
  acks(): string[][] {
    return this.all(cmd.push).map((frame) => (jsonOf(frame) as { msgid: string }[]).map(({ msgid }) => msgid));
  }
}

/** Answers heartbeats and logins, and nothing else. */
export function politely(peer: Peer, frame: Got): void {
  if (frame.cmd === cmd.heartbeat) peer.send(cmd.heartbeat, frame.msgId);
  else if (frame.cmd === cmd.login || frame.cmd === cmd.authenticate) {
    peer.sendRaw(encodeFrame(frame.cmd, frame.msgId, false, OK_BODY));
  }
}

export class World {
  readonly time = new VirtualTime();
  readonly fraction: () => number;
  /** All connections ever made, also those that did not open. */
  readonly peers: Peer[] = [];
  /** Ids that the dispatcher was asked for, and when. */
  readonly asked: { readonly id: string; readonly at: number }[] = [];
  readonly reports: Error[] = [];
  /** The dispatcher. */
  locate: () => Promise<Address> = () => Promise.resolve({ host: 'server', port: 8888 });
  /** What becomes of a new connection. */
  onConnect: (peer: Peer) => void = (peer) => peer.open();
  /** What the server does with a frame. */
  onFrame: (peer: Peer, frame: Got) => void = politely;
  keys: KeyExchange | undefined;
  #ids = 0;

  constructor(seed = 1) {
    this.fraction = randomFrom(seed);
  }

  /** The connection of now. */
  get peer(): Peer {
    const peer = this.peers.at(-1);
    if (peer === undefined) throw new Error('no connection was made');
    return peer;
  }

  ports(): Ports {
    return {
      time: this.time,
      random: { fraction: this.fraction, id: () => `id-${++this.#ids}` },
      transport: {
        agreesOnKey: this.keys !== undefined,
        connect: (address, events) => {
          const peer = new Peer(this, address, events);
          this.peers.push(peer);
          this.time.after(0, () => this.onConnect(peer));
          return {
            write: (bytes) => {
              if (peer.closedBy === undefined) peer.received(bytes);
            },
            end: () => {
              peer.closedBy ??= 'end';
            },
            destroy: () => {
              peer.closedBy ??= 'destroy';
            },
          };
        },
      },
      locate: (id) => {
        this.asked.push({ id, at: this.time.now() });
        return this.locate();
      },
      keys: this.keys,
      report: (error) => this.reports.push(error),
    };
  }
}

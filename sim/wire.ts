import type { Cipher } from '@hawser/protocol';
import type { Time, Wire } from '@hawser/server/core/ports';
import type { Session } from '@hawser/server/core/session';
import type { ServerFrame } from './frames.ts';
import type { Process } from './process.ts';
import type { Random } from './random.ts';
import type { Scheduler } from './scheduler.ts';

/** What a socket holds in memory before `drain` is told. */
const HIGH_WATER_BYTES = 64 * 1024;
const CLOSE_TIMEOUT_MS = 5000;
const NO_BYTES = new Uint8Array(0);

/** The client's end of a wire. */
export interface Peer {
  /** It reads the bytes itself. */
  readonly readsBytes?: boolean;
  /** @param bytes what the frames were read from, the peer's own; empty when it does not read bytes */
  received(frames: readonly ServerFrame[], bytes: Uint8Array): void;
  /** The server sends no more, or the connection broke. */
  ended(): void;
}

/** Bytes on their way to the server; `handed` is called when the last of them gets there. */
interface Upward {
  readonly bytes: Uint8Array;
  readonly handed: (() => void) | undefined;
  at: number;
}

interface Downward {
  readonly bytes: number;
  readonly raw: Uint8Array;
  readonly frames: readonly ServerFrame[];
}

export interface WirePorts {
  readonly scheduler: Scheduler;
  readonly random: Random;
  /** Of the run of the server that it leads to. */
  readonly time: Time;
  readonly process: Process;
  readonly peer: Peer;
  readonly latencyMs: number;
  readonly secure: boolean;
  /** Reads what the server writes, at the moment it does. */
  readonly written: (bytes: Uint8Array) => readonly ServerFrame[];
  /** The server's end is closed. */
  readonly closed: () => void;
}

/** A TCP connection: both ends and what lies between. */
export class SimWire implements Wire {
  readonly address = '10.0.0.1';
  readonly secure: boolean;
  wroteAt = 0;
  unsentBytes = 0;
  /** The key that the client chose; the cipher of the client's side. */
  cipher: Cipher | undefined;
  readonly #ports: WirePorts;
  readonly #osBytesMax: number;
  #session: Session | undefined;

  // Client to server
  #up: Upward[] = [];
  #upAt = 0;
  #pumpSet = false;
  #isPaused = false;
  #finSent = false;
  #finHanded = false;

  // Server to client
  #down: Downward[] = [];
  #osBytes = 0;
  #downAt = 0;
  #arrived: Downward[] = [];
  #needsDrain = false;
  #isEnded = false;

  /** Nothing gets through before this time, in either direction. */
  #stalledTo = 0;
  /** The client does not read. */
  #isFrozen = false;
  /** The client's end is gone; the server is not told. */
  #isVanished = false;
  #serverGone = false;
  #clientGone = false;

  constructor(ports: WirePorts) {
    this.#ports = ports;
    this.secure = ports.secure;
    this.#osBytesMax = ports.random.pick([16, 64, 128, 512]) * 1024;
  }

  /** The server has accepted the connection. */
  serve(session: Session): void {
    this.#session = session;
  }

  // ---- the server's end

  write(bytes: Uint8Array): void {
    if (this.#isEnded || this.#serverGone) return;
    const frames = this.#ports.written(bytes);
    const raw = this.#ports.peer.readsBytes === true ? bytes.slice() : NO_BYTES;
    this.#down.push({ bytes: bytes.length, raw, frames });
    this.unsentBytes += bytes.length;
    this.#take();
    if (this.unsentBytes >= HIGH_WATER_BYTES) this.#needsDrain = true;
  }

  pause(): void {
    this.#isPaused = true;
  }

  resume(): void {
    if (!this.#isPaused) return;
    this.#isPaused = false;
    this.#setPump(this.#ports.scheduler.now);
  }

  end(): void {
    if (this.#isEnded || this.#serverGone) return;
    this.#isEnded = true;
    this.#ports.closed();
    this.#take();
    this.#ports.scheduler.after(CLOSE_TIMEOUT_MS, () => this.#finishEnd());
  }

  destroy(): void {
    this.#isEnded = true;
    this.cut();
  }

  /** The operating system takes what it has room for. */
  #take(): void {
    while (this.#down.length > 0) {
      const next = this.#down[0]!;
      if (this.#osBytes > 0 && this.#osBytes + next.bytes > this.#osBytesMax) return;
      this.#down.shift();
      this.unsentBytes -= next.bytes;
      this.#osBytes += next.bytes;
      this.wroteAt = this.#ports.time.now();
      this.#travelDown(next);
    }
    if (this.#isEnded && this.#osBytes === 0) this.#finishEnd();
  }

  #travelDown(part: Downward): void {
    if (this.#isVanished) return;
    const { scheduler } = this.#ports;
    this.#downAt = Math.max(this.#downAt, scheduler.now + this.#latency(), this.#stalledTo);
    scheduler.at(this.#downAt, () => this.#arrive(part));
  }

  #arrive(part: Downward): void {
    if (this.#isVanished || this.#clientGone || this.#serverGone) return;
    if (this.#ports.scheduler.now < this.#stalledTo) {
      this.#ports.scheduler.at(this.#stalledTo, () => this.#arrive(part));
      return;
    }
    if (this.#isFrozen) this.#arrived.push(part);
    else this.#deliver(part);
  }

  #deliver(part: Downward): void {
    this.#osBytes -= part.bytes;
    this.#ports.peer.received(part.frames, part.raw);
    this.#take();
    if (this.#needsDrain && this.unsentBytes === 0 && !this.#serverGone) {
      this.#needsDrain = false;
      this.#ports.process.run(() => this.#session?.drained());
    }
  }

  /** Everything was flushed, or it took too long: the connection is closed. */
  #finishEnd(): void {
    if (this.#serverGone) return;
    this.#tellServer();
    this.#tellClient(this.#latency());
  }

  #tellServer(): void {
    if (this.#serverGone) return;
    this.#serverGone = true;
    this.#ports.closed();
    this.#up = [];
    this.#ports.process.run(() => this.#session?.gone());
  }

  #tellClient(ms: number): void {
    if (this.#clientGone || this.#isVanished) return;
    this.#ports.scheduler.at(Math.max(this.#ports.scheduler.now + ms, this.#stalledTo), () => {
      if (this.#clientGone || this.#isVanished) return;
      this.#clientGone = true;
      this.#ports.peer.ended();
    });
  }

  // ---- the client's end

  get canSend(): boolean {
    return !this.#finSent && !this.#clientGone && !this.#isVanished;
  }

  send(bytes: Uint8Array, handed?: () => void): void {
    if (!this.canSend || this.#serverGone) return;
    const { scheduler, random } = this.#ports;
    this.#upAt = Math.max(this.#upAt, scheduler.now + this.#latency(), this.#stalledTo);
    if (bytes.length > 1 && random.chance(0.15)) {
      const at = 1 + random.below(bytes.length - 1);
      this.#up.push({ bytes: bytes.subarray(0, at), handed: undefined, at: this.#upAt });
      this.#setPump(this.#upAt);
      this.#upAt += random.magnitude(0.01, 50);
      this.#up.push({ bytes: bytes.subarray(at), handed, at: this.#upAt });
    } else this.#up.push({ bytes, handed, at: this.#upAt });
    this.#setPump(this.#upAt);
  }

  /** The client sends no more, and still reads. */
  halfClose(): void {
    if (!this.canSend) return;
    this.#finSent = true;
    this.#upAt = Math.max(this.#upAt, this.#ports.scheduler.now + this.#latency());
    this.#setPump(this.#upAt);
  }

  /** The client closes: a FIN behind what it sent, or a reset that overtakes it. */
  close(how: 'fin' | 'reset'): void {
    if (this.#clientGone || this.#isVanished) return;
    this.#clientGone = true;
    const { scheduler } = this.#ports;
    if (how === 'reset') {
      scheduler.at(Math.max(scheduler.now + this.#latency(), this.#stalledTo), () => this.#tellServer());
      return;
    }
    this.#finSent = true;
    this.#upAt = Math.max(this.#upAt, scheduler.now + this.#latency(), this.#stalledTo);
    this.#setPump(this.#upAt);
    // Whatever the server still writes is answered with a reset.
    scheduler.at(this.#upAt + this.#latency() * 3 + 20, () => this.#tellServer());
  }

  freeze(): void {
    this.#isFrozen = true;
  }

  thaw(): void {
    if (!this.#isFrozen) return;
    this.#isFrozen = false;
    for (const part of this.#arrived.splice(0)) {
      if (!this.#clientGone && !this.#isVanished && !this.#serverGone) this.#deliver(part);
    }
  }

  // ---- what befalls it

  /** Nothing gets through for so long. */
  stall(ms: number): void {
    this.#stalledTo = Math.max(this.#stalledTo, this.#ports.scheduler.now + ms);
  }

  /** A reset reaches both ends; what was under way is lost. */
  cut(): void {
    if (this.#isVanished || this.#clientGone) return;
    this.#tellServer();
    this.#tellClient(this.#latency());
  }

  /** The client's end is gone and tells nobody. What it sent still arrives. */
  vanish(): void {
    if (this.#isVanished || this.#clientGone) return;
    this.#isVanished = true;
    const { scheduler, random } = this.#ports;
    // The server's kernel gives up when nothing it sent is acknowledged; until then only silence tells.
    scheduler.after(random.magnitude(20_000, 900_000), () => {
      if (this.#osBytes > 0 || this.unsentBytes > 0) this.#tellServer();
    });
  }

  /** The server's process or machine is gone. */
  serverCrashed(isTold: boolean): void {
    if (this.#serverGone) return;
    this.#serverGone = true;
    this.#session = undefined;
    this.#up = [];
    const { random } = this.#ports;
    this.#tellClient(isTold ? this.#latency() : random.magnitude(1000, 120_000));
  }

  get isOpen(): boolean {
    return !this.#clientGone && !this.#isVanished;
  }

  get isServed(): boolean {
    return !this.#serverGone;
  }

  // ---- on the way

  #latency(): number {
    const { random, latencyMs } = this.#ports;
    return latencyMs * random.between(0.5, random.chance(0.02) ? 20 : 1.5);
  }

  #setPump(at: number): void {
    if (this.#pumpSet) return;
    this.#pumpSet = true;
    this.#ports.scheduler.at(at, () => this.#pump());
  }

  /** Hands the server what has arrived, in one piece. */
  #pump(): void {
    this.#pumpSet = false;
    const session = this.#session;
    if (this.#serverGone || this.#isPaused) return;
    const { scheduler, process } = this.#ports;
    if (process.isPaused) {
      process.run(() => this.#setPump(scheduler.now));
      return;
    }
    if (scheduler.now < this.#stalledTo) {
      this.#setPump(this.#stalledTo);
      return;
    }
    if (session === undefined || this.#isEnded) {
      this.#up = [];
      return;
    }
    let count = 0;
    let bytes = 0;
    while (count < this.#up.length && this.#up[count]!.at <= scheduler.now && bytes < HIGH_WATER_BYTES) {
      bytes += this.#up[count++]!.bytes.length;
    }
    if (count > 0) {
      const parts = count === this.#up.length ? this.#up : this.#up.splice(0, count);
      if (parts === this.#up) this.#up = [];
      for (const part of parts) part.handed?.();
      session.receive(count === 1 ? parts[0]!.bytes : joined(parts, bytes));
    }
    if (this.#isPaused || this.#serverGone || this.#isEnded) return;
    const next = this.#up[0];
    if (next !== undefined) this.#setPump(next.at);
    else if (this.#finSent && !this.#finHanded) {
      if (this.#upAt > scheduler.now) this.#setPump(this.#upAt);
      else {
        this.#finHanded = true;
        session.receivedEnd();
      }
    }
  }
}

function joined(parts: readonly Upward[], bytes: number): Uint8Array {
  const chunk = new Uint8Array(bytes);
  let at = 0;
  for (const part of parts) {
    chunk.set(part.bytes, at);
    at += part.bytes.length;
  }
  return chunk;
}

// A TCP proxy between clients and a server that does to connections what networks do: cuts them anywhere, lets them go
// dead without a word, delays and splits what passes, refuses new ones. All chance comes from a seed.

import { connect as connectSocket, createServer, type Server as NetServer, type Socket } from 'node:net';

export interface Target {
  readonly host: string;
  readonly port: number;
}

/** What the proxy does to each connection that it accepts from now on. */
export interface Faults {
  /** Each chunk is held back for a random time up to this; order is kept. */
  readonly delayMsMax?: number;
  /** Chunks are split into pieces of a random size up to this. */
  readonly pieceBytesMax?: number;
  /** The connection is cut after a random number of bytes up to this, in one direction or the other. */
  readonly cutAfterBytesMax?: number;
  /** How it is cut: `reset` (RST), `end` (FIN both ways), or `silence` (half-open: nothing passes any more). */
  readonly cut?: 'reset' | 'end' | 'silence';
  /** New connections are accepted and cut at once. */
  readonly refuse?: boolean;
}

export class HostileProxy implements AsyncDisposable {
  /** Connections begun so far. */
  connections = 0;
  faults: Faults = {};
  readonly #server: NetServer;
  readonly #random: () => number;
  readonly #links = new Set<Link>();
  #target: Target;

  private constructor(target: Target, random: () => number) {
    this.#target = { host: target.host, port: target.port };
    this.#random = random;
    this.#server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => this.#accept(socket));
  }

  /** @param random from 0 up to 1 */
  static async listen(target: Target, random: () => number): Promise<HostileProxy> {
    const proxy = new HostileProxy(target, random);
    await new Promise<void>((resolve, reject) => {
      proxy.#server.once('error', reject);
      proxy.#server.listen(0, '127.0.0.1', resolve);
    });
    return proxy;
  }

  get host(): string {
    return '127.0.0.1';
  }

  get port(): number {
    const address = this.#server.address();
    if (address === null || typeof address === 'string') throw new Error('the proxy does not listen');
    return address.port;
  }

  /** Where new connections lead: a server that was restarted has another port. */
  set target(target: Target) {
    this.#target = { host: target.host, port: target.port };
  }

  /** Cuts all connections there are. */
  cutAll(how: 'reset' | 'end' | 'silence'): void {
    for (const link of [...this.#links]) link.cut(how);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    for (const link of [...this.#links]) link.destroy();
    await closed;
  }

  #accept(client: Socket): void {
    this.connections++;
    const link = new Link(client, this.#target, this.faults, this.#random, () => this.#links.delete(link));
    this.#links.add(link);
    if (this.faults.refuse === true) link.cut('reset');
  }
}

/** One connection of a client, and the one to the server that goes with it. */
class Link {
  readonly #client: Socket;
  readonly #server: Socket;
  readonly #faults: Faults;
  readonly #random: () => number;
  readonly #timers = new Set<NodeJS.Timeout>();
  /** Nothing more passes. */
  #isCut = false;
  #bytesUntilCut: number;

  constructor(client: Socket, target: Target, faults: Faults, random: () => number, gone: () => void) {
    this.#client = client;
    this.#faults = faults;
    this.#random = random;
    this.#bytesUntilCut = random() * (faults.cutAfterBytesMax ?? Number.POSITIVE_INFINITY);
    this.#server = connectSocket({ host: target.host, port: target.port, noDelay: true, allowHalfOpen: true });
    let open = 2;
    for (const [from, to] of [
      [client, this.#server],
      [this.#server, client],
    ] as const) {
      this.#pass(from, to);
      from.on('error', () => this.cut('reset'));
      from.on('close', () => {
        open--;
        if (open > 0) return;
        for (const timer of this.#timers) clearTimeout(timer);
        gone();
      });
    }
  }

  cut(how: 'reset' | 'end' | 'silence'): void {
    this.#isCut = true;
    for (const socket of [this.#client, this.#server]) {
      if (how === 'reset') socket.resetAndDestroy();
      else if (how === 'end') socket.destroySoon();
      // Its end is read into nothing, so that the other side finds out only by what does not come.
      else socket.resume();
    }
  }

  /** Lets go of both sockets at once; a reset would wait for what is still to be written. */
  destroy(): void {
    this.#isCut = true;
    for (const socket of [this.#client, this.#server]) socket.destroy();
  }

  #pass(from: Socket, to: Socket): void {
    const queue: { readonly dueAt: number; readonly call: () => void }[] = [];
    /** One timer for the first of them: timers of their own may go off in another order. */
    const wait = (): void => {
      const timer = setTimeout(
        () => {
          this.#timers.delete(timer);
          while (queue.length > 0 && queue[0]!.dueAt <= performance.now()) queue.shift()?.call();
          if (queue.length > 0) wait();
        },
        Math.ceil(queue[0]!.dueAt - performance.now()),
      );
      this.#timers.add(timer);
    };
    const later = (call: () => void): void => {
      const { delayMsMax } = this.#faults;
      if (delayMsMax === undefined) {
        call();
        return;
      }
      queue.push({ dueAt: performance.now() + this.#random() * delayMsMax, call });
      if (queue.length === 1) wait();
    };
    from.on('data', (chunk: Buffer) => {
      if (this.#isCut) return;
      for (const piece of this.#pieces(chunk)) later(() => this.#write(to, piece));
    });
    from.on('end', () => {
      if (!this.#isCut) later(() => to.end());
    });
  }

  #pieces(chunk: Buffer): Buffer[] {
    const { pieceBytesMax } = this.#faults;
    if (pieceBytesMax === undefined) return [chunk];
    const pieces: Buffer[] = [];
    for (let at = 0; at < chunk.length; ) {
      const length = 1 + Math.floor(this.#random() * pieceBytesMax);
      pieces.push(chunk.subarray(at, at + length));
      at += length;
    }
    return pieces;
  }

  #write(to: Socket, piece: Buffer): void {
    if (this.#isCut || !to.writable) return;
    if (piece.length < this.#bytesUntilCut) {
      this.#bytesUntilCut -= piece.length;
      to.write(piece);
      return;
    }
    // In the middle of whatever passes just now.
    this.#isCut = true;
    to.write(piece.subarray(0, Math.floor(this.#bytesUntilCut)), () => this.cut(this.#faults.cut ?? 'reset'));
  }
}

// A hostile network between clients and server: TCP connections that split, merge, delay, stall and break.
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import type { Random } from '../sim/random.ts';
import { type Manner, Pipe } from './pipe.ts';

/** How a connection ends: within the bytes under way, for one side or both. */
export type Breakage = 'reset' | 'fin' | 'reset to server' | 'reset to client' | 'hole up' | 'hole down' | 'stall';

export interface ProxyPlan {
  readonly manners: Readonly<Record<Manner, number>>;
  readonly breakages: Readonly<Record<Breakage, number>>;
  /** Between two breakages, over all connections; a mean. */
  readonly breakEveryMs: number;
}

export class HostileProxy {
  /** Port of the server, and where that is. */
  target = 0;
  targetHost = '127.0.0.1';
  readonly counts = { connections: 0, breakages: 0 };
  readonly #random: Random;
  readonly #links = new Set<Link>();
  #server: Server | undefined;
  #plan: ProxyPlan | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(random: Random) {
    this.#random = random;
  }

  async listen(): Promise<void> {
    const server = createServer({ noDelay: true, allowHalfOpen: true }, (socket) => this.#accept(socket));
    this.#server = server;
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', 2048, resolve));
  }

  get port(): number {
    const address = this.#server?.address() as AddressInfo | undefined;
    if (address === undefined) throw new Error('the proxy does not listen');
    return address.port;
  }

  /** Trouble begins: from now on connections behave so. */
  disturb(plan: ProxyPlan): void {
    this.#plan = plan;
    this.#breakNext();
  }

  /** No trouble any more; what cannot get well is broken for good. */
  heal(): void {
    this.#plan = undefined;
    clearTimeout(this.#timer);
    for (const link of this.#links) link.heal();
  }

  close(): void {
    this.heal();
    for (const link of this.#links) link.end('reset');
    this.#server?.close();
  }

  #accept(client: Socket): void {
    this.counts.connections++;
    const manner = (): Manner => (this.#plan === undefined ? 'plain' : this.#random.weighted(this.#plan.manners));
    const to = { host: this.targetHost, port: this.target };
    const link: Link = new Link(client, to, this.#random, [manner(), manner()], () => this.#links.delete(link));
    this.#links.add(link);
  }

  #breakNext(): void {
    const plan = this.#plan;
    if (plan === undefined || plan.breakEveryMs === Number.POSITIVE_INFINITY) return;
    this.#timer = setTimeout(() => {
      if (this.#links.size > 0) {
        this.counts.breakages++;
        this.#random.pick([...this.#links]).breakSoon(this.#random.weighted(plan.breakages));
      }
      this.#breakNext();
    }, this.#random.wait(plan.breakEveryMs));
  }
}

/** One connection through the proxy. */
class Link {
  readonly #client: Socket;
  readonly #server: Socket;
  readonly #random: Random;
  readonly #up: Pipe;
  readonly #down: Pipe;
  readonly #gone: () => void;
  #isOver = false;

  constructor(
    client: Socket,
    to: { readonly host: string; readonly port: number },
    random: Random,
    manners: readonly [Manner, Manner],
    gone: () => void,
  ) {
    this.#client = client;
    this.#random = random;
    this.#gone = gone;
    this.#server = connect({ ...to, noDelay: true, allowHalfOpen: true });
    this.#up = new Pipe(client, this.#server, random, manners[0]);
    this.#down = new Pipe(this.#server, client, random, manners[1]);
    for (const [socket, pipe] of [
      [this.#client, this.#down],
      [this.#server, this.#up],
    ] as const) {
      socket.on('error', () => this.#broken(socket));
      // A socket that is closed takes nothing any more.
      socket.on('close', () => pipe.stop());
    }
    for (const socket of [this.#client, this.#server]) socket.on('close', () => this.#closed());
  }

  /** One side broke: the other is told once it has got what was under way. */
  #broken(socket: Socket): void {
    (socket === this.#client ? this.#up : this.#down).finish('reset');
  }

  #closed(): void {
    if (this.#isOver || !this.#client.destroyed || !this.#server.destroyed) return;
    this.#isOver = true;
    this.#gone();
  }

  end(how: 'reset' | 'fin'): void {
    for (const socket of [this.#client, this.#server]) {
      if (how === 'fin' || socket.connecting) socket.destroySoon();
      else socket.resetAndDestroy();
    }
  }

  breakSoon(breakage: Breakage): void {
    const pipe = this.#random.chance(0.5) ? this.#up : this.#down;
    switch (breakage) {
      case 'reset':
      case 'fin':
        // Frames end anywhere; so does this.
        pipe.cutAfter(this.#random.below(400), () => this.end(breakage));
        break;
      case 'reset to server':
        if (!this.#server.connecting) this.#server.resetAndDestroy();
        this.#down.isHole = true;
        this.#down.finish('reset', this.#random.magnitude(10, 3000));
        break;
      case 'reset to client':
        this.#client.resetAndDestroy();
        this.#up.isHole = true;
        this.#up.finish('reset', this.#random.magnitude(10, 3000));
        break;
      case 'hole up':
        this.#up.isHole = true;
        break;
      case 'hole down':
        this.#down.isHole = true;
        break;
      case 'stall':
        pipe.stallFor(this.#random.magnitude(50, 3000));
        break;
    }
  }

  heal(): void {
    if (this.#up.isHole || this.#down.isHole) this.end('reset');
    this.#up.heal();
    this.#down.heal();
  }
}

import type { Packet } from '@hawser/server/core/packets';
import { type Claim, type Cluster, ClusterAway, type ClusterListener } from '@hawser/server/core/ports';
import type { ServerTime } from './clock.ts';
import type { Disk } from './disk.ts';
import type { Process } from './process.ts';
import type { Random } from './random.ts';
import type { Scheduler } from './scheduler.ts';
import type { Trace } from './trace.ts';

/** A run of a node is sure of what it holds for so long after it last renewed that. */
const LEASE_MS = 3000;
const RENEW_MS = 1000;
/** How long a name is remembered that nobody holds. */
const REMEMBERED_MS = 600_000;

interface Entry {
  node: string;
  token: number;
  isHeld: boolean;
  at: number;
  /** Nodes that had it before, and have not been confirmed to have let go of it. */
  readonly owed: Set<string>;
}

/** A run of a node, as the hub knows it. */
interface Member {
  readonly link: Link;
  /** As the checker numbers it. */
  readonly run: number;
  renewedAt: number;
  isVoid: boolean;
  /** Names that others have claimed, and that it has not been told of. */
  taken: (readonly [name: string, token: number])[];
  readonly waiting: Set<() => void>;
}

export interface HubPorts {
  readonly scheduler: Scheduler;
  readonly random: Random;
  readonly trace: Trace;
  readonly disk: Disk;
}

/**
 * What nodes know each other by: who lives, who holds which name, and the bus between them. It stands for the directory
 * and for the database that steps in for it when nodes renew their leases: where both are away no lease is renewed.
 */
export class Hub {
  readonly ports: HubPorts;
  /** The directory cannot be reached by anybody. */
  isAway = false;
  /** How likely a packet is lost. */
  loss = 0;
  /** Told of each run that holds nothing any more: what only it knew is lost, as after a crash. */
  onVoid: (run: number) => void = () => {};
  /** Told of each claim, and when all that others knew of the name is with the run that claimed it. */
  onClaim: (name: string, run: number) => void = () => {};
  onConfirmed: (name: string, run: number) => void = () => {};
  readonly #entries = new Map<string, Entry>();
  readonly #members = new Map<string, Member>();
  /** No packet goes from one node to another before this time; by the names of both. */
  readonly #cuts = new Map<string, number>();
  readonly #arrivals = new Map<string, number>();
  #tokens = 0;
  /** Packets that did not arrive. */
  #lost = 0;

  constructor(ports: HubPorts) {
    this.ports = ports;
  }

  join(node: string, run: number, number: number, process: Process, time: ServerTime): Link {
    const link = new Link(this, node, `${node}.${run}`, process, time);
    const member: Member = {
      link,
      run: number,
      renewedAt: this.ports.scheduler.now,
      isVoid: false,
      taken: [],
      waiting: new Set(),
    };
    this.#members.set(link.self, member);
    this.#checkLater(member);
    return link;
  }

  isVoid(self: string): boolean {
    return this.#members.get(self)?.isVoid ?? true;
  }

  #checkLater(member: Member): void {
    const { scheduler } = this.ports;
    scheduler.at(member.renewedAt + LEASE_MS + 0.001, () => {
      if (member.isVoid) return;
      if (scheduler.now > member.renewedAt + LEASE_MS) this.void(member.link.self);
      else this.#checkLater(member);
    });
  }

  /** This run holds nothing any more. */
  void(self: string, isClean = false): void {
    const member = this.#members.get(self);
    if (member === undefined || member.isVoid) return;
    member.isVoid = true;
    this.ports.trace.note('void', -1, -1, self);
    // What a run in good order has said, others know, unless it was lost on the way.
    if (!isClean || this.#lost > 0) this.onVoid(member.run);
    this.ports.scheduler.settled = true;
    for (const call of member.waiting) call();
    member.waiting.clear();
  }

  /** Returns how to call it off. */
  whenVoid(self: string, call: () => void): () => void {
    const member = this.#members.get(self);
    if (member === undefined || member.isVoid) {
      this.ports.scheduler.after(0, call);
      return () => {};
    }
    member.waiting.add(call);
    return () => member.waiting.delete(call);
  }

  /** Nothing goes from one node to the other for so long. */
  cut(from: string, to: string, ms: number): void {
    this.#cuts.set(`${from} ${to}`, this.ports.scheduler.now + ms);
  }

  heal(): void {
    this.isAway = false;
    this.loss = 0;
    this.#cuts.clear();
    for (const { link } of this.#members.values()) {
      link.cutTo = 0;
      link.storeCutTo = 0;
    }
  }

  latency(): number {
    const { random } = this.ports;
    return random.magnitude(0.1, random.chance(0.02) ? 300 : 5);
  }

  // ---- the directory

  /** The lease is renewed; returns what the node is to be told, or that it is void. */
  renew(self: string): readonly (readonly [string, number])[] | 'void' {
    const member = this.#members.get(self);
    if (member === undefined || member.isVoid) return 'void';
    member.renewedAt = this.ports.scheduler.now;
    return member.taken.splice(0);
  }

  claim(self: string, name: string): Claim {
    const { now } = this.ports.scheduler;
    const entry = this.#entries.get(name);
    const token = ++this.#tokens;
    const owed = entry?.owed ?? new Set();
    if (entry?.isHeld === true && entry.node !== self) this.#members.get(entry.node)?.taken.push([name, token]);
    if (entry !== undefined && (entry.isHeld || now - entry.at <= REMEMBERED_MS)) owed.add(entry.node);
    owed.delete(self);
    for (const node of owed) if (this.isVoid(node)) owed.delete(node);
    this.#entries.set(name, { node: self, token, isHeld: true, at: now, owed });
    this.onClaim(name, this.#members.get(self)?.run ?? 0);
    this.ports.trace.note('claimed', token, -1, `${name} by ${self}, before: ${[...owed].join(' ')}`);
    return { token, previous: [...owed] };
  }

  confirm(name: string, token: number, previous: readonly string[]): void {
    const entry = this.#entries.get(name);
    if (entry?.token !== token) return;
    for (const node of previous) entry.owed.delete(node);
    if (entry.owed.size === 0) this.onConfirmed(name, this.#members.get(entry.node)?.run ?? 0);
  }

  release(name: string, token: number): void {
    const entry = this.#entries.get(name);
    if (entry?.token !== token) return;
    entry.isHeld = false;
    entry.at = this.ports.scheduler.now;
    this.ports.trace.note('released', token, -1, name);
  }

  locate(name: string): string | undefined {
    const entry = this.#entries.get(name);
    return entry?.isHeld === true && !this.isVoid(entry.node) ? entry.node : undefined;
  }

  // ---- the bus

  send(from: Link, to: string, packet: Packet): void {
    const { scheduler, random } = this.ports;
    const target = this.#members.get(to)?.link;
    if (target === undefined) return;
    const isCut = (this.#cuts.get(`${from.node} ${target.node}`) ?? 0) > scheduler.now;
    if (isCut || from.isCut || target.isCut || random.chance(this.loss)) {
      this.#lost++;
      return;
    }
    const pair = `${from.self} ${to}`;
    const at = Math.max(this.#arrivals.get(pair) ?? 0, scheduler.now + this.latency());
    this.#arrivals.set(pair, at);
    scheduler.at(at, () => target.arrive(from.self, packet));
  }
}

/** The cluster as one run of a node sees it. */
export class Link implements Cluster {
  /** The name of the node, over all its runs. */
  readonly node: string;
  readonly self: string;
  heldUntil: number;
  /** Nothing goes between this node and the hub, or any other node, before this time. */
  cutTo = 0;
  storeCutTo = 0;
  readonly #hub: Hub;
  readonly #process: Process;
  readonly #time: ServerTime;
  #listener: ClusterListener | undefined;
  /** When the last request gets to the hub: they come in order. */
  #upAt = 0;

  constructor(hub: Hub, node: string, self: string, process: Process, time: ServerTime) {
    this.#hub = hub;
    this.node = node;
    this.self = self;
    this.#process = process;
    this.#time = time;
    this.heldUntil = time.now() + LEASE_MS;
    this.#renewLater();
  }

  get isCut(): boolean {
    return this.#hub.ports.scheduler.now < this.cutTo;
  }

  get isCutFromStore(): boolean {
    return this.#hub.ports.scheduler.now < this.storeCutTo;
  }

  cutFor(ms: number, alsoFromStore: boolean): void {
    this.cutTo = this.#hub.ports.scheduler.now + ms;
    if (alsoFromStore) this.storeCutTo = this.cutTo;
  }

  listen(listener: ClusterListener): void {
    this.#listener = listener;
  }

  /** A clean end. */
  leave(): void {
    this.#hub.void(this.self, true);
  }

  arrive(from: string, packet: Packet): void {
    this.#process.run(() => this.#listener?.packet(from, packet));
  }

  send(node: string, packet: Packet): void {
    this.#hub.send(this, node, packet);
  }

  onVoid(node: string, call: () => void): () => void {
    let isCalledOff = false;
    const callOff = this.#hub.whenVoid(node, () => {
      this.#process.run(() => {
        if (!isCalledOff) call();
      });
    });
    return () => {
      isCalledOff = true;
      callOff();
    };
  }

  // ---- the lease

  #renewLater(): void {
    this.#time.after(RENEW_MS, () => {
      this.#renew();
      this.#renewLater();
    });
  }

  #renew(): void {
    const askedAt = this.#time.now();
    const { scheduler, disk } = this.#hub.ports;
    scheduler.after(this.#hub.latency(), () => {
      // Where the directory cannot be reached the database keeps the leases.
      const isStoreAway = disk.trouble === 'away' || this.isCutFromStore;
      if ((this.isCut || this.#hub.isAway) && isStoreAway) return;
      const taken = this.#hub.renew(this.self);
      if (taken === 'void') return;
      this.#process.after(this.#hub.latency(), () => {
        this.heldUntil = Math.max(this.heldUntil, askedAt + LEASE_MS);
        for (const [name, token] of taken) this.#listener?.taken(name, token);
      });
    });
  }

  // ---- the directory

  claim(name: string): Promise<Claim> {
    return this.#ask(() => this.#hub.claim(this.self, name));
  }

  locate(name: string): Promise<string | undefined> {
    return this.#ask(() => this.#hub.locate(name));
  }

  confirm(name: string, token: number, previous: readonly string[]): void {
    this.#travel(() => this.#hub.confirm(name, token, previous));
  }

  release(name: string, token: number): void {
    this.#travel(() => this.#hub.release(name, token));
  }

  /** Takes effect at the hub, if it gets there. */
  #travel(effect: () => void): void {
    const { scheduler } = this.#hub.ports;
    this.#upAt = Math.max(this.#upAt, scheduler.now + this.#hub.latency());
    scheduler.at(this.#upAt, () => {
      if (!this.isCut && !this.#hub.isAway) effect();
    });
  }

  #ask<Answer>(question: () => Answer): Promise<Answer> {
    const { scheduler, random } = this.#hub.ports;
    return new Promise((resolve, reject) => {
      let isAnswered = false;
      const settle = (ms: number, call: () => void): void => {
        this.#process.after(ms, () => {
          if (isAnswered) return;
          isAnswered = true;
          scheduler.settled = true;
          call();
        });
      };
      settle(random.between(1500, 2500), () => reject(new ClusterAway('the directory does not answer')));
      this.#travel(() => {
        if (this.#hub.isVoid(this.self)) return;
        const answer = question();
        // The answer may be lost, with its effect in force.
        if (!random.chance(this.#hub.loss)) settle(this.#hub.latency(), () => resolve(answer));
      });
    });
  }
}

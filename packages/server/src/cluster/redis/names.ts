import { serverLimits } from '@hawser/protocol';
import { type Claim, ClusterAway } from '../../core/ports.ts';
import type { Redis } from './redis.ts';
import * as scripts from './scripts.ts';

export interface NamesPorts {
  readonly self: string;
  readonly prefix: string;
  readonly redis: Redis;
  readonly now: () => number;
  /** The servers that have forgotten nothing, or are told all of it again. */
  readonly open: () => string;
  /** A server that is not one of them. */
  readonly onClosed: (server: string) => void;
  readonly isVoid: (node: string) => boolean;
  readonly isLapsed: () => boolean;
  readonly onTaken: (name: string, token: number) => void;
}

interface Released {
  readonly token: number;
  readonly at: number;
}

/** Who holds which name; and what this node knows of that itself, for the case that Redis forgets it. */
export class Names {
  readonly #ports: NamesPorts;
  readonly #held = new Map<string, number>();
  readonly #released = new Map<string, Released>();
  /** Nodes that had a name of this node, and have not been confirmed to have let go. */
  readonly #unconfirmed = new Map<string, readonly string[]>();
  /** The greatest token that this node has seen: Redis' clock may have been set back. */
  #floor = 0;
  /** Claims that were granted. */
  claims = 0;
  /** Where the walk over the names that are held has come to. */
  #walk: IterableIterator<[string, number]> | undefined;

  constructor(ports: NamesPorts) {
    this.#ports = ports;
  }

  get size(): number {
    return this.#held.size;
  }

  #key(name: string): string {
    return `${this.#ports.prefix}name:{${name}}`;
  }

  async claim(name: string): Promise<Claim> {
    const { redis, self, open, isVoid, isLapsed } = this.#ports;
    if (isLapsed()) throw new ClusterAway('this run is void');
    const args = [open(), self, String(this.#floor), String(serverLimits.heldNamesKeptMs)];
    const [state, second, holder, ...owed] = (await redis.run(scripts.claim, this.#key(name), args)) as string[];
    if (state !== 'ok') this.#closed(second);
    this.claims++;
    const token = Number(second);
    this.#floor = Math.max(this.#floor, token);
    if (holder !== undefined && holder !== '' && !isVoid(holder)) this.#tell(holder, name, token);
    if (isLapsed()) throw new ClusterAway('this run is void');
    this.#held.set(name, token);
    this.#released.delete(name);
    const previous = owed.filter((node) => !isVoid(node));
    if (previous.length > 0) this.#unconfirmed.set(name, previous);
    else this.#unconfirmed.delete(name);
    if (previous.length < owed.length) this.#forgetOwed(name, token, owed.filter(isVoid));
    return { token, previous };
  }

  #closed(server: string | undefined): never {
    this.#ports.onClosed(server ?? '');
    throw new ClusterAway('Redis has lost its last writes, and is told them again');
  }

  confirm(name: string, token: number, previous: readonly string[]): void {
    if (this.#held.get(name) !== token) return;
    const left = this.#unconfirmed.get(name)?.filter((node) => !previous.includes(node)) ?? [];
    if (left.length > 0) this.#unconfirmed.set(name, left);
    else this.#unconfirmed.delete(name);
    this.#forgetOwed(name, token, previous);
  }

  #forgetOwed(name: string, token: number, nodes: readonly string[]): void {
    // Where it is lost they are asked once more than they need be.
    this.#ports.redis.run(scripts.confirm, this.#key(name), [String(token), ...nodes]).catch(() => {});
  }

  release(name: string, token: number): void {
    if (this.#held.get(name) === token) {
      this.#held.delete(name);
      this.#unconfirmed.delete(name);
    }
    this.#hadLast(name, token);
    const args = [String(token), String(serverLimits.rememberedForMs)];
    this.#ports.redis.run(scripts.release, this.#key(name), args).catch(() => {});
  }

  #hadLast(name: string, token: number): void {
    this.#released.delete(name);
    this.#released.set(name, { token, at: this.#ports.now() });
    for (const oldest of this.#released.keys()) {
      if (this.#released.size <= serverLimits.releasedNamesMax) return;
      this.#released.delete(oldest);
    }
  }

  async locate(name: string): Promise<string | undefined> {
    const { redis, open, isVoid } = this.#ports;
    const [state, node] = (await redis.run(scripts.locate, this.#key(name), [open()])) as string[];
    if (state !== 'ok') this.#closed(node);
    return node === undefined || node === '' || isVoid(node) ? undefined : node;
  }

  // ---- names that others have claimed

  #toldKey(node: string): string {
    return `${this.#ports.prefix}told:{${node}}`;
  }

  /** The node reads it when it renews its lease. Where it is lost the node is asked for the name all the same. */
  #tell(node: string, name: string, token: number): void {
    const args = [name, String(token), String(serverLimits.heldNamesKeptMs), String(serverLimits.takenNoticesMax)];
    this.#ports.redis.run(scripts.tell, this.#toldKey(node), args).catch(() => {});
  }

  async listen(): Promise<void> {
    const { redis, self } = this.#ports;
    const notices = (await redis.run(scripts.told, this.#toldKey(self), [])) as string[];
    for (let i = 0; i + 1 < notices.length; i += 2) this.#taken(notices[i] ?? '', Number(notices[i + 1]));
  }

  #taken(name: string, token: number): void {
    const held = this.#held.get(name);
    this.#floor = Math.max(this.#floor, token);
    if (held !== undefined && held < token) {
      this.#held.delete(name);
      this.#unconfirmed.delete(name);
      this.#hadLast(name, held);
    }
    this.#ports.onTaken(name, token);
  }

  // ---- what Redis may have forgotten

  /** Tells Redis all that this node knows. Rejects when it could not, or when not all went to the server meant. */
  async assertAll(server: string | undefined): Promise<void> {
    const now = this.#ports.now();
    for (const [name, { at }] of this.#released) {
      if (now - at < serverLimits.rememberedForMs) break;
      this.#released.delete(name);
    }
    const held = [...this.#held].map(([name, token]) => [name, token, serverLimits.heldNamesKeptMs, '1'] as const);
    const released = [...this.#released].map(
      ([name, { token, at }]) =>
        [name, token, Math.max(1, Math.ceil(serverLimits.rememberedForMs - (now - at))), '0'] as const,
    );
    const all = [...held, ...released];
    for (let at = 0; at < all.length; at += serverLimits.namesAssertedAtOnce) {
      const part = all.slice(at, at + serverLimits.namesAssertedAtOnce);
      const servers = await Promise.all(
        part.map(([name, token, keptMs, isHeld]) => this.#assert(name, token, keptMs, isHeld, '1')),
      );
      const other = servers.find((each) => server !== undefined && each !== server && each !== '');
      if (other !== undefined) throw new ClusterAway(`another server has answered: ${other}`);
    }
  }

  /** @param mayBeLost the server may have lost writes: whoever has the name now does not know of this node, then */
  async #assert(name: string, token: number, keptMs: number, isHeld: '0' | '1', mayBeLost: '0' | '1'): Promise<string> {
    // What happened since the list was made goes by itself.
    const known = isHeld === '1' ? this.#held.get(name) : this.#released.get(name)?.token;
    if (known !== token) return '';
    const owed = this.#unconfirmed.get(name) ?? [];
    const args = [this.#ports.self, String(token), isHeld, String(keptMs), mayBeLost, ...owed];
    const [server, state, newest] = (await this.#ports.redis.run(scripts.hold, this.#key(name), args)) as string[];
    if (state === 'taken' && isHeld === '1' && this.#held.get(name) === token) this.#taken(name, Number(newest));
    return server ?? '';
  }

  /** Goes on over the names that are held, so far that all are seen within an hour. Once a renewal. */
  async walk(): Promise<void> {
    const { leaseRenewMs, heldNamesSeenEveryMs } = serverLimits;
    const count = Math.ceil((this.#held.size * leaseRenewMs) / heldNamesSeenEveryMs);
    const part: [string, number][] = [];
    while (part.length < count) {
      this.#walk ??= this.#held.entries();
      const next = this.#walk.next();
      if (next.done === true) {
        this.#walk = undefined;
        break;
      }
      part.push(next.value);
    }
    await Promise.all(part.map(([name, token]) => this.#assert(name, token, serverLimits.heldNamesKeptMs, '1', '0')));
  }
}

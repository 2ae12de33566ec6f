import { isName, normalPassword, type RefusalName, serverLimits, utf8Length } from '@hawser/protocol';
import type { Directory } from './directory.ts';
import type { Identity, Shown } from './identity.ts';
import type { Pairing } from './pairing.ts';
import {
  type Asker,
  Busy,
  type DeviceRecord,
  type NameRecord,
  type Passwords,
  type Provision,
  type Store,
  type Time,
} from './ports.ts';

export type NameKind = NameRecord['kind'];

/** What happened to a name since the watch began. */
export interface Watch {
  /** A binding of it came or went. */
  hasChanged: boolean;
  /** The name was removed. */
  isRemoved: boolean;
  /** The secret by which the device was let in is no longer its secret. */
  isRevoked: boolean;
}

/** A user whose password was right. */
export interface Verified {
  /** Tells it from another user of the same name, before or after it. */
  readonly createdAt: number;
}

/** A device that was let in. */
export interface Entered {
  readonly isNew: boolean;
  /** The digest of the secret that it proved or was given; absent when it has none. */
  readonly secret: string | undefined;
}

export interface AccountsPorts {
  readonly store: Store;
  readonly passwords: Passwords;
  readonly directory: Directory;
  readonly time: Time;
  readonly identity: Identity;
  readonly pairing: Pairing;
}

/** What a decision rests on may change before it takes effect, so often at most. */
const TRIES = 4;

/** Users, devices, and who has added what. */
export class Accounts {
  readonly #store: Store;
  readonly #passwords: Passwords;
  readonly #directory: Directory;
  readonly #time: Time;
  readonly #identity: Identity;
  readonly #pairing: Pairing;
  /** Kinds of known names. A name keeps its kind until an operator removes it. */
  readonly #kinds = new Map<string, NameKind>();
  /** Names that are being removed, how often at once: nobody may log in under them or write to them. */
  readonly #withheld = new Map<string, number>();
  /** Those of them that are removed by this node. */
  readonly #removing = new Set<string>();
  /** Changes of bindings that are under way, by both names. */
  readonly #binding = new Map<string, Set<Promise<unknown>>>();
  /** Names whose peers somebody watches, being about to rely on what was read of them. */
  readonly #watched = new Map<string, Watch[]>();

  constructor({ store, passwords, directory, time, identity, pairing }: AccountsPorts) {
    this.#store = store;
    this.#passwords = passwords;
    this.#directory = directory;
    this.#time = time;
    this.#identity = identity;
    this.#pairing = pairing;
  }

  // ---- names

  /** What a name is, if that is known without asking the store. */
  knownKind(name: string): NameKind | undefined {
    return this.#kinds.get(name);
  }

  kind(name: string): Promise<NameKind | undefined> {
    return this.watch(name, async (watch) => {
      const kind = (await this.#store.name(name))?.kind;
      if (watch.isRemoved || this.isWithheld(name)) return undefined;
      if (kind !== undefined) this.#noteKind(name, kind);
      return kind;
    });
  }

  #noteKind(name: string, kind: NameKind): void {
    if (this.#kinds.has(name) || this.isWithheld(name)) return;
    if (this.#kinds.size >= serverLimits.namesCachedMax) {
      for (const oldest of this.#kinds.keys()) {
        this.#kinds.delete(oldest);
        break;
      }
    }
    this.#kinds.set(name, kind);
  }

  // ---- users

  async register(name: string, password: string, asker?: Asker): Promise<'ok' | RefusalName> {
    if (!isName(name)) return 'badName';
    if (!isPassword(password)) return 'badPassword';
    // Before the costly hash; the store decides.
    if ((await this.#store.name(name)) !== undefined) return 'userExists';
    const hash = await orBusy(this.#passwords.hash(normalPassword(password), asker));
    if (hash === 'busy') return 'busy';
    if ((await this.#store.createUser(name, hash, this.#time.wall())) === 'exists') return 'userExists';
    this.#noteKind(name, 'user');
    return 'ok';
  }

  /** Costs the same for a name that is not a user as for a wrong password. */
  verify(name: string, password: string, asker?: Asker): Promise<Verified | RefusalName> {
    return this.watch(name, async (watch) => {
      const record = isName(name) ? await this.#store.name(name) : undefined;
      const hash = record?.kind === 'user' ? record.passwordHash : undefined;
      const candidate = isPassword(password) ? normalPassword(password) : '';
      const verified = await orBusy(this.#passwords.verify(candidate, hash, asker));
      if (verified === 'busy') return 'busy';
      const isThere = !watch.isRemoved && !this.isWithheld(name);
      if (record === undefined || !verified || !isThere || !isPassword(password)) return 'wrongCredentials';
      this.#noteKind(name, 'user');
      return { createdAt: record.createdAt };
    });
  }

  async setPassword(name: string, password: string): Promise<boolean> {
    return this.#store.setPassword(name, await this.#passwords.hash(normalPassword(password)));
  }

  // ---- devices

  /** Lets a device in by what it shows, and notes what it says of itself; or says why not, and changes nothing. */
  async deviceSeen(
    name: string,
    says: Pick<DeviceRecord, 'version' | 'abilities'>,
    shown: Shown,
  ): Promise<Entered | RefusalName> {
    if (this.isWithheld(name)) return 'busy';
    return this.watch(name, async (watch) => {
      let mustLook = !this.#identity.needsNothing(shown);
      for (let i = 0; i < TRIES; i++) {
        const entry = mustLook ? this.#identity.judge(await this.#store.name(name), shown) : {};
        if (typeof entry === 'string') return entry;
        const ran = this.#time.ran();
        const seen = await this.#store.deviceSeen(name, says, this.#time.wall(), { ...entry, ran });
        // It was removed, before or after what it said was noted.
        if (watch.isRemoved || this.isWithheld(name)) return 'busy';
        if (seen === 'is a user') return 'nameIsUser';
        mustLook = true;
        if (seen === 'changed') continue;
        this.#noteKind(name, 'device');
        return { isNew: seen === 'new', secret: entry.newSecret ?? entry.secret };
      }
      return 'busy';
    });
  }

  /** Whether a device still has the secret by which it was let in. */
  async hasSecret(name: string, secret: string | undefined): Promise<boolean> {
    const record = await this.#store.name(name);
    return record?.kind === 'device' && record.secret === secret;
  }

  /** Whether it is still the user that was verified: not another, of the same name. */
  async isStill(name: string, { createdAt }: Verified): Promise<boolean> {
    const record = await this.#store.name(name);
    return record?.kind === 'user' && record.createdAt === createdAt;
  }

  /** @param code the pairing code that the user has shown */
  async bind(user: string, device: string, code: string | undefined): Promise<'ok' | RefusalName> {
    if (this.isWithheld(device) || this.isWithheld(user)) return 'busy';
    const binding = this.#tryToBind(user, device, code);
    for (const name of [user, device]) this.#binding.set(name, (this.#binding.get(name) ?? new Set()).add(binding));
    try {
      return await binding;
    } finally {
      for (const name of [user, device]) {
        const bindings = this.#binding.get(name);
        bindings?.delete(binding);
        if (bindings?.size === 0) this.#binding.delete(name);
      }
    }
  }

  async #tryToBind(user: string, device: string, code: string | undefined): Promise<'ok' | RefusalName> {
    let mustLook = !this.#pairing.needsNothing(code);
    for (let i = 0; i < TRIES; i++) {
      const paired = mustLook
        ? this.#pairing.judge(user, device, await this.#store.name(device), code)
        : { code: undefined };
      if (typeof paired === 'string') return (await this.#hasAdded(user, device)) ? 'deviceAlreadyAdded' : paired;
      mustLook = true;
      const verdict = await this.#bind(user, device, paired.code);
      if (verdict !== 'changed') return verdict;
    }
    return 'busy';
  }

  async #hasAdded(user: string, device: string): Promise<boolean> {
    return (await this.#store.peers(user, 'user')).includes(device);
  }

  async #bind(user: string, device: string, code: string | undefined): Promise<'ok' | 'changed' | RefusalName> {
    switch (await this.#store.bind(user, device, this.#time.wall(), code)) {
      case 'changed':
        return 'changed';
      case 'already':
        return 'deviceAlreadyAdded';
      case 'is a user':
        return 'nameIsUser';
      case 'user full':
        return 'tooManyDevices';
      case 'device full':
        return 'tooManyUsers';
      default:
        this.#noteKind(device, 'device');
        this.#directory.get(user)?.peers.add(device);
        this.#directory.get(device)?.peers.add(user);
        this.#peersChanged(user, device);
        return 'ok';
    }
  }

  async unbind(user: string, device: string): Promise<'ok' | RefusalName> {
    if (!(await this.#store.unbind(user, device))) return 'deviceNotAdded';
    this.#directory.get(user)?.peers.delete(device);
    this.#directory.get(device)?.peers.delete(user);
    this.#peersChanged(user, device);
    return 'ok';
  }

  #peersChanged(...names: string[]): void {
    for (const name of names) for (const watch of this.#watched.get(name) ?? []) watch.hasChanged = true;
  }

  /** Watches whether a name's peers change while `work` goes on. */
  async watch<Result>(name: string, work: (watch: Watch) => Promise<Result>): Promise<Result> {
    const watch = { hasChanged: false, isRemoved: false, isRevoked: false };
    const watches = this.#watched.get(name);
    if (watches === undefined) this.#watched.set(name, [watch]);
    else watches.push(watch);
    try {
      return await work(watch);
    } finally {
      this.#unwatch(name, watch);
    }
  }

  #unwatch(name: string, watch: Watch): void {
    const watches = this.#watched.get(name);
    if (watches === undefined) return;
    if (watches.length === 1) this.#watched.delete(name);
    else watches.splice(watches.indexOf(watch), 1);
  }

  /**
   * Who may exchange messages with this name by a binding: loaded once per session, kept up by `bind` and `unbind`.
   * `loaded` is given them at a moment when they are true: what changes later finds them in the session. Of what other
   * nodes change they know nothing that is newer than `askedAt`.
   */
  loadPeers(name: string, kind: NameKind, loaded: (peers: Set<string>, askedAt: number) => void): Promise<void> {
    return this.watch(name, async (watch) => {
      for (;;) {
        watch.hasChanged = false;
        const askedAt = this.#time.now();
        const peers = await this.#store.peers(name, kind);
        if (watch.hasChanged) continue;
        loaded(new Set(peers), askedAt);
        return;
      }
    });
  }

  // ---- for the operator

  /** Whoever is about to come by an older secret than the one given is told to try again. */
  async provision(name: string, provision: Provision, which: 'new' | 'known'): ReturnType<Store['provision']> {
    const result = await this.#store.provision(name, provision, this.#time.wall(), which);
    if (result !== 'done') return result;
    this.#noteKind(name, 'device');
    if (provision.secret !== undefined) for (const watch of this.#watched.get(name) ?? []) watch.isRevoked = true;
    return result;
  }

  /**
   * Forgets a device that is of no use to anybody (`Store.dropUnused`). Meanwhile nobody may come as it or add it.
   *
   * @param isIdle whether nothing of it is here or on its way
   * @param drop takes it out of the store; false when it is of use
   */
  async dropUnused(name: string, isIdle: () => boolean, drop: () => Promise<boolean>): Promise<boolean> {
    if (this.#removing.has(name) || this.isInHand(name) || !isIdle()) return false;
    return this.withhold(name, drop);
  }

  /** Somebody is about to log in under it, or relies on what is read of it just now. */
  isInHand(name: string): boolean {
    return this.#watched.has(name) || this.#binding.has(name);
  }

  /** The name is being removed, here or by another node: nobody may come under it. */
  isWithheld(name: string): boolean {
    return this.#withheld.has(name);
  }

  /** While `work` goes on nobody may log in under the name, write to it or add it; what was read of it is forgotten. */
  async withhold<Result>(name: string, work: () => Promise<Result>): Promise<Result> {
    this.#withheld.set(name, (this.#withheld.get(name) ?? 0) + 1);
    this.#forget(name);
    try {
      await Promise.allSettled(this.#binding.get(name) ?? []);
      return await work();
    } finally {
      // Whatever was read of bindings before is old, and whoever read it since the first time must not keep it.
      this.#forget(name);
      this.#peersChanged(...this.#watched.keys());
      const left = (this.#withheld.get(name) ?? 0) - 1;
      if (left > 0) this.#withheld.set(name, left);
      else this.#withheld.delete(name);
    }
  }

  #forget(name: string): void {
    for (const watch of this.#watched.get(name) ?? []) watch.isRemoved = true;
    this.#kinds.delete(name);
    this.#directory.forgetPeer(name);
  }

  /**
   * Forgets a name, its bindings and its inbox; false when there is none. `takeOut` is called when nobody can log in under
   * it or write to it any more: it must end the session, wait until nothing is on its way to the inbox, and take the name
   * out of the store.
   */
  async remove(name: string, kind: NameKind, takeOut: () => Promise<boolean>): Promise<boolean> {
    if (this.#removing.has(name)) return false;
    this.#removing.add(name);
    try {
      if ((await this.#store.name(name))?.kind !== kind) return false;
      return await this.withhold(name, takeOut);
    } finally {
      this.#removing.delete(name);
    }
  }
}

/** What may be hashed as a password. */
export function isPassword(password: string): boolean {
  return password !== '' && utf8Length(password) <= serverLimits.passwordBytesMax;
}

async function orBusy<Result>(work: Promise<Result>): Promise<Result | 'busy'> {
  try {
    return await work;
  } catch (error) {
    if (error instanceof Busy) return 'busy';
    throw error;
  }
}

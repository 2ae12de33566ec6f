import { serverLimits } from '@hawser/protocol';
import type { AbuseLimits } from './abuse-limits.ts';
import { addressKey } from './address.ts';
import { Buckets } from './buckets.ts';
import type { Counters, LimitName } from './counters.ts';
import type { Time } from './ports.ts';
import { Shares } from './shares.ts';

/** What one address has. */
interface Address {
  readonly key: string;
  connections: number;
  beforeLogin: number;
}

/** The place of one connection among all, from when it is accepted to when its socket is closed. */
export class Place {
  readonly address: Address;
  readonly #admission: Admission;
  #isBeforeLogin = true;
  #isLeft = false;
  /**
   * Ends the connection at once, for another has need of the room; false when the server is at work for it. Whoever has
   * the connection sets it.
   */
  giveWay: () => boolean = () => false;

  constructor(admission: Admission, address: Address) {
    this.#admission = admission;
    this.address = address;
  }

  /** Whom the limits take it for. */
  get key(): string {
    return this.address.key;
  }

  loggedIn(): void {
    if (!this.#isBeforeLogin || this.#isLeft) return;
    this.#isBeforeLogin = false;
    this.#admission.left(this, false);
  }

  /** The login came to nothing. */
  loggedOut(): void {
    if (this.#isBeforeLogin || this.#isLeft) return;
    this.#isBeforeLogin = true;
    this.#admission.waits(this);
  }

  /** The connection is gone. Safe to call again. */
  leave(): void {
    if (this.#isLeft) return;
    this.#isLeft = true;
    if (this.#isBeforeLogin) this.#admission.left(this, false);
    this.#admission.left(this, true);
  }
}

/**
 * Which connections are accepted. Each address has so many, and so many new ones a second; of those in all as many as it
 * has used fewer than are left. Those that have not logged in are bounded apart, so that sockets on which nothing happens
 * never take the room of those who mean to log in.
 */
export class Admission {
  readonly #limits: AbuseLimits;
  readonly #time: Time;
  readonly #counters: Counters;
  readonly #addresses = new Map<string, Address>();
  /** Oldest first. */
  readonly #beforeLogin = new Set<Place>();
  readonly #beforeLoginMax: number;
  readonly #opened: Buckets;
  readonly #openedInAll: Shares;
  readonly #exchanges: Buckets;

  constructor(limits: AbuseLimits, time: Time, counters: Counters) {
    this.#limits = limits;
    this.#time = time;
    this.#counters = counters;
    this.#beforeLoginMax = Math.min(limits.beforeLoginMax, Math.ceil(limits.connectionsMax / 2));
    const { handshakesPerAddressPerSecondMax: perAddress, connectionsPerSecondMax: inAll, bucketsMax } = limits;
    this.#opened = new Buckets(2 * perAddress, 1000 / perAddress, bucketsMax);
    this.#exchanges = new Buckets(2 * perAddress, 1000 / perAddress, bucketsMax);
    this.#openedInAll = new Shares(2 * inAll, 1000 / inAll, bucketsMax);
  }

  /** A place for a new connection of this address; with none it is to be destroyed at once. */
  admit(address: string): Place | undefined {
    const key = addressKey(address);
    const limit = this.#whyNot(key);
    if (limit === undefined) return this.enter(key);
    this.#counters.limited[limit]++;
    this.#counters.closed.tooManyConnections++;
    return undefined;
  }

  #whyNot(key: string): LimitName | undefined {
    const now = this.#time.now();
    const known = this.#addresses.get(key);
    if (known !== undefined && known.connections >= this.#limits.connectionsPerAddressMax)
      return 'connectionsPerAddress';
    if (known !== undefined && known.beforeLogin >= this.#limits.beforeLoginPerAddressMax)
      return 'beforeLoginPerAddress';
    if (!this.#opened.take(key, now)) return 'newConnectionsPerAddress';
    if (!this.#openedInAll.take(key, now)) return 'newConnections';
    // Last: it may cost another its place.
    return this.#hasRoom() ? undefined : 'beforeLogin';
  }

  /** Takes a place unasked: for what does not come through a gateway. */
  enter(key: string): Place {
    let address = this.#addresses.get(key);
    if (address === undefined) {
      address = { key, connections: 0, beforeLogin: 0 };
      this.#addresses.set(key, address);
    }
    address.connections++;
    const place = new Place(this, address);
    this.waits(place);
    return place;
  }

  /**
   * The oldest that waits for nothing of the server's gives way. It has had its time, while those that the server is at
   * work for are about to be done: to end these would have all of them come again, and nobody get in.
   */
  #hasRoom(): boolean {
    if (this.#beforeLogin.size < this.#beforeLoginMax) return true;
    let looked = 0;
    for (const place of this.#beforeLogin) {
      if (place.giveWay()) {
        // Its socket is closed a moment later.
        place.leave();
        this.#counters.limited.beforeLogin++;
        return true;
      }
      if (++looked === serverLimits.beforeLoginLookedAtMax) return false;
    }
    return false;
  }

  /** Whether this address may agree on a key now. */
  mayExchangeKeys(key: string): boolean {
    const isAllowed = this.#exchanges.take(key, this.#time.now());
    if (!isAllowed) this.#counters.limited.keyExchangesPerAddress++;
    return isAllowed;
  }

  waits(place: Place): void {
    place.address.beforeLogin++;
    this.#beforeLogin.add(place);
  }

  left(place: Place, isGone: boolean): void {
    const { address } = place;
    if (!isGone) {
      address.beforeLogin--;
      this.#beforeLogin.delete(place);
    } else if (--address.connections === 0) this.#addresses.delete(address.key);
  }

  get beforeLogin(): number {
    return this.#beforeLogin.size;
  }

  get addresses(): number {
    return this.#addresses.size;
  }
}

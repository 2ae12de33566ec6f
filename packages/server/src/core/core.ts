import type { Cipher, ClosingName } from '@hawser/protocol';
import { type AbuseLimits, abuseLimits } from './abuse-limits.ts';
import { Accounts, isPassword, type NameKind } from './accounts.ts';
import { addressKey } from './address.ts';
import { Admission, type Place } from './admission.ts';
import { Counters } from './counters.ts';
import { Delivery } from './delivery.ts';
import { DeviceLists } from './device-lists.ts';
import { DeviceSweep } from './device-sweep.ts';
import { Directory } from './directory.ts';
import { Guard } from './guard.ts';
import { Handover } from './handover.ts';
import { Identity } from './identity.ts';
import { Keyring } from './keyring.ts';
import type { Packet } from './packets.ts';
import { Pairing } from './pairing.ts';
import {
  type Cluster,
  type Digests,
  Fenced,
  type Log,
  type Passwords,
  type Provision,
  type Rsa,
  type Store,
  type Time,
  type Timer,
  type Wire,
} from './ports.ts';
import { Removal } from './removal.ts';
import type { CoreOptions, Services } from './services.ts';
import { Session } from './session.ts';

export interface CorePorts {
  readonly time: Time;
  readonly log: Log;
  readonly store: Store;
  readonly passwords: Passwords;
  readonly digests: Digests;
  readonly rsa: Rsa;
  readonly createCipher: (key: Uint8Array) => Cipher;
  /** Told at the end of each turn that wrote something how many bytes have come and gone since start. */
  readonly turnEnded?: ((wireBytes: number) => void) | undefined;
  /** The other nodes; a server that is alone has none. */
  readonly cluster?: Cluster | undefined;
  /** The store failed for good, or this node is fenced (`Fenced`): the server must not go on. Called once. */
  readonly onFatal: (error: unknown) => void;
}

/** Sessions are checked for their deadlines this often, or often enough for shorter ones. */
const CHECK_MS = 1000;
const AGED_EVERY_MS = 30_000;

/** The server without its surroundings: sessions, accounts, delivery. */
export class Core implements Services {
  readonly options: CoreOptions;
  readonly time: Time;
  readonly log: Log;
  readonly counters = new Counters();
  readonly limits: AbuseLimits;
  readonly admission: Admission;
  readonly guard: Guard;
  readonly keyring: Keyring;
  readonly directory = new Directory();
  readonly accounts: Accounts;
  readonly delivery: Delivery;
  readonly deviceLists: DeviceLists;
  readonly deviceSweep: DeviceSweep;
  readonly handover: Handover | undefined;
  readonly removal: Removal | undefined;
  readonly createCipher: (key: Uint8Array) => Cipher;
  readonly digests: Digests;
  readonly #store: Store;
  readonly #cluster: Cluster | undefined;
  readonly #onFatal: (error: unknown) => void;
  readonly #turnEnded: ((wireBytes: number) => void) | undefined;
  readonly #sessions = new Set<Session>();
  #dirty: Session[] = [];
  /** One function for all turns. */
  readonly #flushNow = (): void => this.#flush();
  #unfinishedBytes = 0;
  #checking: Timer | undefined;
  #isStopping = false;
  #hasStopped = false;
  #isFatal = false;
  #agedAt: number;

  private constructor(ports: CorePorts, options: CoreOptions, keyring: Keyring) {
    this.options = options;
    this.time = ports.time;
    this.log = ports.log;
    this.limits = abuseLimits(options.limits);
    this.admission = new Admission(this.limits, ports.time, this.counters);
    this.guard = new Guard(this.limits, ports.time, this.counters);
    this.keyring = keyring;
    this.createCipher = ports.createCipher;
    this.#store = ports.store;
    const { store, passwords, time, digests } = ports;
    this.digests = digests;
    this.accounts = new Accounts({
      store,
      passwords,
      time,
      directory: this.directory,
      identity: new Identity(options.devices, digests),
      pairing: new Pairing(options.pairing, digests, time),
    });
    this.delivery = new Delivery({
      store: ports.store,
      time: ports.time,
      log: ports.log,
      counters: this.counters,
      options,
      cluster: ports.cluster,
      onFatal: (error) => this.#fail(error),
    });
    this.deviceLists = new DeviceLists(ports.store, this.directory, ports.cluster, ports.time);
    this.#onFatal = ports.onFatal;
    this.#turnEnded = ports.turnEnded;
    const { cluster } = ports;
    const { accounts, directory, delivery, counters, log } = this;
    this.removal = cluster && new Removal({ cluster, time, log, withholding: this });
    const { removal } = this;
    this.deviceSweep = new DeviceSweep({
      ...{ store, accounts, directory, delivery, cluster, removal, counters, time },
      ageMsMax: options.deviceAgeMsMax,
    });
    this.#cluster = cluster;
    this.handover = cluster && new Handover(cluster, time, directory, delivery, (name) => accounts.isWithheld(name));
    cluster?.listen({
      packet: (from, packet) => this.#packet(from, packet),
      taken: (name, token) => this.handover?.taken(name, token),
    });
    this.#agedAt = ports.time.now();
    this.#checkLater();
  }

  /** Ready when its first RSA key has been made. */
  static async open(ports: CorePorts, options: CoreOptions): Promise<Core> {
    return new Core(ports, options, await Keyring.open(ports.rsa, ports.time, ports.log));
  }

  // ---- connections

  /**
   * A place for a connection that was just accepted, before anything is done for it; with none it is to be destroyed. Who
   * accepts it leaves the place when the socket is closed.
   */
  admit(address: string): Place | undefined {
    return this.admission.admit(address);
  }

  /**
   * A new connection; the session is to be given what it receives.
   *
   * @param place what it was admitted to; without one it takes a place unasked, until the session has ended
   */
  connect(wire: Wire, place?: Place): Session {
    const taken = place ?? this.admission.enter(addressKey(wire.address));
    const session = new Session(wire, this, taken, place === undefined);
    taken.giveWay = () => session.giveWay();
    this.#sessions.add(session);
    this.counters.connectionsOpened++;
    session.greet();
    return session;
  }

  addUnfinishedBytes(bytes: number): number {
    this.#unfinishedBytes += bytes;
    return this.#unfinishedBytes;
  }

  left(session: Session): void {
    this.#sessions.delete(session);
    this.delivery.waitNoLonger(session);
  }

  flushLater(session: Session): void {
    if (this.#dirty.push(session) === 1) this.time.endOfTurn(this.#flushNow);
  }

  #flush(): void {
    const dirty = this.#dirty;
    this.#dirty = [];
    for (const session of dirty) session.flush();
    this.#turnEnded?.(this.counters.bytesReceived + this.counters.bytesSent);
  }

  get connections(): number {
    return this.#sessions.size;
  }

  /** Those that are logged in. */
  get sessions(): number {
    return this.directory.size;
  }

  /** Ends so many sessions that are logged in, those first that have been there longest. */
  closeSessions(count: number, reason: ClosingName): void {
    let left = count;
    for (const session of this.#sessions) {
      if (left <= 0) return;
      if (session.login === undefined) continue;
      left--;
      session.close(reason);
    }
  }

  // ---- other nodes

  #packet(from: string, packet: Packet): void {
    if (this.isFenced || this.delivery.routing?.packet(from, packet) !== false) return;
    switch (packet.type) {
      case 'takeOver':
        this.handover?.handOver(from, packet.name, packet.token).catch((error: unknown) => {
          // Whoever asked asks again.
          this.log.warn({ err: error, name: packet.name }, 'a name could not be handed over');
        });
        break;
      case 'handed':
        this.handover?.handed(from, packet);
        break;
      case 'removing':
        this.removal?.asked(from, packet);
        break;
      case 'letGo':
        this.removal?.letGo(from, packet);
        break;
      case 'removed':
        this.removal?.over(from, packet);
        break;
      default:
    }
  }

  get isFenced(): boolean {
    if (this.#cluster === undefined || this.#isFatal) return this.#isFatal;
    if (this.time.now() < this.#cluster.heldUntil) return false;
    // One that has stopped has given up what it held: what still comes is too late, and nothing is wrong.
    if (!this.#hasStopped) this.#fail(new Fenced('this node could not renew what it holds'));
    return true;
  }

  #fail(error: unknown): void {
    if (this.#isFatal) return;
    this.#isFatal = true;
    this.#onFatal(error);
  }

  leftName(name: string): void {
    this.handover?.left(name).catch((error: unknown) => {
      this.log.warn({ err: error, name }, 'a name could not be given up');
    });
  }

  // ---- upkeep

  #checkLater(): void {
    const { loginTimeoutMs, idleTimeoutMs, redeliveryAfterMs } = this.options;
    const inMs = Math.min(CHECK_MS, Math.min(loginTimeoutMs, idleTimeoutMs, redeliveryAfterMs) / 4);
    this.#checking = this.time.after(inMs, () => {
      if (this.#isStopping) return;
      this.#check();
      this.#checkLater();
    });
  }

  #check(): void {
    const now = this.time.now();
    if (this.isFenced) return;
    for (const session of this.#sessions) session.check(now);
    this.delivery.routing?.check(now);
    this.delivery.redeliver(now);
    if (now - this.#agedAt < AGED_EVERY_MS) return;
    this.#agedAt = now;
    this.delivery.age();
  }

  // ---- the operator

  async addUser(name: string, password: string): Promise<ReturnType<Accounts['register']>> {
    return this.accounts.register(name, password);
  }

  /** False when there is no such user. The user's session goes on. */
  async setPassword(name: string, password: string): Promise<boolean | 'badPassword'> {
    return isPassword(password) ? this.accounts.setPassword(name, password) : 'badPassword';
  }

  /**
   * Gives a device what the operator decided. A new secret, or none, ends its session at once, wherever that is. Rejects
   * with `ClusterAway` when other nodes cannot be told: then it is to be done again.
   */
  async provision(name: string, provision: Provision, which: 'new' | 'known'): ReturnType<Store['provision']> {
    const result = await this.accounts.provision(name, provision, which);
    if (result !== 'done' || provision.secret === undefined) return result;
    this.directory.get(name)?.close('revoked');
    await this.handover?.expel(name);
    return result;
  }

  /**
   * Forgets a user or a device: ends its session, wherever that is, drops its bindings and its inbox. False when there is
   * none. Rejects with `ClusterAway` when another node does not let go of it.
   */
  async removeName(name: string, kind: NameKind): Promise<boolean> {
    const { removal } = this;
    return this.accounts.remove(name, kind, async () => {
      // What it left unacked is on its way to the store, and must be there before it is deleted.
      await this.#letGo(name);
      if (removal === undefined) return (await this.store.removeName(name)) === true;
      const isGone = await removal.run(name, false, (others) => this.store.removeName(name, others));
      if (isGone) this.delivery.forget(name);
      return isGone;
    });
  }

  async #letGo(name: string): Promise<void> {
    this.directory.get(name)?.close('removed');
    if (this.removal !== undefined) return this.delivery.evict(name);
    await this.delivery.whenQuiet(name);
    this.delivery.forgetSender(name);
  }

  // ---- a name that another node removes

  isIdle(name: string): boolean {
    const { directory, delivery, accounts } = this;
    const isHere = directory.get(name) !== undefined || accounts.isInHand(name);
    return !isHere && !delivery.hasMailbox(name) && !delivery.hasPending(name);
  }

  async isThere(name: string): Promise<boolean> {
    return (await this.store.name(name)) !== undefined;
  }

  withhold(name: string, letGo: () => void, isGone: Promise<boolean | undefined>): Promise<void> {
    return this.accounts.withhold(name, async () => {
      const before = await this.store.name(name);
      await this.#letGo(name);
      letGo();
      const isStill = async (): Promise<boolean> => (await this.store.name(name))?.createdAt === before?.createdAt;
      if ((await isGone) ?? !(await isStill().catch(() => false))) this.delivery.forget(name);
    });
  }

  // ---- the end

  /**
   * Takes no more messages, makes durable what was taken, tells the senders, and ends all connections. The store may
   * be closed when it has resolved.
   */
  async stop(): Promise<void> {
    this.#isStopping = true;
    this.#checking?.cancel();
    this.deviceSweep.end();
    this.removal?.end();
    await this.delivery.stop();
    for (const session of [...this.#sessions]) session.close('stopping');
    // What was in windows went to the store at `stop`; what came between is refused, so nothing is left to commit.
    await this.delivery.whenCommitted();
    await this.handover?.whenGivenUp();
    this.delivery.end();
    this.#hasStopped = true;
  }

  get store(): Store {
    return this.#store;
  }
}

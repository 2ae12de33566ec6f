import {
  type Address,
  AppClient,
  type Client,
  DeviceClient,
  DispatcherError,
  type Ports,
  type SendOptions,
  type SessionOptions,
  type State,
  type WireEvents,
} from '@hawser/client/core';
import type { ClientPorts } from './client.ts';
import { FakeCipher, fakeCiphertext, fakeSecret } from './fakes.ts';
import type { Habits } from './habits.ts';
import type { Host } from './host.ts';
import type { SentMessage } from './message.ts';
import type { Party } from './party.ts';
import type { SdkPatch } from './sdk-bugs.ts';
import { type Call, SdkChecker } from './sdk-checker.ts';
import { SdkWire } from './sdk-wire.ts';

/** Its MD5 is `PASSWORD` of `party.ts`. */
const TYPED_PASSWORD = 'password';

/** What a handler throws. */
export class Thrown extends Error {}

export interface LifeOptions {
  readonly party: Party;
  readonly habits: Habits;
  readonly session: Partial<SessionOptions>;
  /** No other life of any client has it. */
  readonly tag: string;
  readonly patch: SdkPatch | undefined;
  readonly onState: (state: State) => void;
}

/** A client's package from its start to the crash or the end of its program, with the ports that it runs on. */
export class SdkLife {
  readonly client: AppClient | DeviceClient;
  readonly checker: SdkChecker;
  isOver = false;
  readonly #options: LifeOptions;
  readonly #ports: ClientPorts;
  #ids = 0;
  #wire: SdkWire | undefined;
  #home: Host | undefined;

  constructor(options: LifeOptions, ports: ClientPorts) {
    this.#options = options;
    this.#ports = ports;
    const { party, session, patch } = options;
    this.checker = new SdkChecker(ports.checker, party.name, () => ports.scheduler.now);
    const all = this.#portsOfClient();
    this.client = party.role === 'app' ? new AppClient(all, session) : new DeviceClient(all, session);
    this.client.onState((state) => {
      ports.trace.note('state', this.connectionId, -1, `${party.name} ${state.phase}`);
      this.checker.stateChanged(state);
      options.onState(state);
    });
    patch?.(this.client as Client);
  }

  get wire(): SdkWire | undefined {
    return this.#wire;
  }

  get connectionId(): number {
    return this.#wire?.connectionId ?? -1;
  }

  /** The id that the package takes next. */
  get nextId(): string {
    return `${this.#options.tag}.${this.#ids}`;
  }

  /** The program ends without a word. */
  end(how: 'fin' | 'reset' | 'vanish'): void {
    this.isOver = true;
    this.#wire?.drop(how);
  }

  // ---- what the program asks for

  async logIn(mustRegister: boolean): Promise<void> {
    const { client, checker } = this;
    const { name } = this.#options.party;
    this.#ports.scheduler.settled = true;
    checker.loginAsked();
    if (client instanceof DeviceClient) await client.authenticate(name, { version: '1', abilities: [] });
    else {
      if (mustRegister) await client.register(name, TYPED_PASSWORD);
      await client.login(name, TYPED_PASSWORD);
    }
  }

  /** Resolves or rejects as `send` does, after the checker has been told. */
  send(message: SentMessage, isFirst: boolean, options: SendOptions & { readonly timeoutMs: number }): Promise<void> {
    const { trace } = this.#ports;
    const call = this.checker.called('a send', message.msgId, message, options.timeoutMs, isFirst);
    trace.note('called', this.connectionId, message.id, message.msgId);
    const own = { ...options, ...(!isFirst && { msgId: message.msgId }), ...(message.ttl > 0 && { ttl: message.ttl }) };
    // A message has its place among the others by when it was called off.
    options.signal?.addEventListener('abort', () => {
      call.isAborted = true;
    });
    return this.#watch(call, this.client.send(message.to, JSON.parse(message.text), own));
  }

  changeDevice(isAdded: boolean, deviceId: string, timeoutMs: number): Promise<void> {
    const { client } = this;
    if (!(client instanceof AppClient)) return Promise.resolve();
    const call = this.checker.called(
      `${isAdded ? 'adding' : 'removing'} ${deviceId}`,
      this.nextId,
      undefined,
      timeoutMs,
      true,
    );
    const options = { timeoutMs };
    return this.#watch(call, isAdded ? client.addDevice(deviceId, options) : client.removeDevice(deviceId, options));
  }

  #watch(call: Call, promise: Promise<unknown>): Promise<void> {
    const { scheduler, trace } = this.#ports;
    scheduler.settled = true;
    scheduler.at(call.until + 1, () => {
      if (!this.isOver) this.checker.checkSettled(call);
    });
    return promise.then(
      () => {
        if (this.isOver) return;
        trace.note('settled', this.connectionId, call.message?.id ?? -1, 'acked');
        this.checker.succeeded(call);
      },
      (error: unknown) => {
        if (!this.isOver) {
          trace.note('settled', this.connectionId, call.message?.id ?? -1, String(error));
          this.checker.failed(call, error);
        }
        throw error;
      },
    );
  }

  // ---- what the package runs on

  #portsOfClient(): Ports {
    const { scheduler, random, checker } = this.#ports;
    const { party, habits, tag } = this.#options;
    return {
      time: {
        now: () => scheduler.now,
        after: (ms, call) => {
          const event = scheduler.after(ms, () => {
            if (this.isOver) return;
            scheduler.settled = true;
            call();
          });
          return {
            cancel: () => {
              event.call = undefined;
            },
          };
        },
        endOfTurn: (call) => {
          queueMicrotask(() => {
            if (!this.isOver) call();
          });
        },
      },
      random: { fraction: () => random.next(), id: () => `${tag}.${this.#ids++}` },
      transport: {
        agreesOnKey: habits.encrypt,
        connect: (address, events) => this.#connect(address, events),
      },
      locate: () => this.#locate(),
      keys: {
        agree: () => {
          const secret = fakeSecret(random);
          const cipher = new FakeCipher(secret);
          const wire = this.#wire?.sim;
          if (wire !== undefined) wire.cipher = cipher;
          return { secret: fakeCiphertext(secret, random), cipher };
        },
      },
      report: (error) => {
        if (error instanceof Thrown || this.isOver) return;
        checker.broken('client error', `the client of ${party.name} reports: ${error.stack ?? error.message}`);
      },
    };
  }

  /** The dispatcher: mostly the same server, and another when that is gone. Sometimes it does not answer. */
  #locate(): Promise<Address> {
    const { scheduler, random, hosts } = this.#ports;
    return new Promise((resolve, reject) => {
      if (random.chance(0.01)) return;
      scheduler.after(random.magnitude(1, 200), () => {
        scheduler.settled = true;
        const listening = hosts.filter((host) => host.isListening);
        if (listening.length === 0 && random.chance(0.5)) {
          reject(new DispatcherError('no server is available', 1000));
          return;
        }
        if (this.#home?.isListening !== true || random.chance(0.2)) {
          this.#home = random.pick(listening.length > 0 ? listening : hosts);
        }
        resolve({ host: 'n', port: hosts.indexOf(this.#home) });
      });
    });
  }

  #connect(address: Address, events: WireEvents): SdkWire {
    const { scheduler, random, checker, messages, trace, hosts } = this.#ports;
    const { party, habits } = this.#options;
    this.checker.connecting();
    const wire: SdkWire = new SdkWire({
      scheduler,
      random,
      checker,
      messages,
      trace,
      sdk: this.checker,
      events,
      conflictRead: () => this.checker.conflictRead(this.client.state),
    });
    this.#wire = wire;
    const { name, role } = party;
    const isSecure = !habits.encrypt || role === 'device';
    const connected = hosts[address.port]!.connect(wire, { name, role, nack: true }, habits.latencyMs, isSecure);
    if (connected !== undefined) wire.opened(connected);
    // Nobody is there: told at once, or found out by waiting.
    else if (random.chance(0.9)) scheduler.after(habits.latencyMs, () => wire.ended());
    return wire;
  }
}

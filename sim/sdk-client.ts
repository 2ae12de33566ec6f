import {
  AbortedError,
  type Message,
  RefusedError,
  type SessionOptions,
  type State,
  TimeoutError,
} from '@hawser/client/core';
import type { ClientPorts } from './client.ts';
import type { Habits } from './habits.ts';
import type { Member } from './member.ts';
import type { SentMessage } from './message.ts';
import type { Party } from './party.ts';
import type { Random } from './random.ts';
import type { SdkPatch } from './sdk-bugs.ts';
import { SdkLife, Thrown } from './sdk-life.ts';
import type { SimWire } from './wire.ts';

/** Messages that a client has on their way at most. */
const PENDING_MAX = 800;
const ATTEMPTS_MAX = 3;
/** In which what is sent once all is well has to arrive. */
const LAST_WORD_MS = 200_000;

type Action = 'send' | 'crash' | 'cut' | 'log out' | 'bind';

/** How a program uses the package. */
export interface SdkHabits {
  readonly takes: 'handler' | 'by hand' | 'loop';
  /** How likely a handler throws, and how likely it takes long. */
  readonly throws: number;
  readonly takesLong: number;
  readonly aborts: number;
  readonly timeoutMsLeast: number;
  readonly session: Partial<SessionOptions>;
}

export function drawSdkHabits(random: Random): SdkHabits {
  const outstandingMessagesMax = random.chance(0.3) ? Math.round(random.magnitude(1, 100)) : 256;
  return {
    takes: random.weighted({ handler: 4, 'by hand': 1, loop: 2 }),
    throws: random.chance(0.4) ? random.between(0.02, 0.3) : 0,
    takesLong: random.chance(0.5) ? random.between(0.01, 0.1) : 0,
    aborts: random.chance(0.2) ? 0.1 : 0,
    timeoutMsLeast: random.chance(0.3) ? 500 : 30_000,
    session: {
      outstandingMessagesMax,
      waitingMessagesMax: random.chance(0.2) ? Math.round(random.magnitude(1, 100)) : 10_000,
    },
  };
}

/** A program that uses the client's package, and crashes, and starts again. */
export class SdkClient implements Member {
  readonly party: Party;
  readonly #habits: Habits;
  readonly #sdkHabits: SdkHabits;
  readonly #isMain: boolean;
  readonly #tag: string;
  readonly #patch: SdkPatch | undefined;
  readonly #ports: ClientPorts;
  readonly pending = new Map<string, { readonly message: SentMessage; attempts: number }>();
  #life: SdkLife | undefined;
  #lives = 0;
  #isDraining = false;
  #isDone = false;
  /** It will ask to log in again. */
  #willLogIn: SdkLife | undefined;
  #mustRegister = false;
  /** Thrown at once in this life: the second time the handler is done with it. */
  #thrownAt = new Set<SentMessage>();

  constructor(
    party: Party,
    habits: { readonly all: Habits; readonly sdk: SdkHabits },
    role: { readonly isMain: boolean; readonly tag: string; readonly patch: SdkPatch | undefined },
    ports: ClientPorts,
  ) {
    this.party = party;
    this.#habits = habits.all;
    this.#sdkHabits = habits.sdk;
    this.#isMain = role.isMain;
    this.#tag = role.tag;
    this.#patch = role.patch;
    this.#ports = ports;
  }

  get wire(): SimWire | undefined {
    return this.#life?.wire?.sim;
  }

  get hasLeft(): boolean {
    return this.#isDone;
  }

  get isOnline(): boolean {
    return this.#life?.client.state.phase === 'online';
  }

  start(): void {
    const { scheduler, random } = this.#ports;
    scheduler.after(random.between(0, 2000), () => this.#begin());
    this.#planAction();
  }

  drain(reconnects: boolean): void {
    const { scheduler, random } = this.#ports;
    this.#isDraining = true;
    if (!this.#isMain) {
      this.pending.clear();
      this.leave();
      return;
    }
    const life = this.#life;
    if (life === undefined) return;
    this.wire?.thaw();
    // What its handler threw at comes again on the next connection, much earlier than on this one.
    if (reconnects || life.checker.released.size > 0) {
      scheduler.after(random.between(0, 3 * this.#habits.latencyMs), () => this.wire?.cut());
    }
    if (life.client.state.phase === 'offline') this.#logInLater(random.between(0, 2000));
    else if (this.party.friends.length > 0) this.#newMessage({ ttl: 0, timeoutMs: LAST_WORD_MS });
  }

  leave(): void {
    const { random, scheduler } = this.#ports;
    this.#isDone = true;
    scheduler.settled = true;
    if (random.chance(0.5)) this.#life?.client.close();
    else this.#life?.end(random.chance(0.5) ? 'fin' : 'reset');
  }

  /** Of some such losses a client's machine tells after a while; of others only silence does. */
  vanish(): void {
    const { random, scheduler } = this.#ports;
    const wire = this.#life?.wire;
    wire?.sim?.vanish();
    if (random.chance(0.5)) scheduler.after(random.magnitude(20, 20_000), () => wire?.ended());
  }

  // ---- its lives

  #begin(): void {
    if (this.#isDone || this.#life !== undefined) return;
    const life = new SdkLife(
      {
        party: this.party,
        habits: this.#habits,
        session: this.#sdkHabits.session,
        tag: `${this.#tag}.${this.#lives++}`,
        patch: this.#patch,
        onState: (state) => this.#stateChanged(life, state),
      },
      this.#ports,
    );
    this.#life = life;
    this.#thrownAt = new Set();
    switch (this.#sdkHabits.takes) {
      case 'handler':
        life.client.onMessage((message) => this.#handle(life, message));
        break;
      case 'by hand':
        life.client.onMessage((message) => this.#handleByHand(life, message), { ack: 'by hand' });
        break;
      case 'loop':
        void this.#loop(life);
        break;
    }
    this.#logIn(life);
    for (const { message } of this.pending.values()) this.#send(life, message, false, { timeoutMs: this.#timeoutMs() });
  }

  #crash(): void {
    const { random, scheduler } = this.#ports;
    this.#life?.end(random.pick(['fin', 'reset', 'vanish']));
    this.#life = undefined;
    // Some programs write down what they send.
    if (this.#habits.ids === 'reset' || this.#habits.resend === 'no') this.pending.clear();
    scheduler.after(this.#isDraining ? 500 : this.#habits.awayMs, () => this.#begin());
  }

  #logIn(life: SdkLife): void {
    const mustRegister = this.#mustRegister;
    this.#mustRegister = false;
    // Why it failed the state says.
    life.logIn(mustRegister).catch(() => {
      if (mustRegister) this.#logInLater(1000);
    });
  }

  #logInLater(ms: number): void {
    const life = this.#life;
    if (this.#isDone || life === undefined || this.#willLogIn === life) return;
    this.#willLogIn = life;
    this.#ports.scheduler.after(ms, () => {
      if (life !== this.#life || this.#isDone) return;
      this.#willLogIn = undefined;
      if (life.client.state.phase === 'offline') this.#logIn(life);
    });
  }

  #stateChanged(life: SdkLife, state: State): void {
    const { random } = this.#ports;
    if (life !== this.#life || state.phase !== 'offline') return;
    switch (state.why) {
      case 'conflict':
        this.#logInLater(this.#isDraining ? 1000 : this.#habits.fights ? random.between(50, 2000) : 10_000);
        break;
      case 'refused':
        this.#mustRegister = state.error instanceof RefusedError && state.error.code === 1002;
        this.#logInLater(random.between(200, 2000));
        break;
      case 'gave up':
      case 'logged out':
        this.#logInLater(this.#isDraining ? 500 : random.magnitude(20, 10_000));
        break;
      case 'new':
      case 'closed':
    }
  }

  // ---- sending

  #timeoutMs(): number {
    return this.#isDraining ? 60_000 : this.#ports.random.magnitude(this.#sdkHabits.timeoutMsLeast, 100_000);
  }

  #newMessage(fixed?: { readonly ttl: number; readonly timeoutMs: number }): void {
    const { random, messages } = this.#ports;
    const { party } = this;
    const habits = this.#habits;
    const life = this.#life;
    if (life === undefined || this.pending.size >= PENDING_MAX || party.friends.length === 0) return;
    if (life.client.state.phase === 'offline') return;
    const isStray = fixed === undefined && party.devices.length > 0 && random.chance(habits.stray);
    const to = random.pick(isStray ? party.devices : party.friends);
    const bytes = random.chance(0.8) ? random.below(30) : Math.floor(random.magnitude(1, habits.bytesMax));
    const ttl = fixed?.ttl ?? (random.chance(habits.ttl) ? random.pick([1, 2, 5, 20, 100_000]) : 0);
    const message = messages.make(party.name, to.name, life.nextId, bytes, ttl);
    this.pending.set(message.msgId, { message, attempts: 0 });
    const timeoutMs = fixed?.timeoutMs ?? this.#timeoutMs();
    if (!random.chance(this.#sdkHabits.aborts)) {
      this.#send(life, message, true, { timeoutMs });
      return;
    }
    const abort = new AbortController();
    this.#ports.scheduler.after(random.magnitude(1, 20_000), () => {
      this.#ports.scheduler.settled = true;
      if (!life.isOver) abort.abort();
    });
    this.#send(life, message, true, { timeoutMs, signal: abort.signal });
  }

  #send(
    life: SdkLife,
    message: SentMessage,
    isFirst: boolean,
    options: { readonly timeoutMs: number; readonly signal?: AbortSignal },
  ): void {
    life.send(message, isFirst, options).then(
      () => {
        if (!life.isOver) this.pending.delete(message.msgId);
      },
      (error: unknown) => {
        if (!life.isOver) this.#failed(message, error, options.timeoutMs);
      },
    );
  }

  /** What may not have arrived is sent once more with the same id, by most. */
  #failed(message: SentMessage, error: unknown, timeoutMs: number): void {
    const { checker, random } = this.#ports;
    const pending = this.pending.get(message.msgId);
    if (pending === undefined) return;
    const isFinal = (error instanceof RefusedError && !error.retry) || error instanceof AbortedError;
    const isOverdue = error instanceof TimeoutError || (error instanceof RefusedError && error.retry);
    if (isOverdue && timeoutMs === LAST_WORD_MS) {
      checker.broken('no answer', `${message} was not acked, sent when all was well: ${String(error)}`, message);
    }
    const goesOn = this.#isDraining
      ? message.ttl === 0
      : this.#habits.resend !== 'no' && pending.attempts < ATTEMPTS_MAX;
    if (isFinal || !goesOn) {
      this.pending.delete(message.msgId);
      return;
    }
    pending.attempts++;
    this.#sendAgainLater(message, random.magnitude(100, 5000));
  }

  #sendAgainLater(message: SentMessage, ms: number): void {
    const life = this.#life;
    this.#ports.scheduler.after(ms, () => {
      // The next life sends it by itself.
      if (this.#isDone || life === undefined || life !== this.#life) return;
      if (life.client.state.phase === 'offline') this.#sendAgainLater(message, 1000);
      else this.#send(life, message, false, { timeoutMs: this.#timeoutMs() });
    });
  }

  // ---- receiving

  #sentMessage(life: SdkLife, { from, msgId, json, msg }: Message): SentMessage | undefined {
    const { messages, trace } = this.#ports;
    const { n } = msg as { n: number };
    const sent = messages.all[n];
    trace.note('handed out', life.connectionId, sent?.id ?? -1);
    life.checker.handed(from, msgId, json, sent);
    return sent;
  }

  /** How long the handler takes: 0 is at once, and not even a promise. */
  #drawWork(): number {
    const { random } = this.#ports;
    if (this.#isDraining) return 0;
    if (random.chance(this.#sdkHabits.takesLong)) return random.magnitude(100, 10_000);
    return random.chance(0.5) ? 0 : random.magnitude(0.1, 50);
  }

  #finish(life: SdkLife, sent: SentMessage): void {
    const { random, trace } = this.#ports;
    const throws = !this.#isDraining && !this.#thrownAt.has(sent) && random.chance(this.#sdkHabits.throws);
    trace.note('handled', life.connectionId, sent.id, throws ? 'threw' : '');
    if (throws) {
      this.#thrownAt.add(sent);
      life.checker.left(sent);
      throw new Thrown('this one not');
    }
    life.checker.handled(sent);
  }

  #wait(ms: number): Promise<void> {
    return this.#ports.scheduler.promise(ms, () => {});
  }

  #handle(life: SdkLife, message: Message): Promise<void> | undefined {
    const sent = this.#sentMessage(life, message);
    if (sent === undefined) return undefined;
    const ms = this.#drawWork();
    if (ms > 0) return this.#wait(ms).then(() => (life.isOver ? undefined : this.#finish(life, sent)));
    this.#finish(life, sent);
    return undefined;
  }

  #handleByHand(life: SdkLife, message: Message): void {
    const sent = this.#sentMessage(life, message);
    if (sent === undefined) return;
    const { scheduler } = this.#ports;
    scheduler.after(this.#drawWork(), () => {
      if (life.isOver) return;
      scheduler.settled = true;
      try {
        this.#finish(life, sent);
        message.ack();
      } catch {
        message.release();
      }
    });
  }

  /** The loop is left when its body throws, and when the login ends; then there is another. */
  async #loop(life: SdkLife): Promise<void> {
    while (!life.isOver) {
      try {
        for await (const message of life.client.messages()) {
          const sent = this.#sentMessage(life, message);
          const ms = this.#drawWork();
          if (ms > 0) await this.#wait(ms);
          if (life.isOver) return;
          if (sent !== undefined) this.#finish(life, sent);
        }
      } catch {
        // It threw, or the login has ended.
      }
    }
  }

  // ---- what it does of its own accord

  #planAction(): void {
    const { scheduler, random } = this.#ports;
    const habits = this.#habits;
    const rates: Record<Action, number> = {
      send: 1 / habits.sendEveryMs,
      crash: 1 / habits.crashEveryMs,
      cut: 1 / habits.reconnectEveryMs,
      'log out': 1 / habits.logoutEveryMs,
      bind: this.party.devices.length > 0 ? 1 / habits.bindEveryMs : 0,
    };
    const rate = Object.values(rates).reduce((sum, each) => sum + each, 0);
    if (rate === 0) return;
    scheduler.after(random.wait(1 / rate), () => {
      if (this.#isDraining || this.#isDone) return;
      this.#act(random.weighted(rates));
      this.#planAction();
    });
  }

  #act(action: Action): void {
    const { random, trace, scheduler } = this.#ports;
    const life = this.#life;
    if (life === undefined) return;
    if (action !== 'send') trace.note('command', life.connectionId, -1, action);
    scheduler.settled = true;
    switch (action) {
      case 'send': {
        const count = random.chance(this.#habits.burst) ? this.#habits.burstMessages : 1;
        for (let i = 0; i < count; i++) this.#newMessage();
        break;
      }
      case 'crash':
        this.#crash();
        break;
      case 'cut':
        this.wire?.cut();
        break;
      case 'log out':
        life.client.logout();
        break;
      case 'bind': {
        if (life.client.state.phase === 'offline') break;
        const deviceId = random.pick(this.party.devices).name;
        life.changeDevice(random.chance(0.5), deviceId, this.#timeoutMs()).catch(() => {});
        break;
      }
    }
  }
}

import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { Messages } from '../sim/message.ts';
import { PASSWORD, type Party } from '../sim/party.ts';
import { Random } from '../sim/random.ts';
import type { Trace } from '../sim/trace.ts';
import { connect } from '../test/parties.ts';
import { Client, type Reached } from './client.ts';
import { drawHabits, mended } from './habits.ts';
import { Witness } from './witness.ts';

const TICK_MS = 10;
/** Messages in a row from one sender. */
const BURST_MAX = 20;
const FRIENDS_MAX = 8;

/** All names of a campaign, and their clients. */
export class Fleet {
  readonly clients: Client[] = [];
  readonly messages = new Messages();
  readonly witness: Witness;
  messagesPerSecond = 0;
  readonly #random: Random;
  #timer: NodeJS.Timeout | undefined;
  #tickedAt = 0;
  /** Messages before this one are settled: acked and received, or refused. */
  #settledTo = 0;

  constructor(seed: number, count: number, server: () => Reached, trace: Trace, Judge: typeof Witness = Witness) {
    const random = new Random(seed, 1);
    this.#random = new Random(seed, 2);
    this.witness = new Judge(() => performance.now(), this.messages, trace);
    let connections = 0;
    const nextConnection = (): number => connections++;
    const parties: Party[] = Array.from({ length: count }, (_, i) =>
      i % 2 === 0
        ? { name: `ann${i}`, role: 'app', friends: [], devices: [] }
        : { name: `lamp${i}`, role: 'device', friends: [], devices: [] },
    );
    const apps = parties.filter(({ role }) => role === 'app');
    const devices = parties.filter(({ role }) => role === 'device');
    for (const app of apps) {
      for (let i = random.below(FRIENDS_MAX); i >= 0; i--) {
        const device = random.pick(devices);
        if (!app.devices.includes(device)) {
          app.devices.push(device);
          app.friends.push(device);
          device.friends.push(app);
        }
        app.friends.push(random.pick(apps));
      }
    }
    // A device that nobody added gets somebody.
    for (const device of devices.filter(({ friends }) => friends.length === 0)) {
      const app = random.pick(apps);
      app.devices.push(device);
      app.friends.push(device);
      device.friends.push(app);
    }
    for (const [i, party] of parties.entries()) {
      const others = party.role === 'app' ? devices : apps;
      const strangers = others.filter((other) => !party.friends.includes(other));
      const own = new Random(seed, 100 + i);
      const ports = { witness: this.witness, messages: this.messages, random: own, server, nextConnection };
      this.clients.push(new Client(party, strangers, drawHabits(own), randomBytes(own.pick([16, 24, 32])), ports));
    }
  }

  /** Registers users and adds devices, past the proxy. */
  async enter(at: { readonly host: string; readonly port: number }): Promise<void> {
    for (const { party } of this.clients.filter(({ party }) => party.role === 'device')) {
      using device = await connect(at);
      await device.auth(party.name);
    }
    for (const { party } of this.clients.filter(({ party }) => party.role === 'app')) {
      using app = await connect(at);
      await app.register(party.name, PASSWORD);
      await app.login(party.name, PASSWORD);
      for (const device of party.devices) await app.bind(device.name);
    }
  }

  start(): void {
    this.#tickedAt = performance.now();
    this.#timer = setInterval(() => this.#tick(), TICK_MS);
  }

  close(): void {
    clearInterval(this.#timer);
    for (const client of this.clients) client.leaveForGood();
  }

  /** Everybody behaves in a new way. */
  disturb(random: Random): void {
    const now = performance.now();
    for (const client of this.clients) client.adopt(drawHabits(random), now);
  }

  /** Everybody comes, acks, and repeats what was not answered. */
  mend(): void {
    const now = performance.now();
    this.messagesPerSecond = 0;
    for (const client of this.clients) client.adopt(mended(client.habits), now);
  }

  /** Sent, and neither acked nor refused. */
  get unanswered(): number {
    return this.clients.reduce((sum, client) => sum + client.pending.size, 0);
  }

  #tick(): void {
    const now = performance.now();
    for (const client of this.clients) client.tick(now);
    const due = (this.messagesPerSecond * Math.min(100, now - this.#tickedAt)) / 1000;
    this.#tickedAt = now;
    const senders = this.clients.filter((client) => client.habits.sends > 0 && client.canSend);
    let left = due;
    while (left > 0 && senders.length > 0) {
      const sender = this.#random.pick(senders);
      let burst = 1 + this.#random.below(Math.ceil(BURST_MAX * Math.min(1, sender.habits.sends)));
      left -= burst;
      while (burst-- > 0 && sender.canSend) sender.send(now);
      if (!sender.canSend) senders.splice(senders.indexOf(sender), 1);
    }
  }

  /** Whether everything is answered and what was acked has been received, and the server knows that. */
  get isDrained(): boolean {
    const { all } = this.messages;
    const isSettled = (at: number): boolean => {
      const message = all[at]!;
      return !message.isAcked || message.receiverHasIt || this.witness.mayHaveExpired(message);
    };
    if (this.clients.some((client) => client.pending.size > 0 || !client.isQuiet)) return false;
    while (this.#settledTo < all.length && isSettled(this.#settledTo)) this.#settledTo++;
    return this.#settledTo === all.length;
  }

  /** Waits until it is. False when it is too late, or when everybody is there and nothing happens any more. */
  async drained(timeoutMs: number, stallMs: number): Promise<boolean> {
    const { figures } = this.witness;
    const began = performance.now();
    let changedAt = began;
    let before = 0;
    for (let now = began; now < began + timeoutMs && now < changedAt + stallMs; now = performance.now()) {
      if (this.witness.hasFailed) return false;
      if (this.isDrained) return true;
      const changes = figures.pushed + figures.acked + figures.taken;
      if (changes !== before || this.clients.some(({ isOnline }) => !isOnline)) changedAt = now;
      before = changes;
      await sleep(20);
    }
    return false;
  }
}

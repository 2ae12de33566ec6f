// What an ack is worth when the server dies: kill -9 in mid-flood, restart, and everything is accounted for.
//
// HAWSER_KILL_ROUNDS=n runs more rounds, HAWSER_KILL_SEED=n repeats the ones of a printed seed.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Server, startServer } from './harness.ts';
import type { Client, Frame, Message } from './mini-client.ts';
import { eventually, expectCode, login, newDevice, newUser, sleep } from './parties.ts';

const rounds = Number(process.env.HAWSER_KILL_ROUNDS ?? 3);
const firstSeed = Number(process.env.HAWSER_KILL_SEED ?? Math.floor(Math.random() * 2 ** 31));

/** Numbers from 0 up to 1, the same ones for the same seed (mulberry32). */
function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

type Role = 'user' | 'device';
/** How a receiver behaves before the kill. */
type Habit = 'acks' | 'acks late' | 'never acks' | 'is away' | 'comes and goes';

interface Sent {
  readonly msgId: string;
  readonly to: string;
  readonly msg: { readonly n: number; readonly pad: string };
  ackedBeforeKill: boolean;
  ackedAfter: boolean;
}

interface Sender {
  readonly name: string;
  readonly role: Role;
  readonly sent: Sent[];
  readonly byId: Map<string, Sent>;
  client: Client | undefined;
}

interface Receiver {
  readonly name: string;
  readonly role: Role;
  readonly habit: Habit;
  /** (from, msgid) in the order of their first deliveries, over the kill. */
  readonly first: string[];
  readonly seen: Set<string>;
  /** What this receiver wrote an ack for before the kill. */
  readonly acked: Set<string>;
  /** How often each came after the restart. */
  readonly after: Map<string, number>;
  client: Client | undefined;
}

/** `dying`: killed, but what the kernel still holds for us was sent before and counts as such. */
type Phase = 'flood' | 'dying' | 'back';

const windowOfSender = 48;

class Round {
  readonly seed: number;
  readonly #random: () => number;
  readonly #server: Server;
  readonly #senders: Sender[] = [];
  readonly #receivers: Receiver[] = [];
  /** Whatever any receiver should not have got. */
  readonly #strays: string[] = [];
  #ackCount = 0;
  #phase: Phase = 'flood';

  constructor(seed: number, server: Server, random: () => number) {
    this.seed = seed;
    this.#server = server;
    this.#random = random;
  }

  async run(): Promise<string> {
    await this.#enter();
    const killAt = 200 + Math.floor(this.#random() * 3_000);
    const flood = Promise.all(this.#senders.map((sender) => this.#flood(sender)));
    const coming = this.#comeAndGo();
    await eventually(
      () => this.#ackCount >= killAt,
      () => `${this.#ackCount} of ${killAt} acks`,
      60_000,
    );
    await sleep(this.#random() * 30);
    this.#phase = 'dying';
    await this.#server.kill9();
    await Promise.all([flood, coming]);
    const open = [...this.#senders, ...this.#receivers].flatMap(({ client }) => client ?? []);
    await Promise.all(open.map((client) => client.waitClosed()));
    this.#phase = 'back';
    const before = this.#sent().filter((sent) => sent.ackedBeforeKill).length;

    await this.#server.restart();
    await this.#comeBack();
    await this.#resend();
    await this.#settle();
    this.#check();
    for (const { client } of [...this.#senders, ...this.#receivers]) client?.destroy();
    const all = this.#sent().length;
    return `${all} sent, ${before} acked before the kill, ${all - before} sent again`;
  }

  #sent(): Sent[] {
    return this.#senders.flatMap((sender) => sender.sent);
  }

  async #enter(): Promise<void> {
    const at = this.#server;
    for (const role of ['user', 'user', 'user', 'device'] as const) {
      const name = role === 'user' ? await newUser(at) : `sensor-${this.seed}`;
      this.#senders.push({ name, role, sent: [], byId: new Map(), client: undefined });
    }
    const sensor = `sensor-${this.seed}`;
    for (const habit of ['acks', 'acks late', 'never acks', 'is away', 'comes and goes'] as const) {
      for (const role of ['user', 'device'] as const) {
        const name = role === 'user' ? await newUser(at) : `device-${habit.replaceAll(' ', '-')}-${this.seed}`;
        const receiver: Receiver = {
          name,
          role,
          habit,
          first: [],
          seen: new Set(),
          acked: new Set(),
          after: new Map(),
          client: undefined,
        };
        this.#receivers.push(receiver);
        if (role === 'user') {
          using owner = await login(at, name);
          expectCode(await owner.bind(sensor), 203, 100);
        }
      }
    }
    for (const sender of this.#senders) await this.#connectSender(sender);
    for (const sender of this.#senders.filter(({ role }) => role === 'user')) {
      for (const { role, name } of this.#receivers) {
        if (role === 'device') expectCode((await sender.client?.bind(name)) as Frame, 203, 100);
      }
    }
    for (const receiver of this.#receivers) {
      if (receiver.habit !== 'is away') await this.#connectReceiver(receiver);
    }
  }

  async #connectSender(sender: Sender): Promise<void> {
    const before = this.#phase !== 'back';
    const options = { onFrame: (frame: Frame) => this.#onAnswer(sender, frame, before) };
    sender.client =
      sender.role === 'user'
        ? await login(this.#server, sender.name, options)
        : await newDevice(this.#server, { ...options, name: sender.name });
  }

  #onAnswer(sender: Sender, frame: Frame, before: boolean): void {
    if (frame.cmd !== 200) return;
    const sent = sender.byId.get(frame.msgId);
    if (sent === undefined || frame.data.length > 0) {
      this.#strays.push(`${sender.name} got ${frame}`);
      return;
    }
    if (!before) {
      sent.ackedAfter = true;
    } else if (!sent.ackedBeforeKill) {
      sent.ackedBeforeKill = true;
      this.#ackCount += 1;
    }
  }

  async #connectReceiver(receiver: Receiver): Promise<void> {
    const before = this.#phase !== 'back';
    const options = {
      onPush: (message: Message, client: Client) => this.#onPush(receiver, message, client, before),
    };
    const client =
      receiver.role === 'user'
        ? await login(this.#server, receiver.name, options)
        : await newDevice(this.#server, { ...options, name: receiver.name });
    receiver.client = client;
    client.fetch();
  }

  #onPush(receiver: Receiver, message: Message, client: Client, before: boolean): void {
    const key = keyOf(message.from, message.msgid);
    const sent = this.#senders.find(({ name }) => name === message.from)?.byId.get(message.msgid);
    if (sent === undefined || sent.to !== receiver.name || message.to !== receiver.name) {
      this.#strays.push(`${receiver.name} got ${JSON.stringify(message).slice(0, 200)}`);
    } else if (JSON.stringify(sent.msg) !== JSON.stringify(message.msg)) {
      this.#strays.push(`${receiver.name} got ${message.msgid} with another content`);
    }
    if (!receiver.seen.has(key)) {
      receiver.seen.add(key);
      receiver.first.push(key);
    }
    if (!before) {
      receiver.after.set(key, (receiver.after.get(key) ?? 0) + 1);
      client.ack([message.msgid]);
      return;
    }
    const ack = () => {
      if (this.#phase !== 'flood' || client.closed !== undefined || client !== receiver.client) return;
      receiver.acked.add(key);
      client.ack([message.msgid]);
    };
    if (receiver.habit === 'acks' || receiver.habit === 'comes and goes') ack();
    else if (receiver.habit === 'acks late') setTimeout(ack, this.#random() * 80);
  }

  /** Sends until the server dies, never more than a window ahead of the acks. */
  async #flood(sender: Sender): Promise<void> {
    const targets = this.#receivers.filter(({ role }) => role === 'user' || sender.role === 'user');
    let outstanding = 0;
    const client = sender.client;
    assert.ok(client);
    for (let n = 0; this.#phase === 'flood' && client.closed === undefined; n += 1) {
      const target = targets[Math.floor(this.#random() * targets.length)];
      assert.ok(target);
      const pad = 'p'.repeat(Math.floor(this.#random() ** 4 * 4_000));
      const msgId = `${this.seed}-${n}`;
      const sent: Sent = { msgId, to: target.name, msg: { n, pad }, ackedBeforeKill: false, ackedAfter: false };
      sender.sent.push(sent);
      sender.byId.set(msgId, sent);
      client.post(sent.to, sent.msg, { msgId });
      outstanding += 1;
      while (outstanding >= windowOfSender && this.#phase === 'flood' && client.closed === undefined) {
        await sleep(1);
        outstanding = sender.sent.slice(-2_000).filter((one) => !one.ackedBeforeKill).length;
      }
    }
  }

  /** Receivers that drop and reconnect all the time, by turns with a reset, a FIN and a takeover. */
  async #comeAndGo(): Promise<void> {
    const restless = this.#receivers.filter(({ habit }) => habit === 'comes and goes');
    while (this.#phase === 'flood') {
      await sleep(50 + this.#random() * 150);
      for (const receiver of restless) {
        const older = receiver.client;
        const way = Math.floor(this.#random() * 3);
        if (way === 0) older?.socket.resetAndDestroy();
        if (way === 1) older?.destroy();
        try {
          await this.#connectReceiver(receiver);
        } catch (error) {
          // The kill may come at any moment of this; anything else is a failure.
          await sleep(100);
          if (this.#phase === 'flood') throw error;
          return;
        }
      }
    }
  }

  async #comeBack(): Promise<void> {
    for (const receiver of this.#receivers) await this.#connectReceiver(receiver);
  }

  async #resend(): Promise<void> {
    for (const sender of this.#senders) {
      await this.#connectSender(sender);
      for (const sent of sender.sent) {
        if (!sent.ackedBeforeKill) sender.client?.post(sent.to, sent.msg, { msgId: sent.msgId });
      }
    }
  }

  async #settle(): Promise<void> {
    const unacked = () => this.#sent().filter((sent) => !sent.ackedBeforeKill && !sent.ackedAfter).length;
    await eventually(
      () => unacked() === 0,
      () => `${unacked()} messages sent again have no ack`,
      30_000,
    );
    const missing = () => this.#missing();
    await eventually(
      () => missing().length === 0,
      () => `${missing().length} messages missing: ${missing().slice(0, 10).join(', ')}`,
      30_000,
    );
    for (const receiver of this.#receivers) await receiver.client?.quiet(100);
  }

  #missing(): string[] {
    const receivers = new Map(this.#receivers.map((receiver) => [receiver.name, receiver]));
    return this.#senders.flatMap((sender) =>
      sender.sent.flatMap((sent) => {
        const receiver = receivers.get(sent.to);
        const key = keyOf(sender.name, sent.msgId);
        const counted = receiver?.acked.has(key) === true || receiver?.after.has(key) === true;
        return counted ? [] : [`${key} to ${sent.to} (${sent.ackedBeforeKill ? 'acked' : 'sent again'})`];
      }),
    );
  }

  #check(): void {
    assert.deepEqual(this.#strays, []);
    for (const receiver of this.#receivers) {
      for (const sender of this.#senders) {
        const place = new Map(receiver.first.map((key, i) => [key, i]));
        for (const ackedBeforeKill of [true, false]) {
          const sent = sender.sent.filter((one) => one.to === receiver.name && one.ackedBeforeKill === ackedBeforeKill);
          let last = -1;
          for (const { msgId } of sent) {
            const now = place.get(keyOf(sender.name, msgId)) ?? -1;
            assert.ok(now > last, `${receiver.name} (${receiver.habit}) got ${msgId} of ${sender.name} out of order`);
            last = now;
          }
        }
      }
      const acked = new Set(
        this.#senders.flatMap(({ name, sent }) =>
          sent.filter((one) => one.ackedBeforeKill).map((one) => keyOf(name, one.msgId)),
        ),
      );
      for (const [key, count] of receiver.after) {
        const most = acked.has(key) ? 1 : 2;
        assert.ok(count <= most, `${receiver.name} (${receiver.habit}) got ${key} ${count} times after the restart`);
      }
    }
  }
}

function keyOf(from: string, msgid: string): string {
  return `${from} ${msgid}`;
}

for (let round = 0; round < rounds; round += 1) {
  const seed = (firstSeed + round * 7_919) % 2 ** 31;
  const again = `HAWSER_KILL_SEED=${seed} HAWSER_KILL_ROUNDS=1`;
  test(`no acked message is lost by kill -9 in mid-flood (${again})`, { timeout: 180_000 }, async (t) => {
    console.log(`durability: round ${round + 1} of ${rounds}; to repeat: ${again}`);
    const random = randomFrom(seed);
    const persistAfter = [5, 25, 25, 300][Math.floor(random() * 4)] ?? 25;
    await using server = await startServer({ args: ['--persist-after', String(persistAfter)] });
    const outcome = await new Round(seed, server, random).run();
    t.diagnostic(`--persist-after ${persistAfter}: ${outcome}`);
  });
}

// The client over a hostile network: cuts anywhere, half-open connections, delays, and a server that is killed and
// restarted. Whatever happens, every send settles with what is so, nothing is handled twice, and order is kept.
//
// HAWSER_FAULT_ROUNDS=n runs more rounds, HAWSER_FAULT_SEED=n repeats the ones of a printed seed.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { App, type ClientOptions, ClosedError, Device, type Message, OperationError } from '@hawser/client';
import { type Server, startServer } from './harness.ts';
import { eventually, sleep } from './parties.ts';
import { HostileProxy } from './proxy.ts';
import { randomFrom } from './random.ts';

const rounds = Number(process.env.HAWSER_FAULT_ROUNDS ?? 2);
const firstSeed = Number(process.env.HAWSER_FAULT_SEED ?? Math.floor(Math.random() * 2 ** 31));

/** How long messages are sent, under changing faults. */
const troubleMs = 6_000;
/** From the end of trouble until everything must have settled. */
const settleTimeoutMs = 60_000;

interface Sent {
  readonly from: string;
  readonly to: string;
  /** Counts the messages from this sender to this receiver. */
  readonly n: number;
  readonly msgId: string;
  result: 'open' | 'acked' | OperationError['outcome'];
}

interface Handed {
  readonly from: string;
  readonly n: number;
  /** The handler was given it and threw, so that it may come again. */
  failures: number;
  successes: number;
}

class Receiver {
  readonly name: string;
  readonly client: App | Device;
  readonly handed = new Map<string, Handed>();
  /** In the order of their first handling. */
  readonly order: Handed[] = [];
  readonly #random: () => number;

  constructor(name: string, client: App | Device, random: () => number) {
    this.name = name;
    this.client = client;
    this.#random = random;
    client.onMessage<{ n: number }>((message) => this.#handle(message));
  }

  async #handle(message: Message<{ n: number }>): Promise<void> {
    const key = `${message.from} ${message.msgId}`;
    const known = this.handed.get(key);
    const handed = known ?? { from: message.from, n: message.msg.n, failures: 0, successes: 0 };
    this.handed.set(key, handed);
    if (known === undefined) this.order.push(handed);
    if (this.#random() < 0.3) await sleep(this.#random() * 5);
    if (handed.failures === 0 && handed.successes === 0 && this.#random() < 0.01) {
      handed.failures++;
      throw new Error('the handler fails on purpose');
    }
    handed.successes++;
  }
}

class Round {
  readonly #random: () => number;
  readonly #seed: number;
  readonly #server: Server;
  readonly #proxy: HostileProxy;
  readonly #dispatcher: HostileProxy;
  readonly #sent: Sent[] = [];
  readonly #receivers: Receiver[] = [];
  readonly #clients: (App | Device)[] = [];
  readonly #sending: Promise<void>[] = [];
  readonly #counts = { cuts: 0, kills: 0 };
  /** Sends that failed though they had time, and errors of other classes. */
  readonly #failures: string[] = [];
  #isOver = false;

  constructor(seed: number, random: () => number, server: Server, proxy: HostileProxy, dispatcher: HostileProxy) {
    this.#seed = seed;
    this.#random = random;
    this.#server = server;
    this.#proxy = proxy;
    this.#dispatcher = dispatcher;
  }

  async run(): Promise<string> {
    const [ann, bob, carl] = await Promise.all(
      ['ann', 'bob', 'carl'].map((name) => this.#newApp(`${name}-${this.#seed}`)),
    );
    const [lamp, sensor] = await Promise.all(['lamp', 'sensor'].map((id) => this.#newDevice(`${id}-${this.#seed}`)));
    assert.ok(ann && bob && carl && lamp && sensor);
    for (const app of [ann, bob]) await app.client.addDevice(lamp.name);
    await carl.client.addDevice(sensor.name);
    for (const { name, client } of [carl, lamp]) this.#receivers.push(new Receiver(name, client, this.#random));
    const flows = [
      [ann, carl],
      [ann, lamp],
      [bob, carl],
      [bob, lamp],
      [sensor, carl],
    ] as const;
    const floods = flows.map(([from, to]) => this.#flood(from.name, from.client, to.name));
    await this.#trouble();
    this.#isOver = true;
    await Promise.all(floods);
    await this.#settle();
    this.#check();
    const count = (result: Sent['result']): number => this.#sent.filter((sent) => sent.result === result).length;
    return (
      `${this.#sent.length} sent: ${count('acked')} acked, ${count('unknown')} unknown, ${count('not sent')} not sent; ` +
      `${this.#proxy.connections} connections, ${this.#counts.cuts} cuts, ${this.#counts.kills} kills`
    );
  }

  close(): void {
    for (const client of this.#clients) client.close();
  }

  #options(): ClientOptions {
    return {
      dispatcher: `http://${this.#dispatcher.host}:${this.#dispatcher.port}`,
      heartbeatMs: 500,
      // Four of them unanswered end a connection. A login takes longer than usual where others use the cores.
      awaitingHeartbeatMs: 1_000,
      connectTimeoutMs: 2_000,
      answerTimeoutMs: 10_000,
      reconnectBaseMs: 50,
      reconnectMsMax: 400,
      stableAfterMs: 500,
      outstandingMessagesMax: 40,
      // Handlers fail on purpose, and cut connections are no news here.
      onError: () => {},
    };
  }

  async #newApp(name: string): Promise<{ name: string; client: App }> {
    const client = new App(this.#options());
    this.#clients.push(client);
    // On a busy machine these heartbeats may give the connection up meanwhile: the login tells what came of it.
    await client.register(name, 'correct horse').catch((error: unknown) => {
      if (!(error instanceof ClosedError)) throw error;
    });
    await client.login(name, 'correct horse');
    return { name, client };
  }

  async #newDevice(name: string): Promise<{ name: string; client: Device }> {
    const client = new Device(this.#options());
    this.#clients.push(client);
    await client.authenticate(name);
    return { name, client };
  }

  /** Sends until trouble is over, in bursts; some messages with little time, some called off. */
  async #flood(from: string, client: App | Device, to: string): Promise<void> {
    for (let n = 0; !this.#isOver; n++) {
      const sent: Sent = { from, to, n, msgId: `${from}-${to}-${n}`, result: 'open' };
      this.#sent.push(sent);
      const chance = this.#random();
      const pad = 'p'.repeat(Math.floor(this.#random() ** 4 * 4_000));
      const wait =
        chance < 0.1
          ? { timeoutMs: this.#random() * 300 }
          : chance < 0.2
            ? { signal: AbortSignal.timeout(Math.floor(this.#random() * 300)) }
            : { timeoutMs: troubleMs + settleTimeoutMs };
      const done = client.send(to, { n, pad }, { msgId: sent.msgId, ...wait }).then(
        () => {
          sent.result = 'acked';
        },
        (error: unknown) => {
          if (!(error instanceof OperationError) || chance >= 0.2) this.#failures.push(`${sent.msgId}: ${error}`);
          sent.result = error instanceof OperationError ? error.outcome : 'unknown';
        },
      );
      this.#sending.push(done);
      if (this.#random() < 0.2) await sleep(this.#random() * 40);
      if (this.#random() < 0.01) await done;
    }
  }

  async #trouble(): Promise<void> {
    const until = performance.now() + troubleMs;
    let untilKill = 2 + Math.floor(this.#random() * 4);
    while (performance.now() < until) {
      const how = (['reset', 'end', 'silence'] as const)[Math.floor(this.#random() * 3)]!;
      this.#proxy.faults = {
        ...(this.#random() < 0.6 && { cutAfterBytesMax: 500 + this.#random() ** 2 * 30_000, cut: how }),
        ...(this.#random() < 0.4 && { delayMsMax: this.#random() * 40 }),
        ...(this.#random() < 0.4 && { pieceBytesMax: 1 + Math.floor(this.#random() * 100) }),
        ...(this.#random() < 0.1 && { refuse: true }),
      };
      if (this.#random() < 0.5) {
        this.#counts.cuts++;
        this.#proxy.cutAll(how);
      }
      if (--untilKill === 0) {
        untilKill = 6 + Math.floor(this.#random() * 6);
        this.#counts.kills++;
        await this.#server.kill9();
        await sleep(this.#random() * 200);
        await this.#server.restart();
        this.#proxy.target = this.#server;
        this.#dispatcher.target = { host: '127.0.0.1', port: this.#server.httpPort };
      }
      await sleep(100 + this.#random() * 300);
    }
    this.#proxy.faults = {};
    this.#proxy.cutAll('reset');
  }

  async #settle(): Promise<void> {
    let isSettled = false;
    const all = Promise.all(this.#sending).then(() => {
      isSettled = true;
    });
    await Promise.race([
      all,
      eventually(
        () => isSettled,
        () => `open: ${JSON.stringify(this.#sent.filter(({ result }) => result === 'open').slice(0, 5))}`,
        settleTimeoutMs,
      ),
    ]);
    const missing = (): Sent[] =>
      this.#sent.filter(({ result, from, to, msgId }) => {
        const receiver = this.#receivers.find(({ name }) => name === to);
        return result === 'acked' && receiver?.handed.get(`${from} ${msgId}`)?.successes !== 1;
      });
    await eventually(
      () => missing().length === 0,
      () => `acked and not handled: ${JSON.stringify(missing().slice(0, 5))} of ${missing().length}`,
      settleTimeoutMs,
    );
  }

  #check(): void {
    assert.deepEqual(this.#failures, [], 'what had time failed');
    for (const { name, handed, order } of this.#receivers) {
      const sent = new Map(
        this.#sent.filter(({ to }) => to === name).map((each) => [`${each.from} ${each.msgId}`, each]),
      );
      for (const [key, { successes, failures }] of handed) {
        assert.ok(sent.has(key), `${name} was handed ${key}, which nobody sent`);
        assert.ok(successes <= 1 && failures <= 1, `${name} was handed ${key} ${successes + failures} times`);
        const result = sent.get(key)?.result;
        assert.ok(result === 'acked' || result === 'unknown', `${key} was handed to ${name}, and is told as ${result}`);
      }
      const last = new Map<string, number>();
      for (const { from, n } of order) {
        const before = last.get(from) ?? -1;
        const all = order.filter((each) => each.from === from).map((each) => each.n);
        assert.ok(n > before, `${name} was handed ${n} from ${from} after ${before}: ${all}`);
        last.set(from, n);
      }
    }
  }
}

for (let round = 0; round < rounds; round++) {
  const seed = firstSeed + round;
  test(`every send settles truthfully, nothing is handled twice, order is kept (seed ${seed})`, async (t) => {
    const random = randomFrom(seed);
    const nowhere = { host: '127.0.0.1', port: 1 };
    await using proxy = await HostileProxy.listen(nowhere, random);
    await using dispatcher = await HostileProxy.listen(nowhere, random);
    const advertised = `${proxy.host}:${proxy.port}`;
    await using server = await startServer({ args: ['--advertise', advertised, '--redelivery-after', '1'] });
    proxy.target = server;
    dispatcher.target = { host: '127.0.0.1', port: server.httpPort };
    const round = new Round(seed, random, server, proxy, dispatcher);
    try {
      t.diagnostic(await round.run());
    } finally {
      round.close();
    }
  });
}

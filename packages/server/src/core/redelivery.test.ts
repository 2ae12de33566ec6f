import assert from 'node:assert/strict';
import { test } from 'node:test';
import { serverLimits } from '@hawser/protocol';
import { Counters } from './counters.ts';
import { Delivery, type DeliveryOptions } from './delivery.ts';
import type { Log, Store, Time } from './ports.ts';
import type { Session } from './session.ts';

const MESSAGE_BYTES = 60 * 1024;
const MESSAGES_PER_WINDOW = 4;
const RECEIVERS = 48;
const WINDOW_BYTES = MESSAGE_BYTES * MESSAGES_PER_WINDOW;
const { redeliveryAfterMs, redeliveryAfterMsMax, redeliveryBytesMax } = serverLimits;
const SECOND_MS = 1000;
const BEGIN = 1;

/** Receivers that never ack, on a clock moved by hand. What is written for them is noted. */
class Bench {
  now = BEGIN;
  readonly delivery: Delivery;
  readonly names = Array.from({ length: RECEIVERS }, (_, i) => `r${i}`);
  readonly #session = { isCongested: false, hasPushes: () => {} } as unknown as Session;

  constructor() {
    const time: Partial<Time> = {
      now: () => this.now,
      wall: () => this.now,
      ran: () => this.now,
      after: () => ({ cancel: () => {} }),
      endOfTurn: () => {},
    };
    const options: DeliveryOptions = {
      persistAfterMs: 25,
      redeliveryAfterMs,
      backlogAfterMs: SECOND_MS,
      inboxAgeMsMax: serverLimits.inboxAgeMsMax,
    };
    this.delivery = new Delivery({
      store: {} as Store,
      time: time as Time,
      log: {} as Log,
      counters: new Counters(),
      options,
      onFatal: (error) => assert.fail(String(error)),
    });
    const sender = this.delivery.sender('bob', this.#session);
    for (const name of this.names) {
      const mailbox = this.delivery.mailbox(name);
      mailbox.attach(this.#session);
      mailbox.start();
      for (let i = 0; i < MESSAGES_PER_WINDOW; i++) {
        this.delivery.accept(sender, `${name}-${i}`, false, name, new Uint8Array(MESSAGE_BYTES), 0);
      }
    }
    this.write();
  }

  /** What a turn's end does: writes all that is to be pushed. Returns who was pushed to, and how many bytes. */
  write(): { names: string[]; bytes: number } {
    const names: string[] = [];
    let bytes = 0;
    for (const name of this.names) {
      const mailbox = this.delivery.mailbox(name);
      const outbox = mailbox.takeOutbox();
      if (outbox.length > 0) names.push(name);
      for (const message of outbox) {
        bytes += message.size;
        mailbox.pushed(message, this.now);
      }
    }
    return { names, bytes };
  }

  check(): { names: string[]; bytes: number } {
    for (const name of this.names) this.delivery.mailbox(name).redeliver(this.now);
    this.delivery.redeliver(this.now);
    return this.write();
  }
}

test('windows that fall due together are pushed again a part each second, in turn, none early and each once', () => {
  const bench = new Bench();
  bench.now = BEGIN + redeliveryAfterMs - 1;
  assert.equal(bench.check().bytes, 0);
  bench.now++;
  const order: string[] = [];
  let seconds = 0;
  for (; order.length < RECEIVERS; seconds++) {
    assert.ok(seconds < RECEIVERS, 'all have their turn');
    const { names, bytes } = bench.check();
    assert.ok(bytes > 0 && bytes < redeliveryBytesMax + WINDOW_BYTES, `${bytes} bytes in second ${seconds}`);
    order.push(...names);
    bench.now += SECOND_MS;
  }
  assert.deepEqual(order, bench.names);
  assert.equal(seconds, Math.ceil((RECEIVERS * WINDOW_BYTES) / redeliveryBytesMax));

  // The next time counts from when each was pushed, and is twice as long.
  bench.now = BEGIN + 3 * redeliveryAfterMs - 1;
  assert.equal(bench.check().bytes, 0);
  bench.now++;
  const again = bench.check().names;
  assert.deepEqual(again, order.slice(0, again.length));
  assert.ok(again.length > 0 && again.length < RECEIVERS);
});

test('a receiver that falls due while others take turn after turn has its own', () => {
  const bench = new Bench();
  const served = new Set<string>();
  // At each check everyone is due: were the first ones preferred, the last ones would never come.
  for (bench.now = BEGIN + redeliveryAfterMs; served.size < RECEIVERS; bench.now += redeliveryAfterMsMax) {
    assert.ok(bench.now < 100 * redeliveryAfterMsMax, `${served.size} of ${RECEIVERS} had a turn`);
    for (const name of bench.check().names) served.add(name);
  }
});

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { APPEND, type Page, type StoredMessage } from '../core/ports.ts';
import {
  ALL,
  type Check,
  type Harness,
  lag,
  newMessage,
  plain,
  randomFrom,
  remove,
  type WholeMessage,
} from './contract-harness.ts';
import type { InboxLimits } from './inbox.ts';

// HAWSER_SEED=<number> replays the runs of a printed seed, on from that one; HAWSER_SEEDS=<number> runs so many.
const firstSeed = Number(process.env.HAWSER_SEED ?? Math.floor(Math.random() * 2 ** 31));
const seeds = Array.from({ length: Number(process.env.HAWSER_SEEDS ?? 4) }, (_, i) => firstSeed + i);

const RECEIVERS = ['a', 'ab', 'a b', 'á', '😀'];
const SENDERS = ['s', 's2', 'ß'];
const TIGHT: InboxLimits = { messagesMax: 12, bytesMax: 400, senderShare: 2 };

/** What chance decides, drawn from one seed. */
class Dice {
  readonly #random: () => number;

  constructor(seed: number) {
    this.#random = randomFrom(seed);
  }

  below(limit: number): number {
    return Math.floor(this.#random() * limit);
  }

  of<Value>(values: readonly Value[]): Value {
    return values[this.below(values.length)]!;
  }

  /** Few ids and contents, so that the same come again. */
  message(to: string): WholeMessage {
    const content = 'x'.repeat(this.below(12) === 0 ? 150 : this.below(3) * 10);
    return newMessage(to, this.of(SENDERS), `m${this.below(20)}`, content);
  }
}

/** Steps one after another: the store and the model agree on everything. */
class Model {
  readonly limits: InboxLimits;
  inboxes = new Map(RECEIVERS.map((name): [string, StoredMessage[]] => [name, []]));
  /** Removed ones, which a crash may bring back. */
  removed: StoredMessage[] = [];

  constructor(limits: InboxLimits) {
    this.limits = limits;
  }

  inbox(receiver: string): StoredMessage[] {
    return this.inboxes.get(receiver)!;
  }

  /** What `append` must say of the message, `undefined` for a position. */
  refusal(message: WholeMessage): number | undefined {
    const inbox = this.inbox(message.to);
    const own = inbox.filter(({ from }) => from === message.from);
    const same = own.find(({ msgId }) => msgId === message.msgId);
    if (same !== undefined) return Buffer.compare(same.msg, message.msg) === 0 ? APPEND.duplicate : APPEND.conflict;
    const { messagesMax, bytesMax, senderShare } = this.limits;
    const size = message.msg.length;
    if (inbox.length === 0) return undefined;
    if (inbox.length === messagesMax || bytes(inbox) + size > bytesMax) return APPEND.full;
    if (own.length === 0) return undefined;
    const fits = own.length < messagesMax / senderShare && bytes(own) + size <= bytesMax / senderShare;
    return fits ? undefined : APPEND.full;
  }

  remove(message: StoredMessage): void {
    const inbox = this.inbox(message.to);
    inbox.splice(inbox.indexOf(message), 1);
    this.removed.push(message);
  }
}

function bytes(messages: readonly StoredMessage[]): number {
  return messages.reduce((sum, message) => sum + message.msg.length, 0);
}

export function randomContract(check: Check): void {
  for (const seed of seeds) {
    check(
      `one by one they do what a simple model does (HAWSER_SEED=${seed})`,
      (harness) => oneByOne(harness, seed),
      TIGHT,
    );
    check(`at the same time they do what a simple model allows (HAWSER_SEED=${seed})`, (harness) =>
      atOnce(harness, seed),
    );
  }
  test('the seeds are printed', (t) =>
    t.diagnostic(`replay with HAWSER_SEED=${firstSeed} HAWSER_SEEDS=${seeds.length}`));
}

async function oneByOne(harness: Harness, seed: number): Promise<void> {
  const dice = new Dice(seed);
  const model = new Model(TIGHT);
  let position = 0;
  for (let step = 0; step < 400; step++) {
    const receiver = dice.of(RECEIVERS);
    const inbox = model.inbox(receiver);
    const where = `step ${step} of seed ${seed}`;
    switch (dice.below(12)) {
      case 0:
      case 1:
      case 2: {
        const messages = Array.from({ length: 1 + dice.below(6) }, () => dice.message(dice.of(RECEIVERS)));
        const results = await harness.store.append(messages);
        for (const [i, message] of messages.entries()) {
          const result = results[i]!;
          const refusal = model.refusal(message);
          if (refusal !== undefined) assert.equal(result, refusal, where);
          else {
            assert.ok(result > position, `${result} is no position behind ${position}, ${where}`);
            position = result;
            model.inbox(message.to).push({ ...message, position });
          }
        }
        break;
      }
      case 3:
      case 4:
      case 5:
        for (let n = dice.below(4); n > 0 && inbox.length > 0; n--) {
          const message = dice.of(inbox);
          remove(harness, [message]);
          model.remove(message);
        }
        break;
      case 6:
      case 7: {
        const after = inbox.length > 0 && dice.below(2) === 0 ? dice.of(inbox).position : 0;
        const count = 1 + dice.below(inbox.length + 1);
        const behind = inbox.filter((message) => message.position > after);
        const page = await harness.store.page(receiver, after, count, ALL);
        assert.deepEqual(plain(page.messages), plain(behind.slice(0, count)), where);
        assert.equal(page.end, behind.length <= count, where);
        break;
      }
      case 8: {
        const some = [...inbox, ...model.removed.slice(-5)].filter(() => dice.below(2) === 0);
        const found = await harness.store.read(
          receiver,
          some.map((message) => message.position),
        );
        assert.deepEqual(plain(found), plain(some.filter((message) => inbox.includes(message))), where);
        break;
      }
      case 9:
        assert.equal(await harness.store.hasBacklog(receiver), inbox.length > 0, where);
        break;
      case 10: {
        const heads = [...model.inboxes.entries()]
          .sort(([one], [other]) => Buffer.compare(Buffer.from(one), Buffer.from(other)))
          .flatMap(([, messages]) => messages[0] ?? []);
        assert.deepEqual(plain(await harness.store.oldest('', 100)), plain(heads), where);
        break;
      }
      default:
        if (dice.below(4) > 0) break;
        if (dice.below(2) === 0) {
          await harness.reopen();
          model.removed = [];
        } else {
          await harness.crash();
          await comeBack(harness, model, where);
        }
    }
  }
}

/** After a crash: nothing is missing, and nothing is there that was not once. */
async function comeBack(harness: Harness, model: Model, where: string): Promise<void> {
  for (const receiver of RECEIVERS) {
    const { messages } = await harness.store.page(receiver, 0, ALL, ALL);
    const inbox = model.inbox(receiver);
    const known = [...inbox, ...model.removed.filter(({ to }) => to === receiver)];
    const present = known.filter(({ position }) => messages.some((message) => message.position === position));
    present.sort((one, other) => one.position - other.position);
    assert.deepEqual(plain(messages), plain(present), where);
    for (const message of inbox) assert.ok(present.includes(message), `${message.msgId} is missing, ${where}`);
    model.inboxes.set(receiver, present);
  }
  model.removed = [];
}

// ---- at the same time

/** A message, and between which ticks it was certainly or possibly there. */
interface Life {
  readonly message: StoredMessage;
  readonly appendCalledAt: number;
  readonly appendedAt: number;
  removedAt: number;
}

/** Reads overlap with appends and removals: each is judged by what was there all the time, and at some time. */
async function atOnce(harness: Harness, seed: number): Promise<void> {
  const dice = new Dice(seed);
  const lives: Life[] = [];
  const checks: (() => void)[] = [];
  const underWay = new Set<Promise<void>>();
  let appending: Promise<void> = Promise.resolve();
  let isAppending = false;
  /** Numbers all that happens. */
  let tick = 0;

  function start(work: Promise<void>): void {
    underWay.add(work);
    work.finally(() => underWay.delete(work)).catch(() => undefined);
  }

  async function append(): Promise<void> {
    const calledAt = ++tick;
    const messages = Array.from({ length: 1 + dice.below(5) }, () => dice.message(dice.of(RECEIVERS)));
    const results = await harness.store.append(messages);
    const doneAt = ++tick;
    const before = lives.length;
    for (const [i, message] of messages.entries()) {
      const result = results[i]!;
      const isSame = ({ message: other }: Life): boolean =>
        other.to === message.to && other.from === message.from && other.msgId === message.msgId;
      const possible = lives.filter((life) => isSame(life) && life.removedAt > calledAt);
      const certain = possible.find((life) => life.removedAt > doneAt);
      if (result > 0) {
        assert.equal(certain, undefined, `${message.msgId} is stored twice, seed ${seed}`);
        const position = result;
        assert.ok(lives.every((life) => life.message.position < position));
        const stored = { ...message, position };
        lives.push({ message: stored, appendCalledAt: calledAt, appendedAt: doneAt, removedAt: Infinity });
      } else {
        const contents = possible.map((life) => Buffer.compare(life.message.msg, message.msg) === 0);
        assert.ok(contents.includes(result === APPEND.duplicate), `${result} without reason, seed ${seed}`);
      }
    }
    assert.ok(lives.length - before <= messages.length);
  }

  function removeSome(): void {
    for (let n = 1 + dice.below(6); n > 0; n--) {
      const there = lives.filter((life) => life.removedAt === Infinity);
      if (there.length === 0) return;
      const life = dice.of(there);
      life.removedAt = ++tick;
      remove(harness, [life.message]);
    }
  }

  async function page(): Promise<void> {
    const receiver = dice.of(RECEIVERS);
    const after = dice.below(2) === 0 ? 0 : (lives.at(dice.below(lives.length + 1) - 1)?.message.position ?? 0);
    const count = 1 + dice.below(20);
    const calledAt = ++tick;
    const found = await harness.store.page(receiver, after, count, ALL);
    const doneAt = ++tick;
    // Judged at the end, when the positions of all that was being appended are known.
    checks.push(() => judge(lives, { receiver, after, count, calledAt, doneAt }, found, seed));
  }

  async function read(): Promise<void> {
    const receiver = dice.of(RECEIVERS);
    const some = lives.filter((life) => life.message.to === receiver && dice.below(2) === 0);
    const calledAt = ++tick;
    const found = await harness.store.read(
      receiver,
      some.map((life) => life.message.position),
    );
    const doneAt = ++tick;
    const positions = new Set(found.map((message) => message.position));
    for (const life of some) {
      const { position } = life.message;
      if (life.removedAt < calledAt) assert.ok(!positions.has(position), `removed ${position} is read, seed ${seed}`);
      if (life.removedAt > doneAt) assert.ok(positions.has(position), `${position} is not read, seed ${seed}`);
    }
  }

  async function hasBacklog(): Promise<void> {
    const receiver = dice.of(RECEIVERS);
    const calledAt = ++tick;
    const found = await harness.store.hasBacklog(receiver);
    const doneAt = ++tick;
    checks.push(() => {
      const mine = lives.filter((life) => life.message.to === receiver);
      const always = mine.some((life) => life.appendedAt < calledAt && life.removedAt > doneAt);
      const ever = mine.some((life) => life.appendCalledAt < doneAt && life.removedAt > calledAt);
      assert.ok(found ? ever : !always, `hasBacklog is ${found}, seed ${seed}`);
    });
  }

  for (let step = 0; step < 400; step++) {
    const choice = dice.below(10);
    if (choice < 3 && !isAppending) {
      isAppending = true;
      appending = append().finally(() => {
        isAppending = false;
      });
      start(appending);
    } else if (choice < 5) removeSome();
    else if (choice < 7) start(page());
    else if (choice === 7) start(read());
    else if (choice === 8) start(hasBacklog());
    else await lag(dice.below(8));
    if (dice.below(80) === 0) {
      await Promise.all(underWay);
      await harness.reopen();
    }
    if (underWay.size > 20) await Promise.race(underWay);
    await setImmediate();
  }
  await Promise.all(underWay);
  for (const judgeOne of checks) judgeOne();
  for (const receiver of RECEIVERS) {
    const there = lives.filter((life) => life.message.to === receiver && life.removedAt === Infinity);
    const { messages } = await harness.store.page(receiver, 0, ALL, ALL);
    assert.deepEqual(plain(messages), plain(there.map((life) => life.message)), `seed ${seed}`);
  }
}

interface Asked {
  readonly receiver: string;
  readonly after: number;
  readonly count: number;
  readonly calledAt: number;
  readonly doneAt: number;
}

function judge(lives: readonly Life[], asked: Asked, page: Page, seed: number): void {
  const mine = lives.filter(({ message }) => message.to === asked.receiver && message.position > asked.after);
  const ever = mine.filter((life) => life.appendCalledAt < asked.doneAt && life.removedAt > asked.calledAt);
  const always = ever.filter((life) => life.appendedAt < asked.calledAt && life.removedAt > asked.doneAt);
  const where = `page at ${asked.calledAt}, seed ${seed}`;
  const positions = page.messages.map((message) => message.position);
  const found = ever.filter(({ message }) => positions.includes(message.position)).map((life) => life.message);
  // Nothing but what was there at some time, as it was stored, in order, once.
  assert.deepEqual(plain(page.messages), plain(found), where);
  assert.ok(positions.length <= asked.count, where);
  // No gap: all that was there throughout, up to the last one found, or all of it.
  const last = page.end ? Infinity : (positions.at(-1) ?? Infinity);
  for (const { message } of always) {
    if (message.position <= last)
      assert.ok(positions.includes(message.position), `${message.position} lacks, ${where}`);
  }
  if (!page.end) {
    assert.ok(positions.length > 0, `an empty page that is not the end, ${where}`);
    assert.equal(positions.length, asked.count, `a short page that is not the end, ${where}`);
    assert.ok(
      ever.some(({ message }) => message.position > last),
      `nothing lay behind, ${where}`,
    );
  }
}

import assert from 'node:assert/strict';
import { APPEND, type StoredMessage } from '../core/ports.ts';
import {
  ALL,
  type Check,
  type Harness,
  ids,
  inboxOf,
  lag,
  messageOf,
  newMessage,
  newMessages,
  plain,
  remove,
  store,
} from './contract-harness.ts';
import type { InboxLimits } from './inbox.ts';

const SMALL: InboxLimits = { messagesMax: 8, bytesMax: 1000, senderShare: 2 };

/** Receivers whose keys are easily confused. */
const ALIKE = ['a', 'ab', 'a b', 'a ', 'abc', 'á', 'a\u0301', '名', '名前', '\uff5e', '😀', '😀a', 'm', 'n', '!', '~'];

async function pageIds(harness: Harness, after: number, count: number, bytes = ALL): Promise<[string[], boolean]> {
  const { messages, end } = await harness.store.page('ann', after, count, bytes);
  return [ids(messages), end];
}

async function oldestOf(harness: Harness, pageSize: number): Promise<StoredMessage[]> {
  const heads: StoredMessage[] = [];
  for (;;) {
    const page = await harness.store.oldest(heads.at(-1)?.to ?? '', pageSize);
    heads.push(...page);
    if (page.length < pageSize) return heads;
  }
}

function mustRise(positions: readonly number[]): void {
  for (let i = 1; i < positions.length; i++) assert.ok(positions[i]! > positions[i - 1]!, `${positions}`);
}

export function inboxContract(check: Check): void {
  appending(check);
  filling(check);
  paging(check);
  removing(check);
  crashing(check);
}

function appending(check: Check): void {
  check('an inbox that nothing was stored for is empty', async ({ store }) => {
    assert.equal(await store.hasBacklog('ann'), false);
    assert.deepEqual(await store.page('ann', 0, 10, 1000), { messages: [], end: true });
    assert.deepEqual(await store.read('ann', [1, 2]), []);
    assert.deepEqual(await store.oldest('', 10), []);
    assert.deepEqual(await store.append([]), []);
    assert.equal(await store.hasBacklog('ann'), false);
  });

  check('a message comes back as it was stored', async (harness) => {
    const contents = ['', 'é名😀\u0000\u007f\ufeff\u2028', { deep: [{ a: [null, 1.5e300, -0, true] }] }, '\\"\b\f\n'];
    const messages = contents.map((content, i) => ({
      ...newMessage('名😀', 'sénder', `id\u0000 é😀 ${i}`, content),
      wall: 1_700_000_000_000.123 + i,
      ran: i === 0 ? 0 : 2 ** 40 + 0.5,
      ttl: i === 0 ? 0 : 2_592_000,
    }));
    // No JSON at all: what lies there is not the store's business.
    const bytes = Uint8Array.from({ length: 512 }, (_, i) => i & 0xff);
    const stored = await store(harness, [
      ...messages,
      { ...newMessage('名😀', 'x'.repeat(128), 'é'.repeat(64)), msg: bytes },
      { ...newMessage('名😀', 'sénder', 'empty'), msg: new Uint8Array(0) },
    ]);
    assert.deepEqual(plain(await inboxOf(harness, '名😀')), plain(stored));
    await harness.reopen();
    assert.deepEqual(plain(await inboxOf(harness, '名😀')), plain(stored));
    const positions = stored.map((message) => message.position);
    assert.deepEqual(plain(await harness.store.read('名😀', positions)), plain(stored));
    assert.deepEqual(plain(await harness.store.oldest('', 1)), plain(stored.slice(0, 1)));
  });

  check('messages of 1 MiB come back byte for byte', async (harness) => {
    const messages = ['one', 'two', 'three'].map((msgId, n) => {
      const msg = Uint8Array.from({ length: 1024 * 1024 }, (_, i) => (i * 31 + (i >> 8) + n) & 0xff);
      return { ...newMessage('ann', 'sender', msgId), msg };
    });
    const stored = await store(harness, messages);
    assert.equal(await harness.store.append([messages[1]!]).then(([result]) => result), APPEND.duplicate);
    await harness.reopen();
    for (const [i, { msg }] of (await inboxOf(harness, 'ann')).entries()) {
      assert.equal(Buffer.compare(msg, messages[i]!.msg), 0);
    }
    assert.deepEqual(await pageIds(harness, 0, 10, 1), [['one'], false]);
    assert.deepEqual(await pageIds(harness, stored[1]!.position, 10, 1), [['three'], true]);
  });

  check('the bytes of a message are its sender\u2019s again once it is stored', async (harness) => {
    const message = newMessage('ann', 'sender', 'm', 'as it was');
    const before = Buffer.from(message.msg).toString();
    await store(harness, [message]);
    message.msg.fill(0);
    assert.equal(Buffer.from((await inboxOf(harness, 'ann'))[0]!.msg).toString(), before);
  });

  check('positions rise over all receivers, calls, restarts and crashes', async (harness) => {
    const positions: number[] = [];
    for (const [i, step] of ['', 'reopen', '', 'crash', 'crash', 'reopen', ''].entries()) {
      if (step === 'reopen') await harness.reopen();
      if (step === 'crash') await harness.crash();
      const messages = ['ann', 'bob', 'ann', 'cal', 'bob'].map((to, n) => newMessage(to, 'sender', `${i}.${n}`));
      const stored = await store(harness, messages);
      positions.push(...stored.map((message) => message.position));
      // Positions of messages that are gone are not used again.
      if (i % 2 === 0) remove(harness, stored);
    }
    mustRise(positions);
    assert.ok(positions[0]! > 0);
    assert.ok(positions.every(Number.isSafeInteger));
  });

  check('every inbox keeps the order of appends', async (harness) => {
    const expected = new Map(ALIKE.map((name): [string, string[]] => [name, []]));
    for (let i = 0; i < 12; i++) {
      const messages = ALIKE.map((_, n) =>
        newMessage(ALIKE[(n * 5 + i) % ALIKE.length]!, `sender ${n % 3}`, `${i}.${n}`),
      );
      for (const { to, msgId } of messages) expected.get(to)!.push(msgId);
      await store(harness, messages);
    }
    for (const step of ['at once', 'later']) {
      for (const [name, msgIds] of expected) assert.deepEqual(ids(await inboxOf(harness, name)), msgIds, step);
      await harness.reopen();
    }
  });

  check('a message that is there already is a duplicate, with other content a conflict', async (harness) => {
    const message = newMessage('ann', 'sender', 'm', 'one');
    const later = { ...message, wall: 1, ran: 2, ttl: 3 };
    const other = newMessage('ann', 'sender', 'm', 'two');
    const longer = newMessage('ann', 'sender', 'm', 'one and more');
    const [stored] = await store(harness, [message]);
    for (const step of ['at once', 'after a restart', 'after a crash']) {
      const results = [APPEND.duplicate, APPEND.conflict, APPEND.conflict, APPEND.duplicate];
      assert.deepEqual(await harness.store.append([later, other, longer, message]), results, step);
      if (step === 'at once') await harness.reopen();
      else await harness.crash();
    }
    assert.deepEqual(plain(await inboxOf(harness, 'ann')), plain([stored!]));
  });

  check('a message that comes twice in one call is stored once', async (harness) => {
    const message = newMessage('ann', 'sender', 'm', 'one');
    const other = newMessage('ann', 'sender', 'm', 'two');
    const results = await harness.store.append([newMessage('ann', 'sender', 'n'), message, { ...message }, other]);
    assert.deepEqual(results.slice(2), [APPEND.duplicate, APPEND.conflict]);
    assert.deepEqual(ids(await inboxOf(harness, 'ann')), ['n', 'm']);
  });

  check('the same msgId of another sender or for another receiver is another message', async (harness) => {
    const pairs = ALIKE.flatMap((to) => ALIKE.map((from) => newMessage(to, from, 'm')));
    await store(harness, pairs);
    // Where one name ends and the next begins matters.
    await store(harness, [
      newMessage('ann', 'b', 'cd'),
      newMessage('ann', 'bc', 'd'),
      newMessage('ann', 'b', 'c\u0000d'),
      newMessage('ann', 'b', 'c'),
    ]);
    const again = await harness.store.append(pairs.slice(0, 20));
    assert.deepEqual(again, Array(20).fill(APPEND.duplicate));
  });

  check('a msgId is free again once its message is removed', async (harness) => {
    const [first] = await store(harness, [newMessage('ann', 'sender', 'm', 'one')]);
    remove(harness, [first!]);
    const [second] = await store(harness, [newMessage('ann', 'sender', 'm', 'two')]);
    assert.deepEqual(plain(await inboxOf(harness, 'ann')), plain([second!]));
    remove(harness, [first!]);
    const [again] = await harness.store.append([newMessage('ann', 'sender', 'm', 'two')]);
    assert.equal(again, APPEND.duplicate);
    remove(harness, [second!]);
    await harness.reopen();
    await store(harness, [newMessage('ann', 'sender', 'm', 'three')]);
  });
}

function filling(check: Check): void {
  check(
    'an inbox holds so many messages and no more, also after a restart',
    async (harness) => {
      const senders = ['one', 'two', 'three'].map((from) => newMessages(3, 'ann', from));
      const results = await harness.store.append(senders.flat());
      mustRise(results.slice(0, 8));
      assert.equal(results[8], APPEND.full);
      for (const step of ['at once', 'after a restart', 'after a crash']) {
        assert.deepEqual(await harness.store.append([newMessage('ann', 'four', 'x')]), [APPEND.full], step);
        // What it holds is known all the same, and other inboxes have room.
        assert.deepEqual(await harness.store.append([senders[0]![0]!]), [APPEND.duplicate]);
        await store(harness, [newMessage('ann b', 'four', step)]);
        if (step === 'at once') await harness.reopen();
        else await harness.crash();
      }
      const [first] = await inboxOf(harness, 'ann');
      remove(harness, [first!]);
      const after = await harness.store.append([newMessage('ann', 'four', 'x'), newMessage('ann', 'four', 'y')]);
      assert.ok(after[0]! > 0);
      assert.equal(after[1], APPEND.full);
    },
    SMALL,
  );

  check(
    'an inbox holds so many bytes and no more, also after a restart',
    async (harness) => {
      const messages = [
        messageOf(300, 'ann', 'one', 'a'),
        messageOf(300, 'ann', 'two', 'b'),
        messageOf(300, 'ann', 'three', 'c'),
      ];
      const stored = await store(harness, messages);
      const tooMuch = messageOf(101, 'ann', 'four', 'd');
      for (const step of ['at once', 'after a restart', 'after a crash']) {
        assert.deepEqual(await harness.store.append([tooMuch]), [APPEND.full], step);
        if (step === 'at once') await harness.reopen();
        else await harness.crash();
      }
      await store(harness, [messageOf(100, 'ann', 'four', 'd')]);
      assert.deepEqual(await harness.store.append([messageOf(2, 'ann', 'five', 'e')]), [APPEND.full]);
      remove(harness, [stored[1]!]);
      await harness.reopen();
      assert.deepEqual(await harness.store.append([messageOf(301, 'ann', 'five', 'e')]), [APPEND.full]);
      await store(harness, [messageOf(300, 'ann', 'five', 'e')]);
    },
    SMALL,
  );

  check(
    'one sender fills its share of the messages, and others still get in',
    async (harness) => {
      const results = await harness.store.append(newMessages(5, 'ann', 'flood'));
      mustRise(results.slice(0, 4));
      assert.equal(results[4], APPEND.full);
      await harness.reopen();
      assert.deepEqual(await harness.store.append(newMessages(1, 'ann', 'flood', 'n')), [APPEND.full]);
      const others = await store(harness, [newMessage('ann', 'one', 'a'), newMessage('ann', 'two', 'b')]);
      remove(harness, others);
      assert.deepEqual(await harness.store.append(newMessages(1, 'ann', 'flood', 'n')), [APPEND.full]);
      remove(harness, (await inboxOf(harness, 'ann')).slice(0, 1));
      const after = await harness.store.append(newMessages(2, 'ann', 'flood', 'n'));
      assert.ok(after[0]! > 0);
      assert.equal(after[1], APPEND.full);
    },
    SMALL,
  );

  check(
    'one sender fills its share of the bytes, and others still get in',
    async (harness) => {
      await store(harness, [messageOf(250, 'ann', 'flood', 'a'), messageOf(240, 'ann', 'flood', 'b')]);
      for (const step of ['at once', 'after a restart', 'after a crash']) {
        assert.deepEqual(await harness.store.append([messageOf(11, 'ann', 'flood', 'c')]), [APPEND.full], step);
        if (step === 'at once') await harness.reopen();
        else await harness.crash();
      }
      await store(harness, [messageOf(400, 'ann', 'other', 'd')]);
      await store(harness, [messageOf(10, 'ann', 'flood', 'c')]);
    },
    SMALL,
  );

  check(
    'an empty inbox takes any one message',
    async (harness) => {
      const huge = messageOf(5000, 'ann', 'one', 'huge');
      const next = messageOf(2, 'ann', 'two', 'next');
      const results = await harness.store.append([huge, next]);
      assert.ok(results[0]! > 0);
      assert.equal(results[1], APPEND.full);
      await harness.reopen();
      assert.deepEqual(await harness.store.append([huge, next]), [APPEND.duplicate, APPEND.full]);
      remove(harness, await inboxOf(harness, 'ann'));
      const [stored] = await store(harness, [next]);
      assert.deepEqual(await harness.store.append([huge]), [APPEND.full]);
      remove(harness, [stored!]);
      await harness.reopen();
      await store(harness, [huge]);
    },
    SMALL,
  );

  check(
    'what is removed while an inbox is looked into for the first time does not fill it',
    async (harness) => {
      for (let round = 0; round < 12; round++) {
        const stored = await store(harness, [
          ...newMessages(4, 'ann', 'one', `${round}a`),
          ...newMessages(4, 'ann', 'two', `${round}b`),
        ]);
        await harness.reopen();
        const first = harness.store.append([newMessage('ann', 'three', 'first')]);
        await lag(round);
        remove(harness, stored);
        const wasFirst = (await first)[0]! > 0;
        // Exactly four of each sender fit, not counting the first if that got in before.
        if (wasFirst) remove(harness, await inboxOf(harness, 'ann'));
        assert.equal(await harness.store.hasBacklog('ann'), false, `round ${round}`);
        const again = [...newMessages(5, 'ann', 'one', 'x'), ...newMessages(5, 'ann', 'two', 'y')];
        const results = await harness.store.append(again);
        const isFull = results.map((result) => result === APPEND.full);
        const four = [false, false, false, false, true];
        assert.deepEqual(isFull, [...four, ...four], `round ${round}`);
        remove(harness, await inboxOf(harness, 'ann'));
      }
    },
    SMALL,
  );
}

function paging(check: Check): void {
  check('pages follow one another in order up to the end', async (harness) => {
    const stored = await store(harness, newMessages(523, 'ann'));
    await store(harness, [...newMessages(3, 'an'), ...newMessages(3, 'ann b'), ...newMessages(3, 'anna')]);
    const expected = ids(stored);
    for (const size of [1, 99, 100, 101, 256, 522, 523, 524]) {
      // A first page and the last two; all pages for the larger sizes.
      const found: string[] = [];
      let after = 0;
      for (let end = false; !end; ) {
        const page = await harness.store.page('ann', after, size, ALL);
        found.push(...ids(page.messages));
        end = page.end;
        assert.equal(page.messages.length, end ? ((expected.length - 1) % size) + 1 : size);
        after = page.messages.at(-1)!.position;
        if (size === 1 && found.length === 3) {
          assert.equal(end, false);
          found.push(...expected.slice(3, -1));
          after = stored.at(-2)!.position;
        }
      }
      assert.deepEqual(found, expected, `pages of ${size}`);
    }
    assert.deepEqual(await pageIds(harness, stored.at(-1)!.position, 10), [[], true]);
  });

  check('a page begins behind any position, whether a message lies there or not', async (harness) => {
    const mine: StoredMessage[] = [];
    for (let i = 0; i < 5; i++) {
      const [message] = await store(harness, [newMessage('ann', 's', `m${i}`), newMessage('bob', 's', `m${i}`)]);
      mine.push(message!);
    }
    assert.deepEqual(await pageIds(harness, mine[1]!.position - 1, 2), [['m1', 'm2'], false]);
    assert.deepEqual(await pageIds(harness, mine[1]!.position, 2), [['m2', 'm3'], false]);
    assert.deepEqual(await pageIds(harness, mine[1]!.position + 1, 3), [['m2', 'm3', 'm4'], true]);
    remove(harness, [mine[1]!]);
    assert.deepEqual(await pageIds(harness, mine[1]!.position, 1), [['m2'], false]);
    assert.deepEqual(await pageIds(harness, mine[4]!.position + 1000, 1), [[], true]);
  });

  check('a page holds about so many bytes, and one message at least', async (harness) => {
    await store(
      harness,
      Array.from({ length: 10 }, (_, i) => messageOf(100, 'ann', 's', `m${i}`)),
    );
    for (const bytes of [1, 99, 100, 101, 250, 400, 999]) {
      const { messages, end } = await harness.store.page('ann', 0, ALL, bytes);
      // Never as much as one message too many or too few.
      assert.ok(messages.length >= 1 && Math.abs(messages.length - bytes / 100) < 1, `${messages.length} for ${bytes}`);
      assert.equal(end, messages.length === 10);
    }
    for (const bytes of [1000, 1001, ALL]) {
      const { messages, end } = await harness.store.page('ann', 0, ALL, bytes);
      assert.deepEqual([messages.length, end], [10, true]);
    }
    // A window may be overdrawn.
    for (const bytes of [0, -100]) assert.deepEqual(await pageIds(harness, 0, 5, bytes), [['m0'], false]);
  });

  check('a page says "end" exactly when nothing lies behind it', async (harness) => {
    const stored = await store(harness, newMessages(6, 'ann'));
    await store(harness, newMessages(1, 'anna'));
    const cases: { gone: number[]; count: number; after?: number; ids: string[]; end: boolean }[] = [
      { gone: [], count: 6, ids: ['m0', 'm1', 'm2', 'm3', 'm4', 'm5'], end: true },
      { gone: [], count: 5, ids: ['m0', 'm1', 'm2', 'm3', 'm4'], end: false },
      { gone: [1], count: 4, ids: ['m0', 'm2', 'm3', 'm4'], end: false },
      { gone: [], count: 5, ids: ['m0', 'm2', 'm3', 'm4', 'm5'], end: true },
      { gone: [5], count: 4, ids: ['m0', 'm2', 'm3', 'm4'], end: true },
      { gone: [4], count: 3, ids: ['m0', 'm2', 'm3'], end: true },
      { gone: [], count: 2, ids: ['m0', 'm2'], end: false },
      { gone: [], count: 1, after: 2, ids: ['m3'], end: true },
      { gone: [2, 3], count: 1, ids: ['m0'], end: true },
      { gone: [], count: 1, after: 0, ids: [], end: true },
      { gone: [0], count: 1, ids: [], end: true },
    ];
    for (const { gone, count, after, ids: expected, end } of cases) {
      remove(
        harness,
        gone.map((i) => stored[i]!),
      );
      const behind = after === undefined ? 0 : stored[after]!.position;
      assert.deepEqual(await pageIds(harness, behind, count), [expected, end], `${count} of what is there`);
      // By bytes as well as by count.
      if (expected.length > 0) {
        const bytes = stored[0]!.msg.length * expected.length;
        assert.deepEqual(await pageIds(harness, behind, ALL, bytes), [expected, end], `${bytes} bytes`);
      }
    }
  });

  check('a page passes over any number of removed messages', async (harness) => {
    const stored = await store(harness, newMessages(700, 'ann'));
    remove(harness, stored.slice(0, 350));
    assert.deepEqual(await pageIds(harness, 0, 2), [['m350', 'm351'], false]);
    remove(harness, stored.slice(352));
    assert.deepEqual(await pageIds(harness, 0, 2), [['m350', 'm351'], true]);
    assert.deepEqual(await pageIds(harness, 0, 1), [['m350'], false]);
    await harness.reopen();
    assert.deepEqual(await pageIds(harness, 0, 2), [['m350', 'm351'], true]);
  });

  check('a page under way while messages are removed still ends truly', async (harness) => {
    for (let round = 0; round < 6; round++) {
      const stored = await store(harness, newMessages(300, 'ann', 'sender', `${round}.`));
      const page = harness.store.page('ann', 0, 5, ALL);
      await lag(round);
      remove(harness, stored.slice(0, 290));
      const { messages, end } = await page;
      assert.ok(messages.length > 0, 'ten were there all the time');
      assert.equal(end, false);
      remove(harness, stored.slice(290));
      assert.deepEqual(await inboxOf(harness, 'ann'), []);
    }
  });

  check('a read leaves out what is not there', async (harness) => {
    const stored = await store(harness, [...newMessages(5, 'ann'), ...newMessages(2, 'bob')]);
    const positions = stored.map((message) => message.position);
    remove(harness, [stored[1]!]);
    const found = await harness.store.read('ann', [...positions, positions.at(-1)! + 1]);
    assert.deepEqual(plain(found), plain([stored[0]!, stored[2]!, stored[3]!, stored[4]!]));
    assert.deepEqual(ids(await harness.store.read('bob', [positions[6]!])), ['m1']);
    assert.deepEqual(await harness.store.read('bob', [positions[1]!]), []);
    assert.deepEqual(await harness.store.read('nobody', positions), []);
    assert.deepEqual(await harness.store.read('ann', []), []);
  });

  check('the oldest message of each inbox is found, page by page', async (harness) => {
    const expected = new Map<string, string>();
    for (const [i, name] of ALIKE.entries()) {
      const stored = await store(harness, newMessages(4, name, 'sender', `${i}.`));
      remove(harness, stored.slice(0, i % 5));
      if (i % 5 < 4) expected.set(name, `${i}.${i % 5}`);
    }
    const inOrder = [...expected].sort(([one], [other]) => Buffer.compare(Buffer.from(one), Buffer.from(other)));
    for (const step of ['at once', 'after a restart']) {
      for (const pageSize of [1, 3, 100]) {
        const found = (await oldestOf(harness, pageSize)).map(({ to, msgId }) => [to, msgId]);
        assert.deepEqual(found, inOrder, `${step}, ${pageSize} at once`);
      }
      assert.deepEqual(
        (await harness.store.oldest('aa', 1)).map(({ to }) => to),
        ['ab'],
      );
      await harness.reopen();
    }
  });
}

function removing(check: Check): void {
  check('a removed message is gone for everyone at once', async (harness) => {
    const stored = await store(harness, newMessages(3, 'ann'));
    const [first, second, third] = stored;
    remove(harness, [first!]);
    assert.deepEqual(await pageIds(harness, 0, 10), [['m1', 'm2'], true]);
    assert.deepEqual(await harness.store.read('ann', [first!.position]), []);
    assert.deepEqual(ids(await harness.store.oldest('', 10)), ['m1']);
    assert.equal(await harness.store.hasBacklog('ann'), true);
    remove(harness, [second!, third!]);
    const [hasBacklog, oldest] = await Promise.all([harness.store.hasBacklog('ann'), harness.store.oldest('', 10)]);
    assert.equal(hasBacklog, false);
    assert.deepEqual(oldest, []);
    assert.deepEqual(await pageIds(harness, 0, 10), [[], true]);
    await harness.reopen();
    assert.equal(await harness.store.hasBacklog('ann'), false);
    assert.deepEqual(await pageIds(harness, 0, 10), [[], true]);
  });

  check('a removed message is gone for everyone at once, also where the store has just started', async (harness) => {
    const stored = await store(harness, newMessages(2, 'ann'));
    await harness.reopen();
    remove(harness, stored);
    const { store: opened } = harness;
    const positions = stored.map((message) => message.position);
    const [hasBacklog, page, read, oldest] = await Promise.all([
      opened.hasBacklog('ann'),
      opened.page('ann', 0, 10, ALL),
      opened.read('ann', positions),
      opened.oldest('', 1),
    ]);
    assert.deepEqual([hasBacklog, page, read, oldest], [false, { messages: [], end: true }, [], []]);
  });

  check('a removal that is all that happens between two restarts is not lost', async (harness) => {
    const stored = await store(harness, newMessages(3, 'ann'));
    for (const left of [['m1', 'm2'], ['m2'], []]) {
      await harness.reopen();
      remove(harness, [stored[2 - left.length]!]);
      await harness.reopen();
      assert.deepEqual(ids(await inboxOf(harness, 'ann')), left);
    }
  });

  check('a later read sees a removed message gone, whatever earlier reads are under way', async (harness) => {
    for (let round = 0; round < 12; round++) {
      const stored = await store(harness, newMessages(40, 'ann', 'sender', `${round}.`));
      const positions = stored.map((message) => message.position);
      const { store: opened } = harness;
      const earlier = Promise.all([
        opened.page('ann', 0, 50, ALL),
        opened.page('ann', stored[4]!.position, 1, ALL),
        opened.read('ann', positions),
        opened.hasBacklog('ann'),
        opened.oldest('', 10),
      ]);
      await lag(round);
      remove(harness, stored.slice(0, 30));
      const look = async (when: string): Promise<void> => {
        const [page, read, oldest] = await Promise.all([
          opened.page('ann', 0, 50, ALL),
          opened.read('ann', positions),
          opened.oldest('', 10),
        ]);
        assert.deepEqual(ids(page.messages), ids(stored.slice(30)), `${when}, round ${round}`);
        assert.equal(page.end, true);
        assert.deepEqual(ids(read), ids(stored.slice(30)), `${when}, round ${round}`);
        assert.deepEqual(ids(oldest), [`${round}.30`], `${when}, round ${round}`);
      };
      await look('while they are');
      await earlier;
      await look('when they are done');
      remove(harness, stored.slice(30));
      assert.equal(await opened.hasBacklog('ann'), false);
      if (round % 3 === 0) await harness.reopen();
    }
  });

  check('removing again, or what is not there, changes nothing', async (harness) => {
    const stored = await store(harness, [...newMessages(3, 'ann'), ...newMessages(1, 'bob')]);
    const [first] = stored;
    remove(harness, [first!, first!]);
    remove(harness, [{ ...first!, to: 'nobody' }]);
    assert.deepEqual(ids(await inboxOf(harness, 'ann')), ['m1', 'm2']);
    await harness.reopen();
    remove(harness, [first!, first!]);
    assert.deepEqual(ids(await inboxOf(harness, 'ann')), ['m1', 'm2']);
    await store(harness, newMessages(1, 'ann', 'sender', 'n'));
    remove(harness, [first!]);
    assert.deepEqual(ids(await inboxOf(harness, 'ann')), ['m1', 'm2', 'n0']);
    assert.deepEqual(ids(await inboxOf(harness, 'bob')), ['m0']);
    remove(harness, await inboxOf(harness, 'ann'));
    assert.equal(await harness.store.hasBacklog('ann'), false);
    await harness.reopen();
    assert.equal(await harness.store.hasBacklog('ann'), false);
    assert.equal(await harness.store.hasBacklog('bob'), true);
  });

  check(
    'removing again gives no room twice',
    async (harness) => {
      const stored = await store(harness, [...newMessages(4, 'ann', 'one'), ...newMessages(4, 'ann', 'two')]);
      for (let i = 0; i < 3; i++) {
        remove(harness, [stored[0]!, stored[0]!]);
        await inboxOf(harness, 'ann');
        if (i === 1) await harness.reopen();
      }
      const results = await harness.store.append(newMessages(2, 'ann', 'one', 'new'));
      assert.ok(results[0]! > 0);
      assert.equal(results[1], APPEND.full);
    },
    SMALL,
  );
}

function crashing(check: Check): void {
  check(
    'after a crash every stored message is there, and of the removed ones some may be',
    async (harness) => {
      let stored = await store(harness, [...newMessages(4, 'ann', 'one'), ...newMessages(4, 'ann', 'two')]);
      for (let round = 0; round < 4; round++) {
        remove(harness, stored.slice(0, 2));
        await lag(round * 2);
        await harness.crash();
        const found = await inboxOf(harness, 'ann');
        assert.deepEqual(plain(found.slice(-6)), plain(stored.slice(2)));
        assert.deepEqual(
          plain(found),
          plain(stored.filter(({ position }) => found.some((message) => message.position === position))),
        );
        // What is known of the inbox fits what is there, whatever came back.
        const results = await harness.store.append(newMessages(8, 'ann', `sender ${round}`, `${round}.`));
        assert.equal(results.filter((result) => result > 0).length, Math.min(4, 8 - found.length));
        remove(harness, await inboxOf(harness, 'ann'));
        // In good order: of these none may come back with a later crash.
        await harness.reopen();
        stored = await store(harness, [
          ...newMessages(4, 'ann', 'one', `a${round}.`),
          ...newMessages(4, 'ann', 'two', `b${round}.`),
        ]);
      }
    },
    { ...SMALL, bytesMax: ALL },
  );

  check('a crash leaves a prefix of all appends, and of one append all or none', async (harness) => {
    let round = 0;
    for (; round < 10; round++) {
      const acked: string[] = [];
      let position = 0;
      let isOver = false;
      const appending = (async () => {
        for (let n = 0; !isOver; n++) {
          const messages = Array.from({ length: 5 }, (_, i) => newMessage(`r${i % 2}`, 's', `${round}.${n}.${i}`));
          const positions = await harness.store.append(messages);
          if (isOver) return;
          position = positions.at(-1)!;
          acked.push(...ids(messages));
        }
      })();
      await lag(10 + round * 3);
      isOver = true;
      await harness.crash();
      const found = (await Promise.all(['r0', 'r1'].map((name) => inboxOf(harness, name)))).flat();
      found.sort((one, other) => one.position - other.position);
      const mine = ids(found).filter((msgId) => msgId.startsWith(`${round}.`));
      const expected = Array.from({ length: mine.length }, (_, i) => `${round}.${Math.floor(i / 5)}.${i % 5}`);
      assert.deepEqual(mine, expected);
      assert.equal(mine.length % 5, 0, 'an append is there in part');
      assert.deepEqual(mine.slice(0, acked.length), acked);
      const [next] = await harness.store.append([newMessage('other', 's', `${round}`)]);
      assert.ok(next! > position && next! > (found.at(-1)?.position ?? 0));
      // Where the dead store still answers, that must not hold up the test.
      appending.catch(() => undefined);
    }
  });
}

import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';
import fc from 'fast-check';
import { digest } from './digest.ts';
import type { Mailbox } from './mailbox.ts';
import { Message } from './message.ts';
import { MessageTable } from './message-table.ts';

const mailbox = { name: 'bob' } as Mailbox;

let table: MessageTable;

beforeEach(() => {
  table = new MessageTable();
});

function messageOf(msgId: string): Message {
  return new Message(mailbox, 'ann', msgId, new Uint8Array(2), 7, 0, 0, 0);
}

/** Ids that all begin at the same place of the table, however large it is up to 256 slots. */
function idsThatCollide(count: number): string[] {
  const ids: string[] = [];
  for (let i = 0; ids.length < count; i++) {
    digest.of(`id-${i}`);
    if ((digest.low & 255) === 255) ids.push(`id-${i}`);
  }
  return ids;
}

test('does what a map does, whatever is added and deleted', () => {
  const ids = [...idsThatCollide(20), ...Array.from({ length: 20 }, (_, i) => `m${i}`)];
  const steps = fc.array(fc.tuple(fc.nat(ids.length - 1), fc.boolean()), { maxLength: 400 });
  fc.assert(
    fc.property(steps, (chosen) => {
      const tried = new MessageTable();
      const model = new Map<string, Message>();
      for (const [index, isDeleted] of chosen) {
        const id = ids[index]!;
        const known = model.get(id);
        assert.equal(tried.get(id), known);
        if (known !== undefined && isDeleted) {
          tried.delete(known);
          model.delete(id);
        } else if (known === undefined) {
          const message = messageOf(id);
          tried.add(message);
          model.set(id, message);
        }
        assert.equal(tried.size, model.size);
      }
      assert.deepEqual(new Set(tried.inOrder()), new Set(model.values()));
      for (const id of ids) assert.equal(tried.get(id), model.get(id));
    }),
  );
});

test('gives its messages in the order in which they were made', () => {
  const messages = Array.from({ length: 100 }, (_, i) => messageOf(`${i}`));
  for (const message of messages.toReversed()) table.add(message);
  assert.deepEqual(table.inOrder(), messages);
});

test('deletes a message, not another under the same id', () => {
  const message = messageOf('m');
  table.add(message);
  table.delete(messageOf('m'));
  assert.equal(table.get('m'), message);
  assert.equal(table.size, 1);
});

test('is of use again after a burst was trimmed', () => {
  const messages = Array.from({ length: 300 }, (_, i) => messageOf(`${i}`));
  for (const message of messages) table.add(message);
  table.trim();
  assert.equal(table.get('299'), messages[299]);
  for (const message of messages) table.delete(message);
  table.trim();
  assert.equal(table.get('299'), undefined);
  for (const message of messages) table.add(message);
  assert.deepEqual(table.inOrder(), messages);
});

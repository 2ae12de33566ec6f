import assert from 'node:assert/strict';
import { beforeEach, describe, test } from 'node:test';
import { serverLimits } from '@hawser/protocol';
import type { Mailbox } from './mailbox.ts';
import { Message, stage } from './message.ts';
import { Window } from './window.ts';

const { stuckAfterMs } = serverLimits;
const PUSHED_AT = 1000;
const LATER = PUSHED_AT + stuckAfterMs;

const mailbox = { name: 'bob' } as Mailbox;
let window: Window;

beforeEach(() => {
  window = new Window();
});

/** As it is once it was pushed and stored, and its sender acked. */
function settled(msgId: string, position: number, bytes = 10): Message {
  const message = new Message(mailbox, `from-${msgId}`, msgId, new Uint8Array(bytes), 7 + position, 1.5, 2.5, 60);
  message.msg = undefined;
  message.stage = stage.stored;
  message.position = position;
  message.pushedAt = PUSHED_AT;
  message.pushes = 3;
  message.inWindow = true;
  window.add(message);
  return message;
}

describe('a push that has not moved', () => {
  test('is parked after `stuckAfterMs`, not before', () => {
    settled('m', 5);
    window.park(LATER - 1);
    assert.equal(window.parkedSize, 0);
    window.park(LATER);
    assert.deepEqual([window.size, window.parkedSize, window.parkedBytes], [1, 1, 10]);
    assert.deepEqual(window.inOrder(), []);
    assert.deepEqual(window.stuck(LATER), { count: 1, bytes: 10 });
  });

  test('is the same message again when it is asked for', () => {
    const messages = Array.from({ length: 100 }, (_, i) => settled(`m${i}`, i + 1, i));
    window.park(LATER);
    assert.equal(window.parkedSize, 100);
    for (const message of messages) {
      assert.equal(window.has(message.msgId), true);
      const found = window.get(message.msgId);
      const { number: _, ...rest } = found!;
      assert.deepEqual({ ...rest, number: message.number }, { ...message, inWindow: true });
      assert.equal(window.get(message.msgId), found);
    }
    assert.deepEqual([window.size, window.parkedSize, window.parkedBytes], [100, 0, 0]);
    assert.equal(window.get('other'), undefined);
    assert.equal(window.has('other'), false);
  });

  test('is not parked while anything but its receiver depends on it', () => {
    const stay: ((message: Message) => void)[] = [
      (message) => {
        message.sender = {} as NonNullable<Message['sender']>;
      },
      (message) => {
        message.hop = { node: 'a', stream: 1, seq: 1 };
      },
      (message) => {
        message.acked = true;
      },
      (message) => {
        message.msg = new Uint8Array(10);
      },
      (message) => {
        message.stage = stage.writing;
      },
      (message) => {
        message.pushedAt = 0;
      },
      (message) => {
        message.pushedAt = Number.POSITIVE_INFINITY;
      },
    ];
    for (const [i, change] of stay.entries()) change(settled(`m${i}`, i + 1));
    window.park(LATER);
    assert.equal(window.parkedSize, 0);
    assert.equal(window.inOrder().length, stay.length);
  });

  test('is due by its own time and pushes, in the order stored, and not once more when it is being pushed', () => {
    for (const position of [3, 1, 2]) settled(`m${position}`, position);
    window.park(LATER);
    const asked: number[][] = [];
    const due = window.parkedDue((...of) => {
      asked.push(of);
      return true;
    });
    assert.deepEqual(due, [1, 2, 3]);
    assert.deepEqual(asked, new Array(3).fill([PUSHED_AT, 3, 10]));
    window.parkedPushed([1, 3], LATER);
    assert.deepEqual(
      window.parkedDue((pushedAt) => pushedAt < LATER),
      [2],
    );
    assert.equal(window.unpark(1)?.pushedAt, LATER);
    assert.equal(window.unpark(1), undefined);
  });

  test('is not taken for another whose id has the same digest: somebody else may have made it so', () => {
    const message = settled('m', 1);
    const { idLow, idHigh } = new Message(mailbox, 'eve', 'forged', undefined, 7, 0, 0, 0);
    Object.assign(message, { idLow, idHigh });
    window.park(LATER);
    assert.equal(window.parkedSize, 1);
    assert.equal(window.has('forged'), false);
    assert.equal(window.get('forged'), undefined);
    assert.equal(window.unpark(1)?.msgId, 'm');
  });
});

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { Mailbox } from './mailbox.ts';
import { Message } from './message.ts';
import { Unsafe } from './unsafe.ts';

const mailbox = { name: 'bob' } as Mailbox;

test('is a queue from which any message may be taken, also one that is not in it', () => {
  const steps = fc.array(fc.tuple(fc.nat(9), fc.boolean()), { maxLength: 100 });
  fc.assert(
    fc.property(steps, (chosen) => {
      const messages = Array.from({ length: 10 }, (_, i) => {
        return new Message(mailbox, 'ann', `${i}`, new Uint8Array(2), 7, 0, 0, 0);
      });
      const unsafe = new Unsafe();
      let model: Message[] = [];
      for (const [index, isAdded] of chosen) {
        const message = messages[index]!;
        model = model.filter((other) => other !== message);
        if (isAdded) {
          unsafe.add(message);
          model.push(message);
        } else unsafe.remove(message);
        assert.equal(unsafe.oldest, model[0]);
      }
      for (const message of model) {
        assert.equal(unsafe.oldest, message);
        unsafe.remove(message);
      }
      assert.equal(unsafe.oldest, undefined);
    }),
  );
});

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { serverLimits } from '@hawser/protocol';
import fc from 'fast-check';
import { FinishedPush, FinishedPushes } from './finished.ts';

const pushOf = (from: string, msgId: string, at: number): FinishedPush =>
  new FinishedPush({ from, msgId, hash: at }, 'a', 1, at);

type Step = readonly ['add' | 'forget' | 'forgetBefore', number];

test('finds what was acked last under a sender and a msgId, in the order of acks, whatever is forgotten meanwhile', () => {
  const kind = fc.constantFrom('add', 'add', 'add', 'forget', 'forgetBefore');
  fc.assert(
    fc.property(fc.array(fc.tuple(kind, fc.nat(59)) as fc.Arbitrary<Step>, { maxLength: 200 }), (steps) => {
      const pushes = new FinishedPushes();
      const all: FinishedPush[] = [];
      let model: FinishedPush[] = [];
      for (const [at, [step, which]] of steps.entries()) {
        if (step === 'add') {
          const push = pushOf(`user-${which % 3}`, `m-${which}`, at);
          model = model.filter(({ msgId }) => msgId !== push.msgId);
          model.push(push);
          all.push(push);
          pushes.add(push);
        } else if (step === 'forget') {
          const push = all[which % Math.max(1, all.length)];
          if (push === undefined) continue;
          model = model.filter((other) => other !== push);
          pushes.forget(push);
        } else if (which < 5) {
          model = model.filter((push) => push.at > at - which);
          pushes.forgetBefore(at - which);
        }
        assert.equal(pushes.size, model.length);
        assert.deepEqual(pushes.inOrder(), model);
        for (let i = 0; i < 60; i++) {
          const msgId = `m-${i}`;
          assert.equal(
            pushes.get(`user-${i % 3}`, msgId),
            model.find((push) => push.msgId === msgId),
          );
          assert.equal(pushes.get('another', msgId), undefined);
        }
      }
    }),
    { numRuns: 40 },
  );
});

test('of more than it may hold the oldest is forgotten, and one that is forgotten names no other', () => {
  const pushes = new FinishedPushes();
  const all = Array.from({ length: serverLimits.finishedPushesMax + 1 }, (_, i) => pushOf('ann', `m-${i}`, i));
  for (const push of all) pushes.add(push);
  assert.equal(pushes.size, serverLimits.finishedPushesMax);
  assert.equal(pushes.get('ann', 'm-0'), undefined);
  assert.equal(pushes.get('ann', 'm-1'), all[1]);
  for (const push of all) pushes.forget(push);
  assert.equal(pushes.size, 0);
  for (const { next, older, newer } of all) assert.deepEqual([next, older, newer], [undefined, undefined, undefined]);
});

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { serverLimits } from '@hawser/protocol';
import { digest } from './digest.ts';
import { SettledIds } from './settled.ts';

const { rememberedIdsPerSender } = serverLimits;

function add(ids: SettledIds, msgId: string, hash: number): number {
  digest.of(msgId);
  return ids.add({ idHigh: digest.high, idLow: digest.low, hash }, 0);
}

function filled(prefix: string, count: number): SettledIds {
  const ids = new SettledIds();
  for (let i = 0; i < count; i++) add(ids, `${prefix}${i}`, i);
  return ids;
}

test('each id leads to its own hash, and no other id to any', () => {
  const ids = filled('m', rememberedIdsPerSender);
  for (let i = 0; i < rememberedIdsPerSender; i++) assert.equal(ids.find(`m${i}`), i);
  for (let i = 0; i < 10_000; i++) assert.equal(ids.find(`other${i}`), undefined);
});

test('ids that differ in one unit anywhere are told apart', () => {
  const ids = new SettledIds();
  const base = 'x'.repeat(36);
  add(ids, base, 1);
  for (let at = 0; at < base.length; at++) {
    for (const unit of ['y', 'X', '\0', '\u{1f512}', 'xx', '']) {
      assert.equal(ids.find(base.slice(0, at) + unit + base.slice(at + 1)), undefined, `${unit} at ${at}`);
    }
  }
});

test('an id that is added again has its new hash and counts once', () => {
  const ids = filled('m', 10);
  assert.equal(add(ids, 'm3', 77), 0);
  assert.equal(ids.find('m3'), 77);
  assert.equal(ids.size, 10);
});

test('another node knows what was exported to it, beside its own', () => {
  const ids = filled('a', 700);
  assert.equal(ids.inherit(filled('b', 1500).export(), true, 0), 1500);
  for (let i = 0; i < 700; i++) assert.equal(ids.find(`a${i}`), i);
  for (let i = 0; i < 1500; i++) assert.equal(ids.find(`b${i}`), i);
});

test('what both nodes knew counts once', () => {
  const ids = filled('m', 700);
  assert.equal(ids.inherit(filled('m', 900).export(), true, 0), 200);
  assert.equal(ids.size, 900);
});

test('of very many inherited ids the newest four thousand are kept', () => {
  const ids = filled('old', 100);
  for (let i = 0; i < 6; i++) ids.inherit(filled(`${i}-`, rememberedIdsPerSender).export(), true, 0);
  assert.equal(ids.size, 4 * rememberedIdsPerSender);
  assert.equal(ids.find('old0'), undefined);
  assert.equal(ids.find('5-0'), 0);
  assert.equal(ids.find('2-0'), 0);
});

test('of very many ids those of the node that had the name last are kept, its newest and in their order', () => {
  const ids = filled('own', 900);
  for (const node of ['a', 'b']) {
    const older = filled(`${node}-first`, rememberedIdsPerSender);
    for (let i = 0; i < 4; i++) older.inherit(filled(`${node}${i}-`, rememberedIdsPerSender).export(), true, 0);
    ids.inherit(older.export(), false, 0);
    assert.equal(ids.size, 4 * rememberedIdsPerSender);
  }
  for (let i = 0; i < 900; i++) assert.equal(ids.find(`own${i}`), i);
  assert.equal(ids.find('a3-999'), 999);
  assert.equal(ids.find('b3-999'), undefined, 'there was no room left for what is older');
});

test('an id that came again is as new as it was then', () => {
  const ids = filled('m', 1000);
  const others = filled('x', 999);
  add(others, 'm0', 77);
  ids.inherit(others.export(), true, 0);
  assert.equal(ids.find('m0'), 77);
  for (const node of ['a', 'b', 'c']) ids.inherit(filled(node, rememberedIdsPerSender).export(), true, 0);
  assert.deepEqual([ids.find('m0'), ids.find('m1')], [77, undefined]);
});

test('of an id that was used again the last content counts, and it is as new as that', () => {
  const ids = new SettledIds();
  add(ids, 'again', 1);
  ids.inherit(filled('a', 2 * rememberedIdsPerSender).export(), true, 0);
  const other = filled('b', 10);
  add(other, 'again', 2);
  ids.inherit(other.export(), true, 0);
  assert.equal(ids.find('again'), 2);
  // Those that came before it are forgotten first.
  for (let i = 0; i < 4; i++) ids.inherit(filled(`${i}-`, rememberedIdsPerSender - 100).export(), true, 0);
  assert.equal(ids.find('a0'), undefined);
  assert.equal(ids.find('again'), 2);
});

// The models of the scripts, and the scripts on a real Redis, say the same of the same, whatever comes.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { claim } from '@hawser/server/cluster/redis/scripts';
import { noRedis, RedisServer } from '@hawser/server/cluster/redis/server-harness';
import { createClient } from '@redis/client';
import { Random } from '../random.ts';
import { Keys } from './keys.ts';
import { modelledScripts, runScript } from './scripts.ts';

const STEPS = 4000;
const NODES = ['a.1', 'b.1', 'c.1'];
/** Tokens of now are microseconds of today: those that are drawn lie before and behind them. */
const TOKENS = ['1', '2', '1500000000000000', '8500000000000000'];
/** From here on a token is not the server's time. */
const SET_US = 8e15;

/** Arguments that nodes might give, and others: few of each, so that the same come again. */
function drawArgs(name: string, random: Random, server: string): string[] {
  const node = (): string => random.pick(NODES);
  const token = (): string => random.pick(TOKENS);
  const some = (): string[] => NODES.filter(() => random.chance(0.4));
  switch (name) {
    case 'claim':
      return [random.pick([server, 'another', '']), node(), token(), '600000'];
    case 'confirm':
      return [token(), ...some()];
    case 'release':
      return [token(), '600000'];
    case 'locate':
      return [random.pick([server, 'another'])];
    case 'hold':
      return [node(), token(), random.pick(['0', '1']), '600000', random.pick(['0', '1']), ...some()];
    case 'tell':
      return [random.pick(['ann', 'bea']), token(), '600000', '3'];
    case 'renew':
      return [node(), `${random.below(3)} ${random.pick(['', server])} {}`];
    case 'condemn':
      return [node(), random.pick(['', `0 ${server} {}`, '1  {}', 'v'])];
    case 'mark':
      return [node(), random.pick(['v', 'V'])];
    case 'forget':
      return [node(), 'V'];
    case 'open':
      return [random.pick([server, 'another']), ...some()];
    case 'meet':
      return [random.pick([server, 'another'])];
    case 'order':
      return [random.pick(['drain 5', 'undo']), '600000'];
    default:
      return [];
  }
}

describe('the models of the scripts', { skip: noRedis }, () => {
  let redis: RedisServer;
  let client: ReturnType<typeof createClient>;
  before(async () => {
    redis = await RedisServer.start();
    client = createClient({ socket: { host: '127.0.0.1', port: redis.port } });
    await client.connect();
  });
  after(async () => {
    client.destroy();
    await redis.close();
  });

  test('there is one of each script', async () => {
    const scripts = await import('@hawser/server/cluster/redis/scripts');
    const all = Object.values(scripts).map(({ sha }) => sha);
    assert.deepEqual(new Set(modelledScripts.map(({ sha }) => sha)), new Set(all));
  });

  test('they answer as the scripts do on a real server', async (t) => {
    const seed = Number(process.env.HAWSER_SEED ?? Math.floor(Math.random() * 2 ** 31));
    t.diagnostic(`replay with HAWSER_SEED=${seed}`);
    const random = new Random(seed);
    const scripts = Object.entries(await import('@hawser/server/cluster/redis/scripts'));
    const info = String(await client.sendCommand(['INFO', 'server']));
    const server = /run_id:([0-9a-f]+)/.exec(info)?.[1] ?? '';
    let timeUs = Date.now() * 1000;
    const keys = new Keys(
      () => timeUs,
      () => 0,
    );
    for (let step = 0; step < STEPS; step++) {
      const [name, script] = random.pick(scripts);
      const kind = ['tell', 'told'].includes(name) ? 'list' : ['order', 'ordered'].includes(name) ? 'text' : 'hash';
      const key = `{${random.pick(kind === 'hash' && !isOfTable(name) ? ['ann', 'bea'] : ['all'])}}:${kind}${isOfTable(name) ? ' table' : ''}`;
      const args = drawArgs(name, random, server);
      const real = await client.sendCommand(['EVAL', script.text, '1', key, ...args]);
      // The same moment for both.
      const token = script === claim && Array.isArray(real) && real[0] === 'ok' ? Number(real[1]) : 0;
      if (token < SET_US) timeUs = Math.max(timeUs, token);
      const model = runScript(script.sha, { keys, server }, key, args);
      assert.deepEqual(inOrder(model, name), inOrder(real, name), `step ${step}: ${name} ${key} ${args.join(' | ')}`);
    }
  });
});

function isOfTable(name: string): boolean {
  return ['renew', 'condemn', 'mark', 'forget', 'open', 'meet', 'look'].includes(name);
}

/** Fields of a hash come in any order; of a server's memory its policy counts. */
function inOrder(answer: unknown, name: string): unknown {
  if (name === 'memory') return /^maxmemory_policy:(\S+)/m.exec(String(answer))?.[1];
  if (!Array.isArray(answer)) return answer;
  const words = answer.map(String);
  if (name === 'claim') return [...words.slice(0, 3), ...words.slice(3).sort()];
  if (name !== 'renew' && name !== 'look') return words;
  const pairs = Array.from({ length: Math.floor(words.length / 2) }, (_, i) => words.slice(2 * i, 2 * i + 2).join('='));
  return [...pairs.sort(), ...words.slice(pairs.length * 2)];
}

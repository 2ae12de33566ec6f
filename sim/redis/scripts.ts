import * as scripts from '@hawser/server/cluster/redis/scripts';
import type { Keys } from './keys.ts';

/** The process that runs a script, and what it has in memory. */
export interface Ran {
  readonly keys: Keys;
  readonly server: string;
}

type Model = (ran: Ran, key: string, args: readonly string[]) => unknown;

const text = (number: number): string => number.toFixed(0);

/**
 * What each script of the adapter does, said once more without Lua: `scripts.test.ts` compares them, word by word, on a
 * real server.
 */
const models: readonly (readonly [scripts.Script, Model])[] = [
  [
    scripts.claim,
    ({ keys, server }, key, [open = '', self = '', floor = '', keptMs = '']) => {
      if (!open.includes(server)) return ['closed', server];
      const was = keys.hash(key);
      const holder = was.get('n');
      const token = Math.max(keys.timeUs(), Number(floor) + 1, Number(was.get('t') ?? 0) + 1);
      const answer = ['ok', text(token), was.get('h') === '1' && holder !== undefined && holder !== self ? holder : ''];
      if (holder !== undefined && holder !== self) keys.hset(key, `o:${holder}`, '1');
      keys.hdel(key, `o:${self}`);
      keys.hset(key, 'n', self, 't', text(token), 'h', '1');
      keys.pexpire(key, Number(keptMs));
      for (const field of keys.hash(key).keys()) if (field.startsWith('o:')) answer.push(field.slice(2));
      return answer;
    },
  ],
  [
    scripts.confirm,
    ({ keys }, key, [token, ...runs]) => {
      if (keys.hash(key).get('t') !== token) return 0;
      for (const run of runs) keys.hdel(key, `o:${run}`);
      return 1;
    },
  ],
  [
    scripts.release,
    ({ keys }, key, [token, rememberedMs]) => {
      if (keys.hash(key).get('t') !== token) return 0;
      keys.hset(key, 'h', '0');
      keys.pexpire(key, Number(rememberedMs));
      return 1;
    },
  ],
  [
    scripts.locate,
    ({ keys, server }, key, [open = '']) => {
      if (!open.includes(server)) return ['closed', server];
      const is = keys.hash(key);
      return ['ok', (is.get('h') === '1' && is.get('n')) || ''];
    },
  ],
  [
    scripts.hold,
    ({ keys, server }, key, [self = '', token = '', held = '', keptMs = '', mayBeLost = '', ...owed]) => {
      const was = keys.hash(key);
      const [holder, newest] = [was.get('n'), was.get('t')];
      if (newest !== undefined && Number(newest) > Number(token)) {
        if (holder !== self && mayBeLost === '1') keys.hset(key, `o:${self}`, '1');
        return [server, 'taken', newest];
      }
      if (holder !== undefined && holder !== self) keys.hset(key, `o:${holder}`, '1');
      keys.hset(key, 'n', self, 't', token, 'h', held);
      for (const run of owed) keys.hset(key, `o:${run}`, '1');
      keys.hdel(key, `o:${self}`);
      keys.pexpire(key, Number(keptMs));
      return [server, 'ok', token];
    },
  ],
  [
    scripts.tell,
    ({ keys }, key, [name = '', token = '', keptMs = '', countMax = '']) => {
      keys.setList(key, [...keys.list(key), name, token].slice(-2 * Number(countMax)));
      keys.pexpire(key, Number(keptMs));
      return 1;
    },
  ],
  [
    scripts.told,
    ({ keys }, key) => {
      const all = [...keys.list(key)];
      keys.del(key);
      return all;
    },
  ],
  [
    scripts.renew,
    ({ keys, server }, key, [self = '', value = '']) => {
      if (keys.hash(key).get(self)?.toLowerCase() === 'v') return ['void'];
      keys.hset(key, self, value);
      if (!keys.hash(key).has(`server:${server}`)) keys.hset(key, `server:${server}`, '0');
      return [...[...keys.hash(key)].flat(), server];
    },
  ],
  [
    scripts.condemn,
    ({ keys }, key, [run = '', seen = '']) => {
      const value = keys.hash(key).get(run) ?? '';
      if (value !== seen) return value;
      keys.hset(key, run, 'v');
      return 'v';
    },
  ],
  [
    scripts.mark,
    ({ keys }, key, [run = '', value = '']) => {
      keys.hset(key, run, value);
      return 1;
    },
  ],
  [
    scripts.forget,
    ({ keys }, key, [field = '', value = '']) => {
      if (keys.hash(key).get(field) === value) keys.hdel(key, field);
      return 1;
    },
  ],
  [
    scripts.open,
    ({ keys }, key, [server = '', ...mayExist]) => {
      for (const run of mayExist) if (!keys.hash(key).has(run)) keys.hset(key, run, '');
      for (const [field, value] of keys.hash(key)) {
        if (!field.startsWith('server:') && value !== 'V' && !value.includes(server)) return 0;
      }
      keys.hset(key, `server:${server}`, '1');
      return 1;
    },
  ],
  [
    scripts.meet,
    ({ keys }, key, [server = '']) => {
      if (keys.hash(key).has(`server:${server}`)) return 0;
      keys.hset(key, `server:${server}`, '0');
      return 1;
    },
  ],
  [scripts.look, ({ keys }, key) => [...keys.hash(key)].flat()],
  [scripts.memory, () => 'maxmemory_policy:noeviction\r\n'],
  [
    scripts.order,
    ({ keys }, key, [order = '', keptMs = '']) => {
      keys.setText(key, order, Number(keptMs));
      return 1;
    },
  ],
  [
    scripts.ordered,
    ({ keys }, key) => {
      const order = keys.text(key);
      keys.del(key);
      return order;
    },
  ],
];

const bySha = new Map(models.map(([{ sha }, model]) => [sha, model]));
export const modelledScripts = models.map(([script]) => script);

export function runScript(sha: string, ran: Ran, key: string, args: readonly string[]): unknown {
  const model = bySha.get(sha);
  if (model === undefined) throw new Error('a script of which there is no model');
  return model(ran, key, args);
}

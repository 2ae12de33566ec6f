import { createHash } from 'node:crypto';

/**
 * What Redis does in one step. Each script touches one key, so that a Redis Cluster can have them wherever it likes.
 *
 * A name is a hash: `n` the run that has it, or had it last; `t` the token of that claim; `h` whether it has it now; and
 * a field `o:RUN` for each other run that had it and has not been confirmed to have let go.
 *
 * The table of nodes is a hash: a field for each run, `COUNTER RUN,RUN… STATE` (how often it has renewed its lease, the
 * servers of which all it knows is put together again, and what it says of itself in JSON), `v` (it is being made void) or `V` (it is); and a field
 * `server:ID` for each process of Redis: 1 when all that it may have forgotten is there again.
 */
export interface Script {
  readonly text: string;
  readonly sha: string;
}

function script(text: string): Script {
  return { text, sha: createHash('sha1').update(text).digest('hex') };
}

/**
 * The process that runs the script: another one, on the same data as it seems, may have lost the last of what was
 * written to the former. It costs 9 µs.
 */
const SERVER = `local server = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')`;

/** The name cannot be told of while this server is not known to have it all: `open` are those that are. */
const OPEN_ONLY = `${SERVER}
if not string.find(ARGV[1], server, 1, true) then return {'closed', server} end`;

/** open, self, floor, keptMs → 'ok', token, the run that had it or '', runs that are not confirmed … */
export const claim = script(`${OPEN_ONLY}
local key, self = KEYS[1], ARGV[2]
local was = redis.call('HMGET', key, 'n', 't', 'h')
local time = redis.call('TIME')
local token = math.max(time[1] * 1000000 + time[2], ARGV[3] + 1, (was[2] or 0) + 1)
if was[1] and was[1] ~= self then redis.call('HSET', key, 'o:' .. was[1], '1') end
redis.call('HDEL', key, 'o:' .. self)
local text = string.format('%.0f', token)
redis.call('HSET', key, 'n', self, 't', text, 'h', '1')
redis.call('PEXPIRE', key, ARGV[4])
local answer = {'ok', text, was[3] == '1' and was[1] ~= self and was[1] or ''}
for _, field in ipairs(redis.call('HKEYS', key)) do
  if string.sub(field, 1, 2) == 'o:' then answer[#answer + 1] = string.sub(field, 3) end
end
return answer`);

/** token, runs that are confirmed … */
export const confirm = script(`if redis.call('HGET', KEYS[1], 't') ~= ARGV[1] then return 0 end
for i = 2, #ARGV do redis.call('HDEL', KEYS[1], 'o:' .. ARGV[i]) end
return 1`);

/** token, rememberedMs */
export const release = script(`if redis.call('HGET', KEYS[1], 't') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'h', '0')
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1`);

/** open → 'ok', run or '' */
export const locate = script(`${OPEN_ONLY}
local is = redis.call('HMGET', KEYS[1], 'n', 'h')
return {'ok', is[2] == '1' and is[1] or ''}`);

/**
 * What a run knows of a name is there again: self, token, held, keptMs, whether writes may have been lost, runs that are
 * not confirmed …
 * → the server, 'ok' or 'taken', the token of the claim that is there
 */
export const hold = script(`${SERVER}
local key, self, token = KEYS[1], ARGV[1], ARGV[2]
local was = redis.call('HMGET', key, 'n', 't', 'h')
if was[2] and tonumber(was[2]) > tonumber(token) then
  if was[1] ~= self and ARGV[5] == '1' then redis.call('HSET', key, 'o:' .. self, '1') end
  return {server, 'taken', was[2]}
end
if was[1] and was[1] ~= self then redis.call('HSET', key, 'o:' .. was[1], '1') end
redis.call('HSET', key, 'n', self, 't', token, 'h', ARGV[3])
for i = 6, #ARGV do redis.call('HSET', key, 'o:' .. ARGV[i], '1') end
redis.call('HDEL', key, 'o:' .. self)
redis.call('PEXPIRE', key, ARGV[4])
return {server, 'ok', token}`);

/** Tells a run that others have claimed a name: name, token, keptMs, countMax */
export const tell = script(`redis.call('RPUSH', KEYS[1], ARGV[1], ARGV[2])
redis.call('LTRIM', KEYS[1], -2 * ARGV[4], -1)
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1`);

/** What it was told: name, token, name, token … */
export const told = script(`local all = redis.call('LRANGE', KEYS[1], 0, -1)
redis.call('DEL', KEYS[1])
return all`);

/** self, value → the server, then all fields and values of the table; or 'void' */
export const renew = script(`${SERVER}
local mine = redis.call('HGET', KEYS[1], ARGV[1])
if mine and string.lower(mine) == 'v' then return {'void'} end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('HSETNX', KEYS[1], 'server:' .. server, '0')
local table = redis.call('HGETALL', KEYS[1])
table[#table + 1] = server
return table`);

/** A run that has not renewed since it was seen is void from now on: run, value as it was seen → its value */
export const condemn = script(`local value = redis.call('HGET', KEYS[1], ARGV[1]) or ''
if value ~= ARGV[2] then return value end
redis.call('HSET', KEYS[1], ARGV[1], 'v')
return 'v'`);

/** run, value */
export const mark = script(`redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 1`);

/** field, value: forgets it if it is that still */
export const forget =
  script(`if redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] then redis.call('HDEL', KEYS[1], ARGV[1]) end
return 1`);

/**
 * All that a server may have forgotten is there again when each run that may exist has put its part together or is void:
 * server, runs that may exist … → 1 if so
 */
export const open = script(`for i = 2, #ARGV do redis.call('HSETNX', KEYS[1], ARGV[i], '') end
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  if string.sub(all[i], 1, 7) ~= 'server:' and all[i + 1] ~= 'V' and not string.find(all[i + 1], ARGV[1], 1, true) then
    return 0
  end
end
redis.call('HSET', KEYS[1], 'server:' .. ARGV[1], '1')
return 1`);

/** A server that was not known has answered: server */
export const meet = script(`return redis.call('HSETNX', KEYS[1], 'server:' .. ARGV[1], '0')`);

/** → all fields and values of the table */
export const look = script(`return redis.call('HGETALL', KEYS[1])`);

/** → what the server says of its memory */
export const memory = script(`return redis.call('INFO', 'memory')`);

/** What a run is to do: order, keptMs */
export const order = script(`redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1`);

/** → the order, once, or '' */
export const ordered = script(`local order = redis.call('GET', KEYS[1]) or ''
redis.call('DEL', KEYS[1])
return order`);

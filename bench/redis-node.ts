// One end of the bus, for bench/redis-bus.ts: a node without a core, which sends, answers or claims what it is told to.
import { parseRedisAddress } from '@hawser/server/cluster/redis/address';
import { newRun, RedisCluster } from '@hawser/server/cluster/redis/cluster';
import type { Packet } from '@hawser/server/core/packets';
import type { Log, Time } from '@hawser/server/core/ports';
import { systemTime } from '@hawser/server/time';
import { Histogram } from './histogram.ts';

export type Ask =
  | { readonly what: 'send'; readonly to: string; readonly pairs: number; readonly window: number }
  | { readonly what: 'claim'; readonly atOnce: number; readonly measureMs: number }
  | { readonly what: 'count' };
export type Told =
  | { readonly what: 'ready'; readonly run: string }
  | { readonly what: 'claimed'; readonly claims: number; readonly p50Ms: number; readonly p95Ms: number }
  | { readonly what: 'counted'; readonly acked: number; readonly batchesOut: number; readonly lost: number };

const MSG = new TextEncoder().encode(JSON.stringify('x'.repeat(98)));
const quiet = (): void => {};
const log: Log = { debug: quiet, info: quiet, warn: quiet, error: quiet };
const time: Time = systemTime(0);

const cluster = await RedisCluster.open({
  ...{ address: parseRedisAddress(process.argv[2] ?? ''), run: newRun(process.argv[3] ?? ''), time, log },
});
let acked = 0;
let lost = 0;
let sendMore: (to: string, count: number) => void = quiet;
/** Acks of this turn, by stream, as the core sends them. */
const acks = new Map<string, number[]>();
const next = new Map<string, number>();

function ack(from: string, to: string, seq: number): void {
  if (seq !== (next.get(to) ?? 0)) lost++;
  next.set(to, seq + 1);
  const seqs = acks.get(to);
  if (seqs !== undefined) seqs.push(seq);
  else acks.set(to, [seq]);
  if (acks.size > 1 || seqs !== undefined) return;
  time.endOfTurn(() => {
    for (const [name, all] of acks) cluster.send(from, { type: 'acked', to: name, stream: 1, seqs: all });
    acks.clear();
  });
}

cluster.listen({
  packet(from: string, packet: Packet) {
    if (packet.type === 'forward') ack(from, packet.to, packet.seq);
    else if (packet.type === 'acked') {
      acked += packet.seqs.length;
      sendMore(packet.to, packet.seqs.length);
    }
  },
  taken: quiet,
});

function send({ to: node, pairs, window }: Extract<Ask, { what: 'send' }>): void {
  const seqs = new Map<string, number>();
  sendMore = (to, count) => {
    let seq = seqs.get(to) ?? 0;
    for (let i = 0; i < count; i++) {
      const head = { type: 'forward', to, stream: 1, seq, finishedTo: seq, isSettled: true } as const;
      cluster.send(node, { ...head, from: 'user-0001', msgId: `m-${seq}`, msg: MSG, wall: Date.now(), ran: 1, ttl: 0 });
      seq++;
    }
    seqs.set(to, seq);
  };
  for (let i = 0; i < pairs; i++) sendMore(`device-${i}`, window);
}

async function claim({ atOnce, measureMs }: Extract<Ask, { what: 'claim' }>): Promise<Told> {
  const latencies = new Histogram();
  const end = performance.now() + measureMs;
  let claims = 0;
  const claimOn = async (): Promise<void> => {
    while (performance.now() < end) {
      const from = performance.now();
      await cluster.claim(`name-${claims++}`);
      latencies.record(performance.now() - from);
    }
  };
  await Promise.all(Array.from({ length: atOnce }, claimOn));
  return { what: 'claimed', claims, p50Ms: latencies.percentile(50), p95Ms: latencies.percentile(95) };
}

const tell = (told: Told): void => {
  process.send?.(told);
};
process.on('message', (ask: Ask) => {
  if (ask.what === 'send') send(ask);
  else if (ask.what === 'count') tell({ what: 'counted', acked, batchesOut: cluster.counters.batchesOut, lost });
  else void claim(ask).then(tell);
});
process.on('disconnect', () => process.exit());
tell({ what: 'ready', run: cluster.self });

/** A node in a process of its own, which a test stops and lets go on: `paused-node.ts PORT`. */

import { parseRedisAddress } from './address.ts';
import { newRun, RedisCluster } from './cluster.ts';
import { quietLog, realTime, testTimes } from './node-harness.ts';

const address = parseRedisAddress(`redis://127.0.0.1:${process.argv[2]}`);
const cluster = await RedisCluster.open({
  ...{ address, run: newRun('paused'), time: realTime, log: quietLog, times: testTimes },
});
await cluster.claim('ann');
let at = realTime.now();
process.send?.(cluster.self);
// The first thing that it does once it goes on.
const watching = setInterval(() => {
  const passedMs = realTime.now() - at;
  at = realTime.now();
  if (passedMs < testTimes.leaseMs) return;
  clearInterval(watching);
  const heldForMs = cluster.heldUntil - at;
  void cluster.claim('ann').then(
    () => process.send?.({ heldForMs, passedMs, isAway: false }),
    () => process.send?.({ heldForMs, passedMs, isAway: true }),
  );
}, 5);

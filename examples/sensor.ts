// A sensor: a device that reports to a user, whatever becomes of the network or the server meanwhile.
//
//     node sensor.ts [ID] [USER] [EVERY_MS] [DISPATCHER]

import { setTimeout as sleep } from 'node:timers/promises';
import { Device, RefusedError } from '@hawser/client';

const [id = 'sensor-1', user = 'ann', everyMs = '5000', dispatcher = 'http://127.0.0.1:9999'] = process.argv.slice(2);
const sensor = new Device({ dispatcher });

sensor.onState((state) => {
  if (state.phase === 'online') console.log(`${id} is online`);
  if (state.phase === 'waiting') console.log(`no server: another attempt in ${Math.round(state.delayMs)} ms`);
  if (state.phase === 'offline') process.exit(1);
});

const forEver = { timeoutMs: Number.POSITIVE_INFINITY };
await sensor.authenticate(id, forEver);

for (let n = 1; ; n++) {
  const reading = { n, celsius: Math.round(200 + 50 * Math.sin(n / 10)) / 10 };
  try {
    // Without a connection it waits for one. Once it has resolved, the reading cannot be lost any more.
    await sensor.send(user, reading, forEver);
    console.log(`reading ${n} is safe`);
  } catch (error) {
    if (!(error instanceof RefusedError)) throw error;
    console.log(`${user} does not take readings: has ${id} been added? (${error.message})`);
    n--;
  }
  await sleep(Number(everyMs));
}

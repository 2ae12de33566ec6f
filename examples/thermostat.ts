// A thermostat: a device that answers questions. `ask.ts` asks them.
//
//     node thermostat.ts [ID] [DISPATCHER]

import { Device } from '@hawser/client';

/** A question has an id, which its answer repeats. */
interface Question {
  readonly ask?: string;
  readonly id?: string;
}

const [id = 'thermostat-1', dispatcher = 'http://127.0.0.1:9999'] = process.argv.slice(2);
const device = new Device({ dispatcher });

device.onMessage<Question | null>(async ({ from, msg }) => {
  if (msg?.id === undefined) return;
  const answer = msg.ask === 'temperature' ? { celsius: 21.5 } : { error: `nobody knows ${JSON.stringify(msg.ask)}` };
  // The question is acked when its answer is: should the device fail before that, it is asked again.
  await device.send(from, { re: msg.id, ...answer });
});

await device.authenticate(id, { timeoutMs: Number.POSITIVE_INFINITY });
console.log(`${id} is online`);

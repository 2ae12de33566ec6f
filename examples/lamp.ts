// A lamp: a device that waits for messages and does what they say.
//
//     node lamp.ts [ID] [DISPATCHER]

import { Device } from '@hawser/client';

const [id = 'lamp-1', dispatcher = 'http://127.0.0.1:9999'] = process.argv.slice(2);
const lamp = new Device({ dispatcher });

// A message is acked when the handler has returned. If the lamp fails before that, the message comes again.
lamp.onMessage<{ on?: unknown } | null>(({ from, msg }) => {
  console.log(`${from} switches ${id} ${msg?.on === true ? 'on' : 'off'}`);
});

await lamp.authenticate(id, { version: '1.0', abilities: ['on'], timeoutMs: Number.POSITIVE_INFINITY });
console.log(`${id} is online`);

// An app that prints what a sensor reports, from where it left off.
//
//     node readings.ts USER PASSWORD SENSOR [DISPATCHER]

import { App, RefusedError } from '@hawser/client';

const [user = '', password = '', sensor = '', dispatcher = 'http://127.0.0.1:9999'] = process.argv.slice(2);
const app = new App({ dispatcher });

/** For what is fine when it is so already. */
function unless(code: number): (error: unknown) => void {
  return (error) => {
    if (!(error instanceof RefusedError && error.code === code)) throw error;
  };
}

await app.register(user, password).catch(unless(1001));
await app.login(user, password);
await app.addDevice(sensor).catch(unless(2001));

// A reading is acked when the loop comes to the next one: what this program did not finish comes again.
for await (const { from, msg } of app.messages<{ n: number; celsius: number }>()) {
  if (from === sensor) console.log(`${sensor} ${msg.n}: ${msg.celsius} °C`);
}

// A switch: an app that adds a lamp and turns it on or off, also while the lamp is away.
//
//     node switch.ts USER PASSWORD LAMP on|off [DISPATCHER]

import { App, RefusedError } from '@hawser/client';

const [user = '', password = '', lamp = '', word = '', dispatcher = 'http://127.0.0.1:9999'] = process.argv.slice(2);
const app = new App({ dispatcher });

/** For what is fine when it is so already. */
function unless(code: number): (error: unknown) => void {
  return (error) => {
    if (!(error instanceof RefusedError && error.code === code)) throw error;
  };
}

await app.register(user, password).catch(unless(1001));
await app.login(user, password);
await app.addDevice(lamp).catch(unless(2001));

for await (const { deviceId, online } of app.devices()) console.log(`${deviceId} is ${online ? 'online' : 'away'}`);

// It resolves when the lamp has done it, or when the server has it on its disk: then the lamp gets it when it is back.
await app.send(lamp, { on: word === 'on' });
console.log(`${lamp} is told`);
app.close();

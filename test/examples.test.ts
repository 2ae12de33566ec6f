// The examples, run as their README says, against a real server.

import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { type Server, startServer } from './harness.ts';
import { unique } from './mini-client.ts';
import { expectAck, newApp, newDevice } from './parties.ts';
import { Program } from './program.ts';
import { HostileProxy } from './proxy.ts';

const folder = join(import.meta.dirname, '..', 'examples');
const examples = readdirSync(folder).filter((name) => name.endsWith('.ts'));

let server: Server;
before(async () => {
  server = await startServer();
});
after(() => server?.[Symbol.asyncDispose]());

function dispatcher(): string {
  return `http://127.0.0.1:${server.httpPort}`;
}

function run(example: string, ...args: string[]): Program {
  return new Program(process.execPath, [join(folder, example), ...args]);
}

test('each example is short, and in the list', () => {
  const readme = readFileSync(join(folder, 'README.md'), 'utf8');
  assert.ok(examples.length >= 6);
  for (const name of examples) {
    assert.ok(readme.includes(`(${name})`), name);
    assert.ok(readFileSync(join(folder, name), 'utf8').split('\n').length <= 60, name);
  }
});

test('a switch turns a lamp on and off, also while the lamp is away', async () => {
  const [user, id] = [unique('ann'), unique('lamp')];
  const turn = async (word: string): Promise<string[]> => {
    await using button = run('switch.ts', user, 'secret', id, word, dispatcher());
    assert.equal(await button.ended, 0, button.err.join('\n'));
    return button.out;
  };
  {
    await using lamp = run('lamp.ts', id, dispatcher());
    await lamp.says('is online');
    assert.deepEqual(await turn('on'), [`${id} is online`, `${id} is told`]);
    assert.deepEqual(await turn('off'), [`${id} is online`, `${id} is told`]);
    await lamp.says('off');
    assert.deepEqual(lamp.out, [`${id} is online`, `${user} switches ${id} on`, `${user} switches ${id} off`]);
  }
  // The server notices that the lamp is gone in its own time.
  assert.equal((await turn('on')).at(-1), `${id} is told`);
  await using lamp = run('lamp.ts', id, dispatcher());
  await lamp.says(`${user} switches ${id} on`);
});

test('a switch with the wrong password says so', async () => {
  const user = unique('ann');
  await using right = run('switch.ts', user, 'secret', 'lamp', 'on', dispatcher());
  assert.equal(await right.ended, 0, right.err.join('\n'));
  await using wrong = run('switch.ts', user, 'wrong', 'lamp', 'on', dispatcher());
  assert.equal(await wrong.ended, 1);
  assert.ok(wrong.err.some((line) => line.includes('RefusedError')));
});

test('a sensor goes on through a restart of the server, and no reading is lost or comes twice', async () => {
  const nowhere = { host: '127.0.0.1', port: 1 };
  await using front = await HostileProxy.listen(nowhere, Math.random);
  await using http = await HostileProxy.listen(nowhere, Math.random);
  // Proxies keep their ports when the server's change.
  await using own = await startServer({ args: ['--advertise', `127.0.0.1:${front.port}`] });
  const reach = (): void => {
    front.target = own;
    http.target = { host: '127.0.0.1', port: own.httpPort };
  };
  reach();
  const url = `http://127.0.0.1:${http.port}`;
  const [user, id] = [unique('ann'), unique('sensor')];
  await using sensor = run('sensor.ts', id, user, '20', url);
  await sensor.says('does not take readings');
  await using readings = run('readings.ts', user, 'secret', id, url);
  await readings.says(' 5: ');
  await own.kill9();
  await sensor.says('no server');
  await own.restart();
  reach();
  const sofar = readings.out.length;
  await readings.until(() => readings.out.length >= sofar + 20, 'twenty more readings');
  const numbers = readings.out.map((line) => Number(/ (\d+): \d+(\.\d)? °C$/.exec(line)?.[1]));
  assert.deepEqual(
    numbers,
    numbers.map((_, i) => i + 1),
  );
});

test('a question is answered; one that nobody answers in time is given up, and is not asked later', async () => {
  const [user, id] = [unique('ann'), unique('thermostat')];
  const ask = async (question: string, timeoutMs: number): Promise<{ code: unknown; out: string[]; err: string[] }> => {
    await using program = run('ask.ts', user, 'secret', id, question, String(timeoutMs), dispatcher());
    return { code: await program.ended, out: program.out, err: program.err };
  };
  {
    await using thermostat = run('thermostat.ts', id, dispatcher());
    await thermostat.says('is online');
    const { code, out, err } = await ask('temperature', 20_000);
    assert.equal(code, 0, err.join('\n'));
    const { re, ...answer } = JSON.parse(out[0] ?? '') as { re: string };
    assert.deepEqual(answer, { celsius: 21.5 });
    const other = await ask('the meaning of life', 20_000);
    assert.match(other.out[0] ?? '', /"error":"nobody knows \\"the meaning of life\\""/);
    assert.notEqual((JSON.parse(other.out[0] ?? '') as { re: string }).re, re);
  }
  const late = await ask('temperature', 900);
  assert.equal(late.code, 1);
  assert.match(late.err.join('\n'), new RegExp(`${id} has not answered within 900 ms`));
});

test('an answer from somebody else is none', async () => {
  const [user, id] = [unique('ann'), unique('thermostat')];
  using device = await newDevice(server, { name: id, autoAck: true });
  using mallory = await newApp(server);
  await using asking = run('ask.ts', user, 'secret', id, 'temperature', '20000', dispatcher());
  const [question] = await device.received(1, 20_000);
  const { id: re } = question!.msg as { id: string };
  expectAck(await mallory.say(user, { re, celsius: 99 }));
  expectAck(await device.say(user, { re, celsius: 7 }));
  assert.equal(await asking.ended, 0);
  assert.deepEqual(JSON.parse(asking.out[0] ?? ''), { re, celsius: 7 });
});

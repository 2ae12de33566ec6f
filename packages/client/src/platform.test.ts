import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, before, test } from 'node:test';
import * as browser from './browser.ts';
import { DispatcherError, type State } from './core/index.ts';
import { dispatcher } from './dispatcher.ts';
import * as node from './node.ts';
import { portsOf } from './platform.ts';

/** What the dispatcher answers, and what it was asked. */
let answer = '';
const asked: string[] = [];
const server = createServer((request, response) => {
  asked.push(request.url ?? '');
  response.end(answer);
});

before(() => new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve)));
after(() => {
  server.closeAllConnections();
  server.close();
});

function url(): URL {
  return new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
}

function locate(id = 'lamp-1'): Promise<{ host: string; port: number }> {
  return dispatcher(url())(id, new AbortController().signal);
}

test('the dispatcher is asked with the id, whatever characters it has, and its answer is the address', async () => {
  answer = '{"code":100,"msg":"ok","ip":"10.0.0.7","port":8888,"more":1}';
  assert.deepEqual(await locate('a b&c=é/消'), { host: '10.0.0.7', port: 8888 });
  assert.equal(new URL(asked.at(-1)!, 'http://x').searchParams.get('id'), 'a b&c=é/消');
});

test('what else the dispatcher may answer is an error that says what it was', async () => {
  for (const [text, code] of [
    ['{"code":1000,"msg":"no server is available"}', 1000],
    ['{"code":200,"msg":"one id is needed"}', 200],
    ['{"code":100,"ip":"","port":8888}', undefined],
    ['{"code":100,"ip":"x","port":"8888"}', undefined],
    ['{"code":100,"ip":"x","port":70000}', undefined],
    ['null', undefined],
    ['<html>', undefined],
    [' '.repeat(20_000), undefined],
  ] as const) {
    answer = text;
    await assert.rejects(locate(), (error: Error) => {
      assert.ok(error instanceof DispatcherError, String(error));
      assert.equal(error.code, code, text.slice(0, 50));
      return true;
    });
  }
});

test('a dispatcher that is not there, and a question that is called off, are errors with their cause', async () => {
  const nobody = dispatcher(new URL('http://127.0.0.1:1'));
  await assert.rejects(nobody('a', new AbortController().signal), { name: 'DispatcherError' });
  await assert.rejects(nobody('a', AbortSignal.abort()), { name: 'DispatcherError' });
});

test('options that make no sense are refused', () => {
  for (const options of [
    {},
    { dispatcher: 'http://x', server: 'tcp://x' },
    { server: 'gopher://x' },
    { dispatcher: 'x' },
    { server: 'tcp://x', timeoutMs: Number.NaN },
  ]) {
    assert.throws(() => new node.App(options), TypeError, JSON.stringify(options));
  }
  for (const options of [{ server: 'tcp://x' }, { server: 'ws://x', encrypt: true }]) {
    assert.throws(() => new browser.Device(options), TypeError, JSON.stringify(options));
  }
});

test('a server is given by address or by URL, with the usual ports', async () => {
  const cases = [
    [node, { server: 'tcp://127.0.0.1' }, { host: '127.0.0.1', port: 8888 }],
    [node, { server: 'tls://example.test:1' }, { host: 'example.test', port: 1 }],
    [node, { server: 'tcp://[::1]:7' }, { host: '::1', port: 7 }],
    [node, { server: { host: 'h', port: 5 } }, { host: 'h', port: 5 }],
    [browser, { server: 'ws://127.0.0.1/path' }, { host: '127.0.0.1', port: 80 }],
    [browser, { server: new URL('wss://example.test') }, { host: 'example.test', port: 443 }],
  ] as const;
  for (const [{ Device }, options, address] of cases) {
    const states: State[] = [];
    const device = new Device({
      ...options,
      transport: { agreesOnKey: false, connect: () => ({ write() {}, end() {}, destroy() {} }) },
    });
    device.onState((state) => states.push(state));
    const done = assert.rejects(device.authenticate('lamp'), { name: 'ClosedError' });
    await new Promise((resolve) => setImmediate(resolve));
    assert.deepEqual(states.at(-1), { phase: 'connecting', attempt: 0, address });
    device.close();
    await done;
  }
});

test('the ids of two clients are never the same, and short enough for a msgId', () => {
  const platform = { keys: undefined, defaultTransport: () => node.tcp(), transportFor: () => node.websocket() };
  const [a, b] = [portsOf({ server: 'ws://x' }, platform), portsOf({ server: 'ws://x' }, platform)];
  const ids = Array.from({ length: 1000 }, () => [a.random.id(), b.random.id()]).flat();
  assert.equal(new Set(ids).size, ids.length);
  assert.ok(ids.every((id) => id.length >= 32 && id.length <= 128));
});

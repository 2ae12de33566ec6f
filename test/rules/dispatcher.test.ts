// PROTOCOL.md, "Finding a server".

import assert from 'node:assert/strict';
import { request } from 'node:http';
import { connect as connectSocket } from 'node:net';
import { after, before, test } from 'node:test';
import fc from 'fast-check';
import { type Server, startServer } from '../harness.ts';
import { Client, unique } from '../mini-client.ts';
import { addDevice, newApp, newDevice } from '../parties.ts';

let server: Server;
before(async () => {
  server = await startServer();
});
after(() => server?.[Symbol.asyncDispose]());

interface Answer {
  readonly status: number;
  readonly headers: NodeJS.Dict<string | string[]>;
  readonly text: string;
  readonly json: { readonly code: number; readonly msg?: string; readonly ip?: string; readonly port?: number };
}

function get(path: string, headers: Record<string, string> = {}, at: Server = server): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const options = { host: at.host, port: at.httpPort, path, headers, agent: false, timeout: 5_000 };
    const asked = request(options, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('error', reject);
      response.on('end', () => {
        const text = Buffer.concat(chunks).toString();
        try {
          resolve({ status: response.statusCode ?? 0, headers: response.headers, text, json: JSON.parse(text) });
        } catch (cause) {
          reject(new Error(`GET ${path.slice(0, 100)} → ${response.statusCode} ${text.slice(0, 300)}`, { cause }));
        }
      });
    });
    asked.on('timeout', () => asked.destroy(new Error(`GET ${path.slice(0, 100)}: no answer`)));
    asked.on('error', reject);
    asked.end();
  });
}

/** Writes a request as it is, and gives everything that comes back until the close. */
function getRaw(text: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connectSocket({ host: server.host, port: server.httpPort });
    const chunks: Buffer[] = [];
    socket.setTimeout(5_000, () => socket.destroy(new Error('no answer')));
    socket.on('data', (chunk: Buffer) => chunks.push(chunk));
    socket.on('error', reject);
    socket.on('close', () => resolve(Buffer.concat(chunks).toString()));
    socket.write(text);
  });
}

function idOf(id: string): string {
  return `/?id=${encodeURIComponent(id)}`;
}

test('GET /?id= answers 100 with the address of the TCP server as string and number', async () => {
  const { status, json } = await get('/?id=lock-1');
  assert.equal(status, 200);
  assert.equal(json.code, 100);
  assert.equal(json.ip, server.host);
  assert.equal(json.port, server.port);
});

test('the address it gives is that of a server that greets with its key', async () => {
  const { json } = await get('/?id=lock-1');
  assert.ok(json.ip !== undefined && json.port !== undefined);
  using client = await Client.connect({ host: json.ip, port: json.port });
  await client.awaitKey();
});

test('the answer is compact JSON', async () => {
  for (const path of ['/?id=lock-1', '/', '/?id=']) {
    const { text } = await get(path);
    assert.equal(text, JSON.stringify(JSON.parse(text)));
  }
});

test('an answer has only the fields that the contract names', async () => {
  const { json } = await get('/?id=lock-1');
  assert.deepEqual(Object.keys({ msg: '', ...json }).sort(), ['code', 'ip', 'msg', 'port']);
  const refusal = await get('/');
  assert.deepEqual(Object.keys(refusal.json).sort(), ['code', 'msg']);
});

for (const [what, path] of [
  ['no id', '/'],
  ['no id but other parameters', '/?ID=x&name=y'],
  ['an empty id', '/?id='],
  ['an id without a value', '/?id'],
  ['a repeated id', '/?id=a&id=b'],
  ['the same id twice', '/?id=a&id=a'],
  ['an id of 129 bytes', `/?id=${'a'.repeat(129)}`],
  ['an id of 65 characters in 130 bytes', idOf('é'.repeat(65))],
  ['an id of 4,000 bytes', `/?id=${'a'.repeat(4_000)}`],
] as const) {
  test(`${what} is answered 200 with HTTP status 200`, async () => {
    const { status, json } = await get(path);
    assert.equal(status, 200);
    assert.equal(json.code, 200);
    assert.equal(typeof json.msg, 'string');
    assert.equal(json.ip, undefined);
    assert.equal(json.port, undefined);
  });
}

for (const [what, id] of [
  ['an id of 128 bytes', 'a'.repeat(128)],
  ['an id of 64 characters in 128 bytes', 'é'.repeat(64)],
  ['an id with reserved characters', 'a&b=c?d/e#f%+ g'],
  ['the id __proto__', '__proto__'],
  ['the id constructor', 'constructor'],
] as const) {
  test(`${what} is answered 100`, async () => {
    const { status, json } = await get(idOf(id));
    assert.equal(status, 200);
    assert.deepEqual([json.code, json.ip, json.port], [100, server.host, server.port]);
  });
}

test('other parameters beside the id change nothing', async () => {
  const { json } = await get('/?v=2&id=lock-1&lang=zh');
  assert.deepEqual([json.code, json.ip, json.port], [100, server.host, server.port]);
});

test('percent signs that encode nothing valid still get HTTP status 200 and JSON', async () => {
  for (const path of ['/?id=%', '/?id=%zz', '/?id=%ff%fe', '/?id=%00', '/?%', '/?id=a%0d%0ab']) {
    const { status, json } = await get(path);
    assert.equal(status, 200, path);
    assert.ok(json.code === 100 || json.code === 200, path);
  }
});

test('the same id gets the same answer every time', async () => {
  const first = await get('/?id=lock-1');
  for (let i = 0; i < 20; i += 1) assert.equal((await get('/?id=lock-1')).text, first.text);
});

test('the answer does not tell whether an id exists, is online or is a user', async () => {
  using app = await newApp(server);
  using device = await newDevice(server);
  const added = await addDevice(app);
  const stranger = await get(idOf(unique('nobody')));
  for (const name of [app.name, device.name, added]) assert.equal((await get(idOf(name))).text, stranger.text);
});

test('the answer never comes from the request: forged Host and forwarding headers change nothing', async () => {
  const { text } = await get('/?id=lock-1');
  for (const headers of [
    { host: 'evil.example:1' },
    { 'x-forwarded-host': 'evil.example', 'x-forwarded-port': '1' },
    { 'x-forwarded-for': '203.0.113.9', 'x-real-ip': '203.0.113.9' },
    { forwarded: 'for=203.0.113.9;host=evil.example;proto=https' },
    { 'x-original-url': 'http://evil.example/?id=x', referer: 'http://evil.example/' },
  ]) {
    const forged = await get('/?id=lock-1', headers as Record<string, string>);
    assert.equal(forged.text, text);
    assert.ok(!JSON.stringify(forged.headers).includes('evil.example'));
  }
});

test('the answer never comes from the request: an absolute request target changes nothing', async () => {
  const { text } = await get('/?id=lock-1');
  const raw = await getRaw(
    'GET http://evil.example:1/?id=lock-1 HTTP/1.1\r\nHost: evil.example:1\r\nConnection: close\r\n\r\n',
  );
  assert.match(raw, /^HTTP\/1\.1 200 /);
  assert.ok(raw.includes(text), raw);
});

test('whatever the id and the headers, the answer is the configured server or a refusal', async () => {
  const header = fc.stringMatching(/^[!-~]{1,20}$/);
  const asked = fc.asyncProperty(fc.string({ unit: 'binary', maxLength: 60 }), header, async (id, value) => {
    const { status, json } = await get(`/?id=${encodeURIComponent(id.toWellFormed())}`, {
      'x-forwarded-host': value,
      'x-forwarded-for': value,
    });
    assert.equal(status, 200);
    if (json.code === 100) assert.deepEqual([json.ip, json.port], [server.host, server.port]);
    else assert.equal(json.code, 200);
  });
  await fc.assert(asked, { numRuns: 60 });
});

test('an HTTP/1.0 client that sends no Host is answered too', async () => {
  const raw = await getRaw('GET /?id=lock-1 HTTP/1.0\r\n\r\n');
  assert.match(raw, /^HTTP\/1\.[01] 200 /);
  assert.match(raw, /"code":100/);
});

test('the answer is not to be cached', async () => {
  const { headers } = await get('/?id=lock-1');
  assert.match(String(headers['cache-control']), /no-store/);
});

test('--advertise HOST gives that host and the port listened on', async () => {
  await using advertised = await startServer({ args: ['--advertise', 'im.example.org'] });
  const { json } = await get('/?id=lock-1', {}, advertised);
  assert.deepEqual([json.code, json.ip, json.port], [100, 'im.example.org', advertised.port]);
});

test('--advertise HOST:PORT gives both as configured', async () => {
  await using advertised = await startServer({ args: ['--advertise', '203.0.113.7:4321'] });
  const { json } = await get('/?id=lock-1', {}, advertised);
  assert.deepEqual([json.code, json.ip, json.port], [100, '203.0.113.7', 4321]);
});

test('a full server is either still named or answered 1000, with HTTP status 200', async () => {
  await using small = await startServer({ args: ['--max-connections', '2'] });
  using first = await Client.connect(small);
  await first.awaitKey();
  using second = await Client.connect(small);
  await second.awaitKey();
  const { status, json } = await get('/?id=lock-1', {}, small);
  assert.equal(status, 200);
  if (json.code === 1000) assert.deepEqual([json.ip, json.port], [undefined, undefined]);
  else assert.deepEqual([json.code, json.ip, json.port], [100, small.host, small.port]);
});

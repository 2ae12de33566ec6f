import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { Server } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { after, before, test } from 'node:test';
import { serverLimits } from '@hawser/protocol';
import fc from 'fast-check';
import { type Advertised, createDispatcher, dispatch } from './http.ts';

// fast-check prints the seed of a failure; another seed is tried with HAWSER_SEED=<number>.
fc.configureGlobal({ seed: Number(process.env.HAWSER_SEED ?? 1) });

const here: Advertised = { ip: '203.0.113.7', port: 8888 };
const isHere = JSON.stringify({ code: 100, msg: 'ok', ...here });

/** Two servers, and none for some ids. */
const there: Advertised = { ip: 'im.example.org', port: 7 };
function choose(id: string): Advertised | undefined {
  return [here, there, undefined][id.length % 3];
}

function assertAnswer(text: string, what: string): void {
  const answer = JSON.parse(text) as { code: number; msg: string; ip?: string; port?: number };
  assert.equal(text, JSON.stringify(answer), 'compact');
  assert.equal(typeof answer.msg, 'string');
  if (answer.code === 100) {
    assert.deepEqual(Object.keys(answer), ['code', 'msg', 'ip', 'port']);
    assert.ok(
      [here, there].some(({ ip, port }) => ip === answer.ip && port === answer.port),
      what,
    );
  } else {
    assert.ok(answer.code === 200 || answer.code === 1000, what);
    assert.deepEqual(Object.keys(answer), ['code', 'msg']);
  }
}

let chosen: Advertised | undefined = here;
let server: Server;
let port: number;
before(async () => {
  server = createDispatcher(() => chosen);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  ({ port } = server.address() as AddressInfo);
});
after(() => {
  server.close();
  server.closeAllConnections();
});

/** Writes bytes as they are, ends, and gives all that comes back. */
function exchange(bytes: string | Uint8Array, { end = true } = {}): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
    const chunks: Buffer[] = [];
    socket.on('data', (chunk: Buffer) => chunks.push(chunk));
    socket.on('error', () => {});
    socket.on('end', () => socket.destroy());
    socket.on('close', () => resolve(Buffer.concat(chunks).toString('latin1')));
    socket.setTimeout(5_000, () => socket.destroy());
    socket.write(bytes);
    if (end) socket.end();
  });
}

/** The bodies of the responses in `text`, all of which must have status 200. */
function bodiesOf(text: string): string[] {
  const bodies: string[] = [];
  let rest = text;
  while (rest !== '') {
    const end = rest.indexOf('\r\n\r\n');
    assert.ok(end > 0, `no response: ${rest}`);
    const head = rest.slice(0, end);
    assert.match(head, /^HTTP\/1\.1 200 OK\r\n/);
    assert.match(head, /\r\nContent-Type: application\/json\r\n/);
    assert.match(head, /\r\nCache-Control: no-store\r\n/);
    const length = Number(/\r\nContent-Length: (\d+)/.exec(head)?.[1]);
    bodies.push(rest.slice(end + 4, end + 4 + length));
    rest = rest.slice(end + 4 + length);
  }
  return bodies;
}

test('one id gets the chosen server, its port as a number', () => {
  assert.equal(
    dispatch('/?id=lamp-1', () => here),
    isHere,
  );
});

test('the id that is chosen by is the one decoded from the query, wherever it stands', () => {
  const ids: string[] = [];
  const note = (id: string): Advertised => {
    ids.push(id);
    return here;
  };
  for (const url of ['/?id=a%20b', '/?id=a+b', '/any/path?x=1&id=a%20b&y', '?id=a b', '/?id=a%20b#id=c']) {
    assert.equal(dispatch(url, note), isHere, url);
  }
  assert.deepEqual(ids, Array(5).fill('a b'));
});

test('no id, an empty one, a repeated one and one beyond 128 bytes are answered 200, and nothing is chosen', () => {
  const never = (): never => assert.fail('chosen');
  for (const url of ['', '/', '?', '/?', '/?ID=a', '/?id', '/?id=', '/?id=a&id=b', '/?id=a&id=', '/#?id', '/id=a']) {
    assert.equal(JSON.parse(dispatch(url, never)).code, 200, url);
  }
  for (const id of ['a'.repeat(129), encodeURIComponent('é'.repeat(65)), encodeURIComponent('😀'.repeat(33))]) {
    assert.equal(JSON.parse(dispatch(`/?id=${id}`, never)).code, 200, id);
  }
  for (const id of ['a'.repeat(128), encodeURIComponent('é'.repeat(64)), encodeURIComponent('😀'.repeat(32))]) {
    assert.equal(
      dispatch(`/?id=${id}`, () => here),
      isHere,
      id,
    );
  }
});

test('with no server it is answered 1000', () => {
  const answer = JSON.parse(dispatch('/?id=a', () => undefined));
  assert.deepEqual(Object.keys(answer), ['code', 'msg']);
  assert.equal(answer.code, 1000);
});

test('whatever the target, the answer is a configured server, 200 or 1000', () => {
  const part = fc.constantFrom('id=', 'id', '?', '&', '=', '#', '%', '%2', '%ff', '%00', '%0d%0a', '/', 'a', 'é', '+');
  const target = fc.oneof(
    fc.array(part).map((parts) => parts.join('')),
    fc.string({ unit: 'binary' }),
    fc.webUrl(),
  );
  fc.assert(fc.property(target, (url) => assertAnswer(dispatch(url, choose), url)));
});

test('no header, method or body can influence the answer', async () => {
  const token = fc.constantFrom(
    ...['Host', 'Forwarded', 'X-Forwarded-Host', 'X-Forwarded-For', 'X-Forwarded-Port', 'X-Forwarded-Proto'],
    ...['X-Real-IP', 'X-Original-URL', 'X-Rewrite-URL', 'Origin', 'Referer', 'Cookie', 'Accept', 'Accept-Encoding'],
    ...['X-HTTP-Method-Override', 'Range', 'If-None-Match', 'If-Modified-Since', 'Via', 'Content-Type', 'id'],
  );
  const value = fc.oneof(
    fc.constantFrom('evil.example:1', 'bytes=0-1', '*', 'host=evil.example;for=1.2.3.4', '/?id=evil', 'gzip'),
    fc.stringMatching(/^[ -~]{0,40}$/),
  );
  const method = fc.constantFrom('GET', 'POST', 'PUT', 'DELETE', 'OPTIONS', 'PATCH');
  const headers = fc.dictionary(token, value, { maxKeys: 6 });
  const property = fc.asyncProperty(method, headers, fc.string({ maxLength: 20 }), async (verb, fields, body) => {
    const lines = Object.entries(fields).map(([name, text]) => `${name}: ${text}\r\n`);
    const host = 'Host' in fields ? '' : 'Host: x\r\n';
    const length = verb === 'GET' ? '' : `Content-Length: ${Buffer.byteLength(body)}\r\n`;
    const answer = await exchange(
      `${verb} /?id=lamp-1 HTTP/1.1\r\n${host}${length}${lines.join('')}Connection: close\r\n\r\n${length && body}`,
    );
    assert.deepEqual(bodiesOf(answer), [isHere]);
    assert.ok(!answer.includes('evil'));
  });
  await fc.assert(property, { numRuns: 150 });
});

test('bytes that are no HTTP request still get HTTP status 200 and a refusal', async () => {
  for (const bytes of [
    'hello\r\n\r\n',
    'GET / HTTP/9.9\r\n\r\n',
    'GET /?id=a b HTTP/1.1\r\nHost: x\r\n\r\n',
    'GET /?id=a HTTP/1.1\r\nHost x\r\n\r\n',
    'GET /?id=a HTTP/1.1\r\nBad\u0001Name: x\r\n\r\n',
    'POST /?id=a HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n',
    '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03',
    'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
    `GET /?id=a HTTP/1.1\r\nHost: x\r\nX: ${'a'.repeat(serverLimits.httpHeaderBytesMax)}\r\n\r\n`,
    `GET /?id=${'a'.repeat(2 * serverLimits.httpHeaderBytesMax)} HTTP/1.1\r\nHost: x\r\n\r\n`,
  ]) {
    const bodies = bodiesOf(await exchange(Buffer.from(bytes, 'latin1'), { end: false }));
    assert.equal(bodies.length, 1, bytes.slice(0, 60));
    assert.equal(JSON.parse(bodies[0] ?? '').code, 200, bytes.slice(0, 60));
  }
});

test('a request without Host is answered like any other', async () => {
  for (const version of ['1.0', '1.1']) {
    const bodies = bodiesOf(await exchange(`GET /?id=a HTTP/${version}\r\nConnection: close\r\n\r\n`));
    assert.deepEqual(
      bodies.map((body) => JSON.parse(body).code),
      [100],
      version,
    );
  }
});

test('CONNECT, Upgrade and Expect get HTTP status 200 too', async () => {
  for (const request of [
    'CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n',
    'GET /?id=a HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n',
    'POST /?id=a HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nExpect: 200-ok\r\nConnection: close\r\n\r\na',
  ]) {
    const bodies = bodiesOf(await exchange(request));
    assert.equal(bodies.length, 1, request);
    assertAnswer(bodies[0] ?? '', request);
  }
});

test('whatever bytes come, every response has status 200 and names the configured server or a refusal', async () => {
  const piece = fc.constantFrom(
    ...['GET ', 'POST ', '/?id=a', '/?id=', ' HTTP/1.1', ' HTTP/1.0', '\r\n', '\r\n\r\n', '\n', '\r', '\0', ' '],
    ...['Host: x', 'Host: evil.example', 'Content-Length: 5', 'Content-Length: -1', 'Transfer-Encoding: chunked'],
    ...['0\r\n\r\n', 'Connection: keep-alive', 'Connection: Upgrade', 'Upgrade: h2c', 'Expect: 100-continue', '\xff'],
  );
  const whole = ['GET /?id=a HTTP/1.1\r\nHost: x\r\n\r\n', 'GET /?id=a HTTP/1.1\r\n\r\n'];
  const bytes = fc.array(fc.oneof(piece, fc.constantFrom(...whole)), { minLength: 1, maxLength: 12 });
  const property = fc.asyncProperty(bytes, async (pieces) => {
    const text = pieces.join('');
    const answer = (await exchange(Buffer.from(text, 'latin1'))).replaceAll('HTTP/1.1 100 Continue\r\n\r\n', '');
    for (const body of bodiesOf(answer)) assertAnswer(body, text);
  });
  await fc.assert(property, { numRuns: 300 });
});

test('requests in a pipeline are answered in order', async () => {
  const answer = await exchange(
    'GET /?id=a HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\nGET /?id=b HTTP/1.1\r\nHost: x\r\n\r\n',
  );
  assert.deepEqual(
    bodiesOf(answer).map((body) => JSON.parse(body).code),
    [100, 200, 100],
  );
});

test('a body without end is not waited for', async () => {
  const began = performance.now();
  const answer = await exchange('POST /?id=a HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nab', { end: false });
  assert.deepEqual(bodiesOf(answer), [isHere]);
  assert.ok(performance.now() - began < 2000);
});

test('HEAD is answered with status 200 and no body', async () => {
  const answer = await exchange('HEAD /?id=a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
  assert.match(answer, /^HTTP\/1\.1 200 OK\r\n/);
  assert.ok(answer.endsWith('\r\n\r\n'));
});

test('what is chosen is asked for anew at each request', async () => {
  const request = 'GET /?id=a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n';
  chosen = undefined;
  try {
    assert.equal(JSON.parse(bodiesOf(await exchange(request))[0] ?? '').code, 1000);
  } finally {
    chosen = here;
  }
  assert.deepEqual(bodiesOf(await exchange(request)), [isHere]);
});

test('an address that asks too often is told that there is no server, with HTTP status 200, and others are not', async () => {
  let isAllowed = false;
  const asked: string[] = [];
  const mayAsk = (address: string): boolean => {
    asked.push(address);
    return isAllowed;
  };
  const server = createDispatcher(() => chosen, { mayAsk, refusedConnection: () => {} });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/?id=lamp`;
  try {
    const headers = { 'X-Forwarded-For': '203.0.113.9', Forwarded: 'for=203.0.113.9' };
    const refused = await fetch(url, { headers });
    assert.equal(refused.status, 200);
    assert.equal(refused.headers.get('connection'), 'close');
    assert.equal(refused.headers.get('cache-control'), 'no-store');
    assert.equal(((await refused.json()) as { code: number }).code, 1000);
    isAllowed = true;
    assert.deepEqual(await (await fetch(url)).json(), { code: 100, msg: 'ok', ...chosen });
    assert.deepEqual(asked, ['127.0.0.1', '127.0.0.1'], 'no header says who asks');
  } finally {
    server.close();
    server.closeAllConnections();
  }
});

test('one address may have half of the connections, and where they are scarce none is kept open', async () => {
  let refused = 0;
  const server = createDispatcher(() => chosen, { mayAsk: () => true, refusedConnection: () => refused++ });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  server.maxConnections = 10;
  const { port } = server.address() as AddressInfo;
  const sockets: Socket[] = [];
  try {
    for (let i = 0; i < 8; i++) {
      const socket = connect({ port, host: '127.0.0.1', localAddress: '127.0.0.2' });
      socket.on('error', () => {});
      sockets.push(socket);
      await once(socket, 'connect');
    }
    const end = performance.now() + 10_000;
    while (refused < 3 && performance.now() < end) await new Promise((resolve) => setTimeout(resolve, 5));
    assert.equal(refused, 3);
    const answer = await fetch(`http://127.0.0.1:${port}/?id=lamp`);
    assert.equal(((await answer.json()) as { code: number }).code, 100);
    assert.equal(answer.headers.get('connection'), 'close', 'six of ten are open');
    assert.equal(refused, 3);
  } finally {
    for (const socket of sockets) socket.destroy();
    server.close();
    server.closeAllConnections();
  }
});

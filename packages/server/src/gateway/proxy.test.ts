import assert from 'node:assert/strict';
import { test } from 'node:test';
import { serverLimits } from '@hawser/protocol';
import fc from 'fast-check';
import { isLoopback, networksOf } from './networks.ts';
import { readProxyHeader } from './proxy.ts';

// fast-check prints the seed of a failure; another seed is tried with HAWSER_SEED=<number>.
fc.configureGlobal({ seed: Number(process.env.HAWSER_SEED ?? 1) });

const SIGNATURE = '0d0a0d0a000d0a515549540a';

function header(versionAndCommand: number, family: number, content: string): Buffer {
  const bytes = Buffer.from(content, 'hex');
  const head = Buffer.concat([Buffer.from(SIGNATURE, 'hex'), Buffer.from([versionAndCommand, family, 0, 0])]);
  head.writeUInt16BE(bytes.length, 14);
  return Buffer.concat([head, bytes]);
}

const TCP4 = 'cb007109c000020a9c4022b8'; // 203.0.113.9 192.0.2.10 40000 8888
const TCP6 = `${'20010db8000000000000000000000007'.repeat(2)}9c4022b8`;

test('the client is the source, over IPv4 and IPv6; of LOCAL it is the proxy', () => {
  for (const [bytes, address] of [
    [header(0x21, 0x11, TCP4), '203.0.113.9'],
    [header(0x21, 0x21, TCP6), '2001:db8::7'],
    [header(0x21, 0x21, `00000000000000000000ffff7f000001${'00'.repeat(20)}`), '::ffff:127.0.0.1'],
    [header(0x20, 0x00, ''), undefined],
    [header(0x20, 0x11, TCP4), undefined],
  ] as const) {
    const found = readProxyHeader(Buffer.concat([bytes, Buffer.from('behind')]));
    assert.deepEqual(found, { proxied: { address, isTls: false }, length: bytes.length });
  }
});

test('what else the proxy says is passed over, but for whether its client came over TLS', () => {
  for (const [more, isTls] of [
    ['01000268320300041234567820000501000000002100', undefined],
    ['010002683203000412345678', false],
    ['2000050100000000', true],
    ['2000050000000000', false],
    ['20000001000161', false],
    ['040000', false],
  ] as const) {
    const found = readProxyHeader(header(0x21, 0x11, TCP4 + more));
    if (isTls === undefined) assert.equal(found, 'invalid', more);
    else assert.ok(typeof found === 'object' && found.proxied.isTls === isTls, more);
  }
});

test('all else is invalid: another version, command, family, sizes that cannot be, text', () => {
  const long = serverLimits.proxyHeaderBytesMax;
  for (const bytes of [
    header(0x11, 0x11, TCP4),
    header(0x22, 0x11, TCP4),
    header(0x21, 0x12, TCP4),
    header(0x21, 0x22, TCP6),
    header(0x21, 0x31, '00'.repeat(216)),
    header(0x21, 0x00, ''),
    header(0x21, 0x11, TCP4.slice(2)),
    header(0x21, 0x21, TCP4),
    header(0x21, 0x11, `${TCP4}04`),
    header(0x21, 0x11, `${TCP4}040001`),
    header(0x21, 0x11, TCP4 + '00'.repeat(long - 16 - 12 + 1)),
    header(0x20, 0x00, '00'.repeat(long - 15)).subarray(0, 16),
    Buffer.from('PROXY TCP4 203.0.113.9 203.0.113.10 1 2\r\n'),
    Buffer.alloc(4),
    Buffer.from('0d0a0d0b', 'hex'),
  ]) {
    assert.equal(readProxyHeader(bytes), 'invalid', bytes.toString('hex').slice(0, 80));
  }
});

test('a header as large as may be is read', () => {
  const rest = serverLimits.proxyHeaderBytesMax - 16 - 12 - 3;
  const more = `04${rest.toString(16).padStart(4, '0')}${'00'.repeat(rest)}`;
  const found = readProxyHeader(header(0x21, 0x11, TCP4 + more));
  assert.ok(typeof found === 'object' && found.length === serverLimits.proxyHeaderBytesMax);
});

test('a valid header is waited for, whatever byte it is cut at', () => {
  const bytes = header(0x21, 0x11, `${TCP4}2000050100000000`);
  for (let at = 0; at < bytes.length; at++) assert.equal(readProxyHeader(bytes.subarray(0, at)), undefined, String(at));
});

test('whatever bytes come, they are read, waited for, or invalid; and waited for within the bound alone', () => {
  const begun = fc.constantFrom(Buffer.alloc(0), Buffer.from(`${SIGNATURE}2111`, 'hex'), Buffer.from(SIGNATURE, 'hex'));
  fc.assert(
    fc.property(begun, fc.uint8Array({ maxLength: 3000 }), (first, rest) => {
      const bytes = Buffer.concat([first, rest]);
      const found = readProxyHeader(bytes);
      if (found === undefined) assert.ok(bytes.length < serverLimits.proxyHeaderBytesMax);
      else if (found !== 'invalid') assert.ok(found.length <= bytes.length);
    }),
    { numRuns: 5000 },
  );
});

test('a proxy is named by its network, an IPv4 address also where it is written as IPv6', () => {
  const isProxy = networksOf([
    { address: '10.1.0.0', bits: 16 },
    { address: '2001:db8::', bits: 32 },
    { address: '192.0.2.7', bits: 32 },
  ]);
  for (const address of ['10.1.2.3', '::ffff:10.1.2.3', '2001:db8:1::', '192.0.2.7']) assert.ok(isProxy(address));
  for (const address of ['10.2.0.0', '::ffff:10.2.0.0', '2001:db9::', '192.0.2.8', '', 'x'])
    assert.ok(!isProxy(address));
  assert.ok(!networksOf([])('127.0.0.1'));
});

test('an address of this machine is known however it is written, and no name or other text is one', () => {
  for (const address of ['127.0.0.1', '127.255.0.9', '::1', '::ffff:127.0.0.1', '::ffff:7f00:1'])
    assert.ok(isLoopback(address), address);
  for (const address of ['128.0.0.1', '::2', '::ffff:10.0.0.1', '127.evil.example', 'localhost', ''])
    assert.ok(!isLoopback(address), address);
});

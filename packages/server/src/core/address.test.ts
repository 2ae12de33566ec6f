import assert from 'node:assert/strict';
import { test } from 'node:test';
import { addressKey } from './address.ts';

test('an IPv4 address stands for itself, also when it comes as an IPv6 one', () => {
  assert.equal(addressKey('203.0.113.9'), '203.0.113.9');
  for (const mapped of ['::ffff:203.0.113.9', '::FFFF:cb00:7109', '0:0:0:0:0:ffff:203.0.113.9']) {
    assert.equal(addressKey(mapped), '203.0.113.9', mapped);
  }
});

test('all IPv6 addresses of a /64 are one, however they are written, and those of another are not', () => {
  const key = '2001:db8:0:1::/64';
  for (const address of [
    '2001:db8:0:1::',
    '2001:db8:0:1::1',
    '2001:0DB8:0000:0001:ffff:ffff:ffff:ffff',
    '2001:db8::1:a:b:c:d',
    '2001:db8:0:1:0:ffff:203.0.113.9',
    '2001:db8:0:1::7%eth0',
  ]) {
    assert.equal(addressKey(address), key, address);
  }
  for (const other of ['2001:db8:0:2::1', '2001:db8::1', '::1', 'fe80::1%eth0'])
    assert.notEqual(addressKey(other), key);
  assert.equal(addressKey('::1'), '0:0:0:0::/64');
});

test('connections whose address is not known are one stranger, not the server itself', () => {
  assert.notEqual(addressKey(''), '');
  assert.equal(addressKey(''), addressKey(''));
});

test('what is no address stands for itself', () => {
  for (const text of [
    'localhost',
    '::1::',
    '1:2:3',
    '1:2:3:4:5:6:7:8:9',
    ':::',
    'g::1',
    '1::2.3.4',
    '12345::',
    '::1.2.3.256',
  ]) {
    assert.equal(addressKey(text), text, text);
  }
});

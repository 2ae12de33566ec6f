import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LOCKED } from './core/ports.ts';
import { systemDigests } from './digests.ts';

test('a digest matches its text alone, has a salt of its own, and does not show the text', () => {
  const digests = systemDigests();
  const digest = digests.digest('a secret');
  assert.match(digest, /^hmac-sha256\$[\w-]{22}\$[\w-]{43}$/);
  assert.notEqual(digests.digest('a secret'), digest);
  assert.ok(digests.matches('a secret', digest));
  // Of another run as well.
  assert.ok(systemDigests().matches('a secret', digest));
  for (const text of ['', 'a secre', 'a secret ', 'A secret', digest]) assert.ok(!digests.matches(text, digest));
  assert.ok(!digest.includes('secret'));
});

test('nothing matches where there is no digest, or none that can be', () => {
  const digests = systemDigests();
  const [, salt, sum] = digests.digest('x').split('$');
  for (const digest of [
    undefined,
    '',
    LOCKED,
    '$',
    '$$',
    'hmac-sha256$$',
    `hmac-sha256$${salt}$`,
    `md5$${salt}$${sum}`,
  ]) {
    for (const text of ['', 'x', LOCKED]) assert.ok(!digests.matches(text, digest), `${digest}`);
  }
});

test('the hash of a name stays, spreads, and is another in each run', () => {
  const digests = systemDigests();
  const names = Array.from({ length: 1000 }, (_, i) => `device ${i}`);
  const hashes = names.map((name) => digests.hash(name));
  assert.deepEqual(
    names.map((name) => digests.hash(name)),
    hashes,
  );
  assert.ok(new Set(hashes.map((hash) => hash % 65_536)).size > 950);
  const others = systemDigests();
  assert.ok(names.filter((name, i) => others.hash(name) === hashes[i]).length < 3);
});

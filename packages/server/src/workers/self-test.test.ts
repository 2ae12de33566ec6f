import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { test } from 'node:test';
import { makeKeyPair, rsaSelfTest } from './self-test.ts';

test('the RSA of the pinned Node passes', () => {
  assert.equal(rsaSelfTest(), undefined);
});

test('a key pair has 2048 bits', () => {
  const { publicKey, privateKey } = makeKeyPair();
  assert.equal(publicKey.asymmetricKeyDetails?.modulusLength, 2048);
  assert.equal(privateKey.asymmetricKeyDetails?.modulusLength, 2048);
  assert.equal(rsaSelfTest({ publicKey, privateKey }), undefined);
});

test('a private key that belongs to another public one is found out', () => {
  const flaw = rsaSelfTest({ publicKey: makeKeyPair().publicKey, privateKey: makeKeyPair().privateKey });
  assert.match(flaw ?? '', /RSA/);
});

test('keys that are not for RSA encryption are found out, and throw nothing', () => {
  assert.match(rsaSelfTest(generateKeyPairSync('ec', { namedCurve: 'P-256' })) ?? '', /^RSA PKCS#1 v1.5 is refused: /);
});

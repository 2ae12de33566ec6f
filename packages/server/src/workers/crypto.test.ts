import assert from 'node:assert/strict';
import { constants, createPublicKey, type KeyObject, publicEncrypt, randomBytes } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import fc from 'fast-check';
import type { RsaKey } from '../core/ports.ts';
import { WorkerPasswords, WorkerRsa } from './crypto.ts';

// fast-check prints the seed of a failure; another seed is tried with HAWSER_SEED=<number>.
fc.configureGlobal({ seed: Number(process.env.HAWSER_SEED ?? 1) });

const BYTES = 256;

describe('RSA', () => {
  let rsa: WorkerRsa;
  let key: RsaKey;
  let publicKey: KeyObject;
  let modulus: bigint;
  before(async () => {
    rsa = new WorkerRsa();
    key = await rsa.generate();
    publicKey = createPublicKey({ key: Buffer.from(key.publicDer), format: 'der', type: 'spki' });
    modulus = BigInt(`0x${Buffer.from(publicKey.export({ format: 'jwk' }).n ?? '', 'base64url').toString('hex')}`);
  });
  after(() => rsa.close());

  function encrypt(plain: Uint8Array): Buffer {
    return publicEncrypt({ key: publicKey, padding: constants.RSA_PKCS1_PADDING }, plain);
  }

  /** The ciphertext of a block that need not be padded as it should. */
  function raw(block: Uint8Array): Buffer {
    return publicEncrypt({ key: publicKey, padding: constants.RSA_NO_PADDING }, block);
  }

  function bytesOf(number: bigint): Buffer {
    return Buffer.from(number.toString(16).padStart(2 * BYTES, '0'), 'hex');
  }

  test('what was encrypted with the public key is decrypted', async () => {
    const lengths = [1, 16, 24, 32, 245];
    const plains = lengths.map((length) => randomBytes(length));
    const decrypted = await Promise.all(plains.map((plain) => key.decrypt(encrypt(plain))));
    assert.deepEqual(
      decrypted.map((plain) => Buffer.from(plain)),
      plains,
    );
    assert.equal((await key.decrypt(encrypt(new Uint8Array()))).length, 0);
  });

  test('a ciphertext that is part of a larger buffer is decrypted', async () => {
    const buffer = Buffer.concat([randomBytes(100), encrypt(Buffer.from('sixteen  letters')), randomBytes(100)]);
    const plain = await key.decrypt(buffer.subarray(100, 100 + BYTES));
    assert.equal(Buffer.from(plain).toString(), 'sixteen  letters');
    assert.equal(buffer.length, 200 + BYTES, 'it is copied, not taken away');
  });

  /** A rightly padded block, to be damaged: 0 2, padding without zeros, 0, the plaintext. */
  function block(): Buffer {
    const padding = Buffer.alloc(BYTES - 3 - 16, 0xaa);
    return Buffer.concat([Buffer.from([0, 2]), padding, Buffer.from([0]), Buffer.from('sixteen  letters')]);
  }

  function damaged(damage: (block: Buffer) => void): Buffer {
    const bytes = block();
    damage(bytes);
    return raw(bytes);
  }

  const wrong: [string, () => Buffer][] = [
    ['a first byte that is not 0', () => damaged((each) => each.writeUInt8(1, 0))],
    ['block type 0', () => damaged((each) => each.writeUInt8(0, 1))],
    ['block type 1', () => damaged((each) => each.writeUInt8(1, 1))],
    ['block type 255', () => damaged((each) => each.writeUInt8(255, 1))],
    ['no zero behind the padding', () => damaged((each) => each.fill(0xaa, 2))],
    ['a zero at once', () => damaged((each) => each.writeUInt8(0, 2))],
    ['a zero within the first eight bytes of padding', () => damaged((each) => each.writeUInt8(0, 9))],
    ['nothing but zeros', () => damaged((each) => each.fill(0))],
    ['the number 0', () => bytesOf(0n)],
    ['the number 1', () => bytesOf(1n)],
    ['the modulus less 1', () => bytesOf(modulus - 1n)],
    ['random bytes below the modulus', () => bytesOf(BigInt(`0x${randomBytes(255).toString('hex')}`))],
    [
      'a good ciphertext with a bit turned',
      () => {
        const ciphertext = encrypt(randomBytes(16));
        ciphertext[BYTES - 1]! ^= 1;
        return ciphertext;
      },
    ],
  ];
  for (const [what, make] of wrong) {
    test(`${what}: yields bytes, never an error`, async () => {
      for (let i = 0; i < 3; i++) {
        const plain = await key.decrypt(make());
        assert.ok(plain instanceof Uint8Array);
        assert.ok(plain.length <= BYTES - 11);
        assert.notEqual(Buffer.from(plain).toString(), 'sixteen  letters');
      }
    });
  }

  test('the same bad ciphertext yields the same bytes, so that asking again tells nothing', async () => {
    const ciphertext = damaged((each) => each.writeUInt8(1, 1));
    const [first, second] = await Promise.all([key.decrypt(ciphertext), key.decrypt(ciphertext)]);
    assert.deepEqual(first, second);
  });

  test('the rightly padded block that those were made from does decrypt', async () => {
    assert.equal(Buffer.from(await key.decrypt(raw(block()))).toString(), 'sixteen  letters');
  });

  test('whatever the bytes below the modulus, they never throw', async () => {
    const bytes = fc.uint8Array({ minLength: BYTES, maxLength: BYTES });
    const property = fc.asyncProperty(bytes, async (ciphertext) => {
      const number = BigInt(`0x${Buffer.from(ciphertext).toString('hex')}`);
      await key.decrypt(bytesOf(number % modulus));
    });
    await fc.assert(property, { numRuns: 100 });
  });

  test('a ciphertext that is no number below the modulus is refused, and the thread goes on', async () => {
    for (const ciphertext of [
      bytesOf(modulus),
      Buffer.alloc(BYTES, 0xff),
      Buffer.alloc(0),
      Buffer.alloc(BYTES + 1, 1),
    ]) {
      await assert.rejects(key.decrypt(ciphertext));
    }
    assert.equal((await key.decrypt(encrypt(Buffer.alloc(16)))).length, 16);
  });

  test('a key goes on to work when there is a newer one', async () => {
    const newer = await rsa.generate();
    assert.notDeepEqual(newer.publicDer, key.publicDer);
    assert.equal(Buffer.from(await key.decrypt(encrypt(Buffer.from('old')))).toString(), 'old');
  });
});

describe('passwords', () => {
  let passwords: WorkerPasswords;
  before(() => {
    passwords = new WorkerPasswords();
  });
  after(() => passwords.close());

  test('a password is verified by its hash, and another is not', async () => {
    const hash = await passwords.hash('correct horse');
    assert.equal(await passwords.verify('correct horse', hash), true);
    assert.equal(await passwords.verify('wrong horse', hash), false);
  });

  test('no password fits a user that there is not', async () => {
    for (const password of ['', 'a']) assert.equal(await passwords.verify(password, undefined), false, password);
  });

  test('it takes as long for a user that there is not as for a wrong password', async () => {
    const hash = await passwords.hash('a');
    // In turns, and the least of each: others may be using the machine.
    const least = { known: Number.POSITIVE_INFINITY, unknown: Number.POSITIVE_INFINITY };
    for (let i = 0; i < 15; i++) {
      for (const [key, against] of [
        ['known', hash],
        ['unknown', undefined],
      ] as const) {
        const began = performance.now();
        await passwords.verify('wrong', against);
        least[key] = Math.min(least[key], performance.now() - began);
      }
    }
    const { known, unknown } = least;
    assert.ok(unknown > known / 2 && unknown < known * 2, `${unknown} ms against ${known} ms`);
  });

  test('passwords may be closed before their first use', async () => {
    await new WorkerPasswords().close();
  });
});

// Certificates made at test time: X.509 written by hand (RFC 5280), with EC keys of node:crypto. Nothing but Node is needed.

import { generateKeyPairSync, type KeyObject, randomBytes, sign } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { join } from 'node:path';

export interface Issued {
  /** PEM. */
  readonly cert: string;
  readonly key: string;
}

export interface Wanted {
  /** Common names of the subject; usually one. */
  readonly names?: readonly string[];
  /** Host names and IPv4 addresses that it is for. */
  readonly hosts?: readonly string[];
  readonly notBefore?: Date;
  readonly notAfter?: Date;
}

const DAY_MS = 24 * 60 * 60 * 1000;

function der(tag: number, ...parts: readonly Uint8Array[]): Buffer {
  const content = Buffer.concat(parts);
  if (content.length < 0x80) return Buffer.concat([Buffer.from([tag, content.length]), content]);
  const hex = content.length.toString(16);
  const length = Buffer.from(hex.length % 2 === 0 ? hex : `0${hex}`, 'hex');
  return Buffer.concat([Buffer.from([tag, 0x80 | length.length]), length, content]);
}

const sequence = (...parts: readonly Uint8Array[]): Buffer => der(0x30, ...parts);
const octets = (content: Uint8Array): Buffer => der(0x04, content);
const bits = (content: Uint8Array): Buffer => der(0x03, Buffer.from([0]), content);
const yes = der(0x01, Buffer.from([0xff]));

/** An object identifier, by its bytes. */
const oid = (hex: string): Buffer => der(0x06, Buffer.from(hex, 'hex'));
const ecdsaWithSha256 = sequence(oid('2a8648ce3d040302'));

function subject(names: readonly string[]): Buffer {
  return sequence(...names.map((name) => der(0x31, sequence(oid('550403'), der(0x0c, Buffer.from(name))))));
}

/** GeneralizedTime. */
function time(date: Date): Buffer {
  return der(0x18, Buffer.from(`${date.toISOString().replaceAll(/[-:T]|\.\d+/g, '')}`));
}

function extension(id: string, content: Uint8Array, isCritical = false): Buffer {
  return sequence(oid(id), ...(isCritical ? [yes] : []), octets(content));
}

function alternativeNames(hosts: readonly string[]): Buffer {
  const names = hosts.map((host) =>
    isIP(host) === 4 ? der(0x87, Buffer.from(host.split('.').map(Number))) : der(0x82, Buffer.from(host)),
  );
  return extension('551d11', sequence(...names));
}

function pem(label: string, content: Buffer): string {
  const lines = content.toString('base64').replaceAll(/.{64}/g, '$&\n').trim();
  return `-----BEGIN ${label}-----\n${lines}\n-----END ${label}-----\n`;
}

/** Signs certificates. */
export class Authority {
  readonly cert: string;
  readonly #name: string;
  readonly #key: KeyObject;

  constructor(name = 'an authority for tests') {
    this.#name = name;
    const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    this.#key = privateKey;
    this.cert = this.#sign({ names: [name] }, publicKey, [extension('551d13', sequence(yes), true)]);
  }

  issue(wanted: Wanted): Issued {
    const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const cert = this.#sign(wanted, publicKey, wanted.hosts === undefined ? [] : [alternativeNames(wanted.hosts)]);
    return { cert, key: privateKey.export({ type: 'pkcs8', format: 'pem' }) as string };
  }

  #sign(wanted: Wanted, key: KeyObject, extensions: readonly Buffer[]): string {
    const {
      names = [],
      notBefore = new Date(Date.now() - DAY_MS),
      notAfter = new Date(Date.now() + 30 * DAY_MS),
    } = wanted;
    const serial = randomBytes(16);
    serial[0] = 1;
    const toSign = sequence(
      der(0xa0, der(0x02, Buffer.from([2]))), // version 3
      der(0x02, serial),
      ecdsaWithSha256,
      subject([this.#name]),
      sequence(time(notBefore), time(notAfter)),
      subject(names),
      key.export({ type: 'spki', format: 'der' }),
      ...(extensions.length === 0 ? [] : [der(0xa3, sequence(...extensions))]),
    );
    return pem('CERTIFICATE', sequence(toSign, ecdsaWithSha256, bits(sign('sha256', toSign, this.#key))));
  }
}

/** Writes them into a folder as files for `hawser serve`; gives its options. */
export function writeCertificate(folder: string, { cert, key }: Issued): string[] {
  const [certFile, keyFile] = [join(folder, 'cert.pem'), join(folder, 'key.pem')];
  writeFileSync(certFile, cert);
  writeFileSync(keyFile, key);
  return ['--tls-cert', certFile, '--tls-key', keyFile];
}

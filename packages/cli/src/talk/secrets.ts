import { createReadStream, readFileSync } from 'node:fs';
import { readDevices } from '../device-csv.ts';
import { UsageError } from './exit.ts';
import { Lines } from './lines.ts';
import type { DeviceOptions } from './options.ts';

/** The secret of a device, if it has one. */
export type Secrets = (id: string) => string | undefined;

/** Secrets do not stand on the command line, which others on the machine can read. */
export async function readSecrets({ secretFile, secretStdin }: DeviceOptions): Promise<Secrets> {
  if (secretStdin) return same(await firstLineOfInput());
  if (secretFile !== undefined) return ofFile(secretFile);
  const secret = process.env.HAWSER_SECRET;
  return secret === undefined || secret === '' ? () => undefined : same(secret);
}

async function ofFile(path: string): Promise<Secrets> {
  let first: string;
  try {
    first = readFileSync(path, 'utf8').split(/\r?\n/, 1)[0] ?? '';
    if (!/^id,secret(,code)?$/.test(first)) return same(first);
    const secrets = new Map((await readDevices(createReadStream(path))).map(({ id, secret }) => [id, secret]));
    return (id) => secrets.get(id) || undefined;
  } catch (cause) {
    if (cause instanceof UsageError) throw cause;
    throw new UsageError(`the secret file cannot be read: ${(cause as Error).message}`);
  }
}

async function firstLineOfInput(): Promise<string> {
  try {
    return (await new Lines(process.stdin).next()) ?? '';
  } finally {
    process.stdin.destroy();
  }
}

function same(secret: string): Secrets {
  if (secret === '') throw new UsageError('the secret is empty');
  return () => secret;
}

import { createHash, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createSecureContext } from 'node:tls';
import { serverLimits } from '@hawser/protocol';
import type { Log } from './core/ports.ts';
import { type Credentials, contextOf } from './gateway/tls.ts';
import { StartError } from './parts.ts';

export interface CertificateFiles {
  readonly cert: string;
  readonly key: string;
  readonly ca: string | undefined;
}

const OPTIONS = { cert: '--tls-cert', key: '--tls-key', ca: '--tls-client-ca' } as const;
const DAY_MS = 24 * 60 * 60 * 1000;

/**
 * The certificate, its key, and the authority of the clients' certificates, as they are in their files.
 *
 * The files are read every few seconds and compared by what they hold: that sees a file that was written anew, one that
 * another was renamed to, and a link in any of the folders above that leads elsewhere now. What is new is told once it is
 * whole; what is not whole stays unused, and is complained of when it is still so at the next look: certificate and key
 * are written one after the other.
 */
export class Certificates {
  readonly #files: CertificateFiles;
  readonly #log: Log;
  #current: Credentials;
  #expiresAt: number;
  #seen: string;
  /** What was found broken, and whether that has been said. */
  #broken: { readonly seen: string; isTold: boolean } | undefined;
  #renewed: ((credentials: Credentials) => void)[] = [];
  #checking: NodeJS.Timeout | undefined;
  #warnedAt = 0;

  /** Throws `StartError` when the files cannot be used. */
  constructor(files: CertificateFiles, log: Log) {
    this.#files = files;
    this.#log = log;
    this.#current = {
      cert: readNow(files.cert, 'cert'),
      key: readNow(files.key, 'key'),
      ca: files.ca === undefined ? undefined : readNow(files.ca, 'ca'),
    };
    this.#seen = fingerprint(this.#current);
    try {
      this.#expiresAt = examine(this.#current);
    } catch (error) {
      throw new StartError(`${(error as Error).message} (${files.cert}, ${files.key})`, { cause: error });
    }
    this.#warnOfExpiry();
  }

  get current(): Credentials {
    return this.#current;
  }

  /** When the certificate expires, in ms since 1970. */
  get expiresAt(): number {
    return this.#expiresAt;
  }

  /** Has it called with what is to be used from then on. */
  onRenewed(call: (credentials: Credentials) => void): void {
    this.#renewed.push(call);
  }

  watch(): void {
    const check = async (): Promise<void> => {
      await this.check();
      if (this.#checking !== undefined) this.#checking = setTimeout(check, serverLimits.certificateCheckMs);
    };
    this.#checking = setTimeout(check, serverLimits.certificateCheckMs);
  }

  close(): void {
    clearTimeout(this.#checking);
    this.#checking = undefined;
    this.#renewed = [];
  }

  /** Looks at the files, and uses what is new in them. */
  async check(): Promise<void> {
    this.#warnOfExpiry();
    let found: Credentials | undefined;
    let seen = '';
    try {
      const { cert, key, ca } = this.#files;
      found = { cert: await readFile(cert), key: await readFile(key), ca: ca && (await readFile(ca)) } as Credentials;
      seen = fingerprint(found);
      if (seen === this.#seen) {
        this.#broken = undefined;
        return;
      }
      const expiresAt = examine(found);
      for (const call of this.#renewed) call(found);
      this.#current = found;
      this.#seen = seen;
      this.#expiresAt = expiresAt;
      this.#broken = undefined;
      this.#warnedAt = 0;
      this.#log.info({ cert, expires: new Date(expiresAt).toISOString() }, 'the TLS certificate is renewed');
      this.#warnOfExpiry();
    } catch (error) {
      this.#complain(found === undefined ? String(error) : seen, (error as Error).message);
    }
  }

  #complain(seen: string, why: string): void {
    if (this.#broken?.seen !== seen) {
      this.#broken = { seen, isTold: false };
      return;
    }
    if (this.#broken.isTold) return;
    this.#broken.isTold = true;
    this.#log.error({ ...this.#files, why }, 'the new TLS certificate is refused, the old one stays in use');
  }

  #warnOfExpiry(): void {
    const now = Date.now();
    if (this.#expiresAt - now > serverLimits.certificateExpiryWarnMs || now - this.#warnedAt < DAY_MS) return;
    this.#warnedAt = now;
    const fields = { cert: this.#files.cert, expires: new Date(this.#expiresAt).toISOString() };
    if (this.#expiresAt <= now) this.#log.error(fields, 'the TLS certificate has expired: clients refuse it');
    else this.#log.warn(fields, 'the TLS certificate expires soon');
  }
}

/** When a certificate expires, in ms since 1970. Throws `StartError` when its files cannot be used. */
export function certificateExpiry(files: CertificateFiles): number {
  const silent = (): void => {};
  return new Certificates(files, { debug: silent, info: silent, warn: silent, error: silent }).expiresAt;
}

function readNow(file: string, which: keyof typeof OPTIONS): Buffer {
  try {
    return readFileSync(file);
  } catch (error) {
    throw new StartError(`${OPTIONS[which]}: ${file} cannot be read: ${(error as Error).message}`, { cause: error });
  }
}

/** Throws an `Error` for one line when they cannot be served with; gives when the certificate expires. */
function examine(credentials: Credentials): number {
  const { cert, key, ca } = credentials;
  const certificate = tryTo(`${OPTIONS.cert}: not a certificate in PEM`, () => new X509Certificate(cert));
  // Node takes an authority that is none for nobody's, and would let nobody in.
  if (ca !== undefined) tryTo(`${OPTIONS.ca}: not a certificate in PEM`, () => new X509Certificate(ca));
  tryTo(`${OPTIONS.key}: not a key in PEM without a passphrase`, () => createSecureContext({ key }));
  tryTo(`${OPTIONS.key}: not the key of the certificate`, () => createSecureContext(contextOf(credentials)));
  return certificate.validToDate.getTime();
}

function tryTo<T>(failure: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw new Error(`${failure}: ${(error as Error).message}`, { cause: error });
  }
}

function fingerprint({ cert, key, ca }: Credentials): string {
  const hash = createHash('sha256');
  for (const part of [cert, key, ca ?? Buffer.alloc(0)]) hash.update(`${part.length} `).update(part);
  return hash.digest('hex');
}

// Promises around links, for everything that is not measured: accounts, devices, bindings.
import { setTimeout as sleep } from 'node:timers/promises';
import { codeOf, type Endpoint, Link, type LinkOwner, textOf } from './link.ts';
import { CMD, type Envelope, type Keys } from './wire.ts';

const ANSWER_TIMEOUT_MS = 30_000;
const ATTEMPTS_MAX = 12;
/** Several addresses, as clients have: one may open only so many connections a second. */
const SOURCES = 8;

type Waiting = { resolve: (answer: string) => void; reject: (error: Error) => void };

export class Setup implements LinkOwner {
  readonly #endpoint: Endpoint;
  readonly #keys: Keys;
  readonly #waiting = new Map<Link, Waiting>();
  #lastId = 0;
  #opened = 0;

  constructor(endpoint: Endpoint, keys: Keys) {
    this.#endpoint = endpoint;
    this.#keys = keys;
  }

  ready(link: Link): void {
    this.#waiting.get(link)?.resolve('');
  }

  frame(link: Link, bytes: Buffer, envelope: Envelope): void {
    if (envelope.cmd === CMD.heartbeat) return;
    const text = textOf(link, bytes, envelope);
    const waiting = this.#waiting.get(link);
    if (envelope.cmd === CMD.error || envelope.cmd === CMD.conflict) {
      waiting?.reject(new Error(`cmd ${envelope.cmd} while setting up: ${text}`));
    } else waiting?.resolve(text);
  }

  closed(link: Link, reason: string): void {
    if (reason !== '') this.#waiting.get(link)?.reject(new Error(`connection lost while setting up: ${reason}`));
  }

  async #answer(link: Link, what: string): Promise<string> {
    const { promise, resolve, reject } = Promise.withResolvers<string>();
    const timer = setTimeout(() => reject(new Error(`no answer to ${what}`)), ANSWER_TIMEOUT_MS);
    this.#waiting.set(link, { resolve, reject });
    try {
      return await promise;
    } finally {
      clearTimeout(timer);
      this.#waiting.delete(link);
    }
  }

  async open(slot: number): Promise<Link> {
    const source = `127.0.1.${1 + (this.#opened++ % SOURCES)}`;
    const link = new Link(this.#endpoint, this.#keys, this, slot, source);
    await this.#answer(link, 'cmd 2');
    return link;
  }

  /** Asks until the answer is one of `good`; a server under load may ask to try later (code 200). */
  async ask(link: Link, cmd: number, body: unknown, good: readonly number[] = [100]): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      link.send(cmd, `setup-${++this.#lastId}`, body);
      const text = await this.#answer(link, `cmd ${cmd}`);
      const code = codeOf(text);
      if (good.includes(code)) return;
      if (code !== 200 || attempt === ATTEMPTS_MAX) throw new Error(`cmd ${cmd} answered ${text}`);
      await sleep(100 * attempt);
    }
  }

  async device(id: string, slot: number): Promise<Link> {
    const link = await this.open(slot);
    await this.ask(link, CMD.auth, { version: '1', id, abilities: ['bench'] });
    return link;
  }

  /** Asks for all at once. */
  async #askAll(link: Link, cmd: number, bodies: readonly unknown[], good: readonly number[]): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const timer = setTimeout(() => reject(new Error(`not all cmd ${cmd} answered`)), ANSWER_TIMEOUT_MS);
    let left = bodies.length;
    const answered = (text: string) => {
      if (!good.includes(codeOf(text))) reject(new Error(`cmd ${cmd} answered ${text}`));
      else if (--left === 0) resolve();
    };
    this.#waiting.set(link, { resolve: answered, reject });
    try {
      for (const body of bodies) link.send(cmd, `setup-${++this.#lastId}`, body);
      await promise;
    } finally {
      clearTimeout(timer);
      this.#waiting.delete(link);
    }
  }

  /** A new user, logged in, that has added these devices. */
  async user(username: string, deviceIds: readonly string[], slot: number): Promise<Link> {
    const password = '5f4dcc3b5aa765d61d8327deb882cf99';
    const link = await this.open(slot);
    await this.ask(link, CMD.register, { username, password }, [100, 1001]);
    await this.ask(link, CMD.login, { version: '1', username, password });
    const bodies = deviceIds.map((deviceId) => ({ deviceId }));
    await this.#askAll(link, CMD.addDevice, bodies, [100, 2001]);
    return link;
  }
}

/** Runs `make(0)` to `make(count - 1)`, `parallel` at a time; results in order. */
export async function inParallel<T>(
  count: number,
  parallel: number,
  make: (index: number) => Promise<T>,
): Promise<T[]> {
  const results: T[] = [];
  let next = 0;
  async function worker(): Promise<void> {
    while (next < count) {
      const index = next++;
      results[index] = await make(index);
    }
  }
  await Promise.all(Array.from({ length: Math.min(parallel, count) }, worker));
  return results;
}

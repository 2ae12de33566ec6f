/** The whole core in this process: on virtual time, with a store in memory, and ciphers that are none. */

import { type Cipher, serverLimits } from '@hawser/protocol';
import { Core } from '@hawser/server/core/core';
import type { Counters } from '@hawser/server/core/counters';
import type { Log, Passwords, Rsa, Wire } from '@hawser/server/core/ports';
import type { Session } from '@hawser/server/core/session';
import { digests } from '@hawser/server/core/testing/bench';
import { BenchStore } from '@hawser/server/core/testing/store';
import { VirtualTime } from '@hawser/server/core/testing/time';
import { FakeCipher, fakeCiphertext, fakeSecret } from '../sim/fakes.ts';
import type { Random } from '../sim/random.ts';
import { type Heard, type Link, registered, type World } from './play.ts';
import { expect } from './target.ts';

const KEY_BYTES = 16;

const passwords: Passwords = {
  hash: (password) => Promise.resolve(`hash of ${password}`),
  verify: (password, hash) => Promise.resolve(`hash of ${password}` === hash),
};

const rsa: Rsa = {
  generate: () =>
    Promise.resolve({
      publicDer: new Uint8Array(8),
      decrypt: (ciphertext) => Promise.resolve(ciphertext.slice(0, KEY_BYTES)),
    }),
};

export class CoreWorld implements World {
  readonly isSecure = false;
  readonly #time = new VirtualTime();
  readonly #random: Random;
  readonly #troubles: string[] = [];
  #core!: Core;

  private constructor(random: Random) {
    this.#random = random;
  }

  static async open(random: Random): Promise<CoreWorld> {
    const world = new CoreWorld(random);
    const store = new BenchStore((call) => world.#time.endOfTurn(call), {
      messagesMax: 50,
      bytesMax: 64 * 1024,
      senderShare: serverLimits.inboxSenderShare,
    });
    const trouble = (fields: object, text: string): void => {
      const cause = 'err' in fields ? fields.err : fields;
      world.#troubles.push(`${text}: ${cause instanceof Error ? cause.stack : JSON.stringify(cause)}`);
    };
    const silent = (): void => {};
    const log: Log = { debug: silent, info: silent, warn: silent, error: trouble };
    world.#core = await Core.open(
      {
        time: world.#time,
        log,
        store,
        passwords,
        digests,
        rsa,
        createCipher: (key) => new FakeCipher(key),
        onFatal: (error) => trouble({ err: error }, 'fatal'),
      },
      {
        persistAfterMs: serverLimits.persistAfterMs,
        redeliveryAfterMs: serverLimits.redeliveryAfterMs,
        backlogAfterMs: serverLimits.backlogAfterMs,
        inboxAgeMsMax: serverLimits.inboxAgeMsMax,
        loginTimeoutMs: serverLimits.loginTimeoutMs,
        idleTimeoutMs: serverLimits.idleTimeoutMs,
        allowPlainLogin: false,
        devices: 'tofu',
        pairing: 'open',
        deviceAgeMsMax: serverLimits.deviceAgeMsMax,
      },
    );
    const added = Object.entries(registered()).map(([name, password]) => world.#core.addUser(name, password));
    await world.#time.settle();
    await Promise.all(added);
    return world;
  }

  get counters(): Counters {
    return this.#core.counters;
  }

  connect(isSecure: boolean, heard: Heard): Link {
    return new CoreLink(this.#core, this.#time, isSecure, heard);
  }

  async settle(): Promise<void> {
    await this.#time.settle();
    // What was not acked is stored after a while, and acked then.
    await this.#time.pass(2 * serverLimits.persistAfterMs);
  }

  pass(ms: number): Promise<void> {
    return this.#time.pass(ms);
  }

  agree(): { readonly secret: Uint8Array; readonly cipher: Cipher } {
    const secret = fakeSecret(this.#random);
    return { secret: fakeCiphertext(secret, this.#random), cipher: new FakeCipher(secret) };
  }

  async expectClean(open: number): Promise<void> {
    const core = this.#core;
    expect(this.#troubles.length === 0, () => this.#troubles.join('\n'));
    const { refused, closed } = core.counters;
    expect(refused.internalError === 0 && closed.internalError === 0, () => 'an error in the server was counted');
    expect(core.connections === open, () => `${core.connections} connections are left, not ${open}`);
    expect(core.directory.size === open, () => `${core.directory.size} names are held, not ${open}`);
    const unfinished = core.addUnfinishedBytes(0);
    expect(unfinished === 0, () => `${unfinished} bytes of unfinished frames are left`);
    const { pendingBytes } = core.delivery.stats;
    expect(pendingBytes === 0, () => `${pendingBytes} bytes of messages are left`);
    const stopped = core.stop();
    await this.#time.pass(1_000);
    const isStopped = await Promise.race([stopped.then(() => true), Promise.resolve().then(() => false)]);
    expect(isStopped, () => 'the server does not stop');
    expect(core.connections === 0, () => `${core.connections} connections are left of a server that has stopped`);
    this.#time.forget();
  }
}

/** A connection that never leaves the process. */
class CoreLink implements Link {
  readonly #session: Session;
  readonly #wire: ServerEnd;
  #isGone = false;
  /** What was sent while the server did not read. */
  readonly #waiting: (Uint8Array | 'end')[] = [];

  constructor(core: Core, time: VirtualTime, isSecure: boolean, heard: Heard) {
    this.#wire = new ServerEnd(time, isSecure, heard, () => this.#readOn());
    this.#session = core.connect(this.#wire);
  }

  send(bytes: Uint8Array): void {
    // A copy, as what a socket gives: its bytes are used again when the turn is over.
    this.#up(bytes.slice());
  }

  end(): void {
    this.#up('end');
  }

  destroy(): void {
    if (this.#isGone || this.#wire.isEnded) return;
    this.#isGone = true;
    this.#session.gone();
  }

  stall(): void {
    this.#wire.isStalled = true;
  }

  read(): void {
    if (this.#wire.drain() && !this.#isGone) this.#session.drained();
  }

  #up(what: Uint8Array | 'end'): void {
    if (this.#wire.isEnded || this.#isGone) return;
    this.#waiting.push(what);
    // What waits is not overtaken.
    if (this.#waiting.length === 1) this.#readOn();
  }

  #readOn(): void {
    while (!this.#wire.isPaused && !this.#wire.isEnded && !this.#isGone) {
      const what = this.#waiting[0];
      if (what === undefined) return;
      this.#waiting.shift();
      if (what === 'end') this.#session.receivedEnd();
      else this.#session.receive(what);
    }
  }
}

let addresses = 0;

class ServerEnd implements Wire {
  /** Another one each time: guesses of one address are made to wait. */
  readonly address =
    `10.${Math.floor(++addresses / 65_536) % 256}.${Math.floor(addresses / 256) % 256}.${addresses % 256}`;
  readonly secure: boolean;
  unsentBytes = 0;
  wroteAt = 0;
  isPaused = false;
  isStalled = false;
  isEnded = false;
  readonly #time: VirtualTime;
  readonly #heard: Heard;
  readonly #readOn: () => void;

  constructor(time: VirtualTime, isSecure: boolean, heard: Heard, readOn: () => void) {
    this.#time = time;
    this.secure = isSecure;
    this.#heard = heard;
    this.#readOn = readOn;
  }

  write(bytes: Uint8Array): void {
    if (this.isStalled) this.unsentBytes += bytes.length;
    else this.wroteAt = this.#time.now();
    this.#heard.received(bytes.slice());
  }

  pause(): void {
    this.isPaused = true;
  }

  resume(): void {
    this.isPaused = false;
    // As from a socket: not from within the call.
    this.#time.endOfTurn(this.#readOn);
  }

  end(): void {
    this.isEnded = true;
    this.#heard.closed();
  }

  destroy(): void {
    this.end();
  }

  /** False when it was not stalled. */
  drain(): boolean {
    if (!this.isStalled) return false;
    this.isStalled = false;
    this.unsentBytes = 0;
    this.wroteAt = this.#time.now();
    return true;
  }
}

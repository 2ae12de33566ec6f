import { constants, createPublicKey, publicEncrypt, randomBytes } from 'node:crypto';
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Cipher, cmd, encodeFrame, encodeText } from '@hawser/protocol';
import { NodeCipher } from '@hawser/protocol/cipher-node';
import { type Server, startServer } from '../test/harness.ts';
import type { Oracle } from './oracle.ts';
import { firstOracle, type Heard, type Link, Play, registered, type World } from './play.ts';
import { SequenceTarget } from './stateful.ts';
import type { Step } from './steps.ts';
import { expect } from './target.ts';

/** What is to come comes within this; it is looked at that often. */
const SETTLED_WITHIN_MS = 10_000;
const LOOK_EVERY_MS = 2;
/** Time that passes is shortened to this: deadlines are for the core in this process. */
const PASS_MS_MAX = 30;
/** A server, and what is known of it, serves so many sequences. */
const SEQUENCES_MAX = 400;
const ERROR_LEVEL = 50;

/** The same sequences over real sockets, to the process that people run. */
export class ServerTarget extends SequenceTarget {
  readonly name = 'server';
  readonly about = 'the same sequences over sockets, to a real server with its disk';
  /** It runs in a process of its own, where nobody looks. */
  override readonly lookEvery = Number.POSITIVE_INFINITY;
  #world: SocketWorld | undefined;
  #oracle: Oracle | undefined;
  #played = 0;

  async check(input: readonly Step[]): Promise<void> {
    this.count(input);
    if (this.#played >= SEQUENCES_MAX) await this.finish();
    this.#world ??= await SocketWorld.open();
    this.#oracle ??= firstOracle(false);
    this.#played++;
    try {
      await new Play(this.#world, this.#oracle).play(input);
    } catch (error) {
      // What is left of it would be held against the next one.
      await this.#world.destroy();
      this.#forget();
      throw error;
    }
  }

  async finish(): Promise<void> {
    const world = this.#world;
    this.#forget();
    if (world === undefined) return;
    const { logins, takeovers, pushes } = await world.figures();
    this.counts.logins += logins;
    this.counts.takeovers += takeovers;
    this.counts.pushes += pushes;
    await world.close();
  }

  #forget(): void {
    this.#world = undefined;
    this.#oracle = undefined;
    this.#played = 0;
  }
}

class SocketWorld implements World {
  readonly isSecure = true;
  readonly #server: Server;
  readonly #links = new Set<SocketLink>();

  private constructor(server: Server) {
    this.#server = server;
  }

  static async open(): Promise<SocketWorld> {
    const world = new SocketWorld(await startServer());
    const answers: Uint8Array[] = [];
    const link = world.connect(true, { received: (bytes) => answers.push(bytes), closed: () => {}, broken: () => {} });
    for (const [username, password] of Object.entries(registered())) {
      link.send(encodeFrame(cmd.register, username, false, encodeText(JSON.stringify({ username, password }))));
    }
    const count = Object.keys(registered()).length;
    const isDone = (): boolean => Buffer.concat(answers).toString('latin1').split('"code":100').length > count;
    await world.settle(isDone);
    expect(isDone(), () => 'nobody can be registered');
    link.destroy();
    return world;
  }

  connect(_: boolean, heard: Heard): Link {
    const link = new SocketLink(this.#server, heard, () => this.#links.delete(link));
    this.#links.add(link);
    return link;
  }

  async settle(isDone: () => boolean): Promise<void> {
    const until = performance.now() + SETTLED_WITHIN_MS;
    while (!isDone() && performance.now() < until && this.#server.alive) await sleep(LOOK_EVERY_MS);
    expect(this.#server.alive, () => `the server has ended: ${this.#server.logs().slice(-20).join('\n')}`);
  }

  async pass(ms: number): Promise<void> {
    await sleep(Math.min(ms, PASS_MS_MAX));
  }

  agree(serverKey: Uint8Array): { readonly secret: Uint8Array; readonly cipher: Cipher } {
    const key = createPublicKey({ key: Buffer.from(serverKey), format: 'der', type: 'spki' });
    const secret = randomBytes(16);
    const hidden = publicEncrypt({ key, padding: constants.RSA_PKCS1_PADDING }, secret);
    return { secret: new Uint8Array(hidden), cipher: new NodeCipher(secret) };
  }

  async expectClean(): Promise<void> {
    for (const link of this.#links) link.destroy();
    let figures = await this.#metrics();
    const left = (): string[] => CLEAN.filter((name) => figures.get(name) !== 0);
    for (const until = performance.now() + SETTLED_WITHIN_MS; left().length > 0 && performance.now() < until; ) {
      await sleep(LOOK_EVERY_MS);
      figures = await this.#metrics();
    }
    expect(
      left().length === 0,
      () =>
        `${left()
          .map((name) => `${name} ${figures.get(name)}`)
          .join(', ')}`,
    );
    const errors = this.#server.logs().filter((line) => levelOf(line) >= ERROR_LEVEL);
    expect(errors.length === 0, () => errors.join('\n'));
  }

  async #metrics(): Promise<ReadonlyMap<string, number>> {
    const response = await fetch(`http://127.0.0.1:${this.#server.adminPort}/metrics`);
    const lines = (await response.text()).split('\n').filter((line) => line !== '' && !line.startsWith('#'));
    return new Map(
      lines.map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ')))]),
    );
  }

  async figures(): Promise<{ logins: number; takeovers: number; pushes: number }> {
    const figures = await this.#metrics();
    const of = (name: string): number => figures.get(name) ?? 0;
    return {
      logins: of('hawser_logins_total{role="app"}') + of('hawser_logins_total{role="device"}'),
      takeovers: of('hawser_takeovers_total'),
      pushes: of('hawser_messages_pushed_total'),
    };
  }

  /** Ends in good order. */
  async close(): Promise<void> {
    const code = await this.#server.stop();
    await this.destroy();
    expect(code === 0, () => `the server has ended with ${code}`);
  }

  async destroy(): Promise<void> {
    for (const link of this.#links) link.destroy();
    await this.#server[Symbol.asyncDispose]();
  }
}

/** What has to be 0 when everybody has gone. */
const CLEAN = [
  'hawser_connections',
  'hawser_sessions',
  'hawser_pending_bytes',
  'hawser_refused_total{reason="internalError"}',
  'hawser_closed_total{reason="internalError"}',
  'hawser_store_damaged_records',
];

function levelOf(line: string): number {
  try {
    return (JSON.parse(line) as { level?: number }).level ?? 0;
  } catch {
    // No line of the log: a warning of Node, or a stack.
    return ERROR_LEVEL;
  }
}

class SocketLink implements Link {
  readonly #socket: Socket;
  #isDestroyed = false;

  constructor(server: Server, heard: Heard, gone: () => void) {
    this.#socket = connect({ host: server.host, port: server.port, allowHalfOpen: true, noDelay: true });
    this.#socket.on('data', (bytes: Buffer) => heard.received(new Uint8Array(bytes)));
    let isEnded = false;
    this.#socket.once('end', () => {
      isEnded = true;
      heard.closed();
      this.#socket.end();
    });
    this.#socket.on('error', () => {});
    this.#socket.once('close', () => {
      gone();
      if (!isEnded && !this.#isDestroyed) heard.broken();
    });
  }

  send(bytes: Uint8Array): void {
    if (this.#socket.writable) this.#socket.write(bytes);
  }

  end(): void {
    this.#socket.end();
  }

  destroy(): void {
    this.#isDestroyed = true;
    this.#socket.removeAllListeners('data').removeAllListeners('end').destroy();
  }

  stall(): void {
    this.#socket.pause();
  }

  read(): void {
    this.#socket.resume();
  }
}

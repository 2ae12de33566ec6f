import { type Cipher, cmd, encodeFrame, encodeText, normalPassword } from '@hawser/protocol';
import { type ConnectionOracle, Oracle } from './oracle.ts';
import { type FrameStep, HONEST, type Step, USERS } from './steps.ts';
import { expect } from './target.ts';

/** A client's end of a connection. */
export interface Link {
  send(bytes: Uint8Array): void;
  /** Ends its side. */
  end(): void;
  /** The connection breaks. */
  destroy(): void;
  /** Takes nothing any more. */
  stall(): void;
  /** Takes everything again. */
  read(): void;
}

export interface Heard {
  received(bytes: Uint8Array): void;
  closed(): void;
  /** The connection broke: what was written last may be lost. */
  broken(): void;
}

/** A server, as whole as it can be had, and the time around it. */
export interface World {
  /** Credentials may come in the clear on every connection, as from this machine. */
  readonly isSecure: boolean;
  connect(isSecure: boolean, heard: Heard): Link;
  /** Until nothing more happens by itself, as far as can be seen. */
  settle(isDone: () => boolean): Promise<void>;
  pass(ms: number): Promise<void>;
  /** A key under the server's, and the cipher that it makes. */
  agree(serverKey: Uint8Array): { readonly secret: Uint8Array; readonly cipher: Cipher };
  /** Nothing is left over but so many connections, and nothing has gone wrong. */
  expectClean(open: number): Promise<void>;
}

const HONEST_PASSWORD = 'f00';
/** Honest clients send heartbeats this often. */
const BEAT_EVERY_MS = 50_000;
/** How long what was asked, sent or ended may take, at the longest. */
const ANSWERED_WITHIN_MS = 2_000;

/** Keeps what `heard` throws, which is for us and not for the server. */
type Judged = (heard: Heard) => Heard;

/** An honest user: it logs in, writes to the other one, and acks what comes. */
class HonestClient {
  readonly name: string;
  readonly oracle: ConnectionOracle;
  readonly #link: Link;
  readonly #world: World;
  readonly #got = new Set<string>();
  /** Ids of its own, also beside those of an earlier sequence. */
  readonly #idsFrom: number;
  #sent = 0;
  /** The server may end it now. */
  isOver = false;

  constructor(world: World, oracle: Oracle, name: string, judged: Judged) {
    this.name = name;
    this.#world = world;
    this.oracle = oracle.connect(true);
    this.#idsFrom = oracle.connections.length;
    this.#link = world.connect(
      true,
      judged({
        received: (bytes) => {
          this.oracle.received(bytes);
          this.#ack();
        },
        closed: () => expect(this.isOver, () => `the connection of ${name} was closed, who did no wrong`),
        broken: () => expect(this.isOver, () => `the connection of ${name} was broken, who did no wrong`),
      }),
    );
    this.#send(cmd.login, 'login', JSON.stringify({ username: name, password: HONEST_PASSWORD }));
  }

  beat(): void {
    this.#send(cmd.heartbeat, '', '');
  }

  /** Writes to the other, who has to get it, and is acked. */
  async write(other: HonestClient): Promise<void> {
    const id = `h${this.#idsFrom}-${this.#sent++}`;
    this.#send(cmd.message, id, JSON.stringify({ to: other.name, msg: id }));
    await this.#world.settle(() => other.#got.has(id));
    expect(other.#got.has(id), () => `${other.name} did not get what ${this.name} sent`);
    await this.#world.settle(() => this.oracle.isAnswered);
    this.oracle.expectAnswered();
  }

  #ack(): void {
    const ids = this.oracle.takePushed();
    if (ids.length === 0) return;
    for (const { from, msgid } of ids) if (HONEST.some((name) => name === from)) this.#got.add(msgid);
    this.#send(cmd.push, '', JSON.stringify(ids.map(({ msgid }) => ({ msgid }))));
  }

  #send(number: number, id: string, text: string): void {
    const bytes = encodeFrame(number, id, false, encodeText(text));
    this.oracle.wrote(bytes);
    this.#link.send(bytes);
  }
}

interface Connection {
  readonly link: Link;
  readonly oracle: ConnectionOracle;
  isEnded: boolean;
}

/** Plays a sequence against a server, with two honest clients beside it; throws where the server is at fault. */
export class Play {
  readonly #world: World;
  readonly #oracle: Oracle;
  readonly #connections = new Map<number, Connection>();
  readonly #all: Connection[] = [];
  #honest: readonly HonestClient[] = [];
  #fault: Error | undefined;

  /** @param oracle what is known of the server already: everybody of `registered` is */
  constructor(world: World, oracle: Oracle) {
    this.#world = world;
    this.#oracle = oracle;
  }

  async play(steps: readonly Step[]): Promise<void> {
    const judged: Judged = (heard) => this.#judged(heard);
    this.#honest = HONEST.map((name) => new HonestClient(this.#world, this.#oracle, name, judged));
    const [ann, bea] = this.#honest as readonly [HonestClient, HonestClient];
    await this.#world.settle(() => ann.oracle.isAnswered && bea.oracle.isAnswered);
    for (const [i, step] of steps.entries()) {
      await this.#step(step);
      this.#expectNoFault();
      if (i === steps.length >> 1) await ann.write(bea);
    }
    await this.#quiet();
    this.#expectNoFault();
    await bea.write(ann);
    const isOpen = ({ oracle, isEnded }: Connection): boolean => isEnded && !oracle.isClosed && !oracle.isDeaf;
    await this.#world.settle(() => this.#oracle.isQuiet && !this.#all.some(isOpen));
    this.#expectNoFault();
    this.#oracle.expectQuiet();
    expect(!this.#all.some(isOpen), () => 'not closed, though its client has ended its side');
    for (const { link, oracle } of this.#all) {
      if (!oracle.isClosed) link.destroy();
      oracle.isGone = true;
    }
    await this.#pass(ANSWERED_WITHIN_MS);
    await ann.write(bea);
    this.#expectNoFault();
    for (const client of this.#honest) client.isOver = true;
    await this.#world.expectClean(this.#honest.length);
    this.#expectNoFault();
    for (const client of this.#honest) client.oracle.isGone = true;
  }

  #judged(heard: Heard): Heard {
    const keep = (error: unknown): void => {
      this.#fault ??= error instanceof Error ? error : new Error(String(error));
    };
    const keeping =
      <Args extends unknown[]>(call: (...args: Args) => void) =>
      (...args: Args): void => {
        try {
          call(...args);
        } catch (error) {
          keep(error);
        }
      };
    return {
      received: keeping((bytes: Uint8Array) => heard.received(bytes)),
      closed: keeping(() => heard.closed()),
      broken: keeping(() => heard.broken()),
    };
  }

  #expectNoFault(): void {
    if (this.#fault !== undefined) throw this.#fault;
  }

  async #quiet(): Promise<void> {
    await this.#world.settle(() => this.#all.every(({ oracle }) => oracle.isAnswered));
    await this.#pass(ANSWERED_WITHIN_MS);
  }

  async #pass(ms: number): Promise<void> {
    for (let left = ms; left > 0; left -= BEAT_EVERY_MS) {
      await this.#world.pass(Math.min(left, BEAT_EVERY_MS));
      for (const client of this.#honest) client.beat();
    }
    await this.#world.settle(() => true);
  }

  async #step(step: Step): Promise<void> {
    if (step.do === 'pass') {
      if (step.ms > 0) await this.#pass(step.ms);
      else await this.#world.settle(() => this.#all.every(({ oracle }) => oracle.isAnswered));
      return;
    }
    if (step.do === 'connect') {
      this.#connect(step.on, step.isPlain !== true);
      return;
    }
    const connection = this.#connections.get(step.on);
    if (connection === undefined) return;
    const { link, oracle } = connection;
    if (step.do === 'send') {
      const bytes = new Uint8Array(Buffer.concat(step.frames.map((frame) => encoded(frame, oracle))));
      const at = Math.min(step.split ?? bytes.length, bytes.length);
      this.#send(connection, bytes.subarray(0, at));
      this.#send(connection, bytes.subarray(at));
    } else if (step.do === 'raw') this.#send(connection, new Uint8Array(Buffer.from(step.hex, 'hex')));
    else if (step.do === 'key') await this.#agree(connection, step.id);
    else if (step.do === 'end') {
      connection.isEnded = true;
      link.end();
    } else if (step.do === 'stall') {
      oracle.isDeaf = true;
      link.stall();
    } else if (step.do === 'read') link.read();
    else {
      oracle.isDeaf = true;
      oracle.isGone = true;
      this.#connections.delete(step.on);
      link.destroy();
    }
  }

  #connect(on: number, isSecure: boolean): void {
    if (this.#connections.get(on)?.oracle.isClosed === false) return;
    const oracle = this.#oracle.connect(isSecure || this.#world.isSecure);
    const heard = {
      received: (bytes: Uint8Array) => oracle.received(bytes),
      closed: () => oracle.closed(),
      broken: () => {
        oracle.isDeaf = true;
        oracle.isClosed = true;
      },
    };
    const link = this.#world.connect(isSecure, this.#judged(heard));
    const connection = { link, oracle, isEnded: false };
    this.#connections.set(on, connection);
    this.#all.push(connection);
  }

  #send({ link, oracle, isEnded }: Connection, bytes: Uint8Array): void {
    if (isEnded || oracle.isClosed || bytes.length === 0) return;
    oracle.wrote(bytes);
    link.send(bytes);
  }

  async #agree(connection: Connection, id: string): Promise<void> {
    const { oracle } = connection;
    await this.#world.settle(() => oracle.serverKey !== undefined);
    if (oracle.serverKey === undefined || oracle.isClosed) return;
    const { secret, cipher } = this.#world.agree(oracle.serverKey);
    // A second key is refused, and what is encrypted goes on under the first.
    oracle.cipher ??= cipher;
    this.#send(connection, encodeFrame(cmd.clientKey, id, false, secret));
  }
}

function encoded(frame: FrameStep, oracle: ConnectionOracle): Uint8Array {
  const data = frame.hex === undefined ? encodeText(frame.text ?? '') : new Uint8Array(Buffer.from(frame.hex, 'hex'));
  if (frame.secret !== true) return encodeFrame(frame.cmd, frame.id, false, data);
  if (oracle.cipher === undefined || data.length === 0) return encodeFrame(frame.cmd, frame.id, true, data);
  const room = new Uint8Array(data.length + 16);
  room.set(data);
  return encodeFrame(frame.cmd, frame.id, true, oracle.cipher.encrypt(room, 0, data.length));
}

/** What is known of a server with nobody but those. */
export function firstOracle(isOrdered: boolean): Oracle {
  const oracle = new Oracle(isOrdered);
  for (const [name, password] of Object.entries(registered())) oracle.passwords.set(name, normalPassword(password));
  return oracle;
}

/** Everybody who has a password from the start. */
export function registered(): Record<string, string> {
  return { ...USERS, ...Object.fromEntries(HONEST.map((name) => [name, HONEST_PASSWORD])) };
}

// A client that goes where the dispatcher sends it, and comes again when its server is gone, as the protocol has it: what is
// not acked it sends again, under the same ids, in order. For what is measured across a node's end; traffic.ts is leaner.
import { codeOf, Link, type LinkOwner, textOf } from '../link.ts';
import { CMD, type Envelope, type Keys } from '../wire.ts';

/** As the client of this project waits: a random time up to a bound that doubles. */
const BACKOFF_BASE_MS = 1000;
const BACKOFF_MAX_MS = 60_000;
const SOURCES = 20;
const PASSWORD = '5f4dcc3b5aa765d61d8327deb882cf99';
const FILLER = 'temperature and so on '.repeat(4);

/** One of some addresses of this machine: an address may not open as many connections as come in a storm. */
function sourceOf(name: string): string {
  return `127.0.1.${1 + (Number(/\d+$/.exec(name)?.[0] ?? 0) % SOURCES)}`;
}

/** Messages of one user to its device, from when each was due to when the device had it. */
export class Stream {
  readonly #prefix: string;
  readonly to: string;
  sent = 0;
  acked = 0;
  delivered = 0;
  again = 0;
  outOfOrder = 0;
  /** When each is due that is not acked, in order. */
  readonly unacked = new Map<number, number>();
  readonly #delivered: boolean[] = [];
  readonly #dueAtMs: number[] = [];
  #newest = -1;

  constructor(index: number, to: string) {
    this.#prefix = `pair-${index}-`;
    this.to = to;
  }

  next(dueAtMs: number): number {
    const number = this.sent++;
    this.unacked.set(number, dueAtMs);
    this.#dueAtMs.push(dueAtMs);
    return number;
  }

  idOf(number: number): string {
    return this.#prefix + number;
  }

  /** False for what is none of its ids. */
  ack(id: string): boolean {
    const number = this.#numberOf(id);
    if (!(number < this.sent)) return false;
    // A message that was sent again may be acked twice.
    if (this.unacked.delete(number)) this.acked++;
    return true;
  }

  /** When it was due, the first time that it comes; undefined for what came before, or is none of its ids. */
  deliver(id: string): number | undefined {
    const number = this.#numberOf(id);
    if (!(number < this.sent)) throw new Error(`${this.to} got ${id}, which nobody sent`);
    if (this.#delivered[number] === true) {
      this.again++;
      return undefined;
    }
    this.#delivered[number] = true;
    this.delivered++;
    if (number < this.#newest) this.outOfOrder++;
    else this.#newest = number;
    return this.#dueAtMs[number];
  }

  #numberOf(id: string): number {
    return id.startsWith(this.#prefix) ? Number(id.slice(this.#prefix.length)) : Number.NaN;
  }

  /** Acked and not delivered. */
  get lost(): number {
    let lost = 0;
    for (let number = 0; number < this.sent; number++) {
      if (this.#delivered[number] !== true && !this.unacked.has(number)) lost++;
    }
    return lost;
  }
}

export type World = {
  readonly keys: Keys;
  /** Ports of dispatchers, any of which may be asked. */
  dispatchers: readonly number[];
  readonly onAcked: (stream: Stream) => void;
  readonly onDelivered: (dueAtMs: number) => void;
  readonly violation: (text: string) => void;
};

/** A user with its stream, or the device that it goes to. */
export class Roamer implements LinkOwner {
  readonly #name: string;
  readonly #isUser: boolean;
  readonly #stream: Stream;
  readonly #world: World;
  #link: Link | undefined;
  #attempt = 0;
  #isOver = false;
  #state: 'away' | 'key' | 'register' | 'login' | 'binding' | 'online' = 'away';
  #isKnown = false;
  /** Of the server that it is on. */
  port = 0;

  constructor(name: string, isUser: boolean, stream: Stream, world: World) {
    this.#name = name;
    this.#isUser = isUser;
    this.#stream = stream;
    this.#world = world;
  }

  get isOnline(): boolean {
    return this.#state === 'online';
  }

  async connect(): Promise<void> {
    const { dispatchers, keys } = this.#world;
    const http = dispatchers[Math.floor(Math.random() * dispatchers.length)];
    try {
      const answer = await fetch(`http://127.0.0.1:${http}/?id=${this.#name}`);
      const { code, port } = (await answer.json()) as { code: number; port: number };
      if (code !== 100) throw new Error('no server is available');
      if (this.#isOver) return;
      this.port = port;
      this.#state = 'key';
      this.#link = new Link({ host: '127.0.0.1', port }, keys, this, 0, sourceOf(this.#name));
    } catch {
      this.#later();
    }
  }

  #later(): void {
    this.#state = 'away';
    this.#link = undefined;
    if (this.#isOver) return;
    const boundMs = Math.min(BACKOFF_MAX_MS, BACKOFF_BASE_MS * 2 ** this.#attempt++);
    setTimeout(() => void this.connect(), Math.random() * boundMs);
  }

  ready(link: Link): void {
    if (this.#isUser && !this.#isKnown) this.#ask(link, 'register', CMD.register);
    else this.#ask(link, 'login', this.#isUser ? CMD.login : CMD.auth);
  }

  #ask(link: Link, state: 'register' | 'login' | 'binding', cmd: number): void {
    this.#state = state;
    const [username, password, version] = [this.#name, PASSWORD, '1'];
    if (state === 'binding') link.send(cmd, state, { deviceId: this.#stream.to });
    else if (this.#isUser) link.send(cmd, state, { version, username, password });
    else link.send(cmd, state, { version, id: this.#name, abilities: ['bench'] });
  }

  frame(link: Link, bytes: Buffer, envelope: Envelope): void {
    const { cmd, dataStart, dataEnd } = envelope;
    if (cmd === CMD.message && dataEnd === dataStart)
      this.#acked(bytes.toString('latin1', envelope.idStart, envelope.idEnd));
    else if (cmd === CMD.push) this.#pushed(link, textOf(link, bytes, envelope));
    else if (cmd === CMD.register || cmd === CMD.login || cmd === CMD.auth || cmd === CMD.addDevice) {
      this.#answered(link, codeOf(textOf(link, bytes, envelope)));
    } else if (cmd !== CMD.heartbeat) {
      this.#world.violation(`${this.#name}: cmd ${cmd}: ${textOf(link, bytes, envelope)}`);
    }
  }

  #answered(link: Link, code: number): void {
    if (this.#state === 'register' && (code === 100 || code === 1001)) this.#ask(link, 'login', CMD.login);
    else if (this.#state === 'login' && code === 100 && this.#isUser && !this.#isKnown) {
      this.#ask(link, 'binding', CMD.addDevice);
    } else if (
      (this.#state === 'login' && code === 100) ||
      (this.#state === 'binding' && (code === 100 || code === 2001))
    ) {
      this.#isKnown = true;
      this.#enter(link);
      // Refused for now: the server that had the name may not be known to be dead yet.
    } else if (code === 200) link.close();
    else this.#world.violation(`${this.#name}: ${this.#state} answered ${code}`);
  }

  #enter(link: Link): void {
    this.#state = 'online';
    this.#attempt = 0;
    link.cork();
    if (this.#isUser) for (const number of this.#stream.unacked.keys()) this.#write(link, number);
    else link.send(CMD.fetch, 'fetch', null);
    link.uncork();
  }

  #write(link: Link, number: number): void {
    link.send(CMD.message, this.#stream.idOf(number), { to: this.#stream.to, msg: FILLER + number });
  }

  send(dueAtMs: number): void {
    const number = this.#stream.next(dueAtMs);
    if (this.#link !== undefined && this.isOnline) this.#write(this.#link, number);
  }

  #acked(id: string): void {
    if (!this.#stream.ack(id)) this.#world.violation(`${this.#name}: an ack of ${id}`);
    this.#world.onAcked(this.#stream);
  }

  #pushed(link: Link, text: string): void {
    const elements = JSON.parse(text) as { to: string; msg: string; msgid: string }[];
    link.send(
      CMD.push,
      '',
      elements.map(({ msgid }) => ({ msgid })),
    );
    for (const { to, msg, msgid } of elements) {
      if (to !== this.#name || this.#stream.idOf(Number(msg.slice(FILLER.length))) !== msgid) {
        this.#world.violation(`${this.#name}: a push that is not what was sent: ${text.slice(0, 200)}`);
        continue;
      }
      const dueAtMs = this.#stream.deliver(msgid);
      if (dueAtMs !== undefined) this.#world.onDelivered(dueAtMs);
    }
  }

  closed(link: Link): void {
    if (this.#link === link) this.#later();
  }

  close(): void {
    this.#isOver = true;
    this.#link?.close();
  }
}

/** What is noted of a run: each kind with what its two numbers and its text are. */
export const traced = [
  'server started', // incarnation
  'server crashed', // incarnation, writes that survived
  'server stopping',
  'server stopped',
  'server failed',
  'clock jumped', // by ms
  'network', // connection; what
  'disk', // what
  'connected', // connection, party
  'closed by server', // connection
  'gone', // connection
  'logged in', // connection; name
  'superseded', // connection
  'sent', // connection, message
  'accepted', // connection, message; outcome
  'acked to sender', // connection, message
  'refused', // connection, message; why
  'pushed', // connection, message
  'received', // connection, message
  'receiver acks', // connection, message
  'ack came', // connection, message
  'ack taken', // connection, message
  'append', // messages in it
  'durable', // message, position
  'not stored', // message; why
  'paged', // messages, behind position; receiver
  'removed', // message, position
  'command', // connection, cmd; what
  'binding', // what became of it; who
  'phase', // what
  'claimed', // token; name, and who had it
  'released', // token; name
  'void', // node
  'node', // for ms; what befell it
  'packet', // what, from where to where
  'called', // client, message; its life and msgId
  'settled', // client, message; as what
  'handed out', // client, message
  'handled', // client, message; how it ended
  'state', // client; which
] as const;

export type TraceKind = (typeof traced)[number];

interface Entry {
  readonly at: number;
  readonly kind: number;
  readonly a: number;
  readonly b: number;
  readonly text: string;
}

const codes = Object.fromEntries(traced.map((kind, code) => [kind, code])) as Record<TraceKind, number>;
const floats = new Float64Array(1);
const words = new Uint32Array(floats.buffer);

/** What happened, the last part of it kept in words, all of it in the hash. */
export class Trace {
  #hash = 0x811c9dc5;
  readonly #now: () => number;
  readonly #kept: number;
  #newer: Entry[] = [];
  #older: Entry[] = [];

  /** @param kept how many entries to keep, at least */
  constructor(now: () => number, kept: number) {
    this.#now = now;
    this.#kept = kept;
  }

  note(kind: TraceKind, a = -1, b = -1, text = ''): void {
    const at = this.#now();
    const code = codes[kind];
    floats[0] = at;
    let hash = Math.imul(this.#hash ^ words[0]!, 0x01000193);
    hash = Math.imul(hash ^ words[1]!, 0x01000193);
    hash = Math.imul(hash ^ code, 0x01000193);
    hash = Math.imul(hash ^ a, 0x01000193);
    hash = Math.imul(hash ^ b, 0x01000193);
    for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
    this.#hash = hash;
    if (this.#kept === 0) return;
    if (this.#newer.length >= this.#kept) {
      this.#older = this.#newer;
      this.#newer = [];
    }
    this.#newer.push({ at, kind: code, a, b, text });
  }

  /** The same for two runs exactly when they went the same way. */
  get hash(): string {
    return (this.#hash >>> 0).toString(16).padStart(8, '0');
  }

  /** The last entries, one a line; of those that name a message, only `message` when it is given. */
  lines(count: number, message?: number): string[] {
    if (count <= 0) return [];
    const all = [...this.#older, ...this.#newer].filter(
      (entry) => message === undefined || !isOfMessage(entry.kind) || messageOf(entry) === message,
    );
    return all.slice(-count).map((entry) => {
      const time = (entry.at / 1000).toFixed(4).padStart(10);
      const kind = traced[entry.kind]!;
      const numbers = ofMessage.has(kind)
        ? entryOfMessage.has(kind)
          ? `message ${entry.a}${entry.b < 0 ? '' : ` at ${entry.b}`}`
          : `connection ${entry.a} message ${entry.b}`
        : [entry.a, entry.b].filter((number) => number >= 0).join(' ');
      return `${time}  ${kind.padEnd(16)} ${numbers}${entry.text === '' ? '' : `  ${entry.text}`}`;
    });
  }
}

/** Kinds whose second number is a message, and those whose first is. */
const ofMessage = new Set<TraceKind>([
  'sent',
  'accepted',
  'acked to sender',
  'refused',
  'pushed',
  'received',
  'receiver acks',
  'ack came',
  'ack taken',
  'durable',
  'not stored',
  'removed',
  'called',
  'settled',
  'handed out',
  'handled',
]);
const entryOfMessage = new Set<TraceKind>(['durable', 'not stored', 'removed']);

function isOfMessage(code: number): boolean {
  return ofMessage.has(traced[code]!);
}

function messageOf(entry: Entry): number {
  return entryOfMessage.has(traced[entry.kind]!) ? entry.a : entry.b;
}

type Hash = Map<string, string>;
type Value = Hash | string[] | string;

interface Entry {
  readonly value: Value;
  /** By the server's own clock, ms; `Infinity` when it does not expire. */
  readonly expiresAt: number;
}

interface Undo {
  readonly at: number;
  readonly key: string;
  readonly entry: Entry | undefined;
}

/** How far a replica may lag behind, at most. */
const JOURNAL_MS = 5000;

/** What a Redis server has in memory, and what it takes to go back to what a replica had some time ago. */
export class Keys {
  /** µs since 1970. Each server has its own, which may be set. */
  readonly #clock: () => number;
  readonly #now: () => number;
  #entries = new Map<string, Entry>();
  #journal: Undo[] = [];

  constructor(clock: () => number, now: () => number) {
    this.#clock = clock;
    this.#now = now;
  }

  timeUs(): number {
    return Math.floor(this.#clock());
  }

  #get(key: string): Entry | undefined {
    const entry = this.#entries.get(key);
    if (entry === undefined || entry.expiresAt > this.#clock() / 1000) return entry;
    this.#entries.delete(key);
    return undefined;
  }

  #set(key: string, entry: Entry | undefined): void {
    const now = this.#now();
    this.#journal.push({ at: now, key, entry: this.#get(key) });
    if (this.#journal.length > 1000) this.#journal = this.#journal.filter(({ at }) => at > now - JOURNAL_MS);
    if (entry === undefined) this.#entries.delete(key);
    else this.#entries.set(key, entry);
  }

  #put(key: string, value: Value): void {
    this.#set(key, { value, expiresAt: this.#get(key)?.expiresAt ?? Number.POSITIVE_INFINITY });
  }

  /** What was written in the last so many ms is lost. */
  goBack(ms: number): void {
    const from = this.#now() - ms;
    for (let last = this.#journal.at(-1); last !== undefined && last.at >= from; last = this.#journal.at(-1)) {
      this.#journal.pop();
      if (last.entry === undefined) this.#entries.delete(last.key);
      else this.#entries.set(last.key, last.entry);
    }
  }

  clear(): void {
    this.#entries = new Map();
    this.#journal = [];
  }

  // ---- commands, as scripts use them

  del(key: string): void {
    if (this.#get(key) !== undefined) this.#set(key, undefined);
  }

  pexpire(key: string, ms: number): void {
    const entry = this.#get(key);
    if (entry !== undefined) this.#set(key, { value: entry.value, expiresAt: this.#clock() / 1000 + ms });
  }

  hash(key: string): ReadonlyMap<string, string> {
    const value = this.#get(key)?.value;
    return value instanceof Map ? value : NO_FIELDS;
  }

  hset(key: string, ...words: readonly string[]): void {
    const hash = new Map(this.hash(key));
    for (let i = 0; i + 1 < words.length; i += 2) hash.set(words[i]!, words[i + 1]!);
    this.#put(key, hash);
  }

  hdel(key: string, field: string): void {
    if (!this.hash(key).has(field)) return;
    const hash = new Map(this.hash(key));
    hash.delete(field);
    if (hash.size > 0) this.#put(key, hash);
    else this.del(key);
  }

  list(key: string): readonly string[] {
    const value = this.#get(key)?.value;
    return Array.isArray(value) ? value : [];
  }

  setList(key: string, items: readonly string[]): void {
    if (items.length > 0) this.#put(key, [...items]);
    else this.del(key);
  }

  text(key: string): string {
    const value = this.#get(key)?.value;
    return typeof value === 'string' ? value : '';
  }

  setText(key: string, text: string, ms: number): void {
    this.#set(key, { value: text, expiresAt: this.#clock() / 1000 + ms });
  }
}

const NO_FIELDS: ReadonlyMap<string, string> = new Map();

/**
 * What Hawser takes for JSON, written the plain way: text by TextDecoder, one function for each rule of RFC 8259, maps for
 * keys, JSON.parse for what strings say. Slow, and apart from the scanner that it is compared with.
 */

import { wireLimits } from '@hawser/protocol';

/** A value with where it lies in the text. */
export interface Json {
  readonly from: number;
  readonly to: number;
  readonly kind: 'string' | 'number' | 'word' | 'array' | 'object';
  readonly members: ReadonlyMap<string, Json>;
  readonly elements: readonly Json[];
}

const NO_MEMBERS: ReadonlyMap<string, Json> = new Map();
const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** The text of the bytes, when they are UTF-8. */
export function textOf(bytes: Uint8Array): string | undefined {
  try {
    return decoder.decode(bytes);
  } catch {
    return undefined;
  }
}

/**
 * Whether JSON.parse gives an object the keys that its text has. V8 takes a key with an escape for one that begins with a
 * backslash when it has lately read that one in its place: of `{"a":1,"\\":1}` and then `{"a":1,"\"":2}` the second is
 * read as the first is spelled (nodejs/node 63785, seen in Node 24 and 26). Strings, and whether it is JSON, it reads well.
 */
export function hasSafeKeys(text: string): boolean {
  return !text.includes('\\');
}

class NoJson extends Error {}

/** The one value that the text is, white space around it allowed. */
export function parseStrictly(text: string, depthMax: number = wireLimits.jsonDepthMax): Json | undefined {
  const depth = Error.stackTraceLimit;
  Error.stackTraceLimit = 0;
  try {
    const parser = new Parser(text);
    const value = parser.value(parser.space(0), depthMax);
    return parser.space(value.to) === text.length ? value : undefined;
  } catch (error) {
    if (error instanceof NoJson) return undefined;
    throw error;
  } finally {
    Error.stackTraceLimit = depth;
  }
}

class Parser {
  readonly #text: string;

  constructor(text: string) {
    this.#text = text;
  }

  space(at: number): number {
    let i = at;
    while (i < this.#text.length && ' \n\r\t'.includes(this.#text[i]!)) i++;
    return i;
  }

  value(at: number, depthLeft: number): Json {
    const first = this.#text[at];
    if (first === '{' || first === '[') {
      if (depthLeft === 0) throw new NoJson();
      return first === '{' ? this.#object(at, depthLeft - 1) : this.#array(at, depthLeft - 1);
    }
    for (const [kind, form] of SCALARS) {
      form.lastIndex = at;
      if (form.test(this.#text)) return { from: at, to: form.lastIndex, kind, members: NO_MEMBERS, elements: [] };
    }
    throw new NoJson();
  }

  #object(at: number, depthLeft: number): Json {
    const members = new Map<string, Json>();
    let i = this.space(at + 1);
    if (this.#text[i] === '}') return { from: at, to: i + 1, kind: 'object', members, elements: [] };
    for (;;) {
      const key = this.value(i, 0);
      if (key.kind !== 'string') throw new NoJson();
      const name = JSON.parse(this.#text.slice(key.from, key.to)) as string;
      if (members.has(name)) throw new NoJson();
      i = this.#mark(':', key.to);
      const value = this.value(i, depthLeft);
      members.set(name, value);
      i = this.space(value.to);
      if (this.#text[i] === '}') return { from: at, to: i + 1, kind: 'object', members, elements: [] };
      i = this.#mark(',', i);
    }
  }

  #array(at: number, depthLeft: number): Json {
    const elements: Json[] = [];
    let i = this.space(at + 1);
    if (this.#text[i] === ']') return { from: at, to: i + 1, kind: 'array', members: NO_MEMBERS, elements };
    for (;;) {
      const value = this.value(i, depthLeft);
      elements.push(value);
      i = this.space(value.to);
      if (this.#text[i] === ']') return { from: at, to: i + 1, kind: 'array', members: NO_MEMBERS, elements };
      i = this.#mark(',', i);
    }
  }

  /** Behind the mark and the white space around it. */
  #mark(mark: string, at: number): number {
    const i = this.space(at);
    if (this.#text[i] !== mark) throw new NoJson();
    return this.space(i + 1);
  }
}

const SCALARS: readonly (readonly ['string' | 'number' | 'word', RegExp])[] = [
  ['string', /"(?:[ !#-[\]-\uffff]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*"/y],
  ['number', /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y],
  ['word', /true|false|null/y],
];

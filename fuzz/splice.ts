import { Fault, PushWriter, pushHead, readMessage, readPush } from '@hawser/protocol';
import type { Random } from '../sim/random.ts';
import { Mutator, readBytes, smallerBytes, writeBytes } from './bytes.ts';
import { anyValue, bytesOf, JSON_WORDS } from './json-grammar.ts';
import { hasSafeKeys, parseStrictly, textOf } from './json-model.ts';
import { expect, type Target } from './target.ts';

const BODY_BYTES_MAX = 16 * 1024;
const MESSAGES_MAX = 6;
/** Parts the messages of an input. No text has it. */
const SEPARATOR = 0xff;

/** Names and ids that are awkward between quotes. */
const NAMES = ['ann', 'a"b', 'a\\', '\u2028', '__proto__', 'é😀', '"},{"from":"ann', '\ud800', ']', 'constructor'];

interface Sent {
  readonly from: string;
  readonly to: string;
  readonly msgId: string;
  readonly msg: string;
  readonly ts: number;
}

/** Any `msg` that is accepted is exactly one element of a push, as it was sent, whatever else is in the batch. */
export class SpliceTarget implements Target<Uint8Array> {
  readonly name = 'splice';
  readonly about = 'messages as they are accepted, put together into one push';
  readonly guidedBy = /protocol\/src\/(?:json|bodies|push|text)\.ts$/;
  readonly lookEvery = 500;
  readonly counts = { messages: 0, accepted: 0 };
  readonly #mutator = new Mutator(BODY_BYTES_MAX, [...JSON_WORDS, Uint8Array.of(SEPARATOR)]);
  readonly #writer = new PushWriter();

  create(random: Random): Uint8Array {
    const messages = Array.from({ length: 1 + random.below(4) }, () => bytesOf(attempt(random), random));
    return new Uint8Array(Buffer.concat(messages.flatMap((each) => [each, Buffer.from([SEPARATOR])]).slice(0, -1)));
  }

  mutate(input: Uint8Array, other: Uint8Array, random: Random): Uint8Array {
    return this.#mutator.mutate(input, other, random);
  }

  keep(input: Uint8Array): Uint8Array {
    return input.slice();
  }

  check(input: Uint8Array): void {
    const writer = this.#writer;
    const sent: Sent[] = [];
    writer.begin();
    for (const [i, value] of parts(input).entries()) {
      this.counts.messages++;
      const body = readMessage(Buffer.concat([Buffer.from('{"to":"b","msg":'), value, Buffer.from('}')]));
      if (body instanceof Fault) continue;
      this.counts.accepted++;
      const name = (add: number): string => NAMES[(value.length + i + add) % NAMES.length]!;
      const message = { from: name(0), to: name(3), msgId: name(5), msg: textOf(body.msg) ?? '', ts: i % 2 };
      writer.add(pushHead(message.from, message.to), body.msg, message.msgId, message.ts);
      sent.push(message);
    }
    writer.end();
    expectPush(writer.bytes.slice(0, writer.length), sent);
  }

  *smaller(input: Uint8Array): Iterable<Uint8Array> {
    yield* smallerBytes(input);
  }

  write(input: Uint8Array): string {
    return writeBytes(input);
  }

  read(text: string): Uint8Array {
    return readBytes(text);
  }
}

function parts(input: Uint8Array): Uint8Array[] {
  const found: Uint8Array[] = [];
  for (let from = 0; from <= input.length && found.length < MESSAGES_MAX; ) {
    const at = input.indexOf(SEPARATOR, from);
    const to = at < 0 ? input.length : at;
    found.push(input.subarray(from, to));
    from = to + 1;
  }
  return found;
}

function expectPush(data: Uint8Array, sent: readonly Sent[]): void {
  const text = textOf(data) ?? '';
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    expect(false, () => `what is pushed is no JSON: ${text}`);
  }
  expect(Array.isArray(parsed) && parsed.length === sent.length, () => `not ${sent.length} elements: ${text}`);
  const elements = parseStrictly(text, Number.MAX_SAFE_INTEGER)?.elements ?? [];
  const read = readPush(data);
  for (const [i, { from, to, msgId, msg, ts }] of sent.entries()) {
    const element: unknown = (parsed as unknown[])[i];
    const expected = { from, to, msg: JSON.parse(msg) as unknown, msgid: msgId, ...(ts === 0 ? {} : { ts }) };
    const isSame = !hasSafeKeys(msg) || JSON.stringify(element) === JSON.stringify(expected);
    expect(isSame, () => `element ${i} is ${JSON.stringify(element)}, not ${JSON.stringify(expected)}`);
    const span = elements[i]?.members.get('msg');
    const raw = span && text.slice(span.from, span.to);
    expect(raw === msg, () => `the msg of element ${i} is ${raw}, not ${msg}`);
    const got = read?.[i];
    const isRead =
      got?.from === from && got.to === to && got.msgId === msgId && textOf(got.msg) === msg && got.ts === ts;
    expect(isRead, () => `a receiver reads element ${i} otherwise`);
  }
}

const FORGED = '{"from":"x","to":"b","msg":1,"msgid":"9"}';

/** A value, or what would be more than one element if it were copied as it is. */
function attempt(random: Random): string {
  const value = anyValue(random, 3);
  switch (random.below(8)) {
    case 0:
      return `${value},"msgid":"9"},${FORGED}`;
    case 1:
      return `${value},"to":"c"`;
    case 2:
      return `${value}}, ${FORGED}, {"from":"x"`;
    case 3:
      return `"${random.pick(['\\', '"', '\\"', '\\\\"', '\\u0022'])},"msgid":"9"},${FORGED}`;
    case 4:
      return `[${value}],${value}`;
    default:
      return value;
  }
}

/** The other implementation of the envelope: protobufjs, from the definition that authors of clients read. */

import { readFileSync } from 'node:fs';
import type { Envelope } from '@hawser/protocol';
import protobuf from 'protobufjs';
import { expect } from './target.ts';

const page = readFileSync(new URL('../docs/protocol.md', import.meta.url), 'utf8');
const definition = /```proto\n([\s\S]*?)```/.exec(page)?.[1] ?? '';
const BaseMsgPb = protobuf.parse(definition, { keepCase: true }).root.lookupType('BaseMsgPb');

const EMPTY = new Uint8Array(0);
const VARINT = 0;
const GROUP = 3;

/** A field as protobufjs skips over it. */
interface Skipped {
  readonly wireType: number;
  /** The bytes of its value. */
  readonly value: Uint8Array;
}

/** Where Hawser refuses what protobufjs reads. There is no other difference, and none in the other direction. */
export const differences: readonly {
  readonly what: string;
  readonly why: string;
  readonly applies: (field: Skipped) => boolean;
}[] = [
  {
    what: 'a group',
    why: 'proto3 has none, and to skip one takes a stack',
    applies: ({ wireType }) => wireType === GROUP,
  },
  {
    what: 'a varint of more than ten bytes',
    why: 'no encoder writes one; protobufjs skips them at any length',
    applies: ({ wireType, value }) => wireType === VARINT && value.length > 10,
  },
  {
    what: 'a varint of ten bytes with more than 64 bits',
    why: 'protobufjs drops the bits that are too many',
    applies: ({ wireType, value }) => wireType === VARINT && value.length === 10 && value[9]! > 1,
  },
];

/** Which of the differences a body has that protobufjs has read. */
function differenceIn(body: Uint8Array): string | undefined {
  const reader = protobuf.Reader.create(body);
  while (reader.pos < reader.len) {
    const wireType = reader.uint32() & 7;
    const from = reader.pos;
    reader.skipType(wireType);
    const field = { wireType, value: body.subarray(from, reader.pos) };
    const found = differences.find(({ applies }) => applies(field));
    if (found !== undefined) return found.what;
  }
  return undefined;
}

/** Both must read the same of a body, or neither anything. */
export function compareWithProtobufjs(body: Uint8Array, ours: Envelope | undefined): void {
  let theirs: Envelope | undefined;
  const depth = Error.stackTraceLimit;
  Error.stackTraceLimit = 0; // most bodies are refused, and nobody reads the stack
  try {
    theirs = BaseMsgPb.decode(body) as unknown as Envelope;
  } catch {
    theirs = undefined;
  }
  Error.stackTraceLimit = depth;
  if (ours === undefined) {
    const isByChoice = theirs === undefined || differenceIn(body) !== undefined;
    expect(isByChoice, () => 'refused, though protobufjs reads it, and it is none of the differences');
    return;
  }
  expect(theirs !== undefined, () => 'read, though protobufjs refuses it');
  const difference = differenceIn(body);
  expect(difference === undefined, () => `read, though it has ${difference}`);
  for (const field of ['cmd', 'msgId', 'isEncrypt'] as const) {
    expect(ours[field] === theirs[field], () => `${field} is ${ours[field]}, protobufjs reads ${theirs[field]}`);
  }
  // Where there is none protobufjs has an array.
  const data = theirs.data.length === 0 ? EMPTY : theirs.data;
  expect(Buffer.compare(ours.data, data) === 0, () => 'data differs from what protobufjs reads');
}

// Protobuf by hand, for messages that no encoder would write and for a look at what the server wrote.

import { bytesOf } from './mini-client.ts';

export function varint(value: bigint | number, minBytes = 1): Buffer {
  const bytes: number[] = [];
  let rest = BigInt.asUintN(64, BigInt(value));
  do {
    bytes.push(Number(rest & 0x7fn) | 0x80);
    rest >>= 7n;
  } while (rest > 0n);
  while (bytes.length < minBytes) bytes.push(0x80);
  bytes.push((bytes.pop() ?? 0) & 0x7f);
  return Buffer.from(bytes);
}

export function tag(field: number, wire: number): Buffer {
  return varint((BigInt(field) << 3n) | BigInt(wire));
}

export function varintField(field: number, value: bigint | number): Buffer {
  return Buffer.concat([tag(field, 0), varint(value)]);
}

export function bytesField(field: number, value: Uint8Array | string): Buffer {
  const bytes = bytesOf(value);
  return Buffer.concat([tag(field, 2), varint(bytes.length), bytes]);
}

/** A body with the given cmd, msgId and data, each field given even when it has its default value. */
export function explicitBody(cmd: number, msgId: string, data: Uint8Array | string): Buffer {
  return Buffer.concat([varintField(1, cmd), bytesField(2, msgId), varintField(3, 0), bytesField(4, data)]);
}

export interface WireField {
  readonly field: number;
  readonly wire: number;
  readonly value: bigint | Buffer;
}

/** The fields of a message of varints and bytes, in their order. */
export function fieldsOf(body: Buffer): WireField[] {
  const fields: WireField[] = [];
  let at = 0;
  const read = (): bigint => {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = body[at];
      if (byte === undefined || shift > 63n) throw new Error('bad varint');
      at += 1;
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
  };
  while (at < body.length) {
    const key = Number(read());
    const wire = key & 7;
    if (wire === 0) {
      fields.push({ field: key >> 3, wire, value: read() });
    } else if (wire === 2) {
      const length = Number(read());
      if (at + length > body.length) throw new Error('truncated');
      fields.push({ field: key >> 3, wire, value: body.subarray(at, at + length) });
      at += length;
    } else {
      throw new Error(`wire type ${wire}`);
    }
  }
  return fields;
}

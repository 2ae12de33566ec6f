// Packets of MQTT 3.1.1 by hand: as much as a publisher and a subscriber with QoS 1 need.

/** First bytes: the type, and the flags that the standard fixes for it. */
export const PACKET = {
  connect: 0x10,
  connack: 0x20,
  publish: 0x30,
  puback: 0x40,
  subscribe: 0x82,
  suback: 0x90,
  disconnect: 0xe0,
} as const;

export const QOS_1 = 0x02;
/** Packet ids are 1 to this. */
export const PACKET_ID_MAX = 65_535;
export const PUBACK_SIZE = 4;
export const DISCONNECT = Buffer.from([PACKET.disconnect, 0]);

const LENGTH_DIGITS_MAX = 4;
const PROTOCOL_LEVEL = 4;
/** A user name and a password; not a clean session. */
const FLAGS = 0xc0;

function remainingLength(size: number): Buffer {
  const digits: number[] = [];
  let rest = size;
  do {
    digits.push(rest > 127 ? (rest & 127) | 128 : rest);
    rest >>= 7;
  } while (rest > 0);
  return Buffer.from(digits);
}

function packet(first: number, ...parts: readonly Buffer[]): Buffer {
  const size = parts.reduce((sum, part) => sum + part.length, 0);
  return Buffer.concat([Buffer.from([first]), remainingLength(size), ...parts]);
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([Buffer.from([bytes.length >> 8, bytes.length & 255]), bytes]);
}

/** With a persistent session, without a keep-alive. The user name is one that ejabberd takes; the others take any. */
export function connectPacket(clientId: string): Buffer {
  const head = Buffer.from([PROTOCOL_LEVEL, FLAGS, 0, 0]);
  return packet(PACKET.connect, text('MQTT'), head, text(clientId), text(`${clientId}@localhost`), text('none'));
}

export function subscribePacket(packetId: number, topic: string): Buffer {
  return packet(PACKET.subscribe, Buffer.from([packetId >> 8, packetId & 255]), text(topic), Buffer.from([1]));
}

/** A publish with QoS 1, whose packet id at `idAt` is to be written in. */
export function publishTemplate(topic: string, payload: Buffer): { bytes: Buffer; idAt: number } {
  const bytes = packet(PACKET.publish | QOS_1, text(topic), Buffer.alloc(2), payload);
  return { bytes, idAt: bytes.length - payload.length - 2 };
}

export function writePuback(target: Buffer, at: number, packetId: number): number {
  target[at] = PACKET.puback;
  target[at + 1] = 2;
  target[at + 2] = packetId >> 8;
  target[at + 3] = packetId & 255;
  return at + PUBACK_SIZE;
}

/** Where a packet lies: its first byte, and what comes behind its length. One object is reused for all. */
export type Packet = { first: number; start: number; end: number };

/** Reads the packet at `at` into `out`: 1 when it is there, 0 when more bytes must come, -1 when it is none. */
export function readPacket(bytes: Buffer, at: number, end: number, out: Packet): 1 | 0 | -1 {
  let size = 0;
  let next = at + 1;
  for (let digit = 0; ; digit++, next++) {
    if (next >= end) return 0;
    const byte = bytes[next]!;
    size |= (byte & 127) << (7 * digit);
    if (byte < 128) break;
    if (digit === LENGTH_DIGITS_MAX - 1) return -1;
  }
  out.first = bytes[at]!;
  out.start = next + 1;
  out.end = out.start + size;
  return out.end <= end ? 1 : 0;
}

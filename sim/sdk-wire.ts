import type { Wire, WireEvents } from '@hawser/client/core';
import { cmd, decodeEnvelope, decodeText, FRAME_HEAD_BYTES } from '@hawser/protocol';
import type { Checker } from './checker.ts';
import type { Connection } from './connection.ts';
import type { ServerFrame } from './frames.ts';
import type { Messages } from './message.ts';
import type { Random } from './random.ts';
import type { Scheduler } from './scheduler.ts';
import type { SdkChecker } from './sdk-checker.ts';
import type { Trace } from './trace.ts';
import type { Peer, SimWire } from './wire.ts';

export interface SdkWirePorts {
  readonly scheduler: Scheduler;
  readonly random: Random;
  readonly checker: Checker;
  readonly messages: Messages;
  readonly trace: Trace;
  readonly sdk: SdkChecker;
  readonly events: WireEvents;
  /** A conflict was read here, and the client had not left the connection before. */
  readonly conflictRead: () => void;
}

/** A connection as the client's package has it: bytes, over a simulated wire, and the checkers are told what they are. */
export class SdkWire implements Peer, Wire {
  readonly readsBytes = true;
  readonly #ports: SdkWirePorts;
  #sim: SimWire | undefined;
  #connection: Connection | undefined;
  /** Nothing is heard of it any more. */
  #isOver = false;
  #isDestroyed = false;

  constructor(ports: SdkWirePorts) {
    this.#ports = ports;
  }

  get sim(): SimWire | undefined {
    return this.#isOver ? undefined : this.#sim;
  }

  get connectionId(): number {
    return this.#connection?.id ?? -1;
  }

  opened({ wire, connection }: { readonly wire: SimWire; readonly connection: Connection }): void {
    this.#sim = wire;
    this.#connection = connection;
    const { scheduler, events } = this.#ports;
    scheduler.after(0, () => {
      if (this.#isOver) return;
      scheduler.settled = true;
      events.opened();
    });
  }

  /** Nobody listens there, or the connection broke and the client is told. */
  ended(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#ports.scheduler.settled = true;
    this.#ports.events.closed(new Error('the wire broke'));
  }

  // ---- from the server

  /** In pieces of some frames; each piece in one or two parts. A frame that may end the connection ends its piece. */
  received(frames: readonly ServerFrame[], bytes: Uint8Array): void {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    let from = 0;
    let to = 0;
    let piece: ServerFrame[] = [];
    for (const frame of frames) {
      to += FRAME_HEAD_BYTES + view.getUint32(to);
      piece.push(frame);
      const isHarmless =
        frame.cmd === cmd.push || frame.cmd === cmd.heartbeat || (frame.cmd === cmd.message && frame.isEmpty);
      if (to < bytes.length && isHarmless && this.#ports.random.chance(0.7)) continue;
      this.#read(piece, bytes.subarray(from, to));
      from = to;
      piece = [];
    }
  }

  #read(frames: readonly ServerFrame[], bytes: Uint8Array): void {
    const { scheduler, random, trace, sdk } = this.#ports;
    if (this.#isOver) return;
    scheduler.settled = true;
    for (const frame of frames) {
      for (const message of frame.pushes) trace.note('received', this.connectionId, message?.id ?? -1);
    }
    sdk.arriving(frames);
    if (bytes.length > 1 && random.chance(0.15)) {
      const at = 1 + random.below(bytes.length - 1);
      this.#hand(bytes.subarray(0, at));
      this.#hand(bytes.subarray(at));
    } else this.#hand(bytes);
    const last = frames.at(-1);
    if (last?.cmd === cmd.conflict && last.isEmpty && !this.#isDestroyed) this.#ports.conflictRead();
  }

  #hand(bytes: Uint8Array): void {
    if (this.#isOver) return;
    this.#ports.events.received(bytes);
    // They are valid during the call.
    bytes.fill(0xee);
  }

  // ---- from the client

  /** Frame by frame: each takes its own time. */
  write(bytes: Uint8Array): void {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    for (let at = 0; at < bytes.length; ) {
      const length = FRAME_HEAD_BYTES + view.getUint32(at);
      this.#writeFrame(bytes.subarray(at, at + length));
      at += length;
    }
  }

  #writeFrame(bytes: Uint8Array): void {
    const wire = this.#sim;
    const connection = this.#connection;
    const frame = decodeEnvelope(bytes.subarray(FRAME_HEAD_BYTES));
    if (wire === undefined || connection === undefined || this.#isOver || frame === undefined) return;
    const { checker, sdk, messages, trace } = this.#ports;
    const data = frame.isEncrypt && frame.data.length > 0 ? wire.cipher?.decrypt(frame.data) : frame.data;
    const body = (): unknown => JSON.parse(decodeText(data ?? bytes) ?? '');
    switch (frame.cmd) {
      case cmd.message: {
        const message = messages.all[(body() as { msg: { n: number } }).msg.n];
        sdk.wroteMessage(frame.msgId, message);
        trace.note('sent', connection.id, message?.id ?? -1);
        wire.send(bytes, () => message && checker.handed(connection, message));
        break;
      }
      case cmd.push: {
        const msgIds = (body() as { msgid: string }[]).map(({ msgid }) => msgid);
        sdk.wroteAcks(msgIds);
        for (const msgId of msgIds) {
          trace.note('receiver acks', connection.id, connection.lastPushed.get(msgId)?.id ?? -1);
        }
        wire.send(bytes, () => checker.ackHanded(connection, msgIds));
        break;
      }
      default:
        sdk.wroteRequest(frame.msgId);
        wire.send(bytes);
    }
  }

  end(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#sim?.close('fin');
  }

  destroy(): void {
    this.#isDestroyed = true;
    if (this.#isOver) return;
    this.#isOver = true;
    this.#sim?.close('reset');
  }

  /** Its client is gone. */
  drop(how: 'fin' | 'reset' | 'vanish'): void {
    if (this.#isOver) return;
    this.#isOver = true;
    if (how === 'vanish') this.#sim?.vanish();
    else this.#sim?.close(how);
  }
}

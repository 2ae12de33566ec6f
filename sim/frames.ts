import { type Cipher, cmd, decodeEnvelope, decodeText, FRAME_HEAD_BYTES } from '@hawser/protocol';
import type { SentMessage } from './message.ts';

/** A frame from the server, as its client will see it. */
export interface ServerFrame {
  readonly cmd: number;
  readonly msgId: string;
  readonly code: number | undefined;
  readonly text: string;
  readonly isRetry: boolean;
  readonly isEmpty: boolean;
  /** What a push holds. */
  readonly pushes: readonly (SentMessage | undefined)[];
}

/** One element of a push, as it was written. */
export interface PushedElement {
  readonly from: string;
  readonly to: string;
  readonly msgid: string;
  readonly msg: { readonly n?: unknown };
}

export interface FrameReader {
  readonly cipher: () => Cipher | undefined;
  /** Called for each message of a push, and for each other frame, in order. */
  readonly pushed: (element: PushedElement) => SentMessage | undefined;
  readonly answered: (frame: ServerFrame) => void;
}

/** Cuts what the server wrote in one call, which is whole frames, and reads each. */
export function readFrames(bytes: Uint8Array, reader: FrameReader): ServerFrame[] | 'broken' {
  const frames: ServerFrame[] = [];
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  let at = 0;
  while (at < bytes.length) {
    if (bytes.length - at < FRAME_HEAD_BYTES) return 'broken';
    const length = view.getUint32(at);
    at += FRAME_HEAD_BYTES;
    const envelope = decodeEnvelope(bytes.subarray(at, at + length));
    at += length;
    if (envelope === undefined || at > bytes.length) return 'broken';
    const isSecret = envelope.isEncrypt && envelope.data.length > 0;
    const data = isSecret ? reader.cipher()?.decrypt(envelope.data) : envelope.data;
    if (data === undefined) return 'broken';
    const frame = readFrame(envelope.cmd, envelope.msgId, data, reader);
    if (envelope.cmd !== cmd.push) reader.answered(frame);
    frames.push(frame);
  }
  return frames;
}

function readFrame(number: number, msgId: string, data: Uint8Array, reader: FrameReader): ServerFrame {
  const isEmpty = data.length === 0;
  if (isEmpty || number === cmd.serverKey) {
    return { cmd: number, msgId, code: undefined, text: '', isRetry: false, isEmpty, pushes: [] };
  }
  const value: unknown = JSON.parse(decodeText(data) ?? '');
  // With an object it answers an ack, as not logged in.
  if (number === cmd.push && Array.isArray(value)) {
    const pushes = (value as PushedElement[]).map(reader.pushed);
    return { cmd: number, msgId, code: undefined, text: '', isRetry: false, isEmpty, pushes };
  }
  const answer = value as { code?: number; msg?: string; retry?: boolean };
  return {
    cmd: number,
    msgId,
    code: answer.code,
    text: answer.msg ?? '',
    isRetry: answer.retry === true,
    isEmpty,
    pushes: [],
  };
}

import { code, decodeText } from '@hawser/protocol';

/** The common answer. A body that is none counts as an exception. */
export interface Answer {
  readonly code: number;
  readonly msg: string;
  /** It may go away by itself (extension `nack`). */
  readonly retry: boolean;
}

export function readAnswer(data: Uint8Array): Answer {
  const value = parseJson(decodeText(data) ?? '');
  if (typeof value !== 'object' || value === null) {
    return { code: code.exception, msg: 'an answer that makes no sense', retry: false };
  }
  const fields: { code?: unknown; msg?: unknown; retry?: unknown } = value;
  return {
    code: typeof fields.code === 'number' ? fields.code : code.exception,
    msg: typeof fields.msg === 'string' ? fields.msg : '',
    retry: fields.retry === true,
  };
}

export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

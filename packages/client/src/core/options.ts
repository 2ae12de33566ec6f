import { clientLimits } from '@hawser/protocol';

/** What can be set of a client's timing and bounds. Times are in milliseconds; `Infinity` is no limit for timeouts. */
export interface SessionOptions {
  /** A heartbeat is sent after this long without reading or writing. Default 30,000, which is also the most. */
  readonly heartbeatMs: number;
  /** While an answer is awaited: after this long without reading. Default 10,000. */
  readonly awaitingHeartbeatMs: number;
  /** To ask the dispatcher, and then to connect and agree on a key: each. Default 15,000. */
  readonly connectTimeoutMs: number;
  /** From sending a login until its answer; then the connection is given up. Default 30,000. */
  readonly answerTimeoutMs: number;
  /** Full jitter of reconnecting: the wait before attempt n is random, up to min(cap, base · 2^n). Default 1,000. */
  readonly reconnectBaseMs: number;
  /** The cap. Default 60,000. */
  readonly reconnectMsMax: number;
  /** Attempts count from 0 again after this long online. Default 30,000. */
  readonly stableAfterMs: number;
  /** A send, an added or removed device, a registration: from the call to its end. Default 60,000. */
  readonly timeoutMs: number;
  /** Messages sent and not settled; further ones wait in the client. Default 256. */
  readonly outstandingMessagesMax: number;
  /** The same in bytes; one message may always be outstanding. Default 2 MiB. */
  readonly outstandingBytesMax: number;
  /** Messages that wait for room; further ones are refused as `OverloadedError`. Default 10,000. */
  readonly waitingMessagesMax: number;
  /** The same in bytes. Default 16 MiB. */
  readonly waitingBytesMax: number;
}

export const defaultOptions: SessionOptions = {
  heartbeatMs: clientLimits.heartbeatMs,
  awaitingHeartbeatMs: clientLimits.awaitingHeartbeatMs,
  connectTimeoutMs: clientLimits.connectTimeoutMs,
  answerTimeoutMs: clientLimits.answerTimeoutMs,
  reconnectBaseMs: clientLimits.reconnectBaseMs,
  reconnectMsMax: clientLimits.reconnectMsMax,
  stableAfterMs: clientLimits.stableAfterMs,
  timeoutMs: clientLimits.operationTimeoutMs,
  outstandingMessagesMax: clientLimits.outstandingMessagesMax,
  outstandingBytesMax: clientLimits.outstandingBytesMax,
  waitingMessagesMax: clientLimits.waitingMessagesMax,
  waitingBytesMax: clientLimits.waitingBytesMax,
};

/** The defaults with what was set in their place. */
export function optionsWith(set: Partial<SessionOptions>): SessionOptions {
  const options: Record<string, number> = { ...defaultOptions };
  for (const name of Object.keys(defaultOptions) as (keyof SessionOptions)[]) {
    const value = set[name];
    if (value === undefined) continue;
    if (typeof value !== 'number' || !(value > 0)) throw new TypeError(`${name} must be a number above zero`);
    options[name] = value;
  }
  // The server closes a connection that is silent for five of them.
  options.heartbeatMs = Math.min(options.heartbeatMs!, clientLimits.heartbeatMs);
  return options as unknown as SessionOptions;
}

/**
 * How long to wait before an attempt, in milliseconds: "full jitter" as defined in Marc Brooker's "Exponential Backoff
 * And Jitter" (AWS Architecture Blog, 2015): a random wait from 0 up to min(cap, base · 2^attempt). However many clients
 * lose their server in one moment, their attempts are spread evenly over that time.
 *
 * @param attempt counts from 0
 * @param fraction from 0 up to 1
 */
export function fullJitterMs(attempt: number, baseMs: number, capMs: number, fraction: number): number {
  return fraction * Math.min(capMs, baseMs * 2 ** attempt);
}

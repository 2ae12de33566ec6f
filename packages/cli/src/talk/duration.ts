const UNITS_MS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 };
/** What a timer can take: 24 days. */
export const TIMER_MS_MAX = 2 ** 31 - 1;

/**
 * `500ms`, `5s`, `2m`, `1h`, or seconds without a unit, in milliseconds.
 *
 * @throws Error that says what it must be
 */
export function readDuration(text: string): number {
  const [, number, unit = 's'] = /^(\d{1,9}(?:\.\d{1,6})?)(ms|s|m|h)?$/.exec(text) ?? [];
  const ms = Number(number) * (UNITS_MS[unit] ?? Number.NaN);
  if (ms > 0 && ms <= TIMER_MS_MAX) return ms;
  throw new Error('must be a time such as 500ms, 5s, 2m or 1h, up to 24 days');
}

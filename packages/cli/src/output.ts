/** What the command line prints. */

/** One clear line on stderr; the command's exit code is 1. */
export function fail(error: unknown): void {
  const text = error instanceof Error ? error.message : String(error);
  process.stderr.write(`hawser: ${visible(text.replace(/\s*\n\s*/g, ' '))}\n`);
  process.exitCode = 1;
}

/** What an operator should know, beside what was asked for. On stderr, and no failure. */
export function warn(text: string): void {
  process.stderr.write(`hawser: ${visible(text)}\n`);
}

export function print(text: string): void {
  process.stdout.write(`${text}\n`);
}

/** Says when stdout fails. That its reader has seen enough (`| head`) is no failure. */
export function watchOutput(): void {
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') fail(`the output cannot be written: ${error.message}`);
  });
  // There is nowhere to say it.
  process.stderr.on('error', () => {});
}

/** Rows in columns as wide as they need. Control characters are shown as escapes. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const cells = [head, ...rows.map((row) => row.map(visible))];
  const widths = head.map((_, column) => Math.max(...cells.map((row) => width(row[column] ?? ''))));
  return cells
    .map((row) =>
      row
        .map((cell, column) => cell + ' '.repeat((widths[column] ?? 0) - width(cell)))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

/** Chinese, Japanese, Korean and emoji take two columns of a terminal; accents none. */
function width(text: string): number {
  const wide = /[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6]/;
  let columns = 0;
  for (const character of text) {
    if (/\p{M}/u.test(character)) continue;
    columns += wide.test(character) || /[\p{Emoji_Presentation}\u{20000}-\u{3fffd}]/u.test(character) ? 2 : 1;
  }
  return columns;
}

/** Text that cannot move the cursor or break the line. */
export function visible(text: string): string {
  return text.replace(/[\p{Cc}\p{Zl}\p{Zp}\p{Cf}]/gu, (character) => {
    const digits = (character.codePointAt(0) ?? 0).toString(16);
    return digits.length > 4 ? `\\u{${digits}}` : `\\u${digits.padStart(4, '0')}`;
  });
}

/** A time in ms as `2026-01-31 12:00:00`, UTC; `-` for none. */
export function time(ms: number): string {
  return ms === 0 ? '-' : new Date(ms).toISOString().slice(0, 19).replace('T', ' ');
}

export function damagedRecords(count: number): string {
  return count === 1 ? '1 damaged record was' : `${count} damaged records were`;
}

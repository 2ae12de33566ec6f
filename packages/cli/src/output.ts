/** What the command line prints. */

/** One clear line on stderr; the command's exit code is 1. */
export function fail(error: unknown): void {
  process.stderr.write(`hawser: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}

export function print(text: string): void {
  process.stdout.write(`${text}\n`);
}

/** Rows in columns as wide as they need. Control characters are shown as escapes. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const cells = [head, ...rows.map((row) => row.map(visible))];
  const widths = head.map((_, column) => Math.max(...cells.map((row) => row[column]?.length ?? 0)));
  return cells
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

/** Text that cannot move the cursor or break the line. */
export function visible(text: string): string {
  return text.replace(/[\p{Cc}\p{Zl}\p{Zp}\p{Cf}]/gu, (character) => {
    return `\\u${(character.codePointAt(0) ?? 0).toString(16).padStart(4, '0')}`;
  });
}

/** A time in ms as `2026-01-31 12:00:00`, UTC; `-` for none. */
export function time(ms: number): string {
  return ms === 0 ? '-' : new Date(ms).toISOString().slice(0, 19).replace('T', ' ');
}

/** The arguments of a line: words, or JSON strings for names with spaces in them. */
export function words(text: string): string[] {
  return (text.match(/"(?:[^"\\]|\\.)*"|\S+/g) ?? []).map((word) => unquoted(word));
}

function unquoted(word: string): string {
  if (!word.startsWith('"')) return word;
  try {
    return JSON.parse(word) as string;
  } catch {
    return word;
  }
}

/** A name as `words` reads it. */
export function quoted(name: string): string {
  return /^[^\s"]+$/.test(name) ? name : JSON.stringify(name);
}

/** What the word that is being typed may become, and that word: as a completer of `node:readline` gives it. */
export function completions(line: string, commands: readonly string[], names: Iterable<string>): [string[], string] {
  if (!line.startsWith('/')) return [[], line];
  const typed = /(?:^|\s)("(?:[^"\\]|\\.)*|\S*)$/.exec(line)?.[1] ?? '';
  const all = typed === line ? commands.map((command) => `${command} `) : [...names].map((name) => `${quoted(name)} `);
  return [all.filter((each) => each.startsWith(typed)).sort(), typed];
}

/** JSON as it was written: values go through this command digit for digit. */

interface ExactJson {
  rawJSON(text: string): unknown;
  parse(text: string, reviver: (key: string, value: unknown, context: { source?: string }) => unknown): unknown;
}

const exact = JSON as unknown as ExactJson;

/**
 * Parses JSON so that `JSON.stringify` writes the same numbers again, also those that a double cannot hold.
 *
 * @throws SyntaxError when it is not JSON
 */
export function parseExactly(text: string): unknown {
  return exact.parse(text, (_key, value, { source }) =>
    typeof value === 'number' && source !== undefined && JSON.stringify(value) !== source
      ? exact.rawJSON(source)
      : value,
  );
}

/** JSON where it is JSON, otherwise a string. */
export function valueIn(text: string): unknown {
  try {
    return parseExactly(text);
  } catch {
    return text;
  }
}

/** JSON text in one line that cannot move a cursor. */
export function jsonLine(json: string): string {
  // In JSON line breaks and tabs stand between tokens only; all other control characters only in strings.
  return json
    .replace(/[\n\r\t]+/g, ' ')
    .replace(/[\p{Cc}\p{Zl}\p{Zp}\p{Cf}]/gu, (character) =>
      [...Array(character.length).keys()]
        .map((at) => `\\u${character.charCodeAt(at).toString(16).padStart(4, '0')}`)
        .join(''),
    );
}

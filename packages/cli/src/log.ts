import { type Logger, pino } from 'pino';
import pretty from 'pino-pretty';

/**
 * JSON lines on stderr; coloured text for people on a terminal. What clients said is in them as escapes where it could break
 * a line, move the cursor or turn the direction of what follows.
 */
export function makeLog(level: string): Logger {
  if (process.stderr.isTTY) {
    const forPeople = { colorize: true, ignore: 'pid,hostname', singleLine: true };
    const screen = pretty({ destination: 2, sync: true, ...forPeople });
    return pino({ level }, { write: (line) => screen.write(shownAsEscapes(line)) });
  }
  const lines = pino.destination({ fd: 2, sync: true });
  // A log that cannot be written, as on a full disk, must not end the server.
  lines.on('error', () => {});
  return pino({ level }, { write: (line) => lines.write(withEscapes(line)) });
}

/** What JSON leaves as it is and yet does harm: control characters from U+007F, line separators, formats. */
const HARM = /[\u007f-\u009f\p{Zl}\p{Zp}\p{Cf}]/gu;

/** The same JSON. */
function withEscapes(json: string): string {
  return json.replaceAll(HARM, (character) => {
    const units = Array.from({ length: character.length }, (_, at) => character.charCodeAt(at));
    return units.map((unit) => `\\u${unit.toString(16).padStart(4, '0')}`).join('');
  });
}

/** JSON whose strings hold the escapes themselves: they are left when it has been read. */
function shownAsEscapes(json: string): string {
  return withEscapes(json).replaceAll(/\\u(?=[0-9a-f]{4})/g, '\\\\u');
}

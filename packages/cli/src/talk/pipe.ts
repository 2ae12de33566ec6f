import type { Message } from '@hawser/client';
import { Progress } from '../progress.ts';
import { TIMER_MS_MAX } from './duration.ts';
import type { Ending } from './ending.ts';
import { ExitError, exitCode, UsageError } from './exit.ts';
import { parseExactly } from './json.ts';
import type { Lines } from './lines.ts';
import type { LoggedIn } from './login.ts';
import type { AppOptions } from './options.ts';
import { Outgoing } from './outgoing.ts';
import type { Report } from './report.ts';

/** A progress bar for what is over sooner would only flicker. */
const PROGRESS_AFTER_MS = 500;

/**
 * Sends each line of standard input as a message, and ends well only if all were acked. Messages to this person are
 * taken only when they are asked for; otherwise they stay on the server.
 */
export async function pipe(
  login: LoggedIn,
  lines: Lines,
  options: AppOptions,
  report: Report,
  ending: Ending,
): Promise<void> {
  const outgoing = new Outgoing(report, options.timeout);
  const answers = listen(login, options, report);
  try {
    const unsent = await ending.over(sendAll(login, lines, options, report, outgoing));
    if (unsent + outgoing.failedCount > 0) throw new ExitError(exitCode.failed);
    await ending.over(options.listen ? answers : inTime(answers, options.timeout));
  } finally {
    // What is not acked is told, whatever has ended it.
    if (ending.signal.aborted) await outgoing.settled();
    const { ackedCount, failedCount } = outgoing;
    const all = failedCount > 0 ? ` of ${ackedCount + failedCount}` : '';
    if (ackedCount + failedCount > 0) report.screen.note(`${ackedCount}${all} acked`);
  }
}

/** Resolves with the number of lines that could not be sent, when all others are acked or known not to be. */
async function sendAll(
  { app }: LoggedIn,
  lines: Lines,
  { to, json, answers, listen }: AppOptions,
  report: Report,
  outgoing: Outgoing,
): Promise<number> {
  if (to.length === 0 && (listen || answers !== undefined)) return 0;
  // Rows on stdout would stand in the way.
  const progress = new Progress('sent', answers || listen || json ? 'silent' : 'messages');
  const startedAt = performance.now();
  let unsent = 0;
  let number = 0;
  try {
    for (let line = await lines.next(); line !== undefined; line = await lines.next()) {
      number++;
      if (to.length === 0) throw new UsageError('who are the messages for? Give --to');
      const value = valueIn(line, json === true);
      if (value === NOTHING) continue;
      if (value === NO_JSON) {
        unsent++;
        report.event('unsent', { line: number });
        report.screen.note(`line ${number} is not JSON, and not sent`);
        continue;
      }
      for (const name of to) {
        await outgoing.room();
        void outgoing.send(app, value, line.length, { to: name, label: `line ${number}` });
      }
      if (performance.now() - startedAt > PROGRESS_AFTER_MS) progress.count(outgoing.ackedCount);
    }
    await outgoing.settled();
  } finally {
    progress.end();
  }
  return unsent;
}

const NOTHING = Symbol('an empty line');
const NO_JSON = Symbol('no JSON');

function valueIn(line: string, isJson: boolean): unknown {
  if (!isJson) return line;
  if (line.trim() === '') return NOTHING;
  try {
    return parseExactly(line);
  } catch {
    return NO_JSON;
  }
}

/** Prints what comes. Resolves after the last answer that is awaited. */
function listen({ app }: LoggedIn, { answers, listen }: AppOptions, report: Report): Promise<void> {
  if (answers === undefined && !listen) return Promise.resolve();
  const { promise, resolve } = Promise.withResolvers<void>();
  let missing = answers ?? Number.POSITIVE_INFINITY;
  const off = app.onMessage(async (message: Message) => {
    await report.message(message);
    if (--missing > 0) return;
    off();
    resolve();
  });
  return promise;
}

/** @throws ExitError when they do not come in time */
async function inTime(answers: Promise<void>, timeoutMs: number): Promise<void> {
  const { promise, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(
    () => reject(new ExitError(exitCode.failed, 'the answers did not come in time')),
    Math.min(timeoutMs, TIMER_MS_MAX),
  );
  try {
    await Promise.race([answers, promise]);
  } finally {
    clearTimeout(timer);
  }
}

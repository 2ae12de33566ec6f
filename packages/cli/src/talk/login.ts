import { App, CertificateError, type Device, RefusedError, type State, type WaitOptions } from '@hawser/client';
import { code } from '@hawser/protocol';
import { visible } from '../output.ts';
import { passwordFor, question } from './dialog.ts';
import type { Ending } from './ending.ts';
import { ExitError, endedBy, exitCode, loginFailure, UsageError } from './exit.ts';
import type { Lines } from './lines.ts';
import { type AppOptions, connectionOf } from './options.ts';
import type { Report } from './report.ts';

export interface LoggedIn {
  readonly app: App;
  readonly name: string;
}

/**
 * Logs a person in, asking on the terminal for what is missing, and registers them if asked to.
 *
 * @param lines standard input where it is no terminal
 */
export async function logIn(
  options: AppOptions,
  lines: Lines | undefined,
  report: Report,
  ending: Ending,
): Promise<LoggedIn> {
  const name = options.user ?? (lines === undefined ? await question('User name: ', ending) : '');
  if (name === '') throw new UsageError('who is it? Give --user');
  const password = await ending.over(passwordFor(name, options, lines));
  const app = new App({ ...connectionOf(options), onError: (error) => report.trouble(error) });
  ending.signal.addEventListener('abort', () => leave(app));
  const attempt = new FirstLogin(options.timeout);
  const mayAsk = lines === undefined && options.register === undefined;
  try {
    const off = app.onState((state) => {
      if (!attempt.isEndedBy(state)) report.state(name, state);
    });
    if (options.register) await register(app, name, password, attempt.wait);
    const failure = await tryToLogIn(app, name, password, attempt.wait);
    if (failure !== undefined) {
      if (!mayAsk || !isWrong(failure) || !(await wantsToRegister(name, ending))) throw failure;
      await app.register(name, password, attempt.wait);
      await app.login(name, password, attempt.wait);
    }
    off();
  } catch (error) {
    app.close();
    throw loginFailure(visible(name), error);
  }
  watch(app, name, report, ending);
  return { app, name };
}

/**
 * A login that somebody waits for. A certificate that is not accepted ends it at once, for that is to be seen to; unless it
 * is to go on for ever.
 */
export class FirstLogin {
  readonly wait: WaitOptions;
  readonly #abort = new AbortController();

  constructor(timeoutMs: number) {
    this.wait = { timeoutMs, signal: this.#abort.signal };
  }

  isEndedBy(state: State): boolean {
    const isEnd =
      state.phase === 'waiting' && state.error instanceof CertificateError && Number.isFinite(this.wait.timeoutMs);
    if (isEnd) this.#abort.abort(state.error);
    return isEnd || this.#abort.signal.aborted;
  }
}

/** The server knows at once that this client is gone. */
export function leave(client: App | Device): void {
  client.logout();
  client.close();
}

/** Says how the connection fares from now on, and ends the command when the login has ended. */
function watch(app: App, name: string, report: Report, ending: Ending): void {
  app.onState((state) => {
    report.state(name, state);
    const end = endedBy(visible(name), state);
    if (end !== undefined) ending.end(end);
  });
}

/** A name that is taken may be one's own: the login that follows tells. */
async function register(app: App, name: string, password: string, wait: WaitOptions): Promise<void> {
  try {
    await app.register(name, password, wait);
  } catch (error) {
    if (!(error instanceof RefusedError) || error.code !== code.userExists) throw error;
  }
}

async function tryToLogIn(app: App, name: string, password: string, wait: WaitOptions): Promise<unknown> {
  try {
    await app.login(name, password, wait);
    return undefined;
  } catch (error) {
    return error;
  }
}

function isWrong(error: unknown): boolean {
  return error instanceof RefusedError && error.code === code.wrongCredentials;
}

async function wantsToRegister(name: string, ending: Ending): Promise<boolean> {
  const answer = await question(
    `There is no ${visible(name)} with this password. Register ${visible(name)} with it? (y/N) `,
    ending,
  );
  return /^y(es)?$/i.test(answer.trim());
}

/** Adds and removes devices; what is so already counts as done. */
export async function changeDevices(
  { app }: LoggedIn,
  added: readonly string[],
  removed: readonly string[],
  { timeout: timeoutMs, code: pairingCode }: Pick<AppOptions, 'timeout' | 'code'>,
): Promise<void> {
  const adding = { timeoutMs, ...(pairingCode !== undefined && { code: pairingCode }) };
  for (const id of added)
    await change(`${visible(id)} cannot be added`, code.deviceAlreadyAdded, app.addDevice(id, adding));
  for (const id of removed)
    await change(`${visible(id)} cannot be removed`, code.deviceNotAdded, app.removeDevice(id, { timeoutMs }));
}

async function change(failure: string, alreadyCode: number, request: Promise<void>): Promise<void> {
  try {
    await request;
  } catch (error) {
    if (error instanceof RefusedError && error.code === alreadyCode) return;
    throw new ExitError(exitCode.failed, `${failure}: ${(error as Error).message}`, { cause: error });
  }
}

import { styleText } from 'node:util';
import { CertificateError, type Message, OperationError, RefusedError, type State } from '@hawser/client';
import { visible, warn } from '../output.ts';
import { reasonOf } from './exit.ts';
import { jsonLine } from './json.ts';

/** Where lines go. */
export interface Screen {
  /** What was asked for. Resolves when it is written. */
  line(text: string): Promise<void>;
  /** What one should know beside it. */
  note(text: string): void;
}

export const plainScreen: Screen = { line: writeLine, note: warn };

/** Writes a line to stdout; resolves when it has left the process. */
export function writeLine(text: string): Promise<void> {
  return new Promise((resolve, reject) => {
    process.stdout.write(`${text}\n`, (error) => (error ? reject(error) : resolve()));
  });
}

type Style = Parameters<typeof styleText>[0];

/** Colour, where stdout is a terminal and nobody has said otherwise (NO_COLOR). */
export function styled(style: Style, text: string): string {
  return styleText(style, text, { stream: process.stdout });
}

/** A message as text: a string as it is, any other value as JSON. What others wrote cannot move the cursor. */
export function shown(json: string): string {
  return visible(json.startsWith('"') ? (JSON.parse(json) as string) : json);
}

/** Something that was sent. */
export interface Sent {
  /** Who sends, where this command is several clients. */
  readonly by?: string;
  readonly to: string;
  readonly msgId: string;
  /** How people know which one it is: `line 3`, or its beginning. */
  readonly label: string;
}

/** Says what happens, as text or as one JSON object a line. */
export class Report {
  readonly screen: Screen;
  readonly #asJson: boolean;
  readonly #hint: string;
  /** Whether acks are said in text, too. */
  readonly saysAcks: boolean;
  readonly #troubled = new Set<string>();

  /** @param hint what to look at when the server does not know or allow a receiver */
  constructor(screen: Screen, asJson: boolean, hint: string, saysAcks = false) {
    this.screen = screen;
    this.saysAcks = saysAcks;
    this.#asJson = asJson;
    this.#hint = hint;
  }

  /** Resolves when it is written: then the message may be acked. */
  message({ from, to, msgId, ts, json }: Message, isOfMany = false): Promise<void> {
    if (this.#asJson) {
      const head = JSON.stringify({ event: 'message', from, to, msgId, ts });
      return this.screen.line(jsonLine(`${head.slice(0, -1)},"msg":${json}}`));
    }
    const name = styled(['bold', 'cyan'], visible(from));
    return this.screen.line(`${isOfMany ? `${visible(to)} < ` : ''}${name}: ${shown(json)}`);
  }

  event(event: string, fields: Readonly<Record<string, unknown>>): void {
    if (this.#asJson) this.screen.line(jsonLine(JSON.stringify({ event, ...fields }))).catch(() => {});
  }

  /** It was sent and is not acked yet. */
  sent({ to, label }: Omit<Sent, 'msgId'>): void {
    if (this.saysAcks && !this.#asJson) this.#say(`sent to ${to}, not acked yet: ${label}`);
  }

  acked({ by, to, msgId, label }: Sent): void {
    this.event('acked', { from: by, to, msgId });
    if (this.saysAcks && !this.#asJson) this.#say(`acked by ${to}: ${label}`);
  }

  #say(text: string): void {
    this.screen.line(styled('dim', `  ${visible(text)}`)).catch(() => {});
  }

  failed({ by, to, msgId, label }: Sent, error: unknown): void {
    const outcome = error instanceof OperationError ? error.outcome : 'not sent';
    const code = error instanceof RefusedError ? error.code : undefined;
    this.event('failed', { from: by, to, msgId, outcome, code, error: whyNot(error) });
    const isForGood = error instanceof RefusedError && !error.retry;
    const who = by === undefined ? '' : `${by}: `;
    this.screen.note(`${who}${label} to ${to} is not acked: ${whyNot(error)}${isForGood ? ` (${this.#hint})` : ''}`);
  }

  /** What went wrong where nobody waits for it. A certificate that is not accepted is told by the state. */
  trouble(error: Error, by?: string): void {
    if (!(error instanceof CertificateError))
      this.screen.note(by === undefined ? error.message : `${by}: ${error.message}`);
  }

  /** Says that a connection is lost, once, and that it is there again. */
  state(name: string, state: State): void {
    const at = 'address' in state ? hostPort(state.address) : undefined;
    if (state.phase === 'online') this.event('state', { name, state: 'online', server: at });
    if (state.phase === 'offline' && state.why !== 'closed')
      this.event('state', { name, state: 'offline', why: state.why });
    if (state.phase === 'waiting') {
      const error = reasonOf(state.error);
      this.event('state', { name, state: 'waiting', delayMs: Math.round(state.delayMs), error });
      const isLasting = state.error instanceof CertificateError;
      if (isLasting || !this.#troubled.has(name)) this.screen.note(`${name} is not connected: ${error}; trying again`);
      this.#troubled.add(name);
    } else if (state.phase === 'online' && this.#troubled.delete(name)) {
      this.screen.note(`${name} is connected, to ${at}`);
    }
  }
}

/** Why a message is not acked, and whether it may arrive all the same. */
function whyNot(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const mayArrive = error instanceof OperationError && error.outcome === 'unknown';
  return `${reasonOf(error)}${mayArrive ? '; it may arrive all the same' : ''}`;
}

export function hostPort({ host, port }: { readonly host: string; readonly port: number }): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

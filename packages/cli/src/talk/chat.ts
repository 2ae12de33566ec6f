import type { App, Message } from '@hawser/client';
import { visible } from '../output.ts';
import { type ChatCommand, ChatError, chatCommands, commandNames, type Talk } from './commands.ts';
import type { Ending } from './ending.ts';
import { ExitError, exitCode } from './exit.ts';
import { parseExactly } from './json.ts';
import { changeDevices, leave, logIn } from './login.ts';
import { completions } from './names.ts';
import type { AppOptions } from './options.ts';
import { Outgoing } from './outgoing.ts';
import { Prompt } from './prompt.ts';
import { hostPort, plainScreen, Report } from './report.ts';

/** A message that takes longer to be acked is said to be on its way. */
const SENT_AFTER_MS = 250;
const LABEL_LENGTH_MAX = 40;
const HINT = 'add devices with /add';

/** A chat on a terminal, from the login to the last ack. */
export async function chat(options: AppOptions, ending: Ending): Promise<void> {
  const before = new Report(plainScreen, options.json === true, HINT);
  const login = await ending.over(logIn(options, undefined, before, ending));
  try {
    await ending.over(changeDevices(login, options.add, options.remove, options));
    await new Chat(login.app, login.name, options, ending).run();
  } finally {
    leave(login.app);
  }
}

/** What is typed becomes messages and commands, in order; what comes is printed above the line being typed. */
export class Chat implements Talk {
  readonly app: App;
  readonly name: string;
  readonly timeoutMs: number;
  /** Devices that were added or listed here, receivers, and whoever has written: what Tab completes. */
  readonly names: Set<string>;
  receivers: readonly string[];
  readonly #isJson: boolean;
  readonly #prompt: Prompt;
  readonly #report: Report;
  readonly #outgoing: Outgoing;
  readonly #ending: Ending;
  readonly #closed = Promise.withResolvers<void>();
  /** Lines are dealt with one after the other: a message behind `/add` waits for it. */
  #lines: Promise<void> = Promise.resolve();

  constructor(app: App, name: string, options: AppOptions, ending: Ending) {
    this.app = app;
    this.name = name;
    this.timeoutMs = options.timeout;
    this.#isJson = options.json === true;
    this.receivers = options.to;
    this.names = new Set([...options.to, ...options.add]);
    this.#ending = ending;
    this.#prompt = new Prompt({
      line: (text) => this.#typed(text),
      interrupted: () => ending.interrupt(),
      closed: () => this.#closed.resolve(),
      complete: (line) => completions(line, commandNames, this.names),
    });
    this.#report = new Report(this.#prompt, this.#isJson, HINT, true);
    this.#outgoing = new Outgoing(this.#report, options.timeout);
  }

  /** Ends well when all that was typed is acked. */
  async run(): Promise<void> {
    this.app.onState((state) => this.#report.state(this.name, state));
    this.app.onMessage((message: Message) => {
      this.names.add(message.from);
      return this.#report.message(message);
    });
    this.say(`${this.name} is online${this.#where()}. /help lists what there is, Ctrl-D leaves.`);
    this.#showPrompt();
    try {
      await this.#ending.over(this.#closed.promise);
      await this.#ending.over(this.#leave());
    } catch (error) {
      // What is not acked is told, whatever has ended it.
      await this.#outgoing.settled();
      throw error;
    } finally {
      this.#prompt.close();
    }
  }

  /** Something for the person alone. */
  say(text: string): void {
    this.#prompt.note(text);
  }

  quit(): void {
    this.#prompt.close();
  }

  #showPrompt(): void {
    const to = this.receivers.length === 0 ? '(nobody)' : this.receivers.join(', ');
    this.#prompt.show(`${visible(to)}> `);
  }

  send(value: unknown, text: string): void {
    if (this.receivers.length === 0) {
      this.say('who is it for? /to NAME says so; it was not sent');
      return;
    }
    const label = text.length > LABEL_LENGTH_MAX ? `${text.slice(0, LABEL_LENGTH_MAX - 1)}…` : text;
    for (const to of this.receivers) {
      const late = setTimeout(() => this.#report.sent({ to, label }), SENT_AFTER_MS);
      void this.#outgoing.send(this.app, value, text.length, { to, label }).then(() => clearTimeout(late));
    }
  }

  #typed(text: string): void {
    this.#lines = this.#lines.then(() => this.#deal(text)).catch((error: unknown) => this.#ending.end(error));
  }

  async #deal(text: string): Promise<void> {
    const [first = '', rest = ''] = /^(\S*)\s*(.*)$/s.exec(text)?.slice(1) ?? [];
    if (text.startsWith('/') && !text.startsWith('//')) await this.#command(chatCommands[first], first, rest);
    else if (text.trim() !== '') this.#message(text.startsWith('//') ? text.slice(1) : text);
    this.#showPrompt();
  }

  async #command(command: ChatCommand | undefined, name: string, rest: string): Promise<void> {
    if (command === undefined) {
      this.say(`${name} is no command: /help lists them; a message that begins with a slash begins with two`);
      return;
    }
    try {
      await command.run(this, rest);
    } catch (error) {
      if (!(error instanceof ChatError)) throw error;
      this.say(error.message);
    }
  }

  #message(text: string): void {
    if (!this.#isJson) {
      this.send(text, text);
      return;
    }
    try {
      this.send(parseExactly(text), text);
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error;
      this.say(`it is not JSON, and not sent: ${error.message}`);
    }
  }

  /** Ctrl-D or /quit: what was typed is dealt with, and awaited. */
  async #leave(): Promise<void> {
    await this.#lines;
    const open = this.#outgoing.openCount;
    if (open > 0) this.say(`waiting for ${open === 1 ? 'an ack' : `${open} acks`}; Ctrl-C gives up`);
    await this.#outgoing.settled();
    if (this.#outgoing.failedCount > 0) throw new ExitError(exitCode.failed);
  }

  #where(): string {
    const { state } = this.app;
    return state.phase === 'online' ? ` at ${hostPort(state.address)}` : '';
  }
}

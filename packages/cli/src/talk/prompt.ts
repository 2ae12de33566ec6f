import { clearScreenDown, createInterface, cursorTo, type Interface, moveCursor } from 'node:readline';
import type { WriteStream } from 'node:tty';
import { visible } from '../output.ts';
import { type Screen, writeLine } from './report.ts';

export interface PromptEvents {
  line(text: string): void;
  /** Ctrl-C. */
  interrupted(): void;
  /** Ctrl-D, or `close`. */
  closed(): void;
  complete(line: string): [string[], string];
}

/** A line being typed at the bottom of the terminal, and everything else printed above it. */
export class Prompt implements Screen {
  readonly #readline: Interface;
  /** Where the line is shown: not among what is printed, when that goes elsewhere. */
  readonly #output: WriteStream | undefined;
  #isOpen = true;

  constructor(events: PromptEvents) {
    this.#output = [process.stdout, process.stderr].find(({ isTTY }) => isTTY);
    this.#readline = createInterface({
      input: process.stdin,
      ...(this.#output && { output: this.#output }),
      terminal: this.#output !== undefined,
      completer: (line: string) => events.complete(line),
      removeHistoryDuplicates: true,
    });
    this.#readline.on('line', (text) => events.line(text));
    this.#readline.on('SIGINT', () => events.interrupted());
    this.#readline.on('close', () => {
      this.#isOpen = false;
      events.closed();
    });
  }

  show(text: string): void {
    this.#readline.setPrompt(text);
    if (this.#isOpen) this.#readline.prompt(true);
  }

  close(): void {
    this.#readline.close();
  }

  async line(text: string): Promise<void> {
    this.#erase();
    const written = writeLine(text);
    this.#redraw();
    await written;
  }

  note(text: string): void {
    this.#erase();
    process.stderr.write(`* ${visible(text)}\n`);
    this.#redraw();
  }

  #erase(): void {
    if (!this.#isOpen || this.#output === undefined) return;
    moveCursor(this.#output, 0, -this.#readline.getCursorPos().rows);
    cursorTo(this.#output, 0);
    clearScreenDown(this.#output);
    // What was erased is not to be erased again.
    (this.#readline as Interface & { prevRows: number }).prevRows = 0;
  }

  #redraw(): void {
    if (this.#isOpen) this.#readline.prompt(true);
  }
}

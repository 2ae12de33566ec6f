import { Presets, SingleBar } from 'cli-progress';

/** A progress bar on stderr, where that is a terminal; elsewhere nothing. */
export class Progress {
  readonly #bar: SingleBar;
  #isShown = false;

  constructor(what: string) {
    this.#bar = new SingleBar(
      { format: `${what} {bar} {percentage} %  {value} of {total} MiB  {eta_formatted} left`, stream: process.stderr },
      Presets.shades_classic,
    );
  }

  show(doneBytes: number, totalBytes: number): void {
    const total = toMib(Math.max(totalBytes, doneBytes, 1));
    if (!this.#isShown) this.#bar.start(total, 0);
    this.#isShown = true;
    this.#bar.setTotal(total);
    this.#bar.update(toMib(doneBytes));
  }

  end(): void {
    if (this.#isShown) this.#bar.stop();
    this.#isShown = false;
  }
}

function toMib(bytes: number): number {
  return Math.round((bytes / 1024 ** 2) * 10) / 10;
}

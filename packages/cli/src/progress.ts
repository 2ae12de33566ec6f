import { Presets, SingleBar } from 'cli-progress';

/** How far something is, on stderr, where that is a terminal; elsewhere nothing. */
export class Progress {
  readonly #bar: SingleBar | undefined;
  #isShown = false;

  /** @param unit what is counted; of `MiB`, `devices`, `records` and `sessions` it is known how many there are */
  constructor(what: string, unit: 'MiB' | 'devices' | 'records' | 'sessions' | 'rows' | 'messages' | 'silent') {
    if (unit === 'silent' || !process.stderr.isTTY) return;
    const format =
      unit === 'MiB' || unit === 'devices' || unit === 'records' || unit === 'sessions'
        ? `${what} {bar} {percentage} %  {value} of {total} ${unit}  {eta_formatted} left`
        : `${what}  {value} ${unit}  {duration_formatted}`;
    this.#bar = new SingleBar({ format, stream: process.stderr, clearOnComplete: true }, Presets.shades_classic);
  }

  bytes(doneBytes: number, totalBytes: number): void {
    this.#show(toMib(doneBytes), toMib(Math.max(totalBytes, doneBytes, 1)));
  }

  /** @param total how many there are, where it is known */
  count(done: number, total = done): void {
    this.#show(done, Math.max(total, 1));
  }

  #show(done: number, total: number): void {
    if (!this.#isShown) this.#bar?.start(total, 0);
    this.#isShown = true;
    this.#bar?.setTotal(total);
    this.#bar?.update(done);
  }

  end(): void {
    if (this.#isShown) this.#bar?.stop();
    this.#isShown = false;
  }
}

function toMib(bytes: number): number {
  return Math.round((bytes / 1024 ** 2) * 10) / 10;
}

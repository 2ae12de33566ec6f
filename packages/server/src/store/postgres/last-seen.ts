import { serverLimits } from '@hawser/protocol';
import { StoreAway, type Timer } from '../../core/ports.ts';
import { float8s, texts } from './arrays.ts';
import type { Connections } from './connections.ts';

const NOTE_SEEN = { name: 'note-seen', text: 'SELECT note_seen($1::text[], $2::float8[], $3::float8[])' } as const;

/** When devices were last seen, on its way to the database: some together, and lost where the database is away. */
export class LastSeen {
  readonly #connections: Connections;
  readonly #onError: (error: unknown) => void;
  #waiting = new Map<string, { readonly wall: number; readonly ran: number }>();
  #timer: Timer | undefined;
  #writing: Promise<void> = Promise.resolve();

  constructor(connections: Connections, onError: (error: unknown) => void) {
    this.#connections = connections;
    this.#onError = onError;
  }

  /** @param ran by `Time.ran`, if that is known */
  note(name: string, wall: number, ran = 0): void {
    this.#waiting.set(name, { wall, ran });
    this.#timer ??= this.#connections.clock.after(serverLimits.postgresLazyMs, () => void this.write());
  }

  /** Resolves when what was noted so far is written, or lost. */
  write(): Promise<void> {
    this.#timer?.cancel();
    this.#timer = undefined;
    if (this.#waiting.size === 0) return this.#writing;
    const seen = this.#waiting;
    this.#waiting = new Map();
    this.#writing = this.#writing.then(async () => {
      try {
        const times = [...seen.values()];
        const columns = [float8s(times.map(({ wall }) => wall)), float8s(times.map(({ ran }) => ran))];
        await this.#connections.query(NOTE_SEEN, [texts([...seen.keys()]), ...columns]);
      } catch (error) {
        if (!(error instanceof StoreAway)) this.#onError(error);
      }
    });
    return this.#writing;
  }

  async close(): Promise<void> {
    this.#timer?.cancel();
    await this.write();
  }

  drop(): void {
    this.#timer?.cancel();
    this.#waiting = new Map();
  }
}

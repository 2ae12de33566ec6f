import { serverLimits } from '@hawser/protocol';
import { StoreAway } from '../../core/ports.ts';
import { float8s, texts } from './arrays.ts';
import type { Connections } from './connections.ts';

const NOTE_SEEN = { name: 'note-seen', text: 'SELECT note_seen($1::text[], $2::float8[])' } as const;

/** When devices were last seen, on its way to the database: some together, and lost where the database is away. */
export class LastSeen {
  readonly #connections: Connections;
  readonly #onError: (error: unknown) => void;
  #waiting = new Map<string, number>();
  #timer: NodeJS.Timeout | undefined;
  #writing: Promise<void> = Promise.resolve();

  constructor(connections: Connections, onError: (error: unknown) => void) {
    this.#connections = connections;
    this.#onError = onError;
  }

  note(name: string, wall: number): void {
    this.#waiting.set(name, wall);
    this.#timer ??= setTimeout(() => void this.#write(), serverLimits.postgresLazyMs);
  }

  #write(): Promise<void> {
    this.#timer = undefined;
    const seen = this.#waiting;
    this.#waiting = new Map();
    this.#writing = this.#writing.then(async () => {
      try {
        await this.#connections.query(NOTE_SEEN, [texts([...seen.keys()]), float8s([...seen.values()])]);
      } catch (error) {
        if (!(error instanceof StoreAway)) this.#onError(error);
      }
    });
    return this.#writing;
  }

  async close(): Promise<void> {
    clearTimeout(this.#timer);
    if (this.#waiting.size > 0) await this.#write();
    await this.#writing;
  }

  drop(): void {
    clearTimeout(this.#timer);
    this.#waiting = new Map();
  }
}

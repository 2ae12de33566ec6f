import type { Store } from '../core/ports.ts';
import type { BackupSeal, OnProgress } from './backup.ts';
import type { StoredName } from './record.ts';

/** A record that was set aside for its wrong checksum. */
export interface DamagedRecord {
  readonly key: Uint8Array;
  /** What kind of record it was, and whose. */
  readonly record: string;
  readonly name: string;
  readonly bytes: number;
}

/** What a server and its operators need of a store beside the port. */
export interface ServedStore extends Store {
  list(kind: 'user' | 'device', after: string, count: number): Promise<readonly (readonly [string, StoredName])[]>;
  /** Batches and records written since start, and how many damaged records are set aside. */
  readonly stats: { readonly batches: number; readonly operations: number; readonly damaged: number };
  /** The process is running out of memory, or no longer. */
  set isMemoryShort(isShort: boolean);
  /** Notes how long the store has been in service by now; not synced. */
  noteRan(ms: number): void;
  /** Damaged records that are set aside, in the order of their keys behind `after`. */
  damaged(after: Uint8Array | undefined, count: number): Promise<readonly DamagedRecord[]>;
  /** Deletes the damaged records that are set aside; returns how many. */
  forgetDamaged(): Promise<number>;
  /** Copies what is stored at this moment into a new folder; see `backup.ts`. */
  backUp(folder: string, wall: number, onProgress: OnProgress): Promise<BackupSeal>;
  /** Writes what is waiting, and closes. */
  close(): Promise<void>;
}

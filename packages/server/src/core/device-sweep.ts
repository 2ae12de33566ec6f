import { serverLimits } from '@hawser/protocol';
import type { Accounts } from './accounts.ts';
import type { Counters } from './counters.ts';
import type { Delivery } from './delivery.ts';
import { isUnused } from './device-record.ts';
import type { Directory } from './directory.ts';
import { type Cluster, ClusterAway, type Store, type Time } from './ports.ts';
import type { Removal } from './removal.ts';

export interface DeviceSweepPorts {
  readonly store: Store;
  readonly accounts: Accounts;
  readonly directory: Directory;
  readonly delivery: Delivery;
  readonly cluster: Cluster | undefined;
  readonly removal: Removal | undefined;
  readonly counters: Counters;
  readonly time: Time;
  readonly ageMsMax: number;
}

/**
 * Forgets devices that are of no use to anybody: anyone may come as any id, and each leaves a record. Age counts by the
 * smaller of two clocks, as that of messages does: never too early.
 */
export class DeviceSweep {
  readonly #ports: DeviceSweepPorts;
  #isSweeping = false;
  #isEnded = false;

  constructor(ports: DeviceSweepPorts) {
    this.#ports = ports;
  }

  /**
   * Goes through all devices, some at a time with a rest in between. One sweep at a time. It comes to nothing where
   * another node cannot be asked: the next one will be.
   */
  async run(): Promise<void> {
    if (this.#isSweeping) return;
    this.#isSweeping = true;
    try {
      await this.#sweep();
    } catch (error) {
      if (!(error instanceof ClusterAway)) throw error;
    } finally {
      this.#isSweeping = false;
    }
  }

  async #sweep(): Promise<void> {
    const { store, time } = this.#ports;
    for (let after: string | undefined = ''; after !== undefined && !this.#isEnded; ) {
      const rows: Awaited<ReturnType<Store['list']>> = await store.list(
        'device',
        after,
        serverLimits.deviceSweepRecords,
      );
      const { wallBefore, ranBefore } = this.#bounds();
      for (const [name, record] of rows) {
        if (this.#isEnded) return;
        if (isUnused(record, wallBefore, ranBefore)) await this.#drop(name);
      }
      after = rows.at(-1)?.[0];
      if (after !== undefined) {
        await new Promise<void>((resolve) => time.after(serverLimits.deviceSweepRestMs, resolve));
      }
    }
  }

  #bounds(): { readonly wallBefore: number; readonly ranBefore: number } {
    const { time, ageMsMax } = this.#ports;
    return { wallBefore: time.wall() - ageMsMax, ranBefore: time.ran() - ageMsMax };
  }

  async #drop(name: string): Promise<void> {
    const { store, accounts, directory, delivery, cluster, removal, counters } = this.#ports;
    if ((await cluster?.locate(name)) !== undefined) return;
    const { wallBefore, ranBefore } = this.#bounds();
    // One that has been connected for longer than that is in use.
    const isIdle = () => directory.get(name) === undefined && !delivery.hasMailbox(name);
    const drop = async (): Promise<boolean> =>
      removal === undefined
        ? (await store.dropUnused(name, wallBefore, ranBefore)) === true
        : removal.run(name, true, (others) => store.dropUnused(name, wallBefore, ranBefore, others));
    if (await accounts.dropUnused(name, isIdle, drop)) counters.devicesExpired++;
  }

  /** Begins no further step. */
  end(): void {
    this.#isEnded = true;
  }
}

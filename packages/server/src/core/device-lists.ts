import { DevicesWriter, serverLimits, wireLimits } from '@hawser/protocol';
import type { Directory } from './directory.ts';
import type { Cluster, Store, Time } from './ports.ts';

/**
 * The answers to cmd 205. Few are made at once, in the order asked for, each from a few records at a time: whoever has a
 * thousand devices and asks without end takes neither memory nor the event loop from others. After a large one its place
 * rests. A session asks for one page at a time, so its next one waits behind those of all others.
 */
export class DeviceLists {
  readonly #store: Store;
  readonly #directory: Directory;
  readonly #cluster: Cluster | undefined;
  readonly #time: Time;
  #underWay = 0;
  readonly #waiting: (() => void)[] = [];

  constructor(store: Store, directory: Directory, cluster: Cluster | undefined, time: Time) {
    this.#store = store;
    this.#directory = directory;
    this.#cluster = cluster;
    this.#time = time;
  }

  /**
   * The page of a user's devices behind `after`, or the first; a device that was removed since is no hindrance.
   *
   * @param devices all that the user has added, asked for when it is this page's turn
   * @param isWanted whether somebody still waits for it
   */
  async page(
    devices: () => Iterable<string>,
    after: string | undefined,
    isWanted: () => boolean,
  ): Promise<Uint8Array | undefined> {
    if (this.#underWay >= serverLimits.deviceListsAtOnceMax) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    } else this.#underWay++;
    let bytes = 0;
    try {
      const body = isWanted() ? await this.#write(devices(), after) : undefined;
      bytes = body?.length ?? 0;
      return body;
    } finally {
      const restMs = (bytes * 1000 * serverLimits.deviceListsAtOnceMax) / serverLimits.deviceListBytesPerSecondMax;
      if (restMs < 1) this.#giveUpPlace();
      else this.#time.after(restMs, () => this.#giveUpPlace());
    }
  }

  /** Whoever waits takes it. */
  #giveUpPlace(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#underWay--;
    else next();
  }

  async #write(devices: Iterable<string>, after: string | undefined): Promise<Uint8Array> {
    const ids = [...devices].filter((id) => after === undefined || id > after).sort();
    const page = new DevicesWriter(wireLimits.devicesPageBytesMax);
    const whereabouts = new Whereabouts(this.#directory, this.#cluster, this.#time);
    const end = Math.min(ids.length, wireLimits.devicesPageMax);
    for (let at = 0; at < end; at += serverLimits.deviceRecordsAtOnce) {
      const some = ids.slice(at, Math.min(end, at + serverLimits.deviceRecordsAtOnce));
      const records = await this.#store.names(some);
      const online = await whereabouts.of(some);
      for (const [i, deviceId] of some.entries()) {
        const record = records[i];
        // The operator has removed it just now.
        if (record?.kind !== 'device') continue;
        const { version, abilities, lastSeenAt: lastSeen } = record;
        if (!page.add({ deviceId, version, abilities, online: online[i], lastSeen })) {
          return page.body(ids[at + i - 1]);
        }
      }
    }
    return page.body(end < ids.length ? ids[end - 1] : undefined);
  }

  /** Pages that wait for their turn. */
  get waiting(): number {
    return this.#waiting.length;
  }
}

/** Who is online, here or on another node. */
class Whereabouts {
  readonly #directory: Directory;
  readonly #cluster: Cluster | undefined;
  readonly #time: Time;
  readonly #giveUpAt: number;
  /** The other nodes do not answer: they are not asked again for this page. */
  #isAway = false;

  constructor(directory: Directory, cluster: Cluster | undefined, time: Time) {
    this.#directory = directory;
    this.#cluster = cluster;
    this.#time = time;
    this.#giveUpAt = time.now() + serverLimits.locateTimeoutMs;
  }

  /** For each name whether it is online; `undefined` when that cannot be told for now. */
  async of(names: readonly string[]): Promise<readonly (boolean | undefined)[]> {
    const cluster = this.#cluster;
    if (cluster === undefined) return names.map((name) => this.#directory.get(name) !== undefined);
    return Promise.all(names.map((name) => this.#directory.get(name) !== undefined || this.#located(cluster, name)));
  }

  #located(cluster: Cluster, name: string): Promise<boolean | undefined> | undefined {
    if (this.#isAway) return undefined;
    return new Promise((resolve) => {
      const timer = this.#time.after(Math.max(0, this.#giveUpAt - this.#time.now()), () => {
        this.#isAway = true;
        resolve(undefined);
      });
      cluster.locate(name).then(
        (node) => {
          timer.cancel();
          // A session that has just left is given up a moment later.
          resolve(node !== undefined && node !== cluster.self);
        },
        () => {
          this.#isAway = true;
          timer.cancel();
          resolve(undefined);
        },
      );
    });
  }
}

import { serverLimits } from '@hawser/protocol';
import type { Delivery } from './delivery.ts';
import type { Directory } from './directory.ts';
import type { Handed, Memory } from './packets.ts';
import { type Cluster, ClusterAway, type Time } from './ports.ts';
import type { Session } from './session.ts';

/** What this node has to do with a name at present. */
interface Hold {
  /** The claim under which the session here has the name. */
  token: number;
  /** The newest claim of another node that this node was told of. */
  takenBy: number;
  /** Logins that have claimed the name and are not served yet. */
  arriving: number;
}

/**
 * One name, one session, on all nodes: claims names for the sessions of this node, and hands names over to others, with
 * what only this node knows of them.
 *
 * The node that had a name ends its session, makes durable what is on its way from and to it, and then says so. Before
 * that the new session is not served: what it sends comes behind all that was sent before.
 */
export class Handover {
  readonly #cluster: Cluster;
  readonly #time: Time;
  readonly #directory: Directory;
  readonly #delivery: Delivery;
  readonly #isWithheld: (name: string) => boolean;
  readonly #holds = new Map<string, Hold>();
  /** Who waits for which answer, by node, name and claim. */
  readonly #asked = new Map<string, (memory: Memory) => void>();
  /** Who is being answered, by the same. */
  readonly #handing = new Set<string>();
  /** Names that are being given up. */
  readonly #leaving = new Set<Promise<void>>();

  /** @param isWithheld whether the name is being removed */
  constructor(
    cluster: Cluster,
    time: Time,
    directory: Directory,
    delivery: Delivery,
    isWithheld: (name: string) => boolean = () => false,
  ) {
    this.#isWithheld = isWithheld;
    this.#cluster = cluster;
    this.#time = time;
    this.#directory = directory;
    this.#delivery = delivery;
  }

  // ---- names that come here

  /**
   * Claims a name for a session and waits until every node that had it has let go; `take` is called in between, when
   * the session becomes the one of its name. False when the session has ended by then, or when a newer login has the
   * name: then the session has been told. Rejects with `ClusterAway`.
   */
  async claim(name: string, session: Session, take: () => void): Promise<boolean> {
    const hold = this.#hold(name);
    hold.arriving++;
    try {
      const { token, previous } = await this.#cluster.claim(name);
      if (token < hold.takenBy || token < hold.token) session.supersede();
      if (this.#isWithheld(name)) session.close('removed');
      if (session.isClosed) {
        if (token > hold.token) this.#cluster.release(name, token);
        return false;
      }
      hold.token = token;
      take();
      await Promise.all(previous.map((node) => this.#collect(node, name, token, session)));
      // What was known of the name may have come when nobody needed it here any more: the next claim asks for it again.
      if (session.isClosed) return false;
      this.#delivery.hasAll(name, token);
      if (previous.length > 0) this.#cluster.confirm(name, token, previous);
      return true;
    } finally {
      hold.arriving--;
      this.#forgetUnused(name);
    }
  }

  /** Resolves when a node that had the name has let go of it, and what it knew of it is here; or the session has ended. */
  async #collect(node: string, name: string, token: number, session: Session): Promise<void> {
    const key = `${node}\n${name}\n${token}`;
    const answer = Promise.withResolvers<Memory | undefined>();
    let isAnswered = false;
    this.#asked.set(key, answer.resolve);
    const callOff = this.#cluster.onVoid(node, () => answer.resolve(undefined));
    const giveUpAt = this.#time.now() + serverLimits.handoverTimeoutMs;
    const ask = (): void => {
      if (isAnswered) return;
      if (session.isClosed) answer.resolve(undefined);
      else if (this.#time.now() >= giveUpAt) answer.reject(new ClusterAway(`${node} does not hand over`));
      else {
        this.#cluster.send(node, { type: 'takeOver', name, token });
        this.#time.after(serverLimits.handoverAgainAfterMs, ask);
      }
    };
    ask();
    try {
      const memory = await answer.promise;
      if (memory !== undefined) this.#inherit(name, memory);
    } finally {
      isAnswered = true;
      callOff();
      this.#asked.delete(key);
    }
  }

  #inherit(name: string, memory: Memory): void {
    this.#delivery.inherit(name, memory);
    const session = this.#directory.get(name);
    for (const msgId of memory.unsure) session?.ack({ msgId, isEncrypt: false });
  }

  /** A node has let go of a name. */
  handed(node: string, { name, token, settled, hadUnder, unsure, finished }: Handed): void {
    this.#asked.get(`${node}\n${name}\n${token}`)?.({ settled, hadUnder, unsure, finished });
  }

  /** Ends the session of a name, whichever other node has it. */
  async expel(name: string): Promise<void> {
    const { token } = await this.#cluster.claim(name);
    this.#cluster.release(name, token);
  }

  // ---- names that leave

  /** The session of this name has ended: gives the name up when all that is on its way is durable. */
  left(name: string): Promise<void> {
    // Another session has it by now.
    if (this.#directory.get(name) !== undefined) return Promise.resolve();
    const leaving = this.#giveUp(name).finally(() => this.#leaving.delete(leaving));
    this.#leaving.add(leaving);
    return leaving;
  }

  /** Resolves when no name is being given up. */
  async whenGivenUp(): Promise<void> {
    while (this.#leaving.size > 0) await Promise.allSettled(this.#leaving);
  }

  async #giveUp(name: string): Promise<void> {
    const token = this.#holds.get(name)?.token ?? 0;
    await this.#delivery.leave(name);
    // Unless it has come back, which is another claim.
    if (token > 0 && this.#directory.get(name) === undefined) this.#cluster.release(name, token);
    this.#forgetUnused(name);
  }

  /** Another node has claimed the name. */
  taken(name: string, token: number): void {
    const hold = this.#hold(name);
    hold.takenBy = Math.max(hold.takenBy, token);
    // A claim of this node that is not answered yet finds out by itself.
    if (hold.token < token) this.#directory.get(name)?.supersede();
    this.#forgetUnused(name);
  }

  /** Another node asks for the name, and is told when it may have it. It asks again until it is. */
  async handOver(node: string, name: string, token: number): Promise<void> {
    const key = `${node}\n${name}\n${token}`;
    if (this.#handing.has(key)) return;
    this.#handing.add(key);
    try {
      this.taken(name, token);
      // A session here has it by a newer claim: whoever asks has lost it, and hears of that when it is asked for that claim.
      // An answer would have it serve its session until then, with nothing known of what that one may repeat.
      if (this.#directory.get(name) !== undefined) return;
      const memory = await this.#delivery.leave(name);
      this.#cluster.send(node, { type: 'handed', name, token, ...memory });
    } finally {
      this.#handing.delete(key);
    }
  }

  #hold(name: string): Hold {
    let hold = this.#holds.get(name);
    if (hold === undefined) {
      hold = { token: 0, takenBy: 0, arriving: 0 };
      this.#holds.set(name, hold);
    }
    return hold;
  }

  #forgetUnused(name: string): void {
    const isUsed = this.#holds.get(name)?.arriving !== 0 || this.#directory.get(name) !== undefined;
    if (!isUsed) this.#holds.delete(name);
  }

  get size(): number {
    return this.#holds.size;
  }
}

import { serverLimits } from '@hawser/protocol';
import type { Delivery } from './delivery.ts';
import type { Directory } from './directory.ts';
import type { Handed, Memory } from './packets.ts';
import { type Cluster, ClusterAway, type Time } from './ports.ts';
import type { Session } from './session.ts';

/** A node that had a name before this one, and has not said yet that it has let go of it. */
interface Owed {
  readonly node: string;
  /** The claim by which this node got the name. */
  readonly token: number;
  /** While it is being asked. */
  handed: Promise<void> | undefined;
}

/** What this node has to do with a name at present. */
interface Hold {
  /** The claim under which the session here has the name. */
  token: number;
  /** The newest claim of another node that this node was told of. */
  takenBy: number;
  /** Claims of this node that are not answered, and who waits until there are none. */
  unanswered: number;
  readonly waiting: (() => void)[];
  readonly owed: Owed[];
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
  readonly #holds = new Map<string, Hold>();
  /** Who waits for which answer, by name and claim. */
  readonly #asked = new Map<string, (memory: Memory) => void>();

  constructor(cluster: Cluster, time: Time, directory: Directory, delivery: Delivery) {
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
    const token = await this.#claimToken(name, hold, session);
    if (token === undefined) {
      this.#forgetUnused(name);
      return false;
    }
    hold.token = token;
    take();
    await this.#collect(name, hold, token);
    return !session.isClosed;
  }

  async #claimToken(name: string, hold: Hold, session: Session): Promise<number | undefined> {
    hold.unanswered++;
    try {
      const { token, previous } = await this.#cluster.claim(name);
      if (previous !== undefined) hold.owed.push({ node: previous, token, handed: undefined });
      if (token < hold.takenBy || token < hold.token) session.supersede();
      if (!session.isClosed) return token;
      if (token > hold.token) this.#cluster.release(name, token);
      return undefined;
    } finally {
      hold.unanswered--;
      if (hold.unanswered === 0) for (const resolve of hold.waiting.splice(0)) resolve();
    }
  }

  /** Resolves when all who had the name before a claim have let go of it. */
  async #collect(name: string, hold: Hold, token: number): Promise<void> {
    const owed = hold.owed.filter((each) => each.token <= token);
    await Promise.all(
      owed.map((each) => {
        each.handed ??= this.#ask(name, hold, each);
        return each.handed;
      }),
    );
  }

  async #ask(name: string, hold: Hold, owed: Owed): Promise<void> {
    const { node, token } = owed;
    const key = `${name}\n${token}`;
    const answer = Promise.withResolvers<Memory | undefined>();
    let isAnswered = false;
    this.#asked.set(key, answer.resolve);
    void this.#cluster.whenVoid(node).then(() => answer.resolve(undefined));
    const giveUpAt = this.#time.now() + serverLimits.handoverTimeoutMs;
    const ask = (): void => {
      if (isAnswered) return;
      if (this.#time.now() >= giveUpAt) answer.reject(new ClusterAway(`${node} does not hand over`));
      else {
        this.#cluster.send(node, { type: 'takeOver', name, token });
        this.#time.after(serverLimits.handoverAgainAfterMs, ask);
      }
    };
    ask();
    try {
      const memory = await answer.promise;
      hold.owed.splice(hold.owed.indexOf(owed), 1);
      if (memory !== undefined) this.#inherit(name, memory);
    } finally {
      isAnswered = true;
      owed.handed = undefined;
      this.#asked.delete(key);
      this.#forgetUnused(name);
    }
  }

  #inherit(name: string, memory: Memory): void {
    this.#delivery.inherit(name, memory);
    const session = this.#directory.get(name);
    for (const msgId of memory.unsure) session?.ack({ msgId, isEncrypt: false });
  }

  /** Another node has let go of a name. */
  handed({ name, token, settled, unsure, finished }: Handed): void {
    this.#asked.get(`${name}\n${token}`)?.({ settled, unsure, finished });
  }

  // ---- names that leave

  /** The session of this name has ended: gives the name up when all that is on its way is durable. */
  async left(name: string): Promise<void> {
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
    // A claim of this node that is not answered finds out by itself.
    if (hold.token < token) this.#directory.get(name)?.supersede();
    this.#forgetUnused(name);
  }

  /** Another node asks for the name, and is told when it may have it. */
  async handOver(node: string, name: string, token: number): Promise<void> {
    this.taken(name, token);
    const hold = this.#hold(name);
    while (hold.unanswered > 0) await new Promise<void>((resolve) => hold.waiting.push(resolve));
    await this.#collect(name, hold, token);
    const memory = await this.#delivery.leave(name);
    this.#cluster.send(node, { type: 'handed', name, token, ...memory });
    this.#forgetUnused(name);
  }

  #hold(name: string): Hold {
    let hold = this.#holds.get(name);
    if (hold === undefined) {
      hold = { token: 0, takenBy: 0, unanswered: 0, waiting: [], owed: [] };
      this.#holds.set(name, hold);
    }
    return hold;
  }

  #forgetUnused(name: string): void {
    const hold = this.#holds.get(name);
    if (hold === undefined || hold.unanswered > 0 || hold.owed.length > 0) return;
    if (this.#directory.get(name) === undefined) this.#holds.delete(name);
  }

  get size(): number {
    return this.#holds.size;
  }
}

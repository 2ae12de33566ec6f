import { serverLimits } from '@hawser/protocol';
import type { LetGo, Removed, Removing } from './packets.ts';
import { type Cluster, ClusterAway, type Log, StoreAway, type Time } from './ports.ts';

/** What a node does about a name that is being removed, here or by another node. */
export interface Withholding {
  /** Whether nothing of the name is here: neither a session nor a message. */
  isIdle(name: string): boolean;
  /** Whether the store has the name. Rejects with `StoreAway`. */
  isThere(name: string): Promise<boolean>;
  /**
   * Nobody may log in under the name, write to it or add it, until `isGone` has resolved. `letGo` is called when its
   * session has ended, and what was on its way is durable. What is known of it is forgotten when it is gone: where
   * nobody knows that (`undefined`) nothing comes of the removal any more, and the store tells.
   */
  withhold(name: string, letGo: () => void, isGone: Promise<boolean | undefined>): Promise<void>;
}

export interface RemovalPorts {
  readonly cluster: Cluster;
  readonly time: Time;
  readonly log: Log;
  readonly withholding: Withholding;
}

/** Takes a name out of the store; `'others'` when runs stand that are not among these. */
export type TakeOut = (others: readonly string[]) => Promise<boolean | 'others'>;

/** A removal of another node that this one has heard of. */
interface Helped {
  hasLetGo: boolean;
  readonly over: (isGone: boolean | undefined) => void;
}

/**
 * Removes names in a cluster. A name may go when no node has anything of it: no session, no message on its way to or from
 * it, nothing read of it that might still be relied on. So every node that may exist lets go of it first and keeps it
 * from everybody, until it hears that the removal is over or that the run that removes is void; and the store, in the
 * transaction that takes the name out, sees that these are all, and that the run that removes is not void itself. Whoever
 * registers under the name afterwards finds nothing of the one before.
 */
export class Removal {
  readonly #ports: RemovalPorts;
  #numbers = 0;
  #isEnded = false;
  /** Removals of this node: whom each node that is asked tells what it says. */
  readonly #asked = new Map<number, Map<string, (answer: LetGo) => void>>();
  /** Removals of others, by node and number. */
  readonly #helped = new Map<string, Helped>();

  constructor(ports: RemovalPorts) {
    this.#ports = ports;
  }

  /** The server stops: others find out what came of removals that are under way. */
  end(): void {
    this.#isEnded = true;
  }

  get size(): number {
    return this.#asked.size + this.#helped.size;
  }

  // ---- the node that removes

  /**
   * Takes a name out that this node has let go of and withholds. False when it was not there, or, with `onlyIdle`, when a
   * node has something of it. Rejects with `ClusterAway` when a node does not answer: then nothing is changed.
   */
  async run(name: string, onlyIdle: boolean, takeOut: TakeOut): Promise<boolean> {
    const { cluster, time } = this.#ports;
    const number = ++this.#numbers;
    const answers = new Map<string, (answer: LetGo) => void>();
    this.#asked.set(number, answers);
    const asked = new Set<string>();
    const giveUpAt = time.now() + serverLimits.removalTimeoutMs;
    let isGone = false;
    try {
      for (;;) {
        const others = await cluster.others();
        const fresh = others.filter((node) => !asked.has(node));
        const ask = (node: string): Promise<boolean> => {
          asked.add(node);
          return this.#ask(node, { type: 'removing', name, removal: number, onlyIdle }, answers, giveUpAt);
        };
        if ((await Promise.all(fresh.map(ask))).includes(false)) return false;
        const isTakenOut = await this.#takeOut(name, () => takeOut([...asked]));
        isGone = isTakenOut === true;
        if (isTakenOut !== 'others') return isGone;
        // Somebody has begun meanwhile, or a run that is void already is not known to be.
        if (time.now() >= giveUpAt) throw new ClusterAway('nodes come and go');
      }
    } finally {
      this.#asked.delete(number);
      for (const node of asked) cluster.send(node, { type: 'removed', name, removal: number, isGone });
    }
  }

  /** Asks a node until it has let go, or is void; false when it does not want to. */
  async #ask(
    node: string,
    packet: Removing,
    answers: Map<string, (answer: LetGo) => void>,
    giveUpAt: number,
  ): Promise<boolean> {
    const { cluster, time } = this.#ports;
    const answer = Promise.withResolvers<boolean>();
    answers.set(node, ({ isDone }) => answer.resolve(isDone));
    const callOff = cluster.onVoid(node, () => answer.resolve(true));
    let isAnswered = false;
    const ask = (): void => {
      if (isAnswered) return;
      if (time.now() >= giveUpAt) answer.reject(new ClusterAway(`${node} does not let go of the name`));
      else {
        cluster.send(node, packet);
        time.after(serverLimits.handoverAgainAfterMs, ask);
      }
    };
    ask();
    try {
      return await answer.promise;
    } finally {
      isAnswered = true;
      callOff();
    }
  }

  /** Until it is known what came of it: nobody may be given the name back before. */
  async #takeOut(name: string, takeOut: () => Promise<boolean | 'others'>): Promise<boolean | 'others'> {
    const { time, withholding } = this.#ports;
    for (let isUnsure = false; ; isUnsure = true) {
      try {
        const isTakenOut = await takeOut();
        if (isTakenOut !== false || !isUnsure) return isTakenOut;
        // It was there: the call before has taken it out, unless it is to stay, being of use.
        return !(await withholding.isThere(name));
      } catch (error) {
        if (!(error instanceof StoreAway) || this.#isEnded) throw error;
        await new Promise<void>((resolve) => time.after(serverLimits.removalAgainMs, resolve));
      }
    }
  }

  /** A node has let go of a name, or does not want to. Where nobody waits for that any more it is over. */
  letGo(node: string, answer: LetGo): void {
    const { name, removal } = answer;
    const answers = this.#asked.get(removal);
    if (answers === undefined) this.#ports.cluster.send(node, { type: 'removed', name, removal, isGone: undefined });
    else answers.get(node)?.(answer);
  }

  // ---- the others

  /** Another node removes a name. It asks until it is answered. */
  asked(node: string, { name, removal, onlyIdle }: Removing): void {
    const { cluster, withholding, log } = this.#ports;
    const key = `${node}\n${removal}`;
    const known = this.#helped.get(key);
    if (known !== undefined) {
      if (known.hasLetGo) cluster.send(node, { type: 'letGo', name, removal, isDone: true });
      return;
    }
    if (onlyIdle && !withholding.isIdle(name)) {
      cluster.send(node, { type: 'letGo', name, removal, isDone: false });
      return;
    }
    const isGone = Promise.withResolvers<boolean | undefined>();
    const helped: Helped = { hasLetGo: false, over: isGone.resolve };
    this.#helped.set(key, helped);
    const callOff = cluster.onVoid(node, () => isGone.resolve(undefined));
    const letGo = (): void => {
      helped.hasLetGo = true;
      this.#say(node, name, removal, key);
    };
    withholding
      .withhold(name, letGo, isGone.promise)
      .catch((error: unknown) => log.warn({ err: error, name }, 'a name could not be let go of'))
      .finally(() => {
        callOff();
        this.#helped.delete(key);
      });
  }

  /** Says so again and again: that it is over may be lost on the way. */
  #say(node: string, name: string, removal: number, key: string): void {
    const { cluster, time } = this.#ports;
    if (!this.#helped.has(key)) return;
    cluster.send(node, { type: 'letGo', name, removal, isDone: true });
    time.after(serverLimits.removalAgainMs, () => this.#say(node, name, removal, key));
  }

  /** The removal has come to its end, whatever that is. */
  over(node: string, { removal, isGone }: Removed): void {
    this.#helped.get(`${node}\n${removal}`)?.over(isGone);
  }
}

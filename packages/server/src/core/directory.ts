import type { Session } from './session.ts';

/** Who is online on this node. One name has one session; a newer one wins. */
export class Directory {
  readonly #sessions = new Map<string, Session>();

  /** Makes `session` the one of its name; returns the one that it supersedes. */
  claim(name: string, session: Session): Session | undefined {
    const older = this.#sessions.get(name);
    this.#sessions.set(name, session);
    return older === session ? undefined : older;
  }

  /** Gives the name up, unless another session has it by now. */
  release(name: string, session: Session): void {
    if (this.#sessions.get(name) === session) this.#sessions.delete(name);
  }

  /** No session may exchange messages with this name by a binding any more. */
  forgetPeer(name: string): void {
    for (const session of this.#sessions.values()) session.peers.delete(name);
  }

  get(name: string): Session | undefined {
    return this.#sessions.get(name);
  }

  get size(): number {
    return this.#sessions.size;
  }
}

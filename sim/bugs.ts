import { serverLimits } from '@hawser/protocol';
import { Lease } from '@hawser/server/cluster/redis/lease';
import { Names } from '@hawser/server/cluster/redis/names';
import { Accounts } from '@hawser/server/core/accounts';
import type { Core } from '@hawser/server/core/core';
import { Inlet } from '@hawser/server/core/inlet';
import type { Mailbox } from '@hawser/server/core/mailbox';
import type { Message } from '@hawser/server/core/message';
import { APPEND } from '@hawser/server/core/ports';
import { Sender } from '@hawser/server/core/sender';
import { Removals } from '@hawser/server/store/postgres/removals';
import { Database } from './postgres/database.ts';
import { RedisServer } from './redis/server.ts';
import { type SdkPatch, sdkBugs } from './sdk-bugs.ts';
import type { SimStore } from './store.ts';

/** A deliberate bug: a patch of one run of the server. What the checker is worth is how soon it finds them. */
export interface Bug {
  /** Seeds, counted from 1, within which it is caught. */
  readonly within: number;
  /** How many servers it takes to show. */
  readonly nodes?: number;
  /** A bug of the client's package: what it patches of each. */
  readonly sdk?: SdkPatch;
  readonly store?: (store: SimStore) => void;
  readonly core?: (core: Core) => void;
  /** Returns how to undo it, for what all runs share. */
  readonly global?: () => () => void;
}

export const bugs = {
  'ack before commit': {
    within: 10,
    core: (core) =>
      patchAccept(core, (accept, ...message) => {
        const outcome = accept(...message);
        const [sender, msgId, isEncrypt] = message;
        if (outcome === 'pending') sender.session?.ack({ msgId, isEncrypt });
        return outcome;
      }),
  },
  'sync taken away': {
    within: 10,
    store: (store) => {
      store.neverSyncs = true;
    },
  },
  'order forgotten on takeover': {
    within: 40,
    core: (core) => {
      const { delivery } = core;
      const commit = delivery.commit.bind(delivery);
      let collected: Message[] | undefined;
      delivery.commit = (message) => {
        if (collected === undefined) commit(message);
        else collected.push(message);
      };
      patchMailboxes(core, (mailbox) => {
        const detach = mailbox.detach.bind(mailbox);
        mailbox.detach = (session) => {
          collected = [];
          detach(session);
          const backwards = collected.reverse();
          collected = undefined;
          for (const message of backwards) commit(message);
        };
      });
    },
  },
  'drop on overflow': {
    within: 40,
    store: (store) => {
      const append = store.append.bind(store);
      store.append = async (messages) => {
        const results = await append(messages);
        return results.map((result) => (result === APPEND.full ? 1 : result));
      };
    },
  },
  'ack accepted from the wrong session': {
    within: 20,
    core: (core) => {
      const acks = new Set<(msgId: string) => void>();
      patchMailboxes(core, (mailbox) => {
        acks.add(mailbox.ack.bind(mailbox));
        mailbox.ack = (msgId) => {
          for (const ack of acks) ack(msgId);
        };
      });
    },
  },
  'window off by one': {
    within: 150,
    global: () => {
      const limits = serverLimits as { windowMessagesMax: number };
      limits.windowMessagesMax++;
      return () => {
        limits.windowMessagesMax--;
      };
    },
  },
  'redelivery forgets one': {
    within: 20,
    core: (core) =>
      patchMailboxes(core, (mailbox) => {
        let pushed: Message[] = [];
        const takeOutbox = mailbox.takeOutbox.bind(mailbox);
        mailbox.takeOutbox = () => {
          const outbox = takeOutbox();
          pushed.push(...outbox);
          return outbox;
        };
        const detach = mailbox.detach.bind(mailbox);
        mailbox.detach = (session) => {
          const forgotten = pushed.find((message) => message.inWindow && message.position > 0);
          detach(session);
          if (forgotten !== undefined) core.store.remove(forgotten);
          pushed = [];
        };
      }),
  },
  'de-duplication without the sender': {
    within: 20,
    core: (core) => {
      const senders = new Map<string, string>();
      patchAccept(core, (accept, ...message) => {
        const [sender, msgId] = message;
        const first = senders.get(msgId) ?? sender.name;
        senders.set(msgId, first);
        return first === sender.name ? accept(...message) : 'acked';
      });
    },
  },
  'ttl early': {
    within: 40,
    core: (core) => {
      const { delivery } = core;
      const dropIfExpired = delivery.dropIfExpired.bind(delivery);
      // Taken for milliseconds.
      delivery.dropIfExpired = (message) =>
        dropIfExpired(Object.create(message, { ttl: { value: message.ttl / 1000 } }));
    },
  },
  'binding ignored': {
    within: 20,
    core: (core) => {
      const { accounts } = core;
      const loadPeers = accounts.loadPeers.bind(accounts);
      accounts.loadPeers = (name, kind, loaded) =>
        loadPeers(name, kind, (peers, askedAt) => loaded(new Everybody(peers), askedAt));
    },
  },
  'the older session stays': {
    within: 20,
    core: (core) => {
      const { directory } = core;
      const claim = directory.claim.bind(directory);
      directory.claim = (name, session) => {
        claim(name, session);
        return undefined;
      };
    },
  },
  'removes what was not acked': {
    within: 20,
    core: (core) => {
      const { delivery } = core;
      const fromStore = delivery.fromStore.bind(delivery);
      delivery.fromStore = (mailbox, stored) => {
        const message = fromStore(mailbox, stored);
        if (message?.msgId.endsWith('3') === true) core.store.remove(message);
        return message;
      };
    },
  },
  'a gap between nodes is not noticed': {
    within: 60,
    nodes: 3,
    global: () => {
      const { admit } = Inlet.prototype;
      Inlet.prototype.admit = function (this: Inlet, packet, node) {
        const admitted = admit.call(this, packet, node);
        return admitted === 'refuse' && packet.seq > 0 ? 'next' : admitted;
      };
      return () => {
        Inlet.prototype.admit = admit;
      };
    },
  },
  'a push that was acked is forgotten at once': {
    within: 60,
    nodes: 3,
    global: () => {
      const { hasFinished } = Inlet.prototype;
      Inlet.prototype.hasFinished = () => false;
      return () => {
        Inlet.prototype.hasFinished = hasFinished;
      };
    },
  },
  'what a node has given up is forgotten with the next stream': {
    within: 150,
    nodes: 3,
    global: () => {
      const { admit } = Inlet.prototype;
      return patched(Inlet.prototype, 'admit', function (this: Inlet, packet, node) {
        return admit.call(this, { ...packet, isSettled: true }, node);
      });
    },
  },
  'a name is handed over at once': {
    within: 60,
    nodes: 3,
    core: (core) => {
      core.delivery.leave = () =>
        Promise.resolve({ settled: new Int32Array(0), hadUnder: 0, unsure: [], finished: [] });
    },
  },
  'a first message overtakes what another node stored': {
    within: 150,
    nodes: 3,
    global: () => {
      const { isFirstTo } = Sender.prototype;
      Sender.prototype.isFirstTo = () => false;
      return () => {
        Sender.prototype.isFirstTo = isFirstTo;
      };
    },
  },
  'a fenced node goes on': {
    within: 60,
    nodes: 3,
    core: (core) => Object.defineProperty(core, 'isFenced', { get: () => false }),
  },
  'a binding is known for ever': {
    within: 60,
    nodes: 3,
    global: () => {
      const limits = serverLimits as { peersTrustedMs: number };
      const { peersTrustedMs } = limits;
      limits.peersTrustedMs = Number.POSITIVE_INFINITY;
      return () => {
        limits.peersTrustedMs = peersTrustedMs;
      };
    },
  },
  // Of the adapters.
  'a Redis that has lost writes is trusted': {
    within: 60,
    nodes: 3,
    global: () => patched(RedisServer.prototype, 'nextName', () => 'f'.repeat(40)),
  },
  'names are not told again to a Redis that has forgotten them': {
    within: 60,
    nodes: 3,
    global: () => patched(Names.prototype, 'assertAll', () => Promise.resolve()),
  },
  'a lease is thought to last longer than others wait': {
    within: 60,
    nodes: 3,
    global: () => {
      const { prolong } = Lease.prototype;
      return patched(Lease.prototype, 'prolong', function (this: Lease, until) {
        prolong.call(this, until + 10_000);
      });
    },
  },
  'what is being removed is read': {
    within: 60,
    nodes: 3,
    global: () => patched(Removals.prototype, 'goneOf', () => []),
  },
  'a node says that it has let go of a name, and has not': {
    within: 60,
    nodes: 3,
    core: (core) => {
      core.withhold = async (_name, letGo, isGone) => {
        letGo();
        await isGone;
      };
    },
  },
  'a name that is being removed is not withheld': {
    within: 60,
    nodes: 3,
    global: () => patched(Accounts.prototype, 'withhold', (_name, work) => work()),
  },
  'the time in service is as old as the last note of it': {
    within: 20,
    nodes: 3,
    global: () =>
      patched(Database.prototype, 'noteRan', function (this: Database, ran) {
        this.service.ran = Math.max(this.service.ran, ran);
        return this.service.ran;
      }),
  },
  'a removal that failed is not repeated': {
    within: 60,
    nodes: 3,
    global: () => {
      const { settle } = Removals.prototype;
      return patched(Removals.prototype, 'settle', function (this: Removals, taken) {
        settle.call(this, taken, true);
      });
    },
  },
} as const satisfies Record<string, Bug>;

/** Puts another method in place of one; returns how to undo it. */
function patched<Kind extends object, Name extends keyof Kind>(
  prototype: Kind,
  name: Name,
  method: Kind[Name],
): () => void {
  const before = prototype[name];
  prototype[name] = method;
  return () => {
    prototype[name] = before;
  };
}

export type BugName = keyof typeof bugs | keyof typeof sdkBugs;

export function bugNamed(name: string): Bug | undefined {
  return (bugs as Record<string, Bug>)[name] ?? (sdkBugs as Record<string, Bug>)[name];
}

type Accept = Core['delivery']['accept'];

function patchAccept(core: Core, patch: (accept: Accept, ...message: Parameters<Accept>) => ReturnType<Accept>): void {
  const { delivery } = core;
  const accept = delivery.accept.bind(delivery);
  delivery.accept = (...message) => patch(accept, ...message);
}

function patchMailboxes(core: Core, patch: (mailbox: Mailbox) => void): void {
  const { delivery } = core;
  const patched = new WeakSet<Mailbox>();
  const mailboxOf = delivery.mailbox.bind(delivery);
  delivery.mailbox = (name) => {
    const mailbox = mailboxOf(name);
    if (!patched.has(mailbox)) patch(mailbox);
    patched.add(mailbox);
    return mailbox;
  };
}

/** Peers, as far as anybody asks. */
class Everybody extends Set<string> {
  override has(): boolean {
    return true;
  }
}

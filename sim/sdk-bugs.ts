import type { Client, RefusedError } from '@hawser/client/core';
import { clientLimits } from '@hawser/protocol';
import type { Bug } from './bugs.ts';

/** Patches one client of the package: one for each of its lives. */
export type SdkPatch = (client: Client) => void;

type Write = (number: number, msgId: string, data: Uint8Array) => void;
type Answer = { readonly code: number; readonly msg: string; readonly retry: boolean };

/** What the bugs reach into: parts that the package does not show. */
interface Session {
  readonly inbox: {
    online(write: Write): void;
    forget(): void;
    end(error: Error | undefined): void;
    set(consumer: { take(message: { ack(): void }): void }): void;
  };
  readonly outbox: {
    send(...send: unknown[]): Promise<void>;
    online(write: Write): void;
    acked(msgId: string): void;
    refused(msgId: string, answer: Answer): void;
  };
  login(...login: unknown[]): Promise<void>;
}

function sessionOf(client: Client): Session {
  return (client as unknown as { readonly session: Session }).session;
}

/** Changes what is written again as soon as the client is online. */
function patchResend(client: Client, resend: (frames: Parameters<Write>[], write: Write) => void): void {
  const { outbox } = sessionOf(client);
  const online = outbox.online.bind(outbox);
  outbox.online = (write) => {
    let frames: Parameters<Write>[] | undefined = [];
    online((...frame) => {
      if (frames === undefined) write(...frame);
      else frames.push(frame);
    });
    const first = frames;
    frames = undefined;
    resend(first, write);
  };
}

/** Deliberate bugs of the client's package. */
export const sdkBugs = {
  'the client acks before the handler returns': {
    within: 10,
    sdk: (client) => {
      const { inbox } = sessionOf(client);
      const set = inbox.set.bind(inbox);
      inbox.set = (consumer) => {
        const take = consumer.take.bind(consumer);
        consumer.take = (message) => {
          message.ack();
          take(message);
        };
        set(consumer);
      };
    },
  },
  'the client forgets to send again': {
    within: 10,
    sdk: (client) => patchResend(client, () => {}),
  },
  'the client sends again under a new msgId': {
    within: 10,
    sdk: (client) => {
      const seen = new Set<string>();
      patchResend(client, (frames, write) => {
        for (const [number, msgId, data] of frames) {
          write(number, seen.has(msgId) ? `${msgId}-again` : msgId, data);
          seen.add(msgId);
        }
      });
    },
  },
  'the client sends again in the wrong order': {
    within: 20,
    sdk: (client) =>
      patchResend(client, (frames, write) => {
        for (const frame of frames.reverse()) write(...frame);
      }),
  },
  'the client forgets what it has handled': {
    within: 20,
    global: () => {
      const limits = clientLimits as { handledIdsMax: number };
      const { handledIdsMax } = limits;
      limits.handledIdsMax = 0;
      return () => {
        limits.handledIdsMax = handledIdsMax;
      };
    },
  },
  'the client takes a refusal for now as one for good': {
    within: 20,
    sdk: (client) => {
      const { outbox } = sessionOf(client);
      const refused = outbox.refused.bind(outbox);
      outbox.refused = (msgId, answer) => refused(msgId, { ...answer, retry: false });
    },
  },
  'the client takes a refusal for an ack': {
    within: 20,
    sdk: (client) => {
      const { outbox } = sessionOf(client);
      outbox.refused = (msgId) => outbox.acked(msgId);
    },
  },
  'the client says of what was cut off that it was not sent': {
    within: 20,
    sdk: (client) => {
      const { outbox } = sessionOf(client);
      const send = outbox.send.bind(outbox);
      outbox.send = (...message) =>
        send(...message).catch((error: RefusedError) => {
          throw Object.assign(error, error.outcome === 'unknown' && { outcome: 'not sent' });
        });
    },
  },
  'the client says of what was refused for now that it has not arrived': {
    within: 20,
    sdk: (client) => {
      const { outbox } = sessionOf(client);
      const send = outbox.send.bind(outbox);
      outbox.send = (...message) =>
        send(...message).catch((error: RefusedError) => {
          throw Object.assign(error, error.retry && { outcome: 'refused' });
        });
    },
  },
  'the client waits for an ack without end': {
    within: 20,
    sdk: (client) => {
      const { outbox } = sessionOf(client);
      const send = outbox.send.bind(outbox);
      outbox.send = (msgId, to, data, _timeoutMs, signal) => {
        return send(msgId, to, data, Number.POSITIVE_INFINITY, signal);
      };
    },
  },
  'the client hands out what comes again': {
    within: 20,
    sdk: (client) => {
      const { inbox } = sessionOf(client);
      const online = inbox.online.bind(inbox);
      inbox.online = (write) => {
        inbox.forget();
        online(write);
      };
    },
  },
  'the client logs in again after a conflict': {
    within: 20,
    sdk: (client) => {
      const session = sessionOf(client);
      const login = session.login.bind(session);
      let last: unknown[] = [];
      session.login = (...given) => {
        last = given;
        return login(...given);
      };
      const { inbox } = session;
      const end = inbox.end.bind(inbox);
      inbox.end = (error) => {
        end(error);
        if (error?.name === 'ConflictError') queueMicrotask(() => login(...last).catch(() => {}));
      };
    },
  },
} as const satisfies Record<string, Omit<Bug, 'nodes'>>;

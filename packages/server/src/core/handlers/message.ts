import {
  type Envelope,
  Fault,
  isMsgId,
  isName,
  type MessageBody,
  readMessage,
  refusals,
  serverLimits,
} from '@hawser/protocol';
import { StoreAway } from '../ports.ts';
import type { Login, Session } from '../session.ts';

/** cmd 200: a message to a user or a device. */
export function message(session: Session, request: Envelope): Promise<void> | undefined {
  const body = readMessage(request.data);
  if (body instanceof Fault) {
    session.refuseBody(request, body);
    return undefined;
  }
  if (!isMsgId(request.msgId)) {
    session.refuse(request, 'badMsgId');
    return undefined;
  }
  if (body.to === session.lastTo) body.to = session.lastTo;
  const allowed = mayWrite(session, body.to);
  if (typeof allowed === 'boolean') {
    accept(session, request, body, allowed);
    return undefined;
  }
  // The body is a view of what was received, which does not outlive this turn.
  const kept = { ...body, msg: body.msg.slice() };
  const sender = session.login?.sender;
  sender?.begin();
  return allowed.then(
    (isAllowed) => {
      if (!session.services.isFenced) accept(session, request, kept, isAllowed);
      sender?.done();
    },
    (error: unknown) => {
      sender?.done();
      // Whether it is allowed is not known: any answer but a retry notice would be taken for an ack.
      if (!(error instanceof TooLate)) session.services.delivery.storeFailed(error);
      session.services.counters.refused.storeAway++;
      session.refuseMessage(request.msgId, request.isEncrypt, refusals.storeAway);
    },
  );
}

/**
 * Who may write to whom: an app to a device it has added, a device to users that have added it, user to user, also
 * to oneself. A promise when the name is not in memory.
 */
function mayWrite(session: Session, to: string): boolean | Promise<boolean> {
  const login = session.login;
  const { handover, accounts, time } = session.services;
  if (login === undefined) return false;
  // What other nodes change of bindings is known here after a while, not at once.
  const isSure = handover === undefined || time.now() - session.peersAskedAt < serverLimits.peersTrustedMs;
  if (isSure && session.peers.has(to)) return true;
  const isApp = login.role === 'app';
  if (isApp && to === login.name) return true;
  if (!isName(to)) return false;
  const kind = isApp ? accounts.knownKind(to) : undefined;
  if (kind === 'user') return true;
  if (handover !== undefined) return mayWriteNow(session, login, to);
  if (!isApp || kind !== undefined) return false;
  return accounts.kind(to).then((found) => found === 'user');
}

/** The same by what the store says now: what it said too long ago other nodes may have changed. */
async function mayWriteNow(session: Session, { role, name }: Login, to: string): Promise<boolean> {
  const { accounts, time } = session.services;
  const isLate = (askedAt: number): boolean => time.now() - askedAt >= serverLimits.peersTrustedMs;
  await accounts.loadPeers(name, role === 'app' ? 'user' : 'device', (...loaded) => session.peersLoaded(...loaded));
  if (isLate(session.peersAskedAt)) throw new TooLate();
  if (session.peers.has(to)) return true;
  if (role !== 'app') return false;
  const askedAt = time.now();
  const isUser = (await accounts.kind(to)) === 'user';
  if (isLate(askedAt) || (!isUser && isLate(session.peersAskedAt))) throw new TooLate();
  return isUser;
}

/** The store took so long to answer that what it says may not be so any more. */
class TooLate extends StoreAway {}

function accept(session: Session, request: Envelope, body: MessageBody, isAllowed: boolean): void {
  const login = session.login;
  // A session that has ended meanwhile makes no difference: what was read before stands.
  if (login === undefined) return;
  if (session.services.accounts.isWithheld(body.to)) {
    // Being removed, which may come to nothing: any answer but a retry notice would be taken for an ack.
    session.services.counters.refused.busy++;
    session.refuseMessage(request.msgId, request.isEncrypt, refusals.busy);
    return;
  }
  if (!isAllowed) {
    session.refuse(request, 'notAllowed');
    return;
  }
  // Not before: what is refused may be a megabyte and no name.
  session.lastTo = body.to;
  const msg = request.isEncrypt && !isMuchLess(body.msg) ? body.msg : body.msg.slice();
  const { delivery, counters } = session.services;
  const accepted = delivery.accept(login.sender, request.msgId, request.isEncrypt, body.to, msg, body.ttl);
  if (accepted === 'acked') session.ack(request);
  else if (accepted !== 'pending') {
    counters.refused[accepted]++;
    session.refuseMessage(request.msgId, request.isEncrypt, refusals[accepted]);
  } else session.holdIfFull();
}

/** Data of more than this is decrypted into a buffer of its own. */
const SMALL_BUFFER_BYTES = 32 * 1024;

/**
 * Whether keeping `msg` would keep much more than it. What was decrypted lies in a buffer of its own or with the data of
 * a few other frames; data in the clear is a view of what was received, which is copied in any case.
 */
function isMuchLess(msg: Uint8Array): boolean {
  return msg.buffer.byteLength > SMALL_BUFFER_BYTES && msg.length < msg.buffer.byteLength / 2;
}

import type { Role } from '@hawser/protocol';
import { ClusterAway } from '../ports.ts';
import type { Session } from '../session.ts';

/** Who logs in. */
export interface Newcomer {
  readonly role: Role;
  readonly name: string;
  readonly nack: boolean;
  /** The name is known only since now, and nobody has added it: there is nothing to load. */
  readonly isNew: boolean;
  /** Whether what it was let in by still holds, as the store says: asked where other nodes may have changed it. */
  readonly isStillGood?: () => Promise<boolean>;
}

/**
 * Makes a verified session the one of its name and prepares it for messages: takes over from an older one, wherever
 * that is, then loads whom it may write to and whether anything is stored for it. `ended` when the session has ended
 * meanwhile; `busy` when nobody can tell for now who has the name.
 */
export async function serve(session: Session, newcomer: Newcomer): Promise<'served' | 'ended' | 'busy'> {
  const { handover } = session.services;
  if (handover === undefined) take(session, newcomer);
  try {
    const isHere =
      handover === undefined || (await handover.claim(newcomer.name, session, () => take(session, newcomer)));
    return isHere && (await load(session, newcomer)) ? 'served' : 'ended';
  } catch (error) {
    session.loginUndone();
    if (error instanceof ClusterAway) return 'busy';
    throw error;
  }
}

function take(session: Session, { role, name, nack }: Newcomer): void {
  const { directory, delivery, counters } = session.services;
  const older = directory.claim(name, session);
  if (older !== undefined) {
    counters.takeovers++;
    older.supersede();
  }
  const mailbox = delivery.mailbox(name);
  session.loggedIn({ role, name, mailbox, sender: delivery.sender(name, session), nack });
  mailbox.attach(session);
}

/** False when the session ended meanwhile. */
async function load(session: Session, { role, name, isNew, isStillGood }: Newcomer): Promise<boolean> {
  const { delivery, accounts, handover } = session.services;
  if (isNew && handover === undefined) return true;
  const kind = role === 'app' ? 'user' : 'device';
  const [hasBacklog, isGood] = await Promise.all([
    delivery.store.hasBacklog(name),
    // Whoever revokes on another node claims the name after that: either it is seen here, or this session is ended.
    handover === undefined || isStillGood === undefined || isStillGood(),
    accounts.loadPeers(name, kind, (...loaded) => session.peersLoaded(...loaded)),
  ]);
  if (!isGood) session.close(role === 'app' ? 'removed' : 'revoked');
  if (session.isClosed) return false;
  if (hasBacklog) session.login?.mailbox.hasBacklog();
  return true;
}

import type { Role } from '@hawser/protocol';
import type { Session } from '../session.ts';

/**
 * Makes a verified session the one of its name and prepares it for messages: takes over from an older one, then loads
 * whom it may write to and whether anything is stored for it. False when the session ended meanwhile.
 *
 * @param isNew the name is known only since now, and nobody has added it: there is nothing to load
 */
export async function serve(
  session: Session,
  role: Role,
  name: string,
  nack: boolean,
  isNew: boolean,
): Promise<boolean> {
  const { directory, delivery, accounts, counters } = session.services;
  const older = directory.claim(name, session);
  if (older !== undefined) {
    counters.takeovers++;
    older.supersede();
  }
  const mailbox = delivery.mailbox(name);
  session.loggedIn({ role, name, mailbox, sender: delivery.sender(name, session), nack });
  mailbox.attach(session);
  if (isNew) return true;
  const kind = role === 'app' ? 'user' : 'device';
  try {
    const [hasBacklog] = await Promise.all([
      delivery.store.hasBacklog(name),
      accounts.loadPeers(name, kind, (peers) => {
        session.peers = peers;
      }),
    ]);
    if (session.isClosed) return false;
    if (hasBacklog) mailbox.hasBacklog();
    return true;
  } catch (error) {
    session.loginUndone();
    throw error;
  }
}

import type { Session } from '../session.ts';

/** cmd 202: the receiver wants what is stored for it. Pushes are the answer. */
export function fetch(session: Session): undefined {
  session.login?.mailbox.fetch();
}

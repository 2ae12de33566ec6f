import type { Session } from '../session.ts';

/** cmd 104: no answer; the server closes. */
export function logout(session: Session): undefined {
  session.close('logout');
}

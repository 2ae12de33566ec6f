import { type Envelope, Fault, OK_BODY, type RefusalName, readLogin } from '@hawser/protocol';
import type { Verified } from '../accounts.ts';
import type { Session } from '../session.ts';
import { type Newcomer, serve } from './serve.ts';

/** cmd 100: an app logs in. */
export function login(session: Session, request: Envelope): Promise<void> | undefined {
  const body = readLogin(request.data);
  if (body instanceof Fault) return refuseLogin(session, request, body);
  if (!mayCarryCredentials(session, request)) return refuseLogin(session, request, 'clearCredentials');
  if (!mayBe(session, body.username)) return refuseLogin(session, request, 'otherCertified');
  if (session.login !== undefined && session.login.name !== body.username) {
    session.refuse(request, 'loggedInOtherwise');
    return undefined;
  }
  return verify(body.username, body.password, body.nack);

  async function verify(name: string, password: string, nack: boolean): Promise<void> {
    const verdict = await proven(session, name, password);
    if (session.isClosed) return;
    if (typeof verdict === 'string') {
      refuseLogin(session, request, verdict, nack);
      return;
    }
    const isStillGood = () => session.services.accounts.isStill(name, verdict);
    const newcomer = { role: 'app', name, nack, isNew: false, isStillGood } as const;
    // Logged in already, and verified again: nothing else happens.
    if (session.login === undefined && !(await admit(session, request, newcomer))) return;
    session.services.counters.appLogins++;
    session.answer(request, OK_BODY);
    session.login?.mailbox.start();
  }
}

function proven(session: Session, name: string, password: string): Promise<Verified | RefusalName> {
  return guarded(session, name, () => session.services.accounts.verify(name, password, session));
}

/** What a password or secret comes to, as soon as this address may try another one. */
export async function guarded<Verdict>(
  session: Session,
  name: string,
  verify: () => Promise<Verdict | RefusalName>,
): Promise<Verdict | RefusalName> {
  const { guard } = session.services;
  const attempt = guard.begin(session.wire.address, name);
  if (attempt === 'busy') return 'busy';
  const due = guard.whenDue(attempt);
  if (due !== undefined) await due;
  let verdict: Verdict | RefusalName = 'busy';
  try {
    if (!session.isClosed) verdict = await verify();
    return verdict;
  } finally {
    const isWrong = verdict === 'wrongCredentials' || verdict === 'wrongSecret';
    if (typeof verdict !== 'string') attempt.right();
    else if (!isWrong) attempt.undone();
  }
}

/** Serves whoever has proved who it is; false when that came to nothing, and has been answered if it can be. */
export async function admit(session: Session, request: Envelope, newcomer: Newcomer): Promise<boolean> {
  const outcome = await serve(session, newcomer);
  if (outcome === 'busy' && !session.isClosed) refuseLogin(session, request, 'busy', newcomer.nack);
  return outcome === 'served';
}

export function refuseLogin(session: Session, request: Envelope, why: Fault | RefusalName, nack = false): undefined {
  if (why instanceof Fault) session.refuseBody(request, why);
  else session.refuse(request, why, nack);
  session.loginFailed();
}

/** Whether this connection may be of this name: one with a certificate is only of the name that is in it. */
export function mayBe(session: Session, name: string): boolean {
  const certified = session.wire.certifiedName;
  return certified === undefined || certified === name;
}

/** Whether a password may be in this frame: encrypted, or where nobody can read along. */
export function mayCarryCredentials(session: Session, request: Envelope): boolean {
  return request.isEncrypt || session.wire.secure || session.services.options.allowPlainLogin;
}

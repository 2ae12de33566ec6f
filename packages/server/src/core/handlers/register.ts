import { type Envelope, Fault, OK_BODY, readRegister } from '@hawser/protocol';
import type { Session } from '../session.ts';
import { mayBe, mayCarryCredentials } from './login.ts';

/** cmd 102: a person registers. It does not log in. */
export function register(session: Session, request: Envelope): Promise<void> | undefined {
  if (session.login !== undefined) {
    session.refuse(request, 'loggedInOtherwise');
    return undefined;
  }
  if (session.services.options.isRegistrationClosed) {
    session.refuse(request, 'registrationClosed');
    return undefined;
  }
  const body = readRegister(request.data);
  if (body instanceof Fault) {
    session.refuseBody(request, body);
    return undefined;
  }
  if (!mayCarryCredentials(session, request)) {
    session.refuse(request, 'clearCredentials');
    return undefined;
  }
  if (!mayBe(session, body.username)) {
    session.refuse(request, 'otherCertified');
    return undefined;
  }
  if (!session.services.guard.mayRegister(session.wire.address)) {
    session.refuse(request, 'busy');
    return undefined;
  }
  return create(body.username, body.password);

  async function create(name: string, password: string): Promise<void> {
    // Also when the client has gone: it is told to log in, and see.
    const asker = { from: session.from, isWaiting: () => true };
    const verdict = await session.services.accounts.register(name, password, asker);
    if (verdict !== 'ok') {
      session.refuse(request, verdict);
      return;
    }
    session.services.counters.registrations++;
    session.answer(request, OK_BODY);
  }
}

import {
  type AuthenticateBody,
  type Envelope,
  Fault,
  isName,
  OK_BODY,
  readAuthenticate,
  serverLimits,
} from '@hawser/protocol';
import type { Session } from '../session.ts';
import { refuseLogin } from './login.ts';
import { serve } from './serve.ts';

/** cmd 101: a device says who it is. */
export function authenticate(session: Session, request: Envelope, data: Uint8Array): Promise<void> | undefined {
  const body = readAuthenticate(data);
  if (body instanceof Fault) return refuseLogin(session, request, body);
  if (!isName(body.id)) return refuseLogin(session, request, 'badName');
  if (session.login !== undefined && session.login.name !== body.id) {
    session.refuse(request, 'loggedInOtherwise');
    return undefined;
  }
  return admit(body);

  async function admit(device: AuthenticateBody): Promise<void> {
    const verdict = await session.services.accounts.deviceSeen(device.id, {
      version: bounded(device.version, serverLimits.versionBytesMax),
      abilities: bounded(device.abilities, serverLimits.abilitiesBytesMax),
    });
    if (session.isClosed) return;
    if (verdict !== 'ok') {
      refuseLogin(session, request, verdict);
      return;
    }
    if (session.login === undefined && !(await serve(session, 'device', device.id, device.nack))) return;
    session.services.counters.deviceLogins++;
    session.answer(request, OK_BODY);
    session.login?.mailbox.start();
  }
}

/** What a device says of itself is kept only up to a size; it may log in with more. */
function bounded(text: string | undefined, lengthMax: number): string | undefined {
  return text !== undefined && text.length <= lengthMax ? text : undefined;
}

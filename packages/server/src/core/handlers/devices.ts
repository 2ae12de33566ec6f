import { type Envelope, Fault, isName, OK_BODY, readDevice } from '@hawser/protocol';
import type { Session } from '../session.ts';

/** cmd 203: an app adds a device; it may be one that was never seen. */
export function addDevice(session: Session, request: Envelope): Promise<void> | undefined {
  return change(session, request, 'bind');
}

/** cmd 204: an app removes a device. */
export function removeDevice(session: Session, request: Envelope): Promise<void> | undefined {
  return change(session, request, 'unbind');
}

function change(session: Session, request: Envelope, how: 'bind' | 'unbind'): Promise<void> | undefined {
  const body = readDevice(request.data);
  if (body instanceof Fault) {
    session.refuseBody(request, body);
    return undefined;
  }
  const login = session.login;
  if (login === undefined) return undefined;
  if (!isName(body.deviceId)) {
    session.refuse(request, how === 'bind' ? 'badName' : 'deviceNotAdded');
    return undefined;
  }
  return session.services.accounts[how](login.name, body.deviceId).then((verdict) => {
    if (verdict === 'ok') session.answer(request, OK_BODY);
    else session.refuse(request, verdict);
  });
}

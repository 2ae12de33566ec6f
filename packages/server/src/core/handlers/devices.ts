import { type Envelope, Fault, isName, OK_BODY, readDevice, readDevices, serverLimits } from '@hawser/protocol';
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
  return carryOut(session, request, login.name, body.deviceId, how);
}

/** When this user may change another binding: whoever does so without end is not refused, but waits. */
async function carryOut(
  session: Session,
  request: Envelope,
  user: string,
  device: string,
  how: 'bind' | 'unbind',
): Promise<void> {
  await session.services.guard.whenMayBind(user);
  const verdict = await session.services.accounts[how](user, device);
  if (verdict === 'ok') session.answer(request, OK_BODY);
  else session.refuse(request, verdict);
}

/** cmd 205, an extension: a page of the devices that the app has added. */
export function devices(session: Session, request: Envelope): Promise<void> | undefined {
  const body = readDevices(request.data);
  if (body instanceof Fault) {
    session.refuseBody(request, body);
    return undefined;
  }
  if (body.after !== undefined && !isName(body.after)) {
    session.refuse(request, 'badName');
    return undefined;
  }
  return list(session, request, body.after);
}

async function list(session: Session, request: Envelope, after: string | undefined): Promise<void> {
  const { accounts, deviceLists, handover, time } = session.services;
  const name = session.login?.name;
  // What other nodes change of bindings is known here after a while, not at once.
  const isOld = handover !== undefined && time.now() - session.peersLoadedAt >= serverLimits.peersTrustedMs;
  if (isOld && name !== undefined) await accounts.loadPeers(name, 'user', (peers) => session.peersLoaded(peers));
  const isWanted = () => !session.isClosed;
  const page = await deviceLists.page(() => session.peers, after, isWanted);
  if (page !== undefined) session.answer(request, page);
}

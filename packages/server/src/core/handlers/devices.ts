import {
  type Envelope,
  Fault,
  isName,
  OK_BODY,
  type RefusalName,
  readAddDevice,
  readDevice,
  readDevices,
  serverLimits,
} from '@hawser/protocol';
import type { Session } from '../session.ts';
import { asNew } from './newcomers.ts';

/** cmd 203: an app adds a device; it may be one that was never seen. */
export function addDevice(session: Session, request: Envelope): Promise<void> | undefined {
  const body = readAddDevice(request.data);
  if (body instanceof Fault) {
    session.refuseBody(request, body);
    return undefined;
  }
  if (!isName(body.deviceId)) {
    session.refuse(request, 'badName');
    return undefined;
  }
  const { accounts } = session.services;
  const { deviceId, code } = body;
  return change(session, request, (user) =>
    asNew(
      session,
      deviceId,
      () => accounts.bind(user, deviceId, code),
      (verdict) => verdict === 'ok',
    ),
  );
}

/** cmd 204: an app removes a device. */
export function removeDevice(session: Session, request: Envelope): Promise<void> | undefined {
  const body = readDevice(request.data);
  if (body instanceof Fault) {
    session.refuseBody(request, body);
    return undefined;
  }
  if (!isName(body.deviceId)) {
    session.refuse(request, 'deviceNotAdded');
    return undefined;
  }
  const { accounts } = session.services;
  return change(session, request, (user) => accounts.unbind(user, body.deviceId));
}

/** When this user may change another binding: whoever does so without end is not refused, but waits. */
function change(
  session: Session,
  request: Envelope,
  how: (user: string) => Promise<'ok' | RefusalName>,
): Promise<void> | undefined {
  const { login } = session;
  return login && carryOut(session, request, login.name, how);
}

async function carryOut(
  session: Session,
  request: Envelope,
  user: string,
  how: (user: string) => Promise<'ok' | RefusalName>,
): Promise<void> {
  const { accounts, guard } = session.services;
  const verdict = await accounts.watch(user, async (watch) => {
    await guard.whenMayBind(user);
    // Whoever registers under the name of a user that was removed meanwhile would find the device added.
    return watch.isRemoved ? 'busy' : how(user);
  });
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
  const isOld = handover !== undefined && time.now() - session.peersAskedAt >= serverLimits.peersTrustedMs;
  if (isOld && name !== undefined)
    await accounts.loadPeers(name, 'user', (...loaded) => session.peersLoaded(...loaded));
  const isWanted = () => !session.isClosed;
  const page = await deviceLists.page(() => session.peers, after, isWanted);
  if (page !== undefined) session.answer(request, page);
}

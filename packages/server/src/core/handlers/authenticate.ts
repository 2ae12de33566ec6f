import {
  type AuthenticateBody,
  type Envelope,
  Fault,
  isName,
  OK_BODY,
  readAuthenticate,
  serverLimits,
  utf8Length,
} from '@hawser/protocol';
import type { Watch } from '../accounts.ts';
import type { Shown } from '../identity.ts';
import type { Session } from '../session.ts';
import { admit, guarded, mayBe, refuseLogin } from './login.ts';
import { asNew } from './newcomers.ts';

/** cmd 101: a device says who it is. */
export function authenticate(session: Session, request: Envelope): Promise<void> | undefined {
  const body = readAuthenticate(request.data);
  if (body instanceof Fault) return refuseLogin(session, request, body);
  if (!isName(body.id)) return refuseLogin(session, request, 'badName');
  if (!mayBe(session, body.id)) return refuseLogin(session, request, 'otherCertified');
  if (session.login !== undefined && session.login.name !== body.id) {
    session.refuse(request, 'loggedInOtherwise');
    return undefined;
  }
  return session.services.accounts.watch(body.id, (watch) => note(body, watch));

  async function note(device: AuthenticateBody, watch: Watch): Promise<void> {
    const { accounts } = session.services;
    const says = {
      version: bounded(device.version, serverLimits.versionBytesMax),
      abilities: bounded(device.abilities, serverLimits.abilitiesBytesMax),
    };
    // Nothing is noted, nobody is kicked, and no name is claimed before this.
    const enter = () =>
      asNew(
        session,
        device.id,
        () => accounts.deviceSeen(device.id, says, shownBy(session, device)),
        (entered) => typeof entered !== 'string' && entered.isNew,
      );
    const entered = await (device.secret === undefined ? enter() : guarded(session, device.id, enter));
    if (session.isClosed) return;
    if (typeof entered === 'string' || watch.isRevoked) {
      refuseLogin(session, request, typeof entered === 'string' ? entered : 'busy', device.nack);
      return;
    }
    const isNew = entered.isNew && !watch.hasChanged;
    const isStillGood = () => accounts.hasSecret(device.id, entered.secret);
    const newcomer = { role: 'device', name: device.id, nack: device.nack, isNew, isStillGood } as const;
    if (session.login === undefined && !(await admit(session, request, newcomer))) return;
    session.services.counters.deviceLogins++;
    session.answer(request, OK_BODY);
    session.login?.mailbox.start();
  }
}

/** The one place where it is told what proves that a device is the one that it says. */
function shownBy({ wire }: Session, { id, secret, code }: AuthenticateBody): Shown {
  return { secret, code, isCertified: wire.certifiedName === id };
}

/** What a device says of itself is kept only up to a size; it may log in with more. */
function bounded(text: string | undefined, bytesMax: number): string | undefined {
  return text !== undefined && utf8Length(text) <= bytesMax ? text : undefined;
}

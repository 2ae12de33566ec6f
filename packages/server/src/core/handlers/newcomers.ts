import type { Session } from '../session.ts';

/**
 * Does what may make a device known that nobody knew: an address may do that so often. Where it has done it too often the
 * store is asked first, so that devices that are known come and are added all the same.
 *
 * @param isNew whether it did; where that cannot be told, it is taken to be so
 */
export async function asNew<Verdict>(
  session: Session,
  name: string,
  work: () => Promise<Verdict>,
  isNew: (verdict: Verdict) => boolean,
): Promise<Verdict | 'busy'> {
  const { accounts, guard, counters } = session.services;
  if (accounts.knownKind(name) !== undefined) return work();
  const address = session.wire.address;
  if (!guard.mayMakeKnown(address)) {
    if ((await accounts.kind(name)) !== undefined) return work();
    counters.limited.newDevices++;
    return 'busy';
  }
  let hasMade = false;
  try {
    const verdict = await work();
    hasMade = isNew(verdict);
    return verdict;
  } finally {
    if (!hasMade) guard.nameWasKnown(address);
  }
}

import type { NodeAddress, NodeOffer } from './cluster/node-state.ts';
import { type Candidate, choose, HandedOut } from './dispatcher/balance.ts';
import type { Choose } from './dispatcher/http.ts';

/** A node that clients may be sent to, as the choice has it. */
interface Place extends Candidate {
  readonly run: string;
  /** As it says; `load` has those who were sent there since. */
  readonly connections: number;
  load: number;
  readonly tcp: NodeAddress;
  readonly tls: NodeAddress | undefined;
}

/**
 * Sends clients to the nodes of a cluster that live and are not draining. From memory alone: nothing is asked while a
 * client waits.
 *
 * @param offers the nodes that live; another array whenever there is news
 * @param isGoing a run that is known here to take nobody, before it has said so
 */
export function chooseAmong(
  offers: () => readonly NodeOffer[],
  now: () => number,
  isGoing: (run: string) => boolean = () => false,
): Choose {
  const handedOut = new HandedOut();
  let known: readonly NodeOffer[] = [];
  let places: readonly Place[] = [];
  return (id, overTls) => {
    const news = offers();
    if (news !== known) places = news.filter(({ state }) => !state.isDraining).map(placeOf);
    known = news;
    const at = now();
    const open = places.filter(({ run, tls }) => !isGoing(run) && (!overTls || tls !== undefined));
    for (const place of open) place.load = place.connections + handedOut.count(place.run, at);
    const chosen = choose(id, open);
    if (chosen === undefined) return undefined;
    handedOut.add(chosen.run, at);
    return overTls ? chosen.tls : chosen.tcp;
  };
}

function placeOf({ run, node, state }: NodeOffer): Place {
  const { connections, connectionsMax, tcp, tls } = state;
  return { name: node, run, connections, load: connections, loadMax: connectionsMax, tcp, tls };
}

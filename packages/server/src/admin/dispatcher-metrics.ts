import type { Counters } from '../core/counters.ts';
import { Meters } from './meters.ts';

/** What the metrics of a dispatcher that stands alone read, when they are asked for. */
export interface MeasuredDispatcher {
  readonly counters: Counters;
  readonly answers: () => Readonly<Record<'told' | 'none', number>>;
  readonly nodes: () => number;
  readonly ageMs: () => number;
  /** In ms since 1970; `undefined` without HTTPS. */
  readonly certificateExpiresAt: () => number | undefined;
}

/** Where a node has the same, it is called the same. */
export function dispatcherMeters({
  counters,
  answers,
  nodes,
  ageMs,
  certificateExpiresAt,
}: MeasuredDispatcher): Meters {
  const meters = new Meters();
  meters.labelled('hawser_dispatcher_answers_total', 'Clients told of a node, and of none.', 'answer', answers);
  meters.gauge('hawser_dispatcher_nodes', 'Nodes that clients may be sent to.', nodes);
  meters.gauge('hawser_dispatcher_age_seconds', 'How old what it knows of nodes is.', () => ageMs() / 1000);
  meters.gauge('hawser_tls_certificate_expires_seconds', 'When it expires, since 1970; 0 without HTTPS.', () => {
    return (certificateExpiresAt() ?? 0) / 1000;
  });
  meters.labelled('hawser_limited_total', 'What met a limit against abuse.', 'limit', () => {
    const { dispatches, dispatcherConnections } = counters.limited;
    return { dispatches, dispatcherConnections };
  });
  meters.labelled('hawser_closed_total', 'Connections ended, by reason.', 'reason', () => {
    const { handshakeFailed } = counters.closed;
    return { handshakeFailed };
  });
  return meters;
}

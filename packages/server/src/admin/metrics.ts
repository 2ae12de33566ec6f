import { closings, refusals } from '@hawser/protocol';
import type { Counters } from '../core/counters.ts';
import { Meters } from './meters.ts';

/** What the metrics read, when they are asked for. */
export interface Measured {
  readonly counters: Counters;
  /** In ms since 1970; `undefined` without TLS. */
  readonly certificateExpiresAt?: () => number | undefined;
  readonly connections: () => number;
  readonly sessions: () => number;
  readonly beforeLogin: () => number;
  readonly loginsDelayed: () => number;
  readonly delivery: () => { mailboxes: number; senders: number; rememberedIds: number; pendingBytes: number };
  readonly store: () => { batches: number; operations: number; damaged: number };
  /** `undefined` for a server that is alone. */
  readonly cluster?: (() => MeasuredCluster) | undefined;
}

export interface MeasuredCluster {
  readonly peers: number;
  readonly claims: number;
  readonly names: number;
  readonly renewalMs: number;
  readonly isOpen: boolean;
  readonly isDraining: boolean;
  readonly bus: Readonly<Record<'packetsOut' | 'packetsIn' | 'bytesOut' | 'bytesIn' | BusLoss, number>>;
}

type BusLoss = 'dropped' | 'malformed' | 'stale';

/** All metrics of a server. */
export function serverMeters(measured: Measured): Meters {
  const meters = new Meters();
  const { counters } = measured;

  meters.gauge('hawser_connections', 'Open connections.', measured.connections);
  meters.gauge('hawser_sessions', 'Sessions that are logged in.', measured.sessions);
  meters.counter('hawser_connections_opened_total', 'Connections accepted.', () => counters.connectionsOpened);
  meters.gauge('hawser_tls_certificate_expires_seconds', 'When it expires, since 1970; 0 without TLS.', () => {
    return (measured.certificateExpiresAt?.() ?? 0) / 1000;
  });
  meters.counter('hawser_registrations_total', 'Users registered by themselves.', () => counters.registrations);
  meters.labelled('hawser_logins_total', 'Logins answered 100, by role.', 'role', () => ({
    app: counters.appLogins,
    device: counters.deviceLogins,
  }));
  meters.counter('hawser_takeovers_total', 'Sessions ended by a newer login.', () => counters.takeovers);
  meters.counter('hawser_devices_expired_total', 'Devices forgotten that nobody had added.', () => {
    return counters.devicesExpired;
  });
  meters.counter('hawser_frames_received_total', 'Frames received.', () => counters.frames);
  meters.counter('hawser_bytes_received_total', 'Bytes received from clients.', () => counters.bytesReceived);
  meters.counter('hawser_bytes_sent_total', 'Bytes written to clients.', () => counters.bytesSent);

  meters.counter('hawser_messages_accepted_total', 'Messages accepted.', () => counters.accepted);
  meters.counter('hawser_messages_joined_total', 'Resends that joined a message on its way.', () => counters.joined);
  meters.counter('hawser_messages_forwarded_total', 'Messages sent to other nodes.', () => counters.forwarded);
  meters.counter('hawser_messages_pushed_total', 'Pushes, repeated ones included.', () => counters.pushed);
  meters.counter('hawser_messages_redelivered_total', 'Pushes repeated on a connection.', () => counters.redelivered);
  meters.counter('hawser_messages_acked_total', 'Messages acked by their receivers.', () => counters.acked);
  meters.counter('hawser_messages_stored_total', 'Messages written to the store.', () => counters.stored);
  meters.counter('hawser_messages_removed_total', 'Messages removed from the store.', () => counters.removed);
  meters.labelled('hawser_messages_expired_total', 'Messages dropped undelivered, by reason.', 'reason', () => ({
    age: counters.expiredByAge,
    ttl: counters.expiredByTtl,
  }));
  meters.labelled('hawser_refused_total', 'Requests refused, by reason.', 'reason', () => counters.refused, refusals);
  meters.labelled('hawser_closed_total', 'Connections ended, by reason.', 'reason', () => counters.closed, closings);

  meters.labelled('hawser_limited_total', 'What met a limit against abuse.', 'limit', () => counters.limited);
  meters.gauge('hawser_connections_before_login', 'Connections that have not logged in.', measured.beforeLogin);
  meters.gauge('hawser_logins_delayed', 'Logins that wait because others failed before them.', measured.loginsDelayed);

  meters.gauge('hawser_mailboxes', 'Receivers with a mailbox in memory.', () => measured.delivery().mailboxes);
  meters.gauge('hawser_pending_bytes', 'Bytes of messages neither acked nor refused.', () => {
    return measured.delivery().pendingBytes;
  });
  meters.gauge('hawser_remembered_ids', 'Ids kept to recognise resends.', () => measured.delivery().rememberedIds);
  meters.counter('hawser_store_writes_total', 'Records written to the store.', () => measured.store().operations);
  meters.counter('hawser_store_batches_total', 'Batches written to the store.', () => measured.store().batches);
  meters.gauge(
    'hawser_store_damaged_records',
    'Records set aside for a wrong checksum.',
    () => measured.store().damaged,
  );
  if (measured.cluster !== undefined) addCluster(meters, measured.cluster);
  return meters;
}

function addCluster(meters: Meters, read: () => MeasuredCluster): void {
  meters.gauge('hawser_cluster_peers', 'Other nodes that hold their leases.', () => read().peers);
  meters.gauge('hawser_cluster_open', '1 while names can be claimed, 0 while logins wait.', () =>
    read().isOpen ? 1 : 0,
  );
  meters.gauge('hawser_cluster_draining', '1 while this node gives its sessions to others.', () =>
    read().isDraining ? 1 : 0,
  );
  meters.gauge('hawser_cluster_names', 'Names that this node holds.', () => read().names);
  meters.counter('hawser_cluster_claims_total', 'Names claimed in Redis.', () => read().claims);
  meters.gauge('hawser_cluster_renewal_seconds', 'How long Redis took to renew the lease.', () => {
    return read().renewalMs / 1000;
  });
  meters.labelled('hawser_bus_packets_total', 'Packets to and from other nodes.', 'direction', () => {
    const { packetsOut, packetsIn } = read().bus;
    return { out: packetsOut, in: packetsIn };
  });
  meters.labelled('hawser_bus_bytes_total', 'Bytes to and from other nodes.', 'direction', () => {
    const { bytesOut, bytesIn } = read().bus;
    return { out: bytesOut, in: bytesIn };
  });
  meters.labelled('hawser_bus_lost_total', 'Packets or batches that were not taken, by reason.', 'reason', () => {
    const { dropped, malformed, stale } = read().bus;
    return { dropped, malformed, stale };
  });
}

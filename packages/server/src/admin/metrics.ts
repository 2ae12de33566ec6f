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
export class Metrics {
  readonly #meters = new Meters();

  constructor(measured: Measured) {
    const { counters } = measured;

    this.#gauge('hawser_connections', 'Open connections.', measured.connections);
    this.#gauge('hawser_sessions', 'Sessions that are logged in.', measured.sessions);
    this.#counter('hawser_connections_opened_total', 'Connections accepted.', () => counters.connectionsOpened);
    this.#gauge('hawser_tls_certificate_expires_seconds', 'When it expires, since 1970; 0 without TLS.', () => {
      return (measured.certificateExpiresAt?.() ?? 0) / 1000;
    });
    this.#counter('hawser_registrations_total', 'Users registered by themselves.', () => counters.registrations);
    this.#labelled('hawser_logins_total', 'Logins answered 100, by role.', 'role', () => ({
      app: counters.appLogins,
      device: counters.deviceLogins,
    }));
    this.#counter('hawser_takeovers_total', 'Sessions ended by a newer login.', () => counters.takeovers);
    this.#counter('hawser_devices_expired_total', 'Devices forgotten that nobody had added.', () => {
      return counters.devicesExpired;
    });
    this.#counter('hawser_frames_received_total', 'Frames received.', () => counters.frames);
    this.#counter('hawser_bytes_received_total', 'Bytes received from clients.', () => counters.bytesReceived);
    this.#counter('hawser_bytes_sent_total', 'Bytes written to clients.', () => counters.bytesSent);

    this.#counter('hawser_messages_accepted_total', 'Messages accepted.', () => counters.accepted);
    this.#counter('hawser_messages_joined_total', 'Resends that joined a message on its way.', () => counters.joined);
    this.#counter('hawser_messages_forwarded_total', 'Messages sent to other nodes.', () => counters.forwarded);
    this.#counter('hawser_messages_pushed_total', 'Pushes, repeated ones included.', () => counters.pushed);
    this.#counter('hawser_messages_redelivered_total', 'Pushes repeated on a connection.', () => counters.redelivered);
    this.#counter('hawser_messages_acked_total', 'Messages acked by their receivers.', () => counters.acked);
    this.#counter('hawser_messages_stored_total', 'Messages written to the store.', () => counters.stored);
    this.#counter('hawser_messages_removed_total', 'Messages removed from the store.', () => counters.removed);
    this.#labelled('hawser_messages_expired_total', 'Messages dropped undelivered, by reason.', 'reason', () => ({
      age: counters.expiredByAge,
      ttl: counters.expiredByTtl,
    }));
    this.#labelled('hawser_refused_total', 'Requests refused, by reason.', 'reason', () => counters.refused, refusals);
    this.#labelled('hawser_closed_total', 'Connections ended, by reason.', 'reason', () => counters.closed, closings);

    this.#labelled('hawser_limited_total', 'What met a limit against abuse.', 'limit', () => counters.limited);
    this.#gauge('hawser_connections_before_login', 'Connections that have not logged in.', measured.beforeLogin);
    this.#gauge('hawser_logins_delayed', 'Logins that wait because others failed before them.', measured.loginsDelayed);

    this.#gauge('hawser_mailboxes', 'Receivers with a mailbox in memory.', () => measured.delivery().mailboxes);
    this.#gauge('hawser_pending_bytes', 'Bytes of messages neither acked nor refused.', () => {
      return measured.delivery().pendingBytes;
    });
    this.#gauge('hawser_remembered_ids', 'Ids kept to recognise resends.', () => measured.delivery().rememberedIds);
    this.#counter('hawser_store_writes_total', 'Records written to the store.', () => measured.store().operations);
    this.#counter('hawser_store_batches_total', 'Batches written to the store.', () => measured.store().batches);
    this.#gauge(
      'hawser_store_damaged_records',
      'Records set aside for a wrong checksum.',
      () => measured.store().damaged,
    );
    if (measured.cluster !== undefined) this.#cluster(measured.cluster);
  }

  #cluster(read: () => MeasuredCluster): void {
    this.#gauge('hawser_cluster_peers', 'Other nodes that hold their leases.', () => read().peers);
    this.#gauge('hawser_cluster_open', '1 while names can be claimed, 0 while logins wait.', () =>
      read().isOpen ? 1 : 0,
    );
    this.#gauge('hawser_cluster_draining', '1 while this node gives its sessions to others.', () =>
      read().isDraining ? 1 : 0,
    );
    this.#gauge('hawser_cluster_names', 'Names that this node holds.', () => read().names);
    this.#counter('hawser_cluster_claims_total', 'Names claimed in Redis.', () => read().claims);
    this.#gauge('hawser_cluster_renewal_seconds', 'How long Redis took to renew the lease.', () => {
      return read().renewalMs / 1000;
    });
    this.#labelled('hawser_bus_packets_total', 'Packets to and from other nodes.', 'direction', () => {
      const { packetsOut, packetsIn } = read().bus;
      return { out: packetsOut, in: packetsIn };
    });
    this.#labelled('hawser_bus_bytes_total', 'Bytes to and from other nodes.', 'direction', () => {
      const { bytesOut, bytesIn } = read().bus;
      return { out: bytesOut, in: bytesIn };
    });
    this.#labelled('hawser_bus_lost_total', 'Packets or batches that were not taken, by reason.', 'reason', () => {
      const { dropped, malformed, stale } = read().bus;
      return { dropped, malformed, stale };
    });
  }

  get contentType(): string {
    return this.#meters.contentType;
  }

  text(): Promise<string> {
    return this.#meters.text();
  }

  #gauge(name: string, help: string, read: () => number): void {
    this.#meters.gauge(name, help, read);
  }

  #counter(name: string, help: string, read: () => number): void {
    this.#meters.counter(name, help, read);
  }

  #labelled(...args: Parameters<Meters['labelled']>): void {
    this.#meters.labelled(...args);
  }

  close(): void {
    this.#meters.close();
  }
}

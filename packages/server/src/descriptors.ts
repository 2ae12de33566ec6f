import { readFileSync } from 'node:fs';
import { serverLimits } from '@hawser/protocol';

/** How many files and sockets this process may have open; `undefined` where that cannot be told. */
export function descriptorLimit(): number | undefined {
  try {
    const line = /^Max open files\s+(\d+|unlimited)/m.exec(readFileSync('/proc/self/limits', 'utf8'));
    return line?.[1] === undefined || line[1] === 'unlimited' ? undefined : Number(line[1]);
  } catch {
    return undefined;
  }
}

/**
 * The connections for which a limit leaves room; 0 or less when it does not even do for the store.
 *
 * @param httpServers the dispatcher, with or without TLS, and the operators' port
 */
export function connectionsWithin(limit: number | undefined, httpServers = 2): number {
  if (limit === undefined) return Number.POSITIVE_INFINITY;
  return limit - serverLimits.descriptorsReserved - httpServers * httpConnectionsWithin(limit);
}

/** The connections that each HTTP server may have: a tenth of a low limit, so that they never take the store's. */
export function httpConnectionsWithin(limit: number | undefined): number {
  return Math.min(serverLimits.httpConnectionsMax, Math.ceil((limit ?? Number.POSITIVE_INFINITY) / 10));
}

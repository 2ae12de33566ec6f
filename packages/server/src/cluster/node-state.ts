import { serverLimits } from '@hawser/protocol';

/** Where clients reach a node. */
export interface NodeAddress {
  readonly ip: string;
  readonly port: number;
}

/** What a node says of itself, with each renewal of its lease, to dispatchers and operators. */
export interface NodeState {
  readonly version: string;
  readonly tcp: NodeAddress;
  readonly tls?: NodeAddress | undefined;
  readonly sessions: number;
  readonly connections: number;
  readonly connectionsMax: number;
  /** Messages accepted in a second. */
  readonly messages: number;
  /** How late its event loop is, ms, at the 99th percentile. */
  readonly lagMs: number;
  /** It gives its sessions to others: nobody is to be sent there. */
  readonly isDraining: boolean;
}

/** A run of a node, and what it says of itself. */
export interface NodeOffer {
  readonly run: string;
  /** The node's name, over all its runs. */
  readonly node: string;
  readonly state: NodeState;
}

/** What this run of a node is called; `newRun` makes it. */
export function nodeOf(run: string): string {
  return run.slice(0, run.lastIndexOf('.'));
}

export function writeState(state: NodeState): string {
  return JSON.stringify(state);
}

/** `undefined` for what no node of a version that says as much has written. Members that are not known are left. */
export function readState(text: string): NodeState | undefined {
  if (text === '' || text.length > serverLimits.nodeStateBytesMax) return undefined;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (!isObject(value)) return undefined;
  const { version, tcp, tls, isDraining } = value;
  const numbers = ['sessions', 'connections', 'connectionsMax', 'messages', 'lagMs'].map((name) => value[name]);
  const [sessions, connections, connectionsMax, messages, lagMs] = numbers;
  if (!isCount(sessions) || !isCount(connections) || !isCount(connectionsMax) || !isCount(messages)) return undefined;
  if (typeof version !== 'string' || !isCount(lagMs) || typeof isDraining !== 'boolean') return undefined;
  if (!isAddress(tcp) || (tls !== undefined && !isAddress(tls))) return undefined;
  return { version, tcp, tls, sessions, connections, connectionsMax, messages, lagMs, isDraining };
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isFinite(value) && value >= 0;
}

function isAddress(value: unknown): value is NodeAddress {
  return isObject(value) && typeof value.ip === 'string' && isCount(value.port) && value.port <= 65_535;
}

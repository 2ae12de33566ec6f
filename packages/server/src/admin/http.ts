import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { serverLimits } from '@hawser/protocol';
import type { Meters } from './meters.ts';

export interface Health {
  readonly ok: boolean;
  /** `blind`: a dispatcher that does not know which nodes there are. */
  readonly state: 'serving' | 'stopping' | 'failed' | 'blind';
}

/** The operators' port: health and metrics. Not listening yet. */
export function createAdmin(metrics: Meters, health: () => Health): Server {
  const server = createServer(
    {
      maxHeaderSize: serverLimits.httpHeaderBytesMax,
      requestTimeout: serverLimits.httpRequestTimeoutMs,
      headersTimeout: serverLimits.httpRequestTimeoutMs,
      connectionsCheckingInterval: serverLimits.httpRequestCheckMs,
    },
    (request, response) => void answer(request, response, metrics, health),
  );
  server.maxConnections = serverLimits.httpConnectionsMax;
  return server;
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  metrics: Meters,
  health: () => Health,
): Promise<void> {
  const path = (request.url ?? '').split('?', 1)[0];
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    // A body that nobody asked for is not waited for.
    response.setHeader('Connection', 'close').setHeader('Allow', 'GET, HEAD');
    send(response, 405, 'text/plain', 'only GET\n');
  } else if (path === '/healthz') {
    const now = health();
    send(response, now.ok ? 200 : 503, 'application/json', `${JSON.stringify({ state: now.state })}\n`);
  } else if (path === '/metrics') {
    try {
      send(response, 200, metrics.contentType, await metrics.text());
    } catch (error) {
      send(response, 500, 'text/plain', `${String(error)}\n`);
    }
  } else send(response, 404, 'text/plain', 'here are /healthz and /metrics\n');
}

function send(response: ServerResponse, status: number, type: string, body: string): void {
  response.writeHead(status, {
    'Content-Type': type,
    'Content-Length': Buffer.byteLength(body),
    'Cache-Control': 'no-store',
  });
  response.end(body);
}

// Exit code 0 when what runs in this container does its work. A node is asked at the operators' port, which only the container
// reaches; a dispatcher, whose URL is given, must have a node to tell clients of.
const { HAWSER_ADMIN_HOST: host = '127.0.0.1', HAWSER_ADMIN_PORT: port = '9998' } = process.env;
const at = host === '0.0.0.0' ? '127.0.0.1' : host === '::' ? '[::1]' : host.includes(':') ? `[${host}]` : host;
const dispatcher = process.argv[2];

async function isHealthy() {
  const url = dispatcher === undefined ? `http://${at}:${port}/healthz` : new URL('/?id=healthy', dispatcher);
  const response = await fetch(url, { signal: AbortSignal.timeout(4_000) });
  return response.ok && (dispatcher === undefined || (await response.json()).ip !== undefined);
}

process.exitCode = (await isHealthy().catch(() => false)) ? 0 : 1;

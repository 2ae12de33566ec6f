// Exit code 0 when the server in this container serves: it asks the operators' port, which only this container reaches.
const { HAWSER_ADMIN_HOST: host = '127.0.0.1', HAWSER_ADMIN_PORT: port = '9998' } = process.env;
const at = host === '0.0.0.0' ? '127.0.0.1' : host === '::' ? '[::1]' : host.includes(':') ? `[${host}]` : host;
const { ok } = await fetch(`http://${at}:${port}/healthz`, { signal: AbortSignal.timeout(4_000) }).catch(() => ({}));
process.exitCode = ok ? 0 : 1;

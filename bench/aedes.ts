// Aedes as a server of its own, as its documentation has it: memory for everything. Its only argument is the file to import.
import { createServer } from 'node:net';
import { pathToFileURL } from 'node:url';

const { Aedes } = await import(pathToFileURL(process.argv[2] ?? '').href);
const aedes = await Aedes.createBroker();
const server = createServer({ noDelay: true }, aedes.handle);
server.listen({ host: '127.0.0.1', port: 0, backlog: 4096 }, () => {
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('not listening on TCP');
  const tcp = { host: address.address, port: address.port };
  process.stderr.write(`${JSON.stringify({ msg: 'ready', tcp, admin: null })}\n`);
});
process.on('SIGTERM', () => process.exit());

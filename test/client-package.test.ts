// What is published of the client: it installs in an empty folder, runs on plain Node and in what a browser has, has its
// types, and is small.

import assert from 'node:assert/strict';
import { execFile, execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join, resolve } from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { gzipSync } from 'node:zlib';
import { build, type Metafile } from 'esbuild';
import { pack } from '../scripts/pack.ts';
import { type Server, startServer } from './harness.ts';
import { WebSocketRelay } from './relay.ts';

/** What the whole client may take in a browser, minified and gzipped. */
const BUNDLE_BYTES_MAX = 15 * 1024;
/** The Node that the client promises to run on. */
const OLDEST_NODE = 20;

const root = resolve(import.meta.dirname, '..');
const folder = mkdtempSync(join(tmpdir(), 'hawser-package-'));
const installed = join(folder, 'node_modules', '@hawser');
let server: Server;

before(async () => {
  const tarballs = pack(join(folder, 'tarballs'));
  writeFileSync(join(folder, 'package.json'), '{"private":true,"type":"module"}');
  execFileSync('npm', ['install', '--offline', '--no-audit', '--no-fund', '--loglevel=error', ...tarballs], {
    cwd: folder,
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  server = await startServer();
});

after(async () => {
  await server[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true, force: true });
});

/** Every Node there is on this machine, by version: the one that runs this, and those in PATH. */
function nodes(): Map<string, string> {
  const found = new Map<string, string>();
  const paths = (process.env.PATH ?? '').split(delimiter).map((path) => join(path, 'node'));
  for (const path of [process.execPath, ...paths]) {
    try {
      const version = execFileSync(path, ['--version'], {
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'ignore'],
      }).trim();
      if (!found.has(version)) found.set(version, path);
    } catch {
      // no Node in this folder
    }
  }
  return found;
}

/** Runs a script; resolves with what it prints. */
async function run(node: string, name: string, script: string, args: readonly string[]): Promise<string> {
  const file = join(folder, name);
  writeFileSync(file, script);
  const { stdout } = await promisify(execFile)(node, [file, ...args], { cwd: folder, timeout: 30_000 });
  return stdout;
}

/** A device and an app that log in over `options` and exchange a message. */
function firstMessage(from: string, options: string): string {
  return `
    ${from}
    const [dispatcher, relay, suffix] = args;
    const [ann, lampId] = ['ann' + suffix, 'lamp' + suffix];
    const lamp = new Device(${options});
    await lamp.authenticate(lampId, { version: '1.0' });
    const app = new App(${options});
    await app.register(ann, 'secret');
    await app.login(ann, 'secret');
    await app.addDevice(lampId);
    const reply = app.messages().next();
    lamp.onMessage((message) => lamp.send(message.from, { got: message.msg }).then(() => {}));
    await app.send(lampId, { light: 'on', é: [1.5, null] });
    print(JSON.stringify((await reply).value.msg));
    const refused = await app.login(ann, 'x').catch((error) => error.name + ' ' + error.outcome);
    print(refused);
    app.close();
    lamp.close();
  `;
}

const SAID = '{"got":{"light":"on","é":[1.5,null]}}\nStateError not sent\n';

test('a package holds JavaScript, declarations, and source maps with their sources; no tests, no sources beside', () => {
  for (const name of ['protocol', 'client']) {
    const top = readdirSync(join(installed, name)).sort();
    assert.deepEqual(top, ['LICENSE', 'README.md', 'lib', 'package.json']);
    const files = readdirSync(join(installed, name, 'lib'), { recursive: true, encoding: 'utf8' });
    const scripts = files.filter((file) => file.endsWith('.js'));
    assert.ok(scripts.length >= 10);
    for (const script of scripts) {
      const map = JSON.parse(readFileSync(join(installed, name, 'lib', `${script}.map`), 'utf8')) as {
        sourcesContent?: string[];
      };
      assert.ok((map.sourcesContent?.[0]?.length ?? 0) > 50, script);
      assert.ok(files.includes(script.replace(/\.js$/, '.d.ts')), script);
    }
    assert.deepEqual(
      files.filter((file) => /test|world/.test(file) || (file.endsWith('.ts') && !file.endsWith('.d.ts'))),
      [],
    );
  }
});

for (const [version, node] of nodes()) {
  const isTooOld = Number.parseInt(version.slice(1), 10) < OLDEST_NODE;
  const skip = isTooOld && `older than Node ${OLDEST_NODE}`;
  test(`Node ${version}: an app and a device exchange a message, encrypted`, { skip }, async () => {
    const script = firstMessage(
      `import { App, Device } from '@hawser/client';
       const args = process.argv.slice(2);
       const print = console.log;`,
      '{ dispatcher }',
    );
    const dispatcher = `http://127.0.0.1:${server.httpPort}`;
    assert.equal(await run(node, 'first.mjs', script, [dispatcher, '', version]), SAID);
  });
}

test('a Node other than the one that runs the tests has run it', (t) => {
  const others = [...nodes().keys()].filter((version) => version !== process.version);
  t.diagnostic(`also on: ${others.join(', ')}`);
  if (others.length === 0) t.skip('there is no other Node on this machine');
});

test("the README's first message prints what the README says, word for word", async () => {
  const readme = readFileSync(join(installed, 'client', 'README.md'), 'utf8');
  const script = /```js\n(\/\/ first\.mjs[\s\S]*?)```/.exec(readme)?.[1] ?? '';
  const says = /```text\n([\s\S]*?)```/.exec(readme)?.[1];
  assert.equal(script.trim().split('\n').length - 1, 10, 'lines');
  const here = script.replace('http://127.0.0.1:9999', `http://127.0.0.1:${server.httpPort}`);
  assert.equal(await run(process.execPath, 'readme.mjs', here, []), says);
  const again = await run(process.execPath, 'readme.mjs', here, []);
  assert.equal(again, `the name is taken\nthe device is already added\n${says}`);
});

test('types: a strict program compiles against the package, as Node and as bundlers resolve it', () => {
  const program = `
    import { App, ConflictError, Device, RefusedError, type Message, type State, websocket } from '@hawser/client';
    import { fullJitterMs, type Transport } from '@hawser/client/core';
    interface Light { readonly on: boolean }
    const transport: Transport = websocket({ url: 'wss://example.test/' });
    const app = new App({ dispatcher: 'http://example.test:9999', transport, heartbeatMs: 10_000 });
    const device: Device = new Device({ server: { host: '127.0.0.1', port: 8888 } });
    export async function main(signal: AbortSignal): Promise<string> {
      await app.login('ann', 'secret', { signal, timeoutMs: Infinity });
      device.onMessage<Light>((message: Message<Light>) => console.log(message.msg.on satisfies boolean));
      for await (const { msg } of app.messages<string>({ signal })) console.log(msg.length);
      const { msgId } = await app.send<Light>('lamp', { on: true }, { ttl: 60 });
      const state: State = app.state;
      if (state.phase === 'waiting') console.log(state.delayMs, fullJitterMs(1, 1, 1, 0.5));
      return msgId;
    }
    export function text(error: unknown): string {
      if (error instanceof RefusedError) return String(error.code satisfies number) + error.outcome;
      return error instanceof ConflictError ? error.name satisfies 'ConflictError' : '';
    }
    // @ts-expect-error there is no such phase
    export const isAway = app.state.phase === 'away';
    // @ts-expect-error neither is there such an option
    export const other = new App({ dispatcher: 'http://example.test', retries: 3 });
  `;
  writeFileSync(join(folder, 'program.ts'), program);
  const common = { strict: true, noEmit: true, target: 'ES2022', skipLibCheck: false };
  const types = { typeRoots: [join(root, 'node_modules/@types')], types: ['node'] };
  for (const [name, options] of Object.entries({
    node: { ...common, ...types, module: 'NodeNext', moduleResolution: 'NodeNext', lib: ['ES2023'] },
    bundler: { ...common, module: 'ESNext', moduleResolution: 'Bundler', lib: ['ES2023', 'DOM'], types: [] },
  })) {
    const config = join(folder, `${name}.json`);
    writeFileSync(config, JSON.stringify({ compilerOptions: options, files: ['program.ts'] }));
    try {
      execFileSync(join(root, 'node_modules/.bin/tsc'), ['--project', config], { encoding: 'utf8' });
    } catch (error) {
      assert.fail(`${name}: ${(error as { stdout?: string }).stdout}`);
    }
  }
});

// ---- in browsers

async function bundle(contents: string): Promise<{ code: string; gzipped: number; inputs: string[] }> {
  const result = await build({
    stdin: { contents, resolveDir: folder },
    bundle: true,
    minify: true,
    format: 'esm',
    platform: 'browser',
    target: 'es2022',
    metafile: true,
    write: false,
    logLevel: 'silent',
  });
  const code = result.outputFiles[0]!.text;
  const { outputs }: Metafile = result.metafile;
  const inputs = Object.values(outputs).flatMap((output) => Object.keys(output.inputs));
  return { code, gzipped: gzipSync(code, { level: 9 }).length, inputs };
}

test(`all of the client takes at most ${BUNDLE_BYTES_MAX} bytes in a browser, gzipped, and nothing of Node`, async (t) => {
  const { code, gzipped, inputs } = await bundle("export * from '@hawser/client';");
  t.diagnostic(`${gzipped} bytes gzipped, ${code.length} minified`);
  assert.ok(gzipped <= BUNDLE_BYTES_MAX, `${gzipped} bytes`);
  assert.ok(gzipped > 3_000, 'it is all there');
  const ofNode = inputs.filter((input) =>
    /cipher-node|keys-node|transports\/(tcp|tls|socket)|protocol\/lib\/bodies/.test(input),
  );
  assert.deepEqual(ofNode, []);
  assert.doesNotMatch(code, /(?:from|import|require)\s*\(?\s*["'](?:node:)?(?:net|tls|crypto)["']/);
});

test('what is not used is not bundled', async (t) => {
  const all = await bundle("export * from '@hawser/client';");
  const device = await bundle("export { Device } from '@hawser/client';");
  const little = await bundle("export { fullJitterMs } from '@hawser/client';");
  t.diagnostic(`a device alone: ${device.gzipped} bytes gzipped; one function: ${little.gzipped}`);
  // The app's class goes, and with it what hashes passwords.
  assert.ok(device.gzipped < all.gzipped - 500, `${device.gzipped} of ${all.gzipped}`);
  assert.ok(!device.inputs.some((input) => input.endsWith('md5.js')));
  assert.ok(little.gzipped < 200, `${little.gzipped} bytes`);
});

test('the bundle runs with what a browser has, over WebSocket', async () => {
  await using relay = await WebSocketRelay.listen(server);
  const { code } = await bundle("export { App, Device, websocket } from '@hawser/client';");
  writeFileSync(join(folder, 'bundle.mjs'), code);
  const script = firstMessage(
    `const args = process.argv.slice(2);
     const print = console.log;
     for (const name of ['process', 'global', 'setImmediate']) delete globalThis[name];
     // Node's own fetch and WebSocket need Buffer; the bundle must find none when it is loaded.
     const { Buffer } = globalThis;
     delete globalThis.Buffer;
     const { App, Device, websocket } = await import('./bundle.mjs');
     globalThis.Buffer = Buffer;`,
    '{ dispatcher, transport: websocket({ url: relay }) }',
  );
  const dispatcher = `http://127.0.0.1:${server.httpPort}`;
  assert.equal(await run(process.execPath, 'browser.mjs', script, [dispatcher, relay.url, '-browser']), SAID);
});

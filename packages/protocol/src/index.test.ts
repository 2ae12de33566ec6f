import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import * as protocol from './index.ts';

const sources = readdirSync(import.meta.dirname).filter((file) => /(?<!\.test)\.ts$/.test(file));

function importsOf(file: string): string[] {
  const text = readFileSync(new URL(file, import.meta.url), 'utf8');
  return [...text.matchAll(/\b(?:from|import)\s*\(?\s*'([^', ]+)'/g)].map((match) => match[1]!);
}

test('only cipher-node.ts imports anything from outside the package', () => {
  assert.ok(sources.includes('json.ts') && sources.includes('index.ts'));
  assert.deepEqual(importsOf('cipher-node.ts')[0], 'node:crypto');
  for (const file of sources.filter((each) => each !== 'cipher-node.ts')) {
    for (const imported of importsOf(file)) {
      assert.ok(sources.includes(imported.replace('./', '')), `${file} imports ${imported}`);
      assert.notEqual(imported, './cipher-node.ts', `${file} imports ${imported}`);
    }
  }
});

test('no source but cipher-node.ts names what only Node has', () => {
  for (const file of sources.filter((each) => each !== 'cipher-node.ts')) {
    const text = readFileSync(new URL(file, import.meta.url), 'utf8');
    const code = text.replaceAll(/\/\*[\s\S]*?\*\/|\/\/.*/g, '');
    assert.doesNotMatch(code, /\b(require|process|setImmediate|__dirname|NodeJS|import\.meta)\b/, file);
    // text.ts asks the global object for Buffer, and does without it.
    if (file !== 'text.ts') assert.doesNotMatch(code, /\bBuffer\b/, file);
  }
});

/** Something of everything that the package does; runs in a child process too, so it uses nothing but its argument. */
function tour(p: typeof protocol): string[] {
  const hex = (bytes: Uint8Array) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
  const json = (value: unknown) =>
    JSON.stringify(value, (_, each) => (each instanceof Uint8Array ? hex(each) : (each as unknown)));
  const results: string[] = [];
  const texts = ['', 'a', 'é', '消息', '😀', '\ud800', '\ufeffx', 'long '.repeat(40), 'länger '.repeat(40)];
  for (const text of texts) {
    const bytes = p.encodeText(text);
    const data = p.encodeText(JSON.stringify({ to: text, msg: [text, 1.5e300], ttl: 5 }));
    const frame = p.encodeFrame(200, text, true, data);
    const cutter = new p.FrameCutter();
    cutter.push(frame.subarray(0, 7));
    cutter.next(10_000);
    cutter.push(frame.subarray(7));
    const push = new p.PushWriter();
    push.begin();
    push.add(p.pushHead(text, text), p.encodeText('"é"'), text, 7);
    push.end();
    results.push(
      json([p.decodeText(bytes), p.utf8Length(text), p.isName(text), p.isMsgId(text), p.isJson(data)]),
      json([hex(frame), p.decodeEnvelope(frame.subarray(4)), cutter.next(10_000), p.readMessage(data)]),
      json([hex(push.bytes.subarray(0, push.length)), p.readAcks(push.bytes.subarray(0, push.length))]),
      json([p.readLogin(data), hex(p.retryBody(p.refusals.busy)), hex(p.OK_BODY)]),
    );
  }
  results.push(json([p.decodeText(Uint8Array.of(0xff)), p.decodeEnvelope(Uint8Array.of(0x12, 1, 0xff))]));
  results.push(json([p.wireLimits, p.code, p.cmd, p.closings]));
  return results;
}

test('the package gives the same results where there is no Buffer and no process', () => {
  const script = `
    const { stdout } = process;
    for (const name of ['Buffer', 'process', 'global', 'setImmediate', 'clearImmediate']) delete globalThis[name];
    const p = await import(${JSON.stringify(new URL('index.ts', import.meta.url).href)});
    if (typeof Buffer !== 'undefined' || typeof process !== 'undefined') throw new Error('still there');
    stdout.write(JSON.stringify((${tour})(p)));
  `;
  const output = execFileSync(process.execPath, ['--input-type=module', '--eval', script], { encoding: 'utf8' });
  assert.deepEqual(JSON.parse(output), tour(protocol));
});

// What `docs/security.md` says of attacks, tests, options and metrics is there.

import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { optionOf, settingNames } from '@hawser/server';

const root = join(import.meta.dirname, '..');
const page = read('docs/security.md');

function read(path: string): string {
  return readFileSync(join(root, path), 'utf8');
}

function sectionOf(heading: string): string {
  const [, section, again] = page.split(`\n## ${heading}\n`);
  assert.ok(section !== undefined && again === undefined, heading);
  return section.split('\n## ')[0] ?? '';
}

/** The cells of each row below the head of the table of attacks. */
const rows = [...sectionOf('The attacks').matchAll(/^\| (.+) \|$/gm)]
  .map(([, cells = '']) => cells.split(' | ').map((cell) => cell.trim()))
  .slice(2);

test('each section is there once, in order', () => {
  assert.deepEqual(
    [...page.matchAll(/^#+ (.*)$/gm)].map(([, heading]) => heading),
    [
      'Security',
      'Defended by default',
      'By option',
      'What only TLS gives',
      'The attacks',
      'Devices: secrets and pairing',
      'Limits against abuse',
      'From existing clients to a hardened fleet',
      'Reporting a vulnerability',
    ],
  );
});

test('each attack that is to be withstood has one row', () => {
  for (const attack of [
    /^Padding oracle/,
    /^Replay of a recorded session/,
    /^Somebody between/,
    /^ECB, no integrity, cleared `isEncrypt`/,
    /^md5\(password\) as password/,
    /^Finding user names/,
    /^Guessing passwords/,
    /^Locking an owner out/,
    /^Taking over a device by its id/,
    /^Somebody else's id, over TLS/,
    /^Commanding someone else's device/,
    /^Guessing pairing codes/,
    /^Posing as a device by a user's name/,
    /^Takeover wars/,
    /^Commands out of state or role/,
    /^Length bombs/,
    /^Slow and silent peers/,
    /^Handshakes that never end/,
    /^Protobuf bombs/,
    /^JSON bombs.*prototype pollution.*forging a push/,
    /^Receivers that never read or never ack/,
    /^Flooding an inbox/,
    /^Same `msgId`, other content/,
    /^A session that sends without end/,
    /^Writing into the log/,
    /^Dispatcher abuse/,
    /^Blocking the event loop/,
    /^A thousand logins at once/,
    /^Flooding with connections/,
    /^Running out of descriptors/,
    /^Store away/,
    /^Redis away/,
    /^Power loss/,
    /^Clock jumps/,
    /^Everyone reconnects at once/,
    /^Filling the disk with names/,
    /^Posing as a client of this machine/,
    /^The operators' port in public/,
    /^Every client behind one address/,
  ]) {
    assert.equal(rows.filter(([name = '']) => attack.test(name)).length, 1, String(attack));
  }
});

for (const [attack = '', ...cells] of rows) {
  test(`${attack}: the row is whole, and its tests are there`, () => {
    assert.equal(cells.length, 4);
    const files = [...(cells[3] ?? '').matchAll(/\]\(\.\.\/([^)]+)\)/g)].map(([, path = '']) => path);
    assert.ok(
      files.some((path) => path.endsWith('.test.ts')),
      'no test is named',
    );
    for (const path of files) assert.ok(existsSync(join(root, path)), path);
  });
}

test('the options that the page names are those of the server or of a command', () => {
  const options = new Set(settingNames.map(optionOf));
  const ofCommands = new Set(['--csv', '--code']);
  for (const [option] of page.matchAll(/--[a-z][a-z-]+/g)) {
    assert.ok(options.has(option) || ofCommands.has(option), option);
  }
});

test('the metrics and reasons that the page names are there', () => {
  const metrics = read('packages/server/src/admin/metrics.ts');
  const codes = read('packages/protocol/src/codes.ts');
  for (const [, name = '', reason] of page.matchAll(/\b(hawser_\w+)(?:\{reason="(\w+)"\})?/g)) {
    assert.ok(metrics.includes(`'${name}'`), name);
    if (reason !== undefined) assert.match(codes, new RegExp(`\\b${reason}:`));
  }
});

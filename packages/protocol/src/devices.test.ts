import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type DeviceLine, DevicesWriter, readDevicesPage } from './devices.ts';
import { isJson } from './json.ts';
import { wireLimits } from './limits.ts';
import { encodeText } from './text.ts';

fc.configureGlobal({ seed: Number(process.env.HAWSER_SEED ?? 1) });

const lamp: DeviceLine = {
  deviceId: 'lamp-1',
  version: '"1.0"',
  abilities: '[ "light" ]',
  online: true,
  lastSeen: 1_700_000_000_123.5,
};
const door: DeviceLine = { deviceId: 'door', version: undefined, abilities: undefined, online: undefined, lastSeen: 0 };

function pageOf(devices: readonly DeviceLine[], next?: string): string {
  const writer = new DevicesWriter(wireLimits.devicesPageBytesMax);
  for (const device of devices) assert.ok(writer.add(device));
  return new TextDecoder().decode(writer.body(next));
}

test('a page is compact, with what the devices said as they said it, and without what is not known', () => {
  const lines =
    '{"deviceId":"lamp-1","version":"1.0","abilities":[ "light" ],"online":true,"lastSeen":1700000000123},' +
    '{"deviceId":"door","lastSeen":0}';
  assert.equal(pageOf([lamp, door]), `{"code":100,"msg":"ok","devices":[${lines}]}`);
  assert.equal(pageOf([]), '{"code":100,"msg":"ok","devices":[]}');
  assert.equal(
    pageOf([door], 'a "b"'),
    `{"code":100,"msg":"ok","devices":[${lines.split('},')[1]}],"next":"a \\"b\\""}`,
  );
});

test('a page takes what has room in its bytes, whatever follows, and one device in any case', () => {
  const bytesMax = 1000;
  for (let abilities = 2; abilities < 1500; abilities += 7) {
    const writer = new DevicesWriter(bytesMax);
    const device = { ...lamp, deviceId: 'é"'.repeat(20), abilities: `"${'ü'.repeat(abilities / 2)}"` };
    let count = 0;
    while (writer.add(device)) count++;
    assert.equal(writer.count, count);
    assert.ok(count >= 1);
    const bytes = writer.body(device.deviceId).length;
    assert.ok(count === 1 || bytes <= bytesMax, `${bytes} bytes`);
    const another = JSON.parse(new TextDecoder().decode(writer.body(device.deviceId))) as { devices: object[] };
    another.devices.push(another.devices[0]!);
    assert.ok(encodeText(JSON.stringify(another)).length > bytesMax, 'another one would have had room');
  }
});

test('a page of the largest devices keeps within a frame', () => {
  const writer = new DevicesWriter(wireLimits.devicesPageBytesMax);
  const deviceId = '"'.repeat(wireLimits.nameBytesMax);
  while (
    writer.add({ ...lamp, deviceId, abilities: JSON.stringify('x'.repeat(8190)), version: `"${'v'.repeat(254)}"` })
  );
  assert.ok(writer.count >= 14);
  assert.ok(writer.body(deviceId).length <= wireLimits.devicesPageBytesMax);
});

test('any devices come out of a page as they went in', () => {
  const json = fc.option(
    fc.jsonValue().filter((value) => value !== null),
    { nil: undefined },
  );
  const device = fc.record({
    deviceId: fc.string({ unit: 'grapheme', minLength: 1 }),
    version: json,
    abilities: json,
    online: fc.option(fc.boolean(), { nil: undefined }),
    lastSeen: fc.nat(),
  });
  fc.assert(
    fc.property(fc.array(device), fc.option(fc.string(), { nil: undefined }), (devices, next) => {
      const text = (value: unknown) => (value === undefined ? undefined : JSON.stringify(value));
      const lines = devices.map((each) => ({ ...each, version: text(each.version), abilities: text(each.abilities) }));
      const body = encodeText(pageOf(lines, next));
      assert.ok(isJson(body));
      const read = JSON.stringify({ devices, next });
      assert.deepEqual(JSON.parse(JSON.stringify(readDevicesPage(body))), JSON.parse(read));
    }),
  );
});

test('what another server may leave out or get wrong is absent, and what is no page is none', () => {
  const bare = { version: undefined, abilities: undefined, online: undefined, lastSeen: 0 };
  const odd = '{"devices":[{"deviceId":"a","version":null,"online":1,"lastSeen":"x","more":1}],"next":7,"more":true}';
  assert.deepEqual(readDevicesPage(encodeText(odd)), { devices: [{ deviceId: 'a', ...bare }], next: undefined });
  for (const text of ['', 'x', 'null', '[]', '{}', '{"devices":{}}', '{"devices":[null]}', '{"devices":[{}]}']) {
    assert.equal(readDevicesPage(encodeText(text)), undefined, text);
  }
});

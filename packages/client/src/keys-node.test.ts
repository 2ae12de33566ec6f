import assert from 'node:assert/strict';
import { constants, generateKeyPairSync, privateDecrypt } from 'node:crypto';
import { test } from 'node:test';
import { cmd, decodeText, encodeFrame, encodeText, OK_BODY } from '@hawser/protocol';
import { NodeCipher } from '@hawser/protocol/cipher-node';
import { DeviceClient, ProtocolError } from './core/index.ts';
import { type Got, type Peer, World } from './core/world.ts';
import { nodeKeys } from './keys-node.ts';

const pair = generateKeyPairSync('rsa', { modulusLength: 2048 });
const publicDer = pair.publicKey.export({ format: 'der', type: 'spki' });

/** A server that sends its key first, and its cipher once the client has sent one. */
class EncryptingServer {
  readonly world = new World();
  cipher: NodeCipher | undefined;

  constructor() {
    this.world.keys = nodeKeys;
    this.world.onConnect = (peer) => {
      peer.open();
      peer.sendRaw(encodeFrame(cmd.serverKey, '', false, publicDer));
    };
    this.world.onFrame = (peer, frame) => this.answer(peer, frame);
  }

  answer(peer: Peer, frame: Got): void {
    if (frame.cmd === cmd.clientKey) {
      this.cipher = new NodeCipher(
        privateDecrypt({ key: pair.privateKey, padding: constants.RSA_PKCS1_PADDING }, frame.data),
      );
      peer.sendRaw(encodeFrame(frame.cmd, frame.msgId, false, OK_BODY));
    } else if (frame.cmd === cmd.authenticate) peer.sendRaw(this.encrypted(frame.cmd, frame.msgId, OK_BODY));
  }

  encrypted(number: number, msgId: string, data: Uint8Array): Uint8Array {
    const space = new Uint8Array(data.length + 16);
    space.set(data);
    return encodeFrame(number, msgId, true, this.cipher!.encrypt(space, 0, data.length));
  }

  plain(frame: Got): string {
    assert.equal(frame.isEncrypt, true, `cmd ${frame.cmd} is encrypted`);
    return decodeText(this.cipher!.decrypt(frame.data)!) ?? '';
  }
}

test('a key is agreed on first; then everything with data is encrypted, in both directions', async () => {
  const server = new EncryptingServer();
  const { world } = server;
  const device = new DeviceClient(world.ports(), {});
  const done = device.authenticate('lamp');
  await world.time.advance(0);
  await done;
  const [key, login, fetch] = world.peer.got;
  assert.deepEqual([key?.cmd, key?.isEncrypt, key?.data.length], [cmd.clientKey, false, 256]);
  assert.deepEqual(JSON.parse(server.plain(login!)), { id: 'lamp', nack: true });
  assert.deepEqual([fetch?.cmd, fetch?.isEncrypt, fetch?.data.length], [cmd.fetch, false, 0]);
  const handed: unknown[] = [];
  device.onMessage(({ msg }) => handed.push(msg));
  const push = encodeText('[{"from":"ann","to":"lamp","msg":{"on":true},"msgid":"m-1"}]');
  world.peer.sendRaw(server.encrypted(cmd.push, '', push));
  device.send('ann', 'hello', { msgId: 's-1' }).catch(() => {});
  await world.time.advance(0);
  assert.deepEqual(handed, [{ on: true }]);
  const [ack, message] = [world.peer.all(cmd.push)[0]!, world.peer.all(cmd.message)[0]!];
  assert.equal(server.plain(ack), '[{"msgid":"m-1"}]');
  assert.equal(server.plain(message), '{"to":"ann","msg":"hello"}');
});

test('each connection has a key of its own, under which unacked messages are encrypted anew', async () => {
  const server = new EncryptingServer();
  const { world } = server;
  const device = new DeviceClient(world.ports(), {});
  const done = device.authenticate('lamp');
  await world.time.advance(0);
  await done;
  device.send('ann', 'hello', { msgId: 's-1' }).catch(() => {});
  await world.time.advance(0);
  const before = world.peer.all(cmd.message)[0]!;
  const plain = server.plain(before);
  world.peer.close();
  await world.time.advance(1001);
  const after = world.peer.all(cmd.message)[0]!;
  assert.equal(server.plain(after), plain);
  assert.notDeepEqual(after.data, before.data);
});

test('a key that is none, or one of ours that the server does not take, ends the connection', async () => {
  const wrongKey = new EncryptingServer();
  wrongKey.world.onConnect = (peer) => {
    peer.open();
    peer.sendRaw(encodeFrame(cmd.serverKey, '', false, Uint8Array.of(1, 2, 3)));
  };
  const notTaken = new EncryptingServer();
  notTaken.answer = (peer, frame) => peer.send(frame.cmd, frame.msgId, { code: 200, msg: 'not a usable key' });
  for (const { world } of [wrongKey, notTaken]) {
    const device = new DeviceClient(world.ports(), {});
    const errors: Error[] = [];
    device.onState((state) => {
      if (state.phase === 'waiting') errors.push(state.error);
    });
    device.authenticate('lamp').catch(() => {});
    await world.time.advance(10_000);
    assert.ok(errors.length > 2);
    assert.ok(world === notTaken.world || errors[0] instanceof ProtocolError);
    assert.match(errors[0]!.message, /key/);
    device.close();
  }
});

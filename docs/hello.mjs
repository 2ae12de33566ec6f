// hello.mjs: a device and an app exchange a message, in the clear. Usage: node hello.mjs [PORT]
import { connect } from 'node:net';

const varint = (n) => (n < 128 ? [n] : [(n & 127) | 128, ...varint(n >>> 7)]);

function encode(cmd, msgId, json) {
  const data = Buffer.from(json === undefined ? '' : JSON.stringify(json));
  const head = [8, ...varint(cmd), 18, msgId.length, ...Buffer.from(msgId), 34, ...varint(data.length)];
  const frame = Buffer.concat([Buffer.alloc(4), Buffer.from(head), data]);
  frame.writeUInt32BE(frame.length - 4);
  return frame;
}

function decode(body) {
  const field = [];
  let at = 0;
  const number = () => {
    for (let n = 0, shift = 0; ; shift += 7) {
      n |= (body[at] & 127) << shift;
      if (body[at++] < 128) return n;
    }
  };
  while (at < body.length) {
    const tag = number();
    const value = number(); // itself, or how many bytes follow
    field[tag >> 3] = tag & 2 ? body.subarray(at, at + value) : value;
    if (tag & 2) at += value;
  }
  return { cmd: field[1] ?? 0, msgId: String(field[2] ?? ''), data: String(field[4] ?? '') };
}

function client(name, received) {
  const socket = connect(process.argv[2] ?? 8888, '127.0.0.1');
  let bytes = Buffer.alloc(0);
  socket.on('data', (chunk) => {
    bytes = Buffer.concat([bytes, chunk]);
    while (bytes.length >= 4 && bytes.length >= 4 + bytes.readUInt32BE()) {
      const frame = decode(bytes.subarray(4, 4 + bytes.readUInt32BE()));
      bytes = bytes.subarray(4 + bytes.readUInt32BE());
      if (frame.cmd === 1) continue; // the server's RSA key, which a client in the clear does not need
      console.log(`${name} receives cmd ${frame.cmd} ${frame.msgId} ${frame.data}`.trimEnd());
      received(frame);
    }
  });
  return (cmd, msgId = '', json = undefined) => socket.write(encode(cmd, msgId, json));
}

const lamp = client('lamp-1', ({ cmd, data }) => {
  if (cmd === 201)
    lamp(
      201,
      '',
      JSON.parse(data).map(({ msgid }) => ({ msgid })),
    ); // the ack of a push
});
const ann = client('ann', ({ cmd }) => {
  if (cmd === 200) for (const send of [ann, lamp]) send(104); // the message is acked: both log out
});
const login = { username: 'ann', password: '5ebe2294ecd0e0f08eab7690d2a6ee69' }; // the MD5 of "secret"
lamp(101, 'a-1', { id: 'lamp-1' });
ann(102, 'b-1', login); // register; answered 1001 when ann is there already
ann(100, 'b-2', login);
ann(203, 'b-3', { deviceId: 'lamp-1' }); // add the device; answered 2001 when ann has it already
ann(200, `m-${Date.now()}`, { to: 'lamp-1', msg: 'light on' });

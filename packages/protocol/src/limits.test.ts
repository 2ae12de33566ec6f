import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PushWriter, pushHead } from './bodies.ts';
import { BLOCK_BYTES } from './cipher.ts';
import { cmd } from './commands.ts';
import { encodeFrame } from './envelope.ts';
import { FRAME_HEAD_BYTES } from './frame.ts';
import { clientLimits, serverLimits, wireLimits } from './limits.ts';
import { isMsgId, isName } from './names.ts';
import { encodeText } from './text.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const SECOND = 1000;

test('the limits of the wire are those of the protocol', () => {
  assert.deepEqual(wireLimits, {
    frameBytesMaxBeforeLogin: 16 * KIB,
    frameBytesMax: MIB,
    devicesPageMax: 500,
    devicesPageBytesMax: 128 * KIB,
    msgBytesMax: MIB - 4 * KIB,
    pushBatchBytesMax: 64 * KIB,
    nameBytesMax: 128,
    msgIdBytesMax: 128,
    secretBytesMax: 128,
    codeBytesMin: 4,
    codeBytesMax: 64,
    jsonDepthMax: 512,
    undecryptableFramesMax: 10,
    ttlSecondsMax: 2_592_000,
    rsaModulusBits: 2048,
  });
});

test('the limits of the server that the protocol promises are kept', () => {
  const promised: Partial<typeof serverLimits> = {
    loginTimeoutMs: 60 * SECOND,
    idleTimeoutMs: 150 * SECOND,
    closeTimeoutMs: 5 * SECOND,
    rsaKeyAgeMsMax: 24 * 60 * 60 * SECOND,
    rsaKeyUsesMax: 1_000_000,
    rsaKeyGraceMs: 120 * SECOND,
    windowMessagesMax: 256,
    windowBytesMax: 256 * KIB,
    redeliveryAfterMs: 60 * SECOND,
    redeliveryAfterMsMax: 600 * SECOND,
    backlogAfterMs: SECOND,
    refetchAfterMs: 5 * SECOND,
    senderPendingMessagesMax: 1000,
    rememberedIdsPerSender: 1000,
    rememberedForMs: 600 * SECOND,
    rememberedIdsMax: 500_000,
    inboxMessagesMax: 100_000,
    inboxBytesMax: 64 * MIB,
    inboxAgeMsMax: 30 * 24 * 60 * 60 * SECOND,
    inboxSenderShare: 2,
    devicesPerUserMax: 1000,
    usersPerDeviceMax: 100,
  };
  for (const [name, value] of Object.entries(promised)) {
    assert.equal(serverLimits[name as keyof typeof serverLimits], value, name);
  }
});

test('every limit is a whole number above zero', () => {
  for (const [name, value] of Object.entries({ ...wireLimits, ...serverLimits, ...clientLimits })) {
    assert.ok(Number.isSafeInteger(value) && value > 0, name);
  }
});

test('every time fits a timer', () => {
  for (const [name, value] of Object.entries({ ...serverLimits, ...clientLimits })) {
    if (/TimeoutMs$|AfterMs$|AfterMsMax$|SweepMs$|GraceMs$/.test(name)) assert.ok(value < 2 ** 31, name);
  }
});

// A name whose every byte takes two in JSON, and a msgId whose every byte takes six.
const NAME = '"'.repeat(wireLimits.nameBytesMax);
const MSG_ID = '\u0001'.repeat(wireLimits.msgIdBytesMax);
const LARGEST_MSG = new Uint8Array(wireLimits.msgBytesMax).fill(0x31);

test('the largest msg fits into a push, with the names and the msgId that take the most room, encrypted', () => {
  assert.ok(isName(NAME) && isMsgId(MSG_ID));
  const push = new PushWriter();
  push.begin();
  push.add(pushHead(NAME, NAME), LARGEST_MSG, MSG_ID, Number.MAX_SAFE_INTEGER);
  push.end();
  const frame = encodeFrame(cmd.push, '', true, push.bytes.subarray(0, push.length + BLOCK_BYTES));
  assert.ok(frame.length - FRAME_HEAD_BYTES <= wireLimits.frameBytesMax, `${frame.length} bytes`);
});

test('the largest msg fits into a message, with a receiver spelled as long as can be, encrypted', () => {
  const to = '\\u0061'.repeat(wireLimits.nameBytesMax);
  const head = encodeText(`{"to":"${to}","ttl":${wireLimits.ttlSecondsMax},"msg":`);
  const body = new Uint8Array(head.length + LARGEST_MSG.length + 1 + BLOCK_BYTES);
  const frame = encodeFrame(cmd.message, MSG_ID, true, body);
  assert.ok(frame.length - FRAME_HEAD_BYTES <= wireLimits.frameBytesMax, `${frame.length} bytes`);
});

test('a full batch of pushes is smaller than a frame, and than the window of unacked pushes', () => {
  assert.ok(wireLimits.pushBatchBytesMax < wireLimits.frameBytesMax);
  assert.ok(wireLimits.pushBatchBytesMax <= serverLimits.windowBytesMax);
});

test('a login with the longest name and password fits before login, encrypted, however it is spelled', () => {
  const name = '\\u0061'.repeat(wireLimits.nameBytesMax);
  const password = '\\u0061'.repeat(serverLimits.passwordBytesMax);
  const body = encodeText(`{"version":"1.0","username":"${name}","password":"${password}","nack":true}`);
  const frame = encodeFrame(cmd.login, MSG_ID, true, new Uint8Array(body.length + BLOCK_BYTES));
  assert.ok(frame.length - FRAME_HEAD_BYTES <= wireLimits.frameBytesMaxBeforeLogin, `${frame.length} bytes`);
});

test('the longest of what a device says of itself fits before login', () => {
  const id = '\\u0061'.repeat(wireLimits.nameBytesMax);
  const own = serverLimits.abilitiesBytesMax + serverLimits.versionBytesMax;
  const body = encodeText(`{"id":"${id}","version":,"abilities":,"nack":true}`).length + own;
  const frame = encodeFrame(cmd.authenticate, MSG_ID, true, new Uint8Array(body + BLOCK_BYTES));
  assert.ok(frame.length - FRAME_HEAD_BYTES <= wireLimits.frameBytesMaxBeforeLogin, `${frame.length} bytes`);
});

test("a client's heartbeats keep it connected, and what it has outstanding stays within what the server takes", () => {
  assert.equal(clientLimits.heartbeatMs, 30 * SECOND);
  assert.equal(clientLimits.heartbeatsUnansweredMax, 4);
  assert.ok(clientLimits.heartbeatMs * (clientLimits.heartbeatsUnansweredMax + 1) <= serverLimits.idleTimeoutMs);
  assert.ok(clientLimits.outstandingMessagesMax < serverLimits.senderPendingMessagesMax);
  assert.ok(clientLimits.outstandingBytesMax < serverLimits.senderPendingBytesMax);
  const untilLost = clientLimits.awaitingHeartbeatMs * (clientLimits.heartbeatsUnansweredMax + 1);
  assert.ok(untilLost < clientLimits.operationTimeoutMs, 'a dead connection is found before a send times out');
  assert.ok(clientLimits.unhandledMessagesMax >= serverLimits.windowMessagesMax);
});

test('a frame of acks fits, with the ids that take the most room', () => {
  const ids = Array.from({ length: clientLimits.ackIdsMax }, () => ({ msgid: MSG_ID }));
  const frame = encodeFrame(cmd.push, '', true, new Uint8Array(encodeText(JSON.stringify(ids)).length + BLOCK_BYTES));
  assert.ok(frame.length - FRAME_HEAD_BYTES <= wireLimits.frameBytesMax, `${frame.length} bytes`);
});

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { code } from './code.ts';
import { closings, type Refusal, refusals } from './codes.ts';
import { cmd, FIRST_CMD_AFTER_LOGIN, isNeverEncrypted } from './commands.ts';

const all: readonly (readonly [string, Refusal])[] = Object.entries(refusals);

test('the codes have the numbers of the protocol', () => {
  assert.deepEqual(code, {
    ok: 100,
    exception: 200,
    notLoggedIn: 300,
    noServer: 1000,
    userExists: 1001,
    wrongCredentials: 1002,
    deviceAlreadyAdded: 2001,
    deviceNotAdded: 2002,
  });
});

test('the commands have the numbers of the protocol', () => {
  assert.deepEqual(cmd, {
    heartbeat: 0,
    serverKey: 1,
    clientKey: 2,
    internalError: 3,
    login: 100,
    authenticate: 101,
    register: 102,
    conflict: 103,
    logout: 104,
    message: 200,
    push: 201,
    fetch: 202,
    addDevice: 203,
    removeDevice: 204,
    devices: 205,
  });
  assert.equal(FIRST_CMD_AFTER_LOGIN, 200);
});

test('the commands 1, 2, 3 and 103 are never encrypted, all others may be', () => {
  const never = Array.from({ length: 300 }, (_, number) => number - 10).filter(isNeverEncrypted);
  assert.deepEqual(never, [1, 2, 3, 103]);
});

test('each refusal has a text, and no two have the same', () => {
  for (const [name, { msg }] of all) {
    assert.ok(msg.length > 0, name);
    assert.equal(msg, msg.trim(), name);
  }
  assert.equal(new Set(all.map(([, { msg }]) => msg)).size, all.length);
});

test('no refusal has the code of success, or that of the dispatcher', () => {
  for (const [name, refusal] of all) {
    assert.ok(Object.values(code).includes(refusal.code), name);
    assert.notEqual(refusal.code, code.ok, name);
    assert.notEqual(refusal.code, code.noServer, name);
  }
});

test('each code beside 200 stands for one refusal', () => {
  for (const number of Object.values(code)) {
    if (number === code.ok || number === code.exception || number === code.noServer) continue;
    assert.equal(all.filter(([, refusal]) => refusal.code === number).length, 1, `${number}`);
  }
});

test('the refusals that may go away by themselves are code 200 and say so', () => {
  const temporary = all.filter(([, { retry }]) => retry);
  assert.deepEqual(
    temporary.map(([name]) => name),
    ['busy', 'tooManyCodes', 'inboxFull', 'storeAway', 'stopping'],
  );
  for (const [name, refusal] of temporary) {
    assert.equal(refusal.code, code.exception, name);
    assert.match(refusal.msg, /try again later$/, name);
  }
  for (const [name, { retry, msg }] of all) if (!retry) assert.doesNotMatch(msg, /try again/, name);
});

test('each closing has a reason, and no two have the same', () => {
  const reasons = Object.values(closings).map(({ reason }) => reason);
  for (const reason of reasons) assert.ok(reason.length > 0);
  assert.equal(new Set(reasons).size, reasons.length);
});

test('what is said before closing is what the protocol says', () => {
  const saying = Object.entries(closings).filter(([, { says }]) => says !== 'nothing');
  assert.deepEqual(
    saying.map(([name, { says }]) => [name, says]),
    [
      ['takenOver', 'cmd 103'],
      ['notProtobuf', 'cmd 3'],
      ['undecryptable', 'cmd 3'],
      ['badCertificate', 'cmd 3'],
      ['internalError', 'cmd 3'],
    ],
  );
});

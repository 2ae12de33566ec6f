import { type Code, code } from './code.ts';

/**
 * A refusal: what the client is told, and what becomes of the connection.
 * `retry` marks those that may go away by themselves.
 */
export interface Refusal {
  readonly code: Code;
  readonly msg: string;
  readonly retry: boolean;
}

function permanent(answer: Code, msg: string): Refusal {
  return { code: answer, msg, retry: false };
}

function temporary(msg: string): Refusal {
  return { code: code.exception, msg, retry: true };
}

/** Answers that refuse one request; the connection goes on. `docs/protocol.md` prints this table. */
export const refusals = {
  notLoggedIn: permanent(code.notLoggedIn, 'not logged in'),
  notProtobuf: permanent(code.exception, 'the frame is not a valid protobuf message'),
  internalError: permanent(code.exception, 'an error in the server'),
  unknownCommand: permanent(code.exception, 'unknown command'),
  serverCommand: permanent(code.exception, 'this command is sent by the server only'),
  otherRole: permanent(code.exception, 'this command is not for your role'),
  undecryptable: permanent(code.exception, 'the data cannot be decrypted'),
  noKey: permanent(code.exception, 'encrypted frame before a key was agreed'),
  notJson: permanent(code.exception, 'the data is not valid JSON'),
  badBody: permanent(code.exception, 'a field is missing or of the wrong type'),
  badAck: permanent(code.exception, 'an ack must be an array of {"msgid":string}'),
  unusableKey: permanent(code.exception, 'not a usable key'),
  keyAlreadySent: permanent(code.exception, 'a key was already sent on this connection'),
  clearCredentials: permanent(code.exception, 'credentials must be encrypted: send cmd 2 first, or use TLS'),
  clearFrame: permanent(code.exception, 'this server takes no frame in the clear: send cmd 2 first, or use TLS'),
  badCertificate: permanent(
    code.exception,
    'a certificate is needed that the authority of this server has signed for one name',
  ),
  otherCertified: permanent(code.exception, 'the certificate of this connection is for another name'),
  loggedInOtherwise: permanent(code.exception, 'this connection is already logged in'),
  badName: permanent(code.exception, 'a name is 1 to 128 bytes of UTF-8 without control characters'),
  badPassword: permanent(code.exception, 'the password is empty or too long'),
  nameIsUser: permanent(code.exception, 'this id is the name of a user'),
  wrongSecret: permanent(code.exception, 'the secret of this device is wrong or missing, or it is not known here'),
  secretTooLate: permanent(code.exception, 'this device is known without a secret and cannot be given one by itself'),
  wrongCode: permanent(code.exception, 'the pairing code of the device is wrong or missing'),
  registrationClosed: permanent(code.exception, 'registration is closed: ask the operator for an account'),
  userExists: permanent(code.userExists, 'the name is taken'),
  wrongCredentials: permanent(code.wrongCredentials, 'wrong user name or password'),
  deviceAlreadyAdded: permanent(code.deviceAlreadyAdded, 'the device is already added'),
  deviceNotAdded: permanent(code.deviceNotAdded, 'the device is not added'),
  tooManyDevices: permanent(code.exception, 'too many devices on this account'),
  tooManyUsers: permanent(code.exception, 'too many users on this device'),
  badMsgId: permanent(code.exception, 'msgId must be 1 to 128 bytes'),
  msgTooLarge: permanent(code.exception, 'msg is too large'),
  notAllowed: permanent(code.exception, 'unknown receiver, or not allowed'),
  msgIdReused: permanent(code.exception, 'this msgId was used for another message'),
  busy: temporary('too busy, try again later'),
  tooManyCodes: temporary('too many wrong pairing codes, try again later'),
  inboxFull: temporary('the inbox of the receiver is full, try again later'),
  storeAway: temporary('the message could not be stored, try again later'),
  stopping: temporary('the server is stopping, try again later'),
} as const satisfies Record<string, Refusal>;

export type RefusalName = keyof typeof refusals;

/** Why the server ends a connection. `says` is the frame sent first, if any. */
export interface Closing {
  readonly reason: string;
  readonly says: 'nothing' | 'cmd 3' | 'cmd 103';
}

/** Everything that ends a connection from the server's side. `docs/protocol.md` prints this table. */
export const closings = {
  logout: { reason: 'logout (cmd 104)', says: 'nothing' },
  peerEnded: { reason: 'the client closed its side', says: 'nothing' },
  takenOver: { reason: 'a newer login of the same name', says: 'cmd 103' },
  notProtobuf: { reason: 'a body that is not protobuf', says: 'cmd 3' },
  frameTooLong: { reason: 'a length beyond the limit', says: 'nothing' },
  undecryptable: { reason: 'the tenth frame that cannot be decrypted', says: 'cmd 3' },
  loginTimeout: { reason: 'no login in time', says: 'nothing' },
  idleTimeout: { reason: 'nothing received in time', says: 'nothing' },
  frameTimeout: { reason: 'a frame that did not arrive whole in time', says: 'nothing' },
  unfinishedFrames: { reason: 'too much memory taken by frames that have not arrived whole', says: 'nothing' },
  removed: { reason: 'the name was removed by the operator', says: 'nothing' },
  revoked: { reason: 'the secret of the device was changed or revoked by the operator', says: 'nothing' },
  handshakeFailed: { reason: 'a TLS handshake that failed or took too long', says: 'nothing' },
  badCertificate: { reason: 'no certificate where one is needed, or one that is not accepted', says: 'cmd 3' },
  badProxyHeader: { reason: 'no valid PROXY header from a proxy of which one is expected', says: 'nothing' },
  tooManyConnections: { reason: 'too many connections', says: 'nothing' },
  crowdedOut: { reason: 'room was needed, and it had not logged in', says: 'nothing' },
  moved: { reason: 'the node is drained: another takes its clients', says: 'nothing' },
  stopping: { reason: 'the server is stopping', says: 'nothing' },
  internalError: { reason: 'an error in the server', says: 'cmd 3' },
} as const satisfies Record<string, Closing>;

export type ClosingName = keyof typeof closings;

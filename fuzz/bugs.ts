import { registerHooks } from 'node:module';
import { fileURLToPath } from 'node:url';

/**
 * A deliberate bug: a piece of the product's source that is replaced when it is loaded. What the fuzzer is worth is how
 * soon it finds them.
 */
export interface Bug {
  /** The target that finds it, and the number of inputs within which it does, from any seed. */
  readonly target: string;
  readonly within: number;
  /** Below `packages`. */
  readonly file: string;
  /** Must be there exactly once. */
  readonly from: string;
  readonly to: string;
}

const FRAME = 'protocol/src/frame.ts';
const ENVELOPE = 'protocol/src/envelope.ts';
const JSON_FILE = 'protocol/src/json.ts';
const BODIES = 'protocol/src/bodies.ts';
const CORE = 'server/src/core';

export const bugs = {
  'a length at the limit is too long': {
    target: 'decoder',
    within: 20_000,
    file: FRAME,
    from: 'if (length > bodyBytesMax)',
    to: 'if (length >= bodyBytesMax)',
  },
  'a head in pieces is signed': {
    target: 'decoder',
    within: 20_000,
    file: FRAME,
    from: 'chunk[this.#at++]!) >>> 0;',
    to: 'chunk[this.#at++]!) | 0;',
  },
  'a length is allocated before its body has come': {
    target: 'decoder',
    within: 20_000,
    file: FRAME,
    from: 'new Uint8Array(Math.min(length, FIRST_PIECE_BYTES))',
    to: 'new Uint8Array(length)',
  },
  'a body in pieces loses what came first': {
    target: 'decoder',
    within: 200_000,
    file: FRAME,
    from: 'body.set(room.subarray(0, this.#filled));',
    to: '',
  },
  'a length is signed': {
    target: 'decoder',
    within: 20_000,
    file: FRAME,
    from: '| chunk[at + 3]!) >>> 0;',
    to: '| chunk[at + 3]!) | 0;',
  },
  'groups are skipped': {
    target: 'decoder',
    within: 20_000,
    file: ENVELOPE,
    from: '      default:\n        return undefined;',
    to: '      default:\n        break;',
  },
  'a varint may have more than 64 bits': {
    target: 'decoder',
    within: 100_000,
    file: ENVELOPE,
    from: 'VARINT_BYTES_MAX - 1 && byte > 1',
    to: 'VARINT_BYTES_MAX - 1 && byte > 127',
  },
  'a negative number loses bits': {
    target: 'decoder',
    within: 20_000,
    file: ENVELOPE,
    from: 'if (i < 5) value |=',
    to: 'if (i < 4) value |=',
  },
  'a field may end behind the body': {
    target: 'decoder',
    within: 20_000,
    file: ENVELOPE,
    from: 'if (at > end) return undefined;',
    to: '',
  },
  'a length may be of more than 32 bits': {
    target: 'decoder',
    within: 200_000,
    file: ENVELOPE,
    from: 'exceeds32Bits(body, lengthFrom, at) || ',
    to: '',
  },
  'a control character in a string': {
    target: 'bodies',
    within: 20_000,
    file: JSON_FILE,
    from: 'if (c < 0x20) return NOT_FOUND;',
    to: 'if (c < 0x09) return NOT_FOUND;',
  },
  'keys are compared as they are spelled': {
    target: 'bodies',
    within: 20_000,
    file: JSON_FILE,
    from: 'stringEscaped ? hashEscaped(bytes, from, to) : hashBytes(bytes, from, to)',
    to: 'hashBytes(bytes, from, to)',
  },
  'the table of many keys finds none twice': {
    target: 'bodies',
    within: 50_000,
    file: JSON_FILE,
    from: 'if (!enter(bytes, object.table)) return false;',
    to: 'enter(bytes, object.table);',
  },
  'one level too deep': {
    target: 'bodies',
    within: 50_000,
    file: JSON_FILE,
    from: 'if (open.length === depthMax) return NOT_FOUND;',
    to: 'if (open.length > depthMax) return NOT_FOUND;',
  },
  'surrogates in UTF-8': {
    target: 'bodies',
    within: 50_000,
    file: JSON_FILE,
    from: 'else if (lead === 0xed) high = 0x9f;',
    to: '',
  },
  'numbers with leading zeros': {
    target: 'bodies',
    within: 20_000,
    file: JSON_FILE,
    from: 'if (bytes[i] === 0x30) i++;\n  else {',
    to: '{',
  },
  'a ttl of 0': {
    target: 'bodies',
    within: 20_000,
    file: BODIES,
    from: 'seconds >= 1 &&',
    to: 'seconds >= 0 &&',
  },
  'what follows a body is not looked at': {
    target: 'bodies',
    within: 20_000,
    file: BODIES,
    from: 'return end >= 0 && skipSpace(data, end) === data.length ? undefined : NOT_JSON;',
    to: 'return end >= 0 ? undefined : NOT_JSON;',
  },
  'a msg ends where the next field begins': {
    target: 'splice',
    within: 2_000,
    file: BODIES,
    from: 'msg: data.subarray(from, fields.to(1))',
    to: 'msg: data.subarray(from, fields.to(1) + 1)',
  },
  'a string ends at an escaped quote': {
    target: 'splice',
    within: 20_000,
    file: JSON_FILE,
    from: '      i = scanEscape(bytes, i + 1);\n      if (i < 0) return NOT_FOUND;',
    to: '      i++;',
  },
  'a msgId is copied as it is': {
    target: 'splice',
    within: 2_000,
    file: BODIES,
    from: 'JSON.stringify(msgId)',
    to: `'"' + msgId + '"'`,
  },
  'commands before login': {
    target: 'stateful',
    within: 200,
    file: `${CORE}/commands.ts`,
    from: 'if (role === undefined && number >= FIRST_CMD_AFTER_LOGIN)',
    to: 'if (role === undefined && number > FIRST_CMD_AFTER_LOGIN + 10)',
  },
  'commands of the other role': {
    target: 'stateful',
    within: 1_000,
    file: `${CORE}/commands.ts`,
    from: "return isForOther ? 'otherRole' : undefined;",
    to: 'return undefined;',
  },
  'anybody may write to anybody': {
    target: 'stateful',
    within: 3_000,
    file: `${CORE}/handlers/message.ts`,
    from: 'if (!isName(to)) return false;',
    to: 'return true;',
  },
  'any password will do': {
    target: 'stateful',
    within: 1_000,
    file: `${CORE}/accounts.ts`,
    from: 'if (record === undefined || !verified || !isThere',
    to: 'if (record === undefined || !isThere',
  },
  'passwords in the clear': {
    target: 'stateful',
    within: 1_000,
    file: `${CORE}/handlers/login.ts`,
    from: 'return request.isEncrypt || session.wire.secure || ',
    to: 'return true || ',
  },
  'a user comes as a device': {
    target: 'stateful',
    within: 1_000,
    file: `${CORE}/accounts.ts`,
    from: "if (seen === 'is a user') return 'nameIsUser';",
    to: '',
  },
  'the older session stays': {
    target: 'stateful',
    within: 1_000,
    file: `${CORE}/handlers/serve.ts`,
    from: '    older.supersede();\n',
    to: '',
  },
  'room for an unfinished frame is never given back': {
    target: 'stateful',
    within: 1_000,
    file: `${CORE}/session.ts`,
    from: 'this.services.addUnfinishedBytes(-this.#unfinishedBytes);',
    to: '',
  },
  'a client that has ended its side is kept': {
    target: 'stateful',
    within: 1_000,
    file: `${CORE}/session.ts`,
    from: "sender.pendingMessages === 0) this.close('peerEnded');",
    to: 'sender.pendingMessages === 0) return;',
  },
  'a command that failed holds the others for ever': {
    target: 'stateful',
    within: 1_000,
    file: `${CORE}/session.ts`,
    from: '() => this.#endHold(hold.command),',
    to: '() => {},',
  },
  'an ack behind cmd 103': {
    target: 'stateful',
    within: 20_000,
    file: `${CORE}/session.ts`,
    from: '    this.#hasPushes = false;\n    this.flush();\n    this.#send(cmd.conflict',
    to: '    this.#send(cmd.conflict',
  },
  'an answer that is no JSON': {
    target: 'client',
    within: 1_000,
    file: 'client/src/core/answer.ts',
    from: '  } catch {\n    return undefined;\n  }',
    to: '  } finally {\n  }',
  },
  'a list of devices that is none': {
    target: 'client',
    within: 3_000,
    file: 'protocol/src/devices.ts',
    from: 'if (!Array.isArray(page?.devices)) return undefined;',
    to: 'if (page === undefined) return undefined;',
  },
  'what waits in a client has no bound': {
    target: 'client',
    within: 3_000,
    file: 'client/src/core/inbox.ts',
    from: 'if (size >= clientLimits.unhandledMessagesMax) return true;',
    to: '',
  },
} as const satisfies Record<string, Bug>;

export type BugName = keyof typeof bugs;

export function isBug(name: string): name is BugName {
  return Object.hasOwn(bugs, name);
}

/** Has the product loaded with a bug, as far as it has not been loaded yet. */
export function load(name: BugName): void {
  const { file, from, to }: Bug = bugs[name];
  registerHooks({
    load(url, context, next) {
      const loaded = next(url, context);
      if (!url.startsWith('file:') || !fileURLToPath(url).endsWith(`/packages/${file}`)) return loaded;
      const source = Buffer.from(loaded.source as Uint8Array).toString();
      if (source.split(from).length !== 2) throw new Error(`the bug "${name}" does not fit ${file} any more`);
      return { ...loaded, source: source.replace(from, () => to) };
    },
  });
}

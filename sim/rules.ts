import type { SentMessage } from './message.ts';

/** Each promise of PROTOCOL.md that is checked, by a short name. */
export const rules = {
  'unsafe ack': 'The ack of a message means: the receiver has acknowledged it, or it is synced to disk.',
  lost: 'What was acked is never dropped, except by age or ttl.',
  'delivered again': 'An acked push does not come again, but once more after a crash.',
  'accepted again': "The same sender's msgId again is not delivered again (1,000 ids, 10 minutes, until a restart).",
  order: 'Messages of one sender to one receiver are pushed in the order accepted.',
  'accepted out of order': 'The frames of one connection take effect in order.',
  'wrong party': 'A message goes to its receiver only, unchanged.',
  'not allowed': 'Who may write to whom is decided when the message is accepted.',
  'refused without reason': 'Permanent refusals are for what is malformed, unknown, not allowed or reused.',
  'refusal told': 'Temporary refusals are told only to clients that asked for it.',
  removed: 'A name that was removed and made anew gets nothing of the one before.',
  superseded: 'A newer login wins: the older session gets cmd 103, and nothing more.',
  'not logged in': 'Pushes go to sessions that are logged in.',
  'window of ids': 'A session never has two outstanding pushes with the same msgid.',
  window: 'At most 256 unacked pushes a session.',
  'too soon again': 'A push is repeated on one connection after 5 s at the earliest.',
  'ttl late': 'A message is not delivered after its ttl.',
  'time in service': 'Nodes agree on the time in service, by which age and ttl are told, too.',
  memory: 'Everything has a limit.',
  'no answer': 'A message is acked or refused once all is well.',
  'not drained': 'What is stored is delivered once all is well.',
  'left over': 'Nothing is kept of connections and messages that are gone.',
  misuse: 'The core keeps to the contract of its ports.',
  'server error': 'The server does not fail.',
  'not settled': 'Of the client: every send settles, when its time is up at the latest.',
  untrue: 'Of the client: what a send settles as is so.',
  'another msgId': 'Of the client: what is sent again has the same msgId.',
  'sent out of order': 'Of the client: messages to one receiver arrive in the order of the calls.',
  'handled twice': 'Of the client: nothing is handed to the handler twice, but when it threw.',
  'handled out of order': 'Of the client: messages of one sender are handed out in the order of their pushes.',
  'acked unhandled': 'Of the client: a message is acked when its handler has returned.',
  'conflict fought': 'Of the client: a conflict is told to its user, and it does not reconnect.',
  'not back': 'Of the client: once all is well it is online again by itself.',
  'client error': 'Of the client: nothing but what a handler throws is reported as an error.',
} as const;

export type Rule = keyof typeof rules;

export interface Violation {
  readonly at: number;
  readonly rule: Rule;
  readonly text: string;
  readonly message: SentMessage | undefined;
}

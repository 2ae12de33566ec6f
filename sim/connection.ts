import type { Role } from '@hawser/protocol';
import type { SentMessage } from './message.ts';

/** What the checker knows of one connection, from the bytes that went over it. */
export class Connection {
  readonly id: number;
  /** Of the run of the server that it belongs to. */
  readonly run: number;
  /** Who its client is, or says to be. */
  readonly name: string;
  readonly role: Role;
  readonly nack: boolean;
  isLoggedIn = false;
  /** When its login was answered; at the earliest, where only its client is seen. */
  servedFrom = 0;
  /** When its client saw the answer. */
  loggedInAt = Number.POSITIVE_INFINITY;
  /** It was told of a newer session, or one was answered. */
  isSuperseded = false;
  /** When a newer session of its name was answered. */
  supersededAt = Number.POSITIVE_INFINITY;
  isClosed = false;
  /** Its client has ended its side, or comes on another one. */
  isLeft = false;
  /** What comes on it was written after this. To who sees it being written, this is always now. */
  notBefore = Number.POSITIVE_INFINITY;
  /** Pushed here and not acked here, by msgId. */
  readonly outstanding = new Map<string, SentMessage>();
  /** Acked here, and the server has not counted it yet. */
  readonly acked = new Set<SentMessage>();
  /** Acks that came in when nothing of their msgId was outstanding: they may wait behind a command. */
  readonly looseAcks = new Set<string>();
  /** When each message was last pushed here. */
  readonly pushedAt = new Map<SentMessage, number>();
  /** The last message pushed here under each msgId. */
  readonly lastPushed = new Map<string, SentMessage>();
  /** The furthest place that a push of each sender had here. */
  readonly places = new Map<string, number>();
  /** Messages that came in here, in order, and up to where they were accepted. */
  readonly handed: SentMessage[] = [];
  acceptedTo = 0;

  /** Whether the server's run holds nothing any more, as far as other nodes are concerned. */
  readonly isVoid: () => boolean;

  constructor(
    id: number,
    run: number,
    client: Pick<Connection, 'name' | 'role' | 'nack'>,
    isVoid: () => boolean = () => false,
  ) {
    this.isVoid = isVoid;
    this.id = id;
    this.name = client.name;
    this.role = client.role;
    this.nack = client.nack;
    this.run = run;
  }

  /** The message that last came in here under this msgId. */
  lastHanded(msgId: string): SentMessage | undefined {
    return this.handed.findLast((message) => message.msgId === msgId);
  }
}

/** What nodes say to each other. Plain data: a bus may carry it in any form. */

/** A message for a receiver whose session is on the other node. */
export interface Forward {
  readonly type: 'forward';
  readonly to: string;
  /** As the receiver's node has numbered it; messages in it are numbered from 0. */
  readonly stream: number;
  readonly seq: number;
  /** Of this stream all before this one are finished: none of them can be stored any more. */
  readonly finishedTo: number;
  /**
   * Nothing of older streams was given up of which an ack may yet come, its sender repeating it by way of another node: what is
   * remembered of them may be forgotten.
   */
  readonly isSettled: boolean;
  readonly from: string;
  readonly msgId: string;
  readonly msg: Uint8Array;
  readonly wall: number;
  readonly ran: number;
  readonly ttl: number;
}

/** The receiver has acked these messages of a stream. */
export interface Acked {
  readonly type: 'acked';
  readonly to: string;
  readonly stream: number;
  readonly seqs: readonly number[];
}

/** Nothing more is taken from this stream; what was not acked is the sending node's to store. */
export interface Refused {
  readonly type: 'refused';
  readonly to: string;
  readonly stream: number;
  /** The first message of it that was not taken, or of which no ack will come. */
  readonly seq: number;
}

/** Something was stored for a receiver, up to this position. */
export interface Nudge {
  readonly type: 'nudge';
  readonly to: string;
  readonly position: number;
  /** Grows with each news of the sending node for this receiver. */
  readonly news: number;
}

/** The answer to a nudge where the receiver is not: whoever has it next reads what is stored. */
export interface Absent {
  readonly type: 'absent';
  readonly to: string;
}

/** All that was stored up to this nudge has been pushed, or is gone: a stream may begin. */
export interface CaughtUp {
  readonly type: 'caughtUp';
  readonly to: string;
  readonly news: number;
  /** The number of that stream. */
  readonly stream: number;
}

/** The name is claimed by the node that asks: end its session, make durable what is on its way, and say when. */
export interface TakeOver {
  readonly type: 'takeOver';
  readonly name: string;
  readonly token: number;
}

/** The answer: what the node knew of the name. */
export interface Handed extends Memory {
  readonly type: 'handed';
  readonly name: string;
  readonly token: number;
}

/** What a node knows of a name beside what is stored. */
export interface Memory {
  /** Ids of messages that this sender has had acked, as `SettledIds` has them: three words each. */
  readonly settled: Int32Array;
  /** The claim under which the node last served this sender: others know newer ids if theirs is greater. 0 for none. */
  readonly hadUnder: number;
  /** Those whose ack may not have reached the sender. */
  readonly unsure: readonly string[];
  /** Pushes that this receiver has acked and that may be stored all the same. */
  readonly finished: readonly Finished[];
}

export interface Finished {
  readonly from: string;
  readonly msgId: string;
  readonly hash: number;
  /** Since the ack, ms: what is handed on and on is to be forgotten all the same. */
  readonly ago: number;
}

/** A name is being removed: let go of it, keep it from everybody, and say so until that is over. */
export interface Removing {
  readonly type: 'removing';
  readonly name: string;
  /** Which removal of the sending node it is. */
  readonly removal: number;
  /** Not where a session has the name, or a message is on its way. */
  readonly onlyIdle: boolean;
}

/** The answer. */
export interface LetGo {
  readonly type: 'letGo';
  readonly name: string;
  readonly removal: number;
  /** Otherwise there is something of the name, and it is to stay. */
  readonly isDone: boolean;
}

/** The removal is over. */
export interface Removed {
  readonly type: 'removed';
  readonly name: string;
  readonly removal: number;
  /** The name is gone, or it is as it was; `undefined` where the sending node does not know any more. */
  readonly isGone: boolean | undefined;
}

export type Packet =
  | Forward
  | Acked
  | Refused
  | Nudge
  | Absent
  | CaughtUp
  | TakeOver
  | Handed
  | Removing
  | LetGo
  | Removed;

import {
  answerBody,
  BLOCK_BYTES,
  type Cipher,
  type ClosingName,
  cmd,
  type Envelope,
  type Fault,
  FrameWriter,
  isNeverEncrypted,
  PushWriter,
  pushHead,
  type Refusal,
  type RefusalName,
  type Role,
  refusals,
  retryBody,
  serverLimits,
  utf8Length,
  wireLimits,
} from '@hawser/protocol';
import type { Place } from './admission.ts';
import { commandOf, whyRefused } from './commands.ts';
import { InboundFrames, UNDECRYPTABLE } from './inbound.ts';
import type { ServerKey } from './keyring.ts';
import type { Mailbox } from './mailbox.ts';
import { type Asker, Fenced, StoreAway, type Wire } from './ports.ts';
import type { Sender } from './sender.ts';
import type { Services } from './services.ts';

const EMPTY: Uint8Array = new Uint8Array(0);

/** Why a session does not read on: bits, so that reasons come and go by themselves. */
const hold = {
  /** A command that waits: what follows must see its effect. */
  command: 1,
  /** Too many of its messages are neither acked nor refused. */
  sender: 2,
  /** Too many bytes of messages are in memory in all. */
  memory: 4,
  /** It does not read what it is sent. */
  unsent: 8,
  /** It sent more in this second than it may. */
  rate: 16,
} as const;

/** Who a session is logged in as. */
export interface Login {
  readonly role: Role;
  readonly name: string;
  readonly mailbox: Mailbox;
  readonly sender: Sender;
  /** The client knows the extensions: it is told of temporary refusals, and when messages were accepted. */
  readonly nack: boolean;
}

/** What goes out beside pushes: the ack of a message. */
interface Ack {
  readonly msgId: string;
  readonly isEncrypt: boolean;
}

/** Buffers of one turn, shared by all sessions: nothing in them outlives a flush. */
const frames = new FrameWriter();
const pushes = new PushWriter();
const SENT_BUFFER_KEPT_BYTES = 256 * 1024;

/**
 * One connection, from its first byte to its last. Bytes come in by `receive`; what is to go out is collected and
 * written once per event-loop turn by `flush`.
 */
export class Session implements Asker {
  readonly wire: Wire;
  readonly services: Services;
  readonly place: Place;
  /** The place is left with the session. */
  readonly #leavesPlace: boolean;
  readonly #inbound = new InboundFrames();
  #holds = 0;
  /** Those of them that end with this turn. */
  #endingHolds = 0;
  #inputEnded = false;
  #isPaused = false;

  /** The key that this connection was sent, until it has answered. */
  serverKey: ServerKey | undefined;
  cipher: Cipher | undefined;
  login: Login | undefined;
  /** The devices of this user, or the users of this device. */
  peers: Set<string> = NO_PEERS;
  /** When the store was last asked for them. */
  peersAskedAt = 0;
  /** The receiver of its last message that was allowed: it stands for the same name in the next, since V8 knows its hash. */
  lastTo = '';
  #undecryptable = 0;
  /** Received while a command waits. */
  #keptBytes = 0;
  #isClosed = false;
  /** In the midst of handling frames. */
  #isWorking = false;

  #receivedAt: number;
  #loginDeadline: number;
  #loginsFailed = 0;
  #frameBegunAt = 0;
  #unfinishedBytes = 0;
  /** Since when frames and bytes are counted, about a second. */
  #countedSince: number;
  #countedFrames = 0;
  #countedBytes = 0;

  #answers: Uint8Array[] = [];
  #acks: Ack[] = [];
  #isDirty = false;
  #hasPushes = false;
  /** What a push begins with, of the sender that it was last made for. */
  #pushFrom = '';
  #pushHead = '';

  constructor(wire: Wire, services: Services, place: Place, leavesPlace: boolean) {
    this.wire = wire;
    this.services = services;
    this.place = place;
    this.#leavesPlace = leavesPlace;
    this.#receivedAt = services.time.now();
    this.#countedSince = this.#receivedAt;
    this.#loginDeadline = this.#receivedAt + services.options.loginTimeoutMs;
  }

  /** Sends the server's key: the first frame of every connection. */
  greet(): void {
    const key = this.services.keyring.current;
    this.serverKey = key;
    this.#send(cmd.serverKey, '', false, key.publicDer);
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  get from(): string {
    return this.place.key;
  }

  /**
   * One that has ended its side may be a script that has sent all it has to say, and is answered. One that has nothing more to
   * say, after some seconds, has given up: it could not even ack what it was sent.
   */
  isWaiting(): boolean {
    if (this.#isClosed) return false;
    const isQuiet = this.services.time.now() - this.#receivedAt >= serverLimits.endedSilenceMs;
    return !(this.#inputEnded && isQuiet && this.#inbound.isSilent);
  }

  // ---- what comes in

  /** Bytes from the peer. */
  receive(chunk: Uint8Array): void {
    if (this.#isClosed) return;
    this.#receivedAt = this.services.time.now();
    this.services.counters.bytesReceived += chunk.length;
    this.#countedBytes += chunk.length;
    this.#inbound.push(chunk);
    if (this.#holds === 0) this.#work();
    else this.#keep(chunk.length);
  }

  /** While a command waits a little is read, heartbeats for one: of a paused connection nobody hears that it has ended. */
  #keep(bytes: number): void {
    this.#keptBytes += bytes;
    if (this.#holds !== hold.command || this.#keptBytes > serverLimits.keptBytesFree) this.#pause();
  }

  /** The peer sends no more; what it sent still takes effect. */
  receivedEnd(): void {
    this.#inputEnded = true;
    this.#work();
  }

  /** The connection is gone. */
  gone(): void {
    if (this.#isClosed) return;
    this.services.counters.closed.gone++;
    this.#leave();
  }

  /** Handles frames until one must be waited for, or there are none. */
  #work(): void {
    // Frames may have waited since before the node lost what it holds.
    if (this.#isWorking || this.services.isFenced) return;
    this.#isWorking = true;
    if (this.#holds === 0) this.#keptBytes = 0;
    let cut = 0;
    while (this.#holds === 0 && !this.#isClosed) {
      const request = this.#inbound.next(this.#frameBytesMax, this.cipher, this.login !== undefined);
      if (request === undefined) break;
      if (request === 'too long') {
        this.close('frameTooLong');
        break;
      } else if (request === 'not protobuf') {
        this.services.counters.refused.notProtobuf++;
        this.#sendError(refusals.notProtobuf, '');
        this.close('notProtobuf');
        break;
      }
      cut++;
      this.#handleSafely(request);
    }
    this.#isWorking = false;
    this.services.counters.frames += cut;
    if (this.#isClosed) return;
    this.#noteUnfinished(cut > 0);
    this.#noteRate(cut);
    if (this.#holds !== 0 || this.#isClosed) return;
    if (this.#isPaused) {
      this.#isPaused = false;
      // What it could not send meanwhile is not held against it.
      this.#receivedAt = this.services.time.now();
      if (this.#frameBegunAt > 0) this.#frameBegunAt = this.#receivedAt;
      this.wire.resume();
    }
    this.#closeIfEnded();
  }

  /** Reads no further when it has sent more than it may in a second, until what is too much has been waited for. */
  #noteRate(frames: number): void {
    const { sessionFramesPerSecondMax: framesMax, sessionBytesPerSecondMax: bytesMax } = this.services.limits;
    if (this.#receivedAt - this.#countedSince >= 1000) this.#countAnew(this.#receivedAt, framesMax, bytesMax);
    this.#countedFrames += frames;
    if (this.#countedFrames <= framesMax && this.#countedBytes <= bytesMax) return;
    if ((this.#holds & hold.rate) !== 0 || this.#isClosed) return;
    this.#holds |= hold.rate;
    this.#pause();
    this.services.counters.limited.sessionRate++;
    const { time } = this.services;
    const share = Math.max(this.#countedFrames / framesMax, this.#countedBytes / bytesMax);
    const untilMs = this.#countedSince + 1000 * Math.ceil(share - 1) - time.now();
    time.after(Math.max(1, untilMs), () => {
      this.#countAnew(time.now(), framesMax, bytesMax);
      this.#endHold(hold.rate);
    });
  }

  /** What was too much counts for the seconds to come. */
  #countAnew(now: number, framesMax: number, bytesMax: number): void {
    const seconds = Math.floor((now - this.#countedSince) / 1000);
    if (seconds === 0) return;
    this.#countedFrames = Math.max(0, this.#countedFrames - seconds * framesMax);
    this.#countedBytes = Math.max(0, this.#countedBytes - seconds * bytesMax);
    this.#countedSince = now;
  }

  /** Keeps account of a frame that has not arrived whole: since when, and of its room. */
  #noteUnfinished(isAnother: boolean): void {
    if (!this.#inbound.midFrame) this.#frameBegunAt = 0;
    else if (this.#frameBegunAt === 0 || isAnother) this.#frameBegunAt = this.#receivedAt;
    const bytes = this.#inbound.unfinishedBytes;
    if (bytes === this.#unfinishedBytes) return;
    const more = bytes - this.#unfinishedBytes;
    this.#unfinishedBytes = bytes;
    const isTooMuch = this.services.addUnfinishedBytes(more) > serverLimits.unfinishedBytesMax;
    if (isTooMuch && bytes > serverLimits.unfinishedBytesFree) this.close('unfinishedFrames');
  }

  /** The peer has ended its side: so does the server, once every message of it has been acked or refused. */
  #closeIfEnded(): void {
    if (!this.#inputEnded || this.#isWorking || this.#holds !== 0 || this.#isClosed) return;
    if (this.login === undefined || this.login.sender.pendingMessages === 0) this.close('peerEnded');
  }

  #handleSafely(request: Envelope): void {
    try {
      this.#handle(request);
    } catch (error) {
      this.#fail(error);
    }
  }

  #fail(error: unknown): void {
    this.services.log.error({ err: error, name: this.login?.name, address: this.wire.address }, 'a command failed');
    this.#sendError(refusals.internalError, '');
    this.close('internalError');
  }

  #handle(request: Envelope): void {
    const isUndecrypted = request.isEncrypt && request.data.length > 0 && this.cipher === undefined;
    if (isUndecrypted || request.data === UNDECRYPTABLE) {
      this.#refuseUndecryptable(request);
      return;
    }
    if (this.#mustBeEncrypted(request)) {
      if (request.cmd === cmd.push) this.error(request, 'clearFrame');
      else this.refuse(request, 'clearFrame');
      return;
    }
    const command = commandOf(request.cmd);
    const refusal = whyRefused(request.cmd, command, this.login?.role);
    if (refusal !== undefined) {
      this.refuse(request, refusal);
      return;
    }
    const waiting = command?.handle?.(this, request);
    if (waiting !== undefined) this.#wait(waiting, request);
  }

  /** A frame in the clear that this server does not take: all but heartbeats and key agreement, where that is an option. */
  #mustBeEncrypted({ cmd: number, isEncrypt, data }: Envelope): boolean {
    if (this.services.options.requireEncryption !== true || this.wire.isTls === true) return false;
    // Of empty data only the flag would be another.
    const isEncrypted = this.cipher !== undefined && (isEncrypt || data.length === 0);
    return !isEncrypted && number !== cmd.heartbeat && number !== cmd.clientKey;
  }

  #refuseUndecryptable(request: Envelope): void {
    const refusal: RefusalName = this.cipher === undefined ? 'noKey' : 'undecryptable';
    this.services.counters.refused[refusal]++;
    this.#sendError(refusals[refusal], request.msgId);
    if (++this.#undecryptable >= wireLimits.undecryptableFramesMax) this.close('undecryptable');
  }

  /** Holds the frames behind a command until it is done. */
  #wait(done: Promise<void>, request: Envelope): void {
    this.#holds |= hold.command;
    done.then(
      () => this.#endHold(hold.command),
      (error: unknown) => {
        this.#holds &= ~hold.command;
        if (this.#isClosed) return;
        this.#refuseFailed(request, error);
        this.#work();
      },
    );
  }

  #refuseFailed(request: Envelope, error: unknown): void {
    const { log, counters } = this.services;
    const isAway = error instanceof StoreAway || error instanceof Fenced;
    const fields = { err: error, cmd: request.cmd, name: this.login?.name };
    if (isAway) log.warn(fields, 'a command failed: the store is away');
    else log.error(fields, 'a command failed');
    // For a message any answer but a retry notice would be taken for an ack.
    if (request.cmd === cmd.message) {
      counters.refused.storeAway++;
      this.refuseMessage(request.msgId, request.isEncrypt, refusals.storeAway);
    } else this.refuse(request, isAway ? 'busy' : 'internalError');
  }

  #endHold(reason: number): void {
    this.#holds &= ~reason;
    if (this.#holds === 0 && !this.#isClosed) this.#work();
  }

  #pause(): void {
    if (this.#isPaused) return;
    this.#isPaused = true;
    this.wire.pause();
  }

  // ---- logging in and out

  /** A login was received and failed: the client has the time of a new connection to send another, some times. */
  loginFailed(): void {
    if (++this.#loginsFailed >= serverLimits.loginTimeoutsMax) return;
    this.#loginDeadline = this.services.time.now() + this.services.options.loginTimeoutMs;
  }

  /** The credentials are good: this session is the one of its name from now on, though not yet served. */
  loggedIn(login: Login): void {
    this.login = login;
    this.place.loggedIn();
    this.peers = new Set();
    this.#pushFrom = '';
  }

  /** Whom it may write to by a binding, as the store says, which was asked then. */
  peersLoaded(peers: Set<string>, askedAt: number): void {
    this.peers = peers;
    this.peersAskedAt = askedAt;
  }

  /** What the session needs could not be loaded: it is nobody's again, and may try once more. */
  loginUndone(): void {
    // A session that has ended has left its name, which another may have by now.
    if (this.#isClosed) return;
    this.#leaveName();
    this.login = undefined;
    this.place.loggedOut();
    this.loginFailed();
  }

  /** A newer session of the same name has taken over. */
  supersede(): void {
    // Acks of this turn go ahead: behind cmd 103 a client reads nothing. What is to be pushed is for the newer one.
    this.#hasPushes = false;
    this.flush();
    this.#send(cmd.conflict, '', false, EMPTY);
    this.close('takenOver');
  }

  /** Ends the connection: what was sent is flushed first. */
  close(reason: ClosingName): void {
    if (this.#isClosed) return;
    this.services.counters.closed[reason]++;
    this.services.log.debug({ reason, name: this.login?.name, address: this.wire.address }, 'closed');
    this.#leave();
    this.flush();
    this.wire.end();
  }

  /** Ends at once, for another has need of the room; false when the server is at work for it. */
  giveWay(): boolean {
    if ((this.#holds & hold.command) !== 0) return false;
    this.close('crowdedOut');
    this.wire.destroy();
    return true;
  }

  /** Leaves mailbox, sender and directory. What comes for this session from here on is ignored. */
  #leave(): void {
    this.#isClosed = true;
    this.services.addUnfinishedBytes(-this.#unfinishedBytes);
    this.#unfinishedBytes = 0;
    this.services.left(this);
    if (this.#leavesPlace) this.place.leave();
    this.#leaveName();
  }

  #leaveName(): void {
    const login = this.login;
    if (login === undefined) return;
    if (login.sender.session === this) login.sender.session = undefined;
    this.services.directory.release(login.name, this);
    login.mailbox.detach(this);
    this.#hasPushes = false;
    this.services.leftName(login.name);
  }

  // ---- deadlines, about once a second

  check(now: number): void {
    if (now - Math.max(this.#receivedAt, this.wire.wroteAt) >= serverLimits.cipherRestsAfterMs) this.cipher?.rest?.();
    // A command that waits is the server's to finish. All other reasons not to read on may last too long: then the
    // client had better come again.
    const isHeldUp = (this.#holds & hold.command) !== 0;
    // From a client that has ended its side nothing can come, whatever is still written to it.
    const quietMs = now - (this.#inputEnded ? this.#receivedAt : Math.max(this.#receivedAt, this.wire.wroteAt));
    if (this.login === undefined && now >= this.#loginDeadline && !isHeldUp) {
      this.close('loginTimeout');
    } else if (quietMs >= this.services.options.idleTimeoutMs && !isHeldUp) {
      this.close('idleTimeout');
    } else if (this.#frameBegunAt > 0 && now - this.#frameBegunAt >= serverLimits.frameTimeoutMs && !isHeldUp) {
      this.close('frameTimeout');
    } else this.login?.mailbox.redeliver(now);
  }

  // ---- what goes out

  /** Answers a request: same cmd and msgId, encrypted if it was and that is possible. */
  answer(request: Envelope, body: Uint8Array): void {
    this.#answerTo(request.cmd, request.msgId, request.isEncrypt, body);
  }

  /** @param nack whether the client can be told that it may try again (extension `nack`) */
  refuse(request: Envelope, name: RefusalName, nack: boolean = this.login?.nack === true): void {
    this.services.counters.refused[name]++;
    const refusal: Refusal = refusals[name];
    const body = refusal.retry && nack ? retryBody(refusal) : answerBody(refusal.code, refusal.msg);
    this.#answerTo(request.cmd, request.msgId, request.isEncrypt, body);
  }

  /** Refuses a body, saying what is wrong with it. */
  refuseBody(request: Envelope, fault: Fault): void {
    this.services.counters.refused[fault.name]++;
    this.#answerTo(request.cmd, request.msgId, request.isEncrypt, answerBody(fault.refusal.code, fault.refusal.msg));
  }

  /** cmd 3 in answer to a request. */
  error(request: Envelope, name: RefusalName): void {
    this.services.counters.refused[name]++;
    this.#sendError(refusals[name], request.msgId);
  }

  /**
   * Refuses a message (cmd 200). A temporary refusal is told only to clients that asked for it: the others take any
   * answer for an ack, so for them silence is the truth.
   */
  refuseMessage(msgId: string, isEncrypt: boolean, refusal: Refusal): void {
    if (!refusal.retry) this.#answerTo(cmd.message, msgId, isEncrypt, answerBody(refusal.code, refusal.msg));
    else if (this.login?.nack) this.#answerTo(cmd.message, msgId, isEncrypt, retryBody(refusal));
    this.pendingEnded();
  }

  /** The ack of a message (cmd 200): same msgId, no data. */
  ack(message: Ack): void {
    if (this.#isClosed) return;
    this.#acks.push(message);
    this.#mark();
    this.#closeIfEnded();
  }

  /** The mailbox has messages to push. */
  hasPushes(): void {
    this.#hasPushes = true;
    this.#mark();
  }

  #answerTo(number: number, msgId: string, isEncrypt: boolean, body: Uint8Array): void {
    // An encrypted frame without data is fine before there is a key; an answer with data then goes in the clear.
    const isPlain = !isEncrypt || isNeverEncrypted(number) || (this.cipher === undefined && body.length > 0);
    this.#send(number, msgId, !isPlain, isPlain ? body : this.#encrypted(body));
  }

  #encrypted(body: Uint8Array): Uint8Array {
    if (body.length === 0 || this.cipher === undefined) return body;
    const space = new Uint8Array(body.length + BLOCK_BYTES);
    space.set(body);
    return this.cipher.encrypt(space, 0, body.length);
  }

  #sendError(refusal: Refusal, msgId: string): void {
    this.#send(cmd.internalError, msgId, false, answerBody(refusal.code, refusal.msg));
  }

  #send(number: number, msgId: string, isEncrypt: boolean, data: Uint8Array): void {
    if (this.#isClosed) return;
    if (msgId.length > data.length && this.#isTooLong(msgId, data)) {
      // Without the msgId the answer would be taken for another's.
      this.#sendError(refusals.badMsgId, '');
      return;
    }
    frames.clear();
    frames.frame(number, msgId, isEncrypt, data);
    this.#answers.push(frames.bytes.slice(0, frames.length));
    this.#mark();
  }

  /** Whether a frame with this msgId would be larger than a frame may be. */
  #isTooLong(msgId: string, data: Uint8Array): boolean {
    return utf8Length(msgId) + data.length + ENVELOPE_BYTES > this.#frameBytesMax;
  }

  get #frameBytesMax(): number {
    return this.login === undefined ? wireLimits.frameBytesMaxBeforeLogin : wireLimits.frameBytesMax;
  }

  #mark(): void {
    if (this.#isDirty) return;
    this.#isDirty = true;
    this.services.flushLater(this);
  }

  /** Writes what this turn brought: answers, then acks, then pushes, in one system call. */
  flush(): void {
    if (!this.#isDirty) return;
    this.#isDirty = false;
    if (this.services.isFenced) return;
    frames.clear();
    for (const answer of this.#answers) frames.raw(answer);
    for (const ack of this.#acks) frames.frame(cmd.message, ack.msgId, ack.isEncrypt, EMPTY);
    if (this.#answers.length > 0) this.#answers = [];
    if (this.#acks.length > 0) this.#acks = [];
    if (this.#hasPushes) this.#writePushes();
    if (frames.length === 0) return;
    this.services.counters.bytesSent += frames.length;
    this.wire.write(frames.bytes.subarray(0, frames.length));
    frames.shrink(SENT_BUFFER_KEPT_BYTES);
    if (this.wire.unsentBytes > serverLimits.unsentBytesPauseReading && !this.#isClosed) {
      this.#holds |= hold.unsent;
      this.#pause();
    }
  }

  /** The messages for this receiver, as many to a frame as the protocol allows. */
  #writePushes(): void {
    this.#hasPushes = false;
    const login = this.login;
    if (login === undefined || this.#isClosed) return;
    const now = this.services.time.now();
    pushes.begin();
    for (const message of login.mailbox.takeOutbox()) {
      if (!message.inWindow || message.msg === undefined) continue;
      if (pushes.length > 0 && pushes.length + message.size > wireLimits.pushBatchBytesMax) this.#endPush();
      if (message.from !== this.#pushFrom) {
        this.#pushFrom = message.from;
        this.#pushHead = pushHead(message.from, login.name);
      }
      pushes.add(this.#pushHead, message.msg, message.msgId, login.nack ? message.wall : 0);
      this.services.counters.pushed++;
      login.mailbox.pushed(message, now);
    }
    if (pushes.length > 0) this.#endPush();
  }

  #endPush(): void {
    pushes.end();
    if (this.cipher === undefined) frames.frame(cmd.push, '', false, pushes.bytes.subarray(0, pushes.length));
    else frames.frame(cmd.push, '', true, this.cipher.encrypt(pushes.bytes, 0, pushes.length));
    pushes.begin();
  }

  // ---- flow control

  /** It has not taken enough of what was sent: no push is added. */
  get isCongested(): boolean {
    return this.wire.unsentBytes > serverLimits.unsentPushBytesMax;
  }

  /** The peer has taken all that was written. */
  drained(): void {
    if (this.#isClosed) return;
    if ((this.#holds & hold.unsent) !== 0) this.#endHold(hold.unsent);
    this.login?.mailbox.drained();
  }

  /** Stops reading when its sender has too much on its way, or memory is short. */
  holdIfFull(): void {
    if (this.#isClosed) return;
    if (this.login?.sender.isFull) this.#holds |= hold.sender;
    if (!this.services.delivery.hasMemory) {
      this.#holds |= hold.memory;
      this.services.delivery.waitForMemory(this);
    }
  }

  senderHasRoom(): void {
    if ((this.#holds & hold.sender) !== 0 && this.login?.sender.hasRoom) this.#endHoldLater(hold.sender);
  }

  memoryHasRoom(): void {
    this.#endHoldLater(hold.memory);
  }

  /** A message of this sender was refused or dropped. */
  pendingEnded(): void {
    this.#closeIfEnded();
  }

  /** For reasons that end in the midst of other work: reading goes on when that is done. */
  #endHoldLater(reason: number): void {
    const isScheduled = this.#endingHolds !== 0;
    this.#endingHolds |= reason;
    if (isScheduled) return;
    this.services.time.endOfTurn(() => {
      const ending = this.#endingHolds;
      this.#endingHolds = 0;
      this.#endHold(ending);
    });
  }
}

const NO_PEERS: Set<string> = new Set();

/** What the envelope takes beside msgId and data, at most. */
const ENVELOPE_BYTES = 32;

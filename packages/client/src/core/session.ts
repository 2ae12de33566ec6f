import { cmd, code, type Envelope } from '@hawser/protocol';
import { readAnswer } from './answer.ts';
import { fullJitterMs } from './backoff.ts';
import { Connection } from './connection.ts';
import {
  CertificateError,
  ClosedError,
  ConflictError,
  ConnectionError,
  HawserError,
  type OperationError,
  type Outcome,
  RefusedError,
  StateError,
} from './errors.ts';
import { Inbox } from './inbox.ts';
import type { SessionOptions } from './options.ts';
import { Outbox } from './outbox.ts';
import { Pending, type WaitOptions } from './pending.ts';
import type { Address, Ports, Timer } from './ports.ts';
import { type Request, Requests } from './requests.ts';
import type { State } from './state.ts';

const EMPTY: Uint8Array = new Uint8Array(0);

/** A login (cmd 100 or 101), sent on every connection. */
export interface Login {
  readonly cmd: typeof cmd.login | typeof cmd.authenticate;
  readonly name: string;
  readonly data: Uint8Array;
}

interface Goal extends Login {
  /** Whoever awaits the first success. */
  readonly pending: Pending<void>;
  /** It has succeeded before, so that from now on only wrong credentials end it. */
  isEstablished: boolean;
}

interface Registration {
  readonly name: string;
  readonly msgId: string;
  readonly data: Uint8Array;
  readonly pending: Pending<void>;
}

type Ending = (State & { phase: 'offline' })['why'];

/**
 * The state machine of a client: it finds a server, connects, logs in, keeps the connection alive, and does all of it
 * again when the connection is lost, until it is told to stop or a conflict or refusal ends it.
 */
export class Session {
  readonly inbox: Inbox;
  readonly outbox: Outbox;
  readonly #requests: Requests;
  readonly #ports: Ports;
  readonly options: SessionOptions;
  readonly #onState: (state: State) => void;
  #state: State = { phase: 'offline', why: 'new' };

  #goal: Goal | undefined;
  #registration: Registration | undefined;
  #lastName: string | undefined;
  #connection: Connection | undefined;
  #locating: AbortController | undefined;
  /** The deadline of asking the dispatcher or of a login's answer, or the wait before the next attempt. */
  #timer: Timer | undefined;
  #stable: Timer | undefined;
  #loginId = '';
  #attempt = 0;
  #isClosed = false;

  constructor(ports: Ports, options: SessionOptions, onState: (state: State) => void) {
    this.#ports = ports;
    this.options = options;
    this.#onState = onState;
    this.inbox = new Inbox(ports);
    this.outbox = new Outbox(ports, options);
    this.#requests = new Requests(ports.time);
  }

  get state(): State {
    return this.#state;
  }

  // ---- what is asked of it

  /** Resolves when the client is online for the first time. From then on it stays so by itself. */
  login(login: Login, wait: WaitOptions): Promise<void> {
    if (this.#isClosed) return Promise.reject(new StateError('the client is closed'));
    if (this.#goal !== undefined) return Promise.reject(new StateError(`already logging in as ${this.#goal.name}`));
    if (this.#lastName !== undefined && this.#lastName !== login.name) this.inbox.forget();
    this.#lastName = login.name;
    const goal: Goal = { ...login, pending: this.#pending('the login', wait), isEstablished: false };
    if (goal.pending.isSettled) return goal.pending.promise;
    // Only a timeout or the signal finds the goal still there.
    goal.pending.onEnd = (error) => {
      if (error !== undefined && this.#goal === goal) this.#end('gave up', error);
    };
    this.#goal = goal;
    if (this.#connection === undefined) this.#start();
    else if (this.#state.phase === 'connected') this.#sendLogin(goal);
    return goal.pending.promise;
  }

  /** Resolves when the name is registered. Not sent twice: whose success a second answer told of would not be known. */
  register(name: string, data: Uint8Array, wait: WaitOptions): Promise<void> {
    if (this.#isClosed) return Promise.reject(new StateError('the client is closed'));
    if (this.#goal !== undefined) return Promise.reject(new StateError('registering comes before logging in'));
    if (this.#registration !== undefined) return Promise.reject(new StateError('a registration is under way'));
    const registration = {
      name,
      msgId: this.#ports.random.id(),
      data,
      pending: this.#pending('the registration', wait),
    };
    if (registration.pending.isSettled) return registration.pending.promise;
    registration.pending.onEnd = () => {
      this.#registration = undefined;
    };
    this.#registration = registration;
    if (this.#connection === undefined) this.#start();
    else if (this.#state.phase === 'connected') this.#sendRegistration(registration);
    return registration.pending.promise;
  }

  request(request: Omit<Request, 'msgId'>, wait: WaitOptions): Promise<Uint8Array> {
    const fault = this.fault();
    if (fault !== undefined) return Promise.reject(fault);
    const timeoutMs = wait.timeoutMs ?? this.options.timeoutMs;
    return this.#requests.send({ ...request, msgId: this.#ports.random.id() }, timeoutMs, wait.signal);
  }

  /** Why nothing can be sent. */
  fault(): OperationError | undefined {
    if (this.#isClosed) return new StateError('the client is closed');
    return this.#goal === undefined ? new StateError('nobody is logged in') : undefined;
  }

  /** Leaves in good order (cmd 104). What is not settled is given up. */
  logout(): void {
    if (this.#goal === undefined) return;
    this.inbox.flush();
    if (this.#state.phase === 'online') this.#connection?.send(cmd.logout, '', EMPTY);
    this.#end('logged out', undefined);
  }

  /** Ends it for good. */
  close(): void {
    if (this.#isClosed) return;
    this.inbox.flush();
    this.#isClosed = true;
    this.#end('closed', undefined);
  }

  // ---- finding a server

  #start(): void {
    if (this.#locating !== undefined) return;
    this.#timer?.cancel();
    this.#timer = undefined;
    const name = this.#goal?.name ?? this.#registration?.name;
    if (name === undefined) {
      this.#become({ phase: 'offline', why: 'new' });
      return;
    }
    const locating = new AbortController();
    this.#locating = locating;
    const { connectTimeoutMs } = this.options;
    this.#timer = this.#ports.time.after(connectTimeoutMs, () => {
      this.#notLocated(locating, new ConnectionError(`no server was found within ${connectTimeoutMs} ms`));
    });
    this.#ports.locate(name, locating.signal).then(
      (address) => this.#located(locating, address),
      (error: unknown) => this.#notLocated(locating, asError(error)),
    );
    this.#become({ phase: 'locating', attempt: this.#attempt });
  }

  #located(locating: AbortController, address: Address): void {
    if (this.#locating !== locating) return;
    this.#locating = undefined;
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#connection = new Connection(this.#ports, this.options, address, {
      ready: () => this.#ready(address),
      received: (frame) => this.#received(frame),
      lost: (error) => this.#lost(error),
      isAwaiting: () => this.#loginId !== '' || this.outbox.isAwaiting || this.#requests.isAwaiting,
    });
    this.#become({ phase: 'connecting', attempt: this.#attempt, address });
  }

  #notLocated(locating: AbortController, error: Error): void {
    if (this.#locating !== locating) return;
    this.#locating = undefined;
    locating.abort();
    this.#retry(error);
  }

  // ---- on the connection

  #ready(address: Address): void {
    this.#become({ phase: 'connected', address });
    if (this.#registration !== undefined) this.#sendRegistration(this.#registration);
    else if (this.#goal !== undefined) this.#sendLogin(this.#goal);
  }

  #sendRegistration(registration: Registration): void {
    registration.pending.isWritten = true;
    this.#connection?.send(cmd.register, registration.msgId, registration.data);
  }

  #sendLogin(goal: Goal): void {
    if (this.#state.phase !== 'connected') return;
    const { address } = this.#state;
    this.#loginId = this.#ports.random.id();
    goal.pending.isWritten = true;
    this.#connection?.send(goal.cmd, this.#loginId, goal.data);
    const { answerTimeoutMs } = this.options;
    this.#timer = this.#ports.time.after(answerTimeoutMs, () => {
      this.#drop(new ConnectionError(`the login was not answered within ${answerTimeoutMs} ms`));
    });
    this.#become({ phase: 'logging in', attempt: this.#attempt, address });
  }

  #received(frame: Envelope): void {
    switch (frame.cmd) {
      case cmd.message:
        this.#messageAnswered(frame);
        break;
      case cmd.push:
        this.inbox.received(frame.data);
        break;
      case cmd.login:
      case cmd.authenticate:
        if (frame.msgId === this.#loginId) this.#loginAnswered(frame);
        break;
      case cmd.register:
        this.#registrationAnswered(frame);
        break;
      case cmd.conflict:
        this.#end('conflict', new ConflictError('another client has logged in under this name'));
        break;
      default:
        this.#otherwiseAnswered(frame);
    }
  }

  #messageAnswered(frame: Envelope): void {
    if (frame.data.length === 0) {
      this.outbox.acked(frame.msgId);
      return;
    }
    const answer = readAnswer(frame.data);
    if (answer.code === code.ok) this.outbox.acked(frame.msgId);
    else if (answer.code === code.notLoggedIn) this.#drop(new ConnectionError('the server has forgotten the login'));
    else this.outbox.refused(frame.msgId, answer);
  }

  #loginAnswered(frame: Envelope): void {
    const goal = this.#goal;
    const address = this.#state.phase === 'logging in' ? this.#state.address : undefined;
    if (goal === undefined || address === undefined) return;
    this.#loginId = '';
    this.#timer?.cancel();
    const answer = readAnswer(frame.data);
    if (answer.code === code.ok) {
      this.#online(goal, address);
      return;
    }
    const error = new RefusedError(answer.msg, answer.code, answer.retry);
    const isFinal = answer.code === code.wrongCredentials || (!answer.retry && !goal.isEstablished);
    if (isFinal) this.#end('refused', error);
    else this.#drop(error);
  }

  #online(goal: Goal, address: Address): void {
    goal.isEstablished = true;
    this.#stable = this.#ports.time.after(this.options.stableAfterMs, () => {
      this.#attempt = 0;
    });
    const write = (number: number, msgId: string, data: Uint8Array) => this.#connection?.send(number, msgId, data);
    write(cmd.fetch, '', EMPTY);
    this.#requests.online(write);
    this.outbox.online(write);
    this.inbox.online(write);
    goal.pending.succeed();
    this.#become({ phase: 'online', name: goal.name, address });
  }

  #registrationAnswered(frame: Envelope): void {
    const registration = this.#registration;
    if (registration === undefined || registration.msgId !== frame.msgId) return;
    const answer = readAnswer(frame.data);
    if (answer.code === code.ok) registration.pending.succeed();
    else registration.pending.fail(new RefusedError(answer.msg, answer.code, answer.retry));
    if (this.#goal !== undefined) this.#sendLogin(this.#goal);
  }

  /** Answers to requests, and cmd 3, which may carry the msgId of anything. */
  #otherwiseAnswered(frame: Envelope): void {
    const answer = readAnswer(frame.data);
    if (this.#requests.answered(frame.msgId, answer, frame.data) || frame.cmd !== cmd.internalError) return;
    const error = new HawserError(`the server reports an error: ${answer.msg} (code ${answer.code})`);
    if (frame.msgId !== '' && frame.msgId === this.#loginId) this.#drop(error);
    else if (frame.msgId !== '' && frame.msgId === this.#registration?.msgId) this.#registrationAnswered(frame);
    else if (frame.msgId !== '') this.outbox.refused(frame.msgId, answer);
    else this.#ports.report(error);
  }

  // ---- losing it

  /** Gives the connection up and tries anew. */
  #drop(error: Error): void {
    this.#connection?.destroy();
    this.#lost(error);
  }

  #lost(error: Error): void {
    this.#disconnected();
    const registration = this.#registration;
    if (registration?.pending.isWritten) {
      registration.pending.fail(
        new ClosedError('the connection was lost before the answer; try to log in', 'unknown', { cause: error }),
      );
    }
    this.#retry(error);
  }

  #disconnected(): void {
    this.#connection = undefined;
    this.#loginId = '';
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#stable?.cancel();
    this.#stable = undefined;
    this.#requests.offline();
    this.outbox.offline();
    this.inbox.offline();
  }

  #retry(error: Error): void {
    if (error instanceof CertificateError) this.#ports.report(error);
    for (const wanted of [this.#goal, this.#registration]) if (wanted !== undefined) wanted.pending.trouble = error;
    if (this.#goal === undefined && this.#registration === undefined) {
      this.#attempt = 0;
      this.#become({ phase: 'offline', why: 'new' });
      return;
    }
    const { reconnectBaseMs, reconnectMsMax } = this.options;
    const attempt = this.#attempt++;
    const delayMs = fullJitterMs(attempt, reconnectBaseMs, reconnectMsMax, this.#ports.random.fraction());
    this.#timer?.cancel();
    this.#timer = this.#ports.time.after(delayMs, () => this.#start());
    this.#become({ phase: 'waiting', attempt, delayMs, error });
  }

  // ---- the end

  #end(why: Ending, error: Error | undefined): void {
    const goal = this.#goal;
    this.#goal = undefined;
    this.#attempt = 0;
    this.#locating?.abort();
    this.#locating = undefined;
    // What was written is sent, acks and the logout among it; nothing more is heard of the connection.
    this.#connection?.end();
    this.#disconnected();
    const closed = (outcome: Outcome): Error => {
      const text = why === 'closed' ? 'the client was closed' : `the client is offline: ${why}`;
      return new ClosedError(text, outcome, error && { cause: error });
    };
    goal?.pending.fail(error ?? closed(goal.pending.outcome));
    this.#registration?.pending.fail(closed(this.#registration.pending.outcome));
    this.#requests.fail(closed);
    this.outbox.fail(closed);
    this.inbox.end(error);
    this.#become({ phase: 'offline', why, ...(error && { error }) });
  }

  #pending(what: string, wait: WaitOptions): Pending<void> {
    return new Pending<void>(what, this.#ports.time, wait.timeoutMs ?? this.options.timeoutMs, wait.signal);
  }

  /** The last thing of a step: an observer may log out, close, or log in. */
  #become(state: State): void {
    this.#state = state;
    this.#onState(state);
  }
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error('what was thrown is not an error', { cause: error });
}

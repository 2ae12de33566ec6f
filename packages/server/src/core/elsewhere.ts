import { serverLimits } from '@hawser/protocol';
import type { Delivery } from './delivery.ts';
import { type Message, stage } from './message.ts';
import type { Acked, CaughtUp, Refused } from './packets.ts';
import { Route } from './route.ts';
import type { Routing } from './routing.ts';

/** The mailbox of a receiver whose session is on another node, as the way there needs it. */
export interface Home {
  readonly name: string;
  /** Messages of it are in the committer. */
  readonly isCommitting: boolean;
  commit(message: Message): void;
}

/** What a node does with messages that it accepts for a receiver on another node: finds that node, and uses a `Route`. */
export class Elsewhere {
  readonly #home: Home;
  readonly #delivery: Delivery;
  readonly #routing: Routing;
  #route: Route | undefined;
  /** Wait to be forwarded, in order, when the receiver's node has read what was stored before them. */
  #held: Message[] = NO_MESSAGES;
  /** The receiver's node keeps up with what is stored, so that a stream may begin soon. */
  #mayHold = false;
  #holdFrom = 0;
  #heldSince = 0;
  /** When a message was last given up that the receiver may have been pushed: its sender may repeat it elsewhere. */
  #doubtedAt: number | undefined;

  constructor(home: Home, delivery: Delivery, routing: Routing) {
    this.#home = home;
    this.#delivery = delivery;
    this.#routing = routing;
  }

  get isUnused(): boolean {
    return this.#route === undefined && this.#doubtedAt === undefined;
  }

  /** As long as an ack of what was given up is remembered there is doubt. */
  age(now: number): void {
    if (this.#doubtedAt === undefined || now - this.#doubtedAt < serverLimits.finishedPushesKeptMs) return;
    this.#doubtedAt = undefined;
  }

  // ---- messages

  /** Sends the message to the receiver's node; false when it must go through the store. */
  forward(message: Message): boolean {
    const route = this.#route;
    const { msg } = message;
    if (msg === undefined || route?.owner === undefined) return false;
    if (!route.isDirect) return this.#hold(message);
    if (!route.hasRoom(message.size)) return false;
    this.#routing.send(route.owner, route.forward(message, msg, this.#delivery.time.now()));
    this.#delivery.counters.forwarded++;
    return true;
  }

  /**
   * Has the message wait for the stream. Were it stored like those before it, its sender would be acked and send the next, and
   * as long as that goes on without a pause nothing would ever go directly.
   */
  #hold(message: Message): boolean {
    if (!this.#mayHold || this.#held.length >= serverLimits.windowMessagesMax) return false;
    if (this.#held.length === 0) {
      this.#held = [];
      this.#heldSince = this.#delivery.time.now();
    }
    this.#held.push(message);
    return true;
  }

  /** What was held is stored, in order. */
  #letGo(): void {
    this.#mayHold = false;
    const held = this.#held;
    this.#held = NO_MESSAGES;
    for (const message of held) if (message.stage === stage.accepted) this.#home.commit(message);
  }

  /** The stream has begun. */
  #forwardHeld(): void {
    const held = this.#held;
    this.#held = NO_MESSAGES;
    this.#mayHold = false;
    const waiting = held.filter((message) => message.stage === stage.accepted);
    for (let i = 0; i < waiting.length; i++) {
      const message = waiting[i]!;
      if (this.forward(message)) this.#delivery.persistLater(message);
      else {
        this.endStream();
        for (const each of waiting.slice(i)) this.#home.commit(each);
        return;
      }
    }
  }

  /** What was forwarded and is not acked is stored, in order, and so is what was held. */
  endStream(): void {
    if (this.#route === undefined) return;
    this.#letGo();
    for (const message of this.#route.end()) if (message.stage === stage.accepted) this.#home.commit(message);
  }

  /** A message was not acked in time, or its sender is leaving. */
  persist(message: Message): void {
    if (this.#held.includes(message)) this.#persistHeld(message);
    else if (this.#route?.isStreaming(message)) this.endStream();
    // There was no room for it in the inbox: there may be by now.
    else if (message.sender !== undefined) this.#home.commit(message);
  }

  /** Where the store is slow it is to have less to do, not more: what waits goes on waiting, but not for long. */
  #persistHeld(message: Message): void {
    const now = this.#delivery.time.now();
    if (message.sender?.isLeaving !== true && now - this.#heldSince < serverLimits.holdMsMax) {
      this.#delivery.persistLater(message);
      return;
    }
    this.#holdFrom = now + serverLimits.holdAgainAfterMs;
    this.#letGo();
  }

  /** Whether the receiver may yet ack a message that could not be stored. */
  expects(message: Message): boolean {
    return this.#route?.expects(message) === true;
  }

  /** It was stored, or nobody waits for it any more. */
  left(message: Message): void {
    const route = this.#route;
    const isGivenUp = message.stage === stage.accepted && !message.acked;
    // Also where no ack of it is expected any more: the receiver's node may have had it, and what it said be lost.
    if (isGivenUp && message.wasForwarded) this.#doubtedAt = this.#delivery.time.now();
    route?.left(message);
  }

  #giveUp(waitMs: number): void {
    for (const message of this.#route?.overdue(this.#delivery.time.now(), waitMs) ?? []) this.#delivery.giveUp(message);
  }

  // ---- nudges

  /** Something was stored, or may have been, up to this position. */
  hasNews(position: number): void {
    if (this.#route === undefined) {
      this.#route = new Route();
      this.#routing.hasRoute(this);
    }
    this.#route.storedTo = Math.max(this.#route.storedTo, position);
    this.#route.nudges = 0;
    this.#route.news = this.#routing.nextNumber();
    this.#route.usedAt = this.#delivery.time.now();
    this.#routing.nudgeLater(this);
  }

  /** Tells the owner of the receiver that something was stored, looking first who that is. */
  nudge(): void {
    const route = this.#route;
    if (route === undefined) return;
    if (route.silentSince === 0) route.silentSince = this.#delivery.time.now();
    const to = this.#home.name;
    if (route.owner === undefined) this.#seek(route);
    else this.#routing.send(route.owner, { type: 'nudge', to, position: route.storedTo, news: route.news });
  }

  #seek(route: Route): void {
    if (route.isSeeking) return;
    route.isSeeking = true;
    const { cluster } = this.#routing;
    const { news } = route;
    cluster.locate(this.#home.name).then(
      (owner) => {
        route.isSeeking = false;
        if (this.#route !== route) return;
        if (owner !== undefined && owner !== cluster.self) {
          if (owner !== route.lastOwner) this.#leave(route);
          route.owner = owner;
          route.ownerAsOf = news;
          route.lastOwner = owner;
          this.nudge();
        } else if (route.news !== news) {
          // Stored since it was asked: the answer may be too old.
          this.#routing.nudgeLater(this);
        } else if (route.isIdle) this.end();
      },
      () => {
        // Asked again by `check`.
        route.isSeeking = false;
      },
    );
  }

  /** About once a second: nudges again when there was no answer, and lets go of what is not used. */
  check(now: number): void {
    const route = this.#route;
    if (route === undefined) return;
    this.#giveUp(serverLimits.refusedForwardsKeptMs);
    if (route.silentSince === 0) {
      const isUnused = route.isIdle && !this.#home.isCommitting && now - route.usedAt >= serverLimits.routeIdleMs;
      if (isUnused) this.end();
      return;
    }
    if (now - route.silentSince < this.#routing.nudgeDelayMs(route.nudges)) return;
    // It may be on another node by now.
    route.owner = undefined;
    route.silentSince = now;
    route.nudges++;
    this.nudge();
  }

  /** The receiver is not where it was: nothing more is heard of what was forwarded. */
  #leave(route: Route): void {
    this.#giveUp(0);
    route.forgetStored();
  }

  /** The receiver is here, or nowhere. */
  end(): void {
    if (this.#route === undefined) return;
    this.#letGo();
    this.#giveUp(0);
    this.#route = undefined;
    this.#routing.hasNoRoute(this);
  }

  // ---- what the receiver's node says

  caughtUp(node: string, { news, stream }: CaughtUp): void {
    const route = this.#route;
    if (route === undefined || route.owner !== node) return;
    route.silentSince = 0;
    if (route.isDirect) return;
    // What may still be stored must have been read before a stream begins: its acks are not known for longer.
    const now = this.#delivery.time.now();
    if (this.#home.isCommitting || !route.isIdle || news < route.news) {
      this.#mayHold = now >= this.#holdFrom;
      return;
    }
    route.begin(stream, this.#doubtedAt === undefined);
    route.usedAt = now;
    this.#forwardHeld();
  }

  refused(node: string, { stream, seq }: Refused): void {
    const route = this.#route;
    if (route === undefined || route.lastOwner !== node) return;
    const isPresent = route.stream === stream;
    const unacked = isPresent ? route.end() : [];
    this.#giveUpUntaken(route, stream, seq);
    for (const message of unacked) if (message.stage === stage.accepted) this.#home.commit(message);
    if (!isPresent) return;
    route.owner = undefined;
    // With nothing to store there is nothing to nudge for, and the next message begins anew.
    if (!this.#home.isCommitting && route.isIdle) this.end();
  }

  /** What was not taken cannot be acked: where there was no room for it in the inbox either, it is not waited for. */
  #giveUpUntaken(route: Route, stream: number, seq: number): void {
    const before = route.overdue(this.#delivery.time.now(), 0);
    route.untaken(stream, seq);
    for (const message of before) if (message.hop === undefined) this.#delivery.giveUp(message);
  }

  /**
   * The receiver is not there (any more). What was stored before it was found there, it reads wherever it comes next. Of
   * what was stored since, it may have come elsewhere, and read all there was, before.
   */
  absent(node: string): void {
    const route = this.#route;
    if (route === undefined || route.isDirect || route.owner !== node) return;
    this.#letGo();
    if (this.#home.isCommitting) return;
    if (route.ownerAsOf >= route.news) {
      this.end();
      return;
    }
    route.owner = undefined;
    this.nudge();
  }

  acked(node: string, { stream, seqs }: Acked): void {
    for (const message of this.#route?.acked(node, stream, seqs) ?? []) {
      message.acked = true;
      this.#delivery.ackedElsewhere(message);
    }
  }
}

const NO_MESSAGES: Message[] = [];

/**
 * Every limit of Hawser, with its default and its reason. Nothing else in the code states a bound of its own.
 * `docs/protocol.md` prints the first table; a test keeps the two the same.
 */

const KIB = 1024;
const MIB = 1024 * KIB;
const SECOND_MS = 1000;
const MINUTE_MS = 60 * SECOND_MS;
const DAY_MS = 24 * 60 * MINUTE_MS;

/** What both ends of a connection must respect. Clients use these too. */
export const wireLimits = {
  /** Largest frame body from a client that has not logged in. Small, because anyone can send it. */
  frameBytesMaxBeforeLogin: 16 * KIB,
  /** Largest frame body after login, and of the server's own frames. */
  frameBytesMax: MIB,
  /** Devices in one answer to cmd 205. */
  devicesPageMax: 500,
  /** The size of such an answer: at it the page ends sooner, so that none is in the way for long. */
  devicesPageBytesMax: 128 * KIB,
  /** Largest `msg` as JSON text: leaves room for names, `msgId`, envelope and padding in a push. */
  msgBytesMax: MIB - 4 * KIB,
  /** A 201 frame takes no further message once its array has grown to this. */
  pushBatchBytesMax: 64 * KIB,
  /** User names and device ids, in bytes of UTF-8. */
  nameBytesMax: 128,
  /** `msgId` of a message, in bytes of UTF-8. */
  msgIdBytesMax: 128,
  /** `secret` of a device, in bytes of UTF-8: room for 768 random bits as text. */
  secretBytesMax: 128,
  /** Pairing code of a device, in bytes of UTF-8: short enough for a label, too long to be guessed in a day. */
  codeBytesMin: 4,
  codeBytesMax: 64,
  /** JSON nesting. Far beyond any real message; protects receivers whose parsers recurse. */
  jsonDepthMax: 512,
  /** Frames that cannot be decrypted: each is answered, this one also closes the connection. */
  undecryptableFramesMax: 10,
  /** `ttl` of a message, seconds: 30 days. */
  ttlSecondsMax: 30 * 24 * 60 * 60,
  /** RSA modulus of the server's key, bits: 256-byte ciphertexts in cmd 2. */
  rsaModulusBits: 2048,
} as const;

/** What one server bounds. Those that an operator may change are the defaults of `hawser serve`'s options. */
// A call marked as pure: where nothing uses it, as in a client for browsers, bundlers leave it out.
export const serverLimits = /* @__PURE__ */ (() =>
  ({
    // Connections
    /** Connections in all; the descriptor limit less `descriptorsReserved` caps it further. */
    connectionsMax: 100_000,
    /** Descriptors kept free for the store, logs and the operator. */
    descriptorsReserved: 200,
    /** A connection with no login after this is closed. */
    loginTimeoutMs: 60 * SECOND_MS,
    /** A login that fails begins that time anew; a connection has it so often in all, lest it be refused and stay for ever. */
    loginTimeoutsMax: 10,
    /** A connection from which nothing came for this long is closed. Five of a client's heartbeats. */
    idleTimeoutMs: 150 * SECOND_MS,
    /** From the first byte of a frame to its last: a frame dribbled for longer closes the connection. */
    frameTimeoutMs: 60 * SECOND_MS,
    /**
     * Room for frames that have not arrived whole, in all; beyond it a connection is closed when its own takes more than
     * the second: nobody can take the memory of all by beginning large frames.
     */
    unfinishedBytesMax: 128 * MIB,
    unfinishedBytesFree: 64 * KIB,
    /** After the server ended a connection, the time to flush before it is forced. */
    closeTimeoutMs: 5 * SECOND_MS,
    /** Bytes written to a socket and not yet taken by the peer; no push is added beyond it. */
    unsentPushBytesMax: 256 * KIB,
    /** The same for answers and acks, which cannot wait elsewhere: reading from the peer pauses. */
    unsentBytesPauseReading: 512 * KIB,

    // TLS
    /** From connecting to the end of the TLS handshake. */
    tlsHandshakeTimeoutMs: 10 * SECOND_MS,
    /** How often the certificate's files are looked at: nobody need tell the server that they are renewed. */
    certificateCheckMs: 2 * SECOND_MS,
    /** A certificate that expires within this is warned of, at the start and each day. */
    certificateExpiryWarnMs: 7 * DAY_MS,

    // Proxies
    /** From a proxy's connecting to the end of its PROXY header, and the header's size: some 50 bytes, and what else it says. */
    proxyHeaderTimeoutMs: 5 * SECOND_MS,
    proxyHeaderBytesMax: 2 * KIB,

    // Cryptography
    /** A session on which nothing came or went for so long lets go of its cipher objects, which are made again in 10 µs. */
    cipherRestsAfterMs: 5 * SECOND_MS,
    /** A key pair is replaced after this, or after `rsaKeyUsesMax`. */
    rsaKeyAgeMsMax: DAY_MS,
    rsaKeyUsesMax: 1_000_000,
    /** A replaced key still serves connections that were sent it, for this long. */
    rsaKeyGraceMs: 120 * SECOND_MS,
    /** Key exchanges waiting for the RSA workers; further ones are refused. One address may have as many as are left free. */
    rsaQueueMax: 4_096,
    /** The same for passwords to be hashed or verified: about 30 ms each, and 19 MiB for each thread. */
    passwordQueueMax: 1_024,
    /** A client that has ended its side, and said nothing but heartbeats for so long, has given up what waits for a thread. */
    endedSilenceMs: 2 * SECOND_MS,
    /** Where there is no room, those of an address that have given up are looked for so often: it may have thousands. */
    goneLookedForEveryMs: 100,
    /** Read of a connection whose command waits, before reading stops: some heartbeats. One that said more is not silent. */
    keptBytesFree: KIB / 2,
    /** Longest opaque password, in bytes of UTF-8. */
    passwordBytesMax: 1_024,

    // Against abuse. An address is an IPv4 address or the /64 of an IPv6 one: whoever has one address of a /64 has all.
    /** Connections of one address: a carrier's or a company's thousands come from one. */
    connectionsPerAddressMax: 20_000,
    /** New connections of one address in a second, and key exchanges of it; twice as many at once after a rest. */
    handshakesPerAddressPerSecondMax: 500,
    /** New connections in all in a second: half of what the event loop can do, so that the other half is for sessions. */
    connectionsPerSecondMax: 4_000,
    /**
     * Connections that have not logged in, of one address and in all, at most half of all connections: one that logs in does
     * so in a second or two. Beyond the first the newest is refused, beyond the second the oldest that waits for nothing goes.
     */
    beforeLoginPerAddressMax: 5_000,
    beforeLoginMax: 20_000,
    /** Looked at for one that may go; the others are those for whom the server is at work. */
    beforeLoginLookedAtMax: 64,
    /** Addresses, accounts and pairs of them of which is remembered what they used: about 100 bytes each. */
    bucketsMax: 20_000,
    /** Failed logins of one address on one account at once; then one in `loginPairRefillMs`. A person mistypes less often. */
    loginPairFailuresMax: 10,
    loginPairRefillMs: 20 * SECOND_MS,
    /** So many of them are forgiven, one in `loginForgivenRefillMs`: whoever mistyped is not taken for an attacker. */
    loginForgivenMax: 3,
    loginForgivenRefillMs: 20 * MINUTE_MS,
    /** Failed logins on one account at once, then one in `loginAccountRefillMs`, for all addresses that are not forgiven. */
    loginAccountFailuresMax: 100,
    loginAccountRefillMs: 5 * SECOND_MS,
    /** Logins of one address under way or failed, on all accounts: as many as may wait for their turn to be hashed. */
    loginAddressFailuresMax: 500,
    /** What of these comes back in an hour: mistakes of some thousand people. */
    loginFailuresPerAddressPerHourMax: 720,
    /** A login that may not be tried yet waits for so long at most, as clients do for an answer; a later one is refused. */
    loginDelayMsMax: 20 * SECOND_MS,
    /** Logins that wait like this, in all, about 500 bytes each; further ones are refused. */
    loginsDelayedMax: 2_000,
    /** Addresses from which an account logged in: there it is held up only by its own failures. */
    knownLoginsMax: 50_000,
    /** Registrations tried by one address in an hour, and by all: room for a company's first day. All at once if need be. */
    registrationsPerAddressPerHourMax: 1_000,
    registrationsPerHourMax: 20_000,
    /**
     * Devices that become known by way of one address in a minute, after as many as it may have connections, which is a fleet's
     * first day: with 8 KiB each they take 12 GB of the disk in a day.
     */
    newNamesPerAddressPerMinuteMax: 1_000,
    /** Devices that a user adds and removes at once (all it may have), then in a second; what is more waits. */
    bindingsAtOnceMax: 1_000,
    bindingsPerSecondMax: 10,
    /** Frames and bytes of one connection in a second: a tenth of what a core can do. Beyond it reading pauses. */
    sessionFramesPerSecondMax: 10_000,
    sessionBytesPerSecondMax: 16 * MIB,
    /** Questions to the dispatcher in a second, of one address and in all; further ones are told that there is no server. */
    dispatchesPerAddressPerSecondMax: 2_000,
    dispatchesPerSecondMax: 5_000,

    // Delivery
    /** A message pushed but not acked for this long joins the next commit. */
    persistAfterMs: 25,
    /** Unacked pushes a session may have outstanding. */
    windowMessagesMax: 256,
    windowBytesMax: 256 * KIB,
    /** A push unacked for this long no longer counts as on its way when the window is filled from the store. */
    stuckAfterMs: 2 * SECOND_MS,
    /** The first push of the same message again on the same connection; each further one waits twice as long. */
    redeliveryAfterMs: MINUTE_MS,
    redeliveryAfterMsMax: 10 * MINUTE_MS,
    /** Pushed again in one second, about, to all together: what falls due at once beyond it waits its turn. */
    redeliveryBytesMax: 4 * MIB,
    /** A backlog is pushed unasked when no 202 came for this long after login. */
    backlogAfterMs: SECOND_MS,
    /** A repeated 202 pushes again only what was pushed at least this long ago. */
    refetchAfterMs: 5 * SECOND_MS,
    /** Messages of one sender neither acked nor refused; reading from it pauses there. */
    senderPendingMessagesMax: 1_000,
    senderPendingBytesMax: 4 * MIB,
    /** Bytes of accepted messages held in memory in all; reading from senders pauses there. */
    pendingBytesMax: 256 * MIB,
    /** What a message takes in memory beside its content: counted with it. */
    pendingOverheadBytes: 512,
    /** Receivers that are away and have a mailbox all the same, about 300 bytes each, because they were written to lately. */
    mailboxesUnusedMax: 20_000,
    /** The process' memory gate: reading from senders pauses beyond this much of what it may use, until below the other. */
    memoryPercentPause: 85,
    memoryPercentResume: 75,
    memoryCheckMs: 500,
    /** Garbage that may gather before it is collected, as a share of what is alive within these bounds: it is memory, too. */
    heapGarbageBytes: 24 * MIB,
    heapGrowthPercentLeast: 20,
    heapGrowthPercentMost: 300,
    /** Garbage goes when hardly anything has been allocated for so long: then its collection costs nobody anything. */
    garbageRestsMs: 1_500,
    /** Bytes received and sent after which buffers of the young generation are collected, if nothing else had that done. */
    wireBytesPerCollection: 7 * MIB,
    /**
     * After so many new names were each looked for among the owners of bindings and messages, a filter of all owners is made:
     * a power of two, ten bits a name for 800,000 owners. Beyond them it says less.
     */
    ownersLookupsMax: 1_000,
    ownersFilterBytes: MIB,
    /** One group commit. */
    commitMessagesMax: 2_000,
    commitBytesMax: 4 * MIB,
    /**
     * Of the commits that begin within `commitsCountedForMs` so many begin at once; further ones of few messages begin
     * `commitSpacingMs` after the one before, so that more go with them.
     */
    commitsAtOnceMax: 10,
    commitsCountedForMs: 100,
    commitSpacingMs: 5,
    /**
     * While the event loop works for so much of its time, a commit of few messages begins so long after the one before: it
     * would take from everybody else what a commit costs. Looked at every so often. A commit for which a receiver waits to
     * go live is not held up by that.
     */
    commitSpacingBusyMs: 40,
    loopBusyPercent: 85,
    loopBusyCheckMs: 100,
    /** A commit of so many messages, or bytes, does not wait. */
    commitSmallMessagesMax: 64,
    commitSmallBytesMax: 64 * KIB,
    /** De-duplication: ids of one sender in each of two generations, the age at which one is retired, ids in all. */
    rememberedIdsPerSender: 1_000,
    rememberedForMs: 10 * MINUTE_MS,
    rememberedIdsMax: 500_000,

    // Between nodes
    /** Messages forwarded to the node of a receiver and not acked; beyond it they go through the store. */
    routeMessagesMax: 256,
    routeBytesMax: 256 * KIB,
    /** The oldest of them may be so many behind the newest: as many as a receiver's node surely remembers to have been acked. */
    routeSpanMax: 4_096,
    /** For so long a message is waited for that was forwarded and found no room in the inbox: it may be acked yet. */
    refusedForwardsKeptMs: 10 * SECOND_MS,
    /** A route to another node that nothing goes by is forgotten after this. */
    routeIdleMs: 10 * MINUTE_MS,
    /** Messages wait for a stream to another node for so long, which a store that is slow may take to empty. */
    holdMsMax: SECOND_MS,
    /** Where messages waited in vain for a stream to another node they are stored, for so long. */
    holdAgainAfterMs: SECOND_MS,
    /** A nudge that was not answered is repeated after this, each further one twice as late. */
    nudgeAgainAfterMs: SECOND_MS,
    nudgeAgainAfterMsMax: 30 * SECOND_MS,
    /** How often the store is read for news that no other node brought: one may have ended before it could. */
    storeLookEveryMs: MINUTE_MS,
    /**
     * Pushes that a receiver acked and another node may store all the same are remembered so long, and so many of one
     * receiver: as long as ids are, so that a sender that repeats such a message is recognised as well.
     */
    finishedPushesKeptMs: 10 * MINUTE_MS,
    finishedPushesMax: 4_096,
    /** Another node that had a name is asked to hand it over again after this; the login fails after the other. */
    handoverAgainAfterMs: 250,
    handoverTimeoutMs: 10 * SECOND_MS,
    /** Within this every node lets go of a name that is removed, or is void: an operator waits for it. */
    removalTimeoutMs: 15 * SECOND_MS,
    /** What could not be done of it, or was not answered, is done again after this. */
    removalAgainMs: SECOND_MS,
    /** Receivers that a session is known to have written to; beyond it they are all forgotten and stored for once more. */
    receiversPerSenderMax: 1_000,
    /**
     * Bindings are read again after this: one that another node removed is in force no longer than 5 s. It counts from when the
     * store was asked: an answer that takes longer decides nothing.
     */
    peersTrustedMs: 4 * SECOND_MS,

    // The directory and the bus between nodes
    /** A node that could not renew its lease for so long is sure of nothing that it holds. Renewed so often: */
    leaseMs: 3 * SECOND_MS,
    leaseRenewMs: SECOND_MS,
    /** Others wait so much longer before they call it void: clocks of two machines do not run apart by more. */
    leaseMarginMs: 500,
    /** What the database says of a run while the directory is away holds for so long; others wait for it after a fence. */
    witnessHoldMs: 2 * SECOND_MS,
    /** A call of the directory, or of the database about runs, that is not answered by then has failed. */
    directoryTimeoutMs: 2 * SECOND_MS,
    /** A node that starts waits so long for the directory: until runs that ended without a word are void. */
    directoryStartTimeoutMs: 30 * SECOND_MS,
    /** Calls of the directory that are not answered; further ones fail at once. */
    directoryCallsMax: 20_000,
    /** A connection that broke is made anew after this, each further one twice as late. */
    directoryReconnectMs: 50,
    directoryReconnectMsMax: SECOND_MS,
    /** Names that a node holds are gone through so often; one of which nothing was heard for the other is forgotten. */
    heldNamesSeenEveryMs: 60 * MINUTE_MS,
    heldNamesKeptMs: 180 * MINUTE_MS,
    /** Names that a node had, which it knows in case the directory forgets; names at once when it puts it together again. */
    releasedNamesMax: 200_000,
    namesAssertedAtOnce: 1_000,
    /** What a node is to be told of names that others claimed, while it does not listen. */
    takenNoticesMax: 100_000,
    /** Bytes on their way to the bus; what comes beyond is dropped, and made up for by the store. */
    busOutBytesMax: 8 * MIB,
    /** A batch of packets leaves when it has grown to this; a larger packet is dropped. */
    busBatchBytesMax: 256 * KIB,
    busPacketBytesMax: 4 * MIB,
    /** A node hears its own voice with each renewal; when it has not for so long it listens anew. */
    busSilenceMs: 5 * SECOND_MS,

    // Inboxes
    inboxMessagesMax: 100_000,
    inboxBytesMax: 64 * MIB,
    inboxAgeMsMax: 30 * DAY_MS,
    /**
     * What is known of inboxes that were touched, in memory: about 800 bytes an inbox and 8 to 20 a message in it. Beyond it
     * those longest in memory are forgotten, and read again from disk when they are touched; a sixteenth of it is left
     * while memory is short.
     */
    inboxesKnownBytesMax: 64 * MIB,
    /** Or one part in so many of the memory that the process may use, where that is more. */
    inboxesKnownShare: 64,
    /** But no more than one part in so many of what V8's heap may grow to: most of it are objects there. */
    inboxesKnownHeapShare: 8,
    /**
     * Read of an inbox at once in records of more than the second, unless one alone is larger: as much as the largest message.
     * How large those are is known, at 40 bytes each; of smaller ones up to 64 are read with them.
     */
    inboxReadBytesMax: MIB,
    inboxRecordBytesFree: 16 * KIB,
    /**
     * What is read of an inbox at once where there is room for it, two windows, so that the next pages need no read; and what
     * is kept for them, of one inbox and in all. Beyond it a page reads what it needs, as if nothing were kept.
     */
    readAheadMessagesMax: 512,
    readAheadInboxBytesMax: 256 * KIB,
    readAheadBytesMax: 4 * MIB,
    /** Where room is needed, what was kept for so long is taken to be of receivers that do not come back. */
    readAheadKeptMs: 10 * SECOND_MS,
    /** The share of an inbox that one sender may fill: one in this many. */
    inboxSenderShare: 2,
    /** How often messages past their age are looked for. */
    expirySweepMs: 60 * MINUTE_MS,
    /** The first time after the start. */
    expirySweepFirstMs: MINUTE_MS,
    /**
     * An inbox that is full is looked through for messages whose `ttl` has run out, this often at most; when that was is
     * remembered of so many.
     */
    inboxClearEveryMs: MINUTE_MS,
    inboxesClearedMax: 1_000,
    /** Dropped messages are told in the log this often, a line for each of so many receivers and one for all others. */
    expiryLogMs: 10 * SECOND_MS,
    expiryReceiversLoggedMax: 20,

    // PostgreSQL
    /** Connections of a node, beside the one for its appends: the database has 100 for all, unless told. */
    postgresConnectionsMax: 8,
    /** Calls that wait for one, or for an answer; further ones are told that the store is away. */
    postgresCallsMax: 10_000,
    /** A connection that nobody uses is closed after this. */
    postgresIdleMs: MINUTE_MS,
    /** To connect; a statement, in the database and on the way. */
    postgresConnectMs: 5 * SECOND_MS,
    postgresStatementMs: 15 * SECOND_MS,
    /** An append with all that it takes to find out what came of it: within the minute that the port allows. */
    postgresAppendMs: 50 * SECOND_MS,
    /** After a failure it is tried again after this. */
    postgresAgainMs: 250,
    /** Removals and the times of logins wait so long for others to be written with them; so many are at most. */
    postgresLazyMs: 20,
    postgresRemovalsMax: 5_000,
    /** How often the time in service is noted: where the database's clock was set, nodes agree on it again after this. */
    postgresRanNotedEveryMs: 10 * SECOND_MS,
    /** Counted although nobody noted it: a database that was away, or nodes that all began anew. More was no service. */
    postgresRanRestMs: MINUTE_MS,
    /** A server that starts waits so long for the one before it to let go of the store. */
    postgresLockWaitMs: 5 * SECOND_MS,

    // Accounts
    devicesPerUserMax: 1_000,
    usersPerDeviceMax: 100,
    /** `abilities` and `version` of a device, as JSON text. */
    abilitiesBytesMax: 8 * KIB,
    versionBytesMax: 256,
    /**
     * Wrong pairing codes for one device at once, then one in each interval: six digits hold out for a year. The last of
     * them are kept for users who were not wrong lately, so that the owner does not wait for whoever guesses.
     */
    codeGuessesAtOnceMax: 10,
    codeGuessesKept: 5,
    codeGuessEveryMs: MINUTE_MS,
    /** The same of one user, for whatever device; it was not wrong lately when all of them are there again. */
    codeGuessesOfUserMax: 10,
    codeGuessOfUserEveryMs: 60 * MINUTE_MS,
    /** Names share so many counters, of 8 bytes each, by a hash that nobody outside can foresee. */
    codeGuessCounters: 65_536,
    /** A device without a secret that nobody has added is forgotten when it has not come for this long. */
    deviceAgeMsMax: 30 * DAY_MS,
    /** Records looked at in one step of that, and the rest after it: no more than 2,000 records a second. */
    deviceSweepRecords: 200,
    deviceSweepRestMs: 100,
    /**
     * Answers to cmd 205 being made at once, further ones wait; and records that one of them reads at a time. With 8 KiB each
     * that is 512 KiB in all.
     */
    deviceListsAtOnceMax: 4,
    deviceRecordsAtOnce: 16,
    /** What all those answers may have in a second: beyond it they come later. About a tenth of a core. */
    deviceListBytesPerSecondMax: 8 * MIB,
    /** How long such an answer waits for what other nodes say, before it leaves out who is online. */
    locateTimeoutMs: 2 * SECOND_MS,
    /** Names kept in memory with their kind, to decide who may write to whom. */
    namesCachedMax: 100_000,

    // Dispatcher and operators' port
    httpHeaderBytesMax: 8 * KIB,
    httpRequestTimeoutMs: 10 * SECOND_MS,
    /** How often requests past it are looked for: Node does once in 30 s. */
    httpRequestCheckMs: SECOND_MS,
    /** Connections of the dispatcher, and of the operators' port; fewer when few descriptors are allowed. */
    httpConnectionsMax: 500,
    /**
     * In a cluster no node is sent more than its share of all connections times this, and so many more: with few
     * connections shares mean little. Less would move clients that come back more often, more would spread them worse.
     */
    dispatcherLoadPercent: 125,
    dispatcherLoadFree: 16,
    /** A node that has this share of the connections that it takes is sent nobody: some know it without asking. */
    dispatcherAdmittedPercent: 95,
    /** Who was sent to a node counts for it so long, beside the connections that it says it has. */
    dispatcherHandedOutMs: 3 * SECOND_MS,
    /** While Redis is away a dispatcher goes by what it knew last, for so long. */
    dispatcherMemoryMs: MINUTE_MS,
    /** What a node says of itself to dispatchers and operators; more is not read. */
    nodeStateBytesMax: 4 * KIB,
    /** A dispatcher that cannot ask Redis says so, this often; what an operator told a node waits for it so long. */
    watcherToldMs: 10 * SECOND_MS,
    orderKeptMs: MINUTE_MS,
    /** A node that is drained closes no session until every dispatcher must have seen that it takes nobody. */
    drainAfterMs: 2_500,
    /** Sessions that a drained node closes in a second, unless told. */
    drainPerSecond: 500,

    // Stopping
    /** Commits in flight and last writes get this long before the process ends anyway. */
    stopTimeoutMs: 10 * SECOND_MS,
  }) as const)();

/** What one client of `@hawser/client` bounds. Those that its options change are their defaults. */
export const clientLimits = {
  // Heartbeats
  /** A heartbeat after this long without reading or writing, as the protocol has it. */
  heartbeatMs: 30 * SECOND_MS,
  /** The same while an answer is awaited, without reading: a dead connection is found before a send times out. */
  awaitingHeartbeatMs: 10 * SECOND_MS,
  /** Heartbeats unanswered, after which the client reconnects. */
  heartbeatsUnansweredMax: 4,

  // Connecting
  /** To ask the dispatcher; the same again to connect and agree on a key. */
  connectTimeoutMs: 15 * SECOND_MS,
  /** An answer of the dispatcher has some 70 bytes. */
  dispatcherAnswerBytesMax: 16 * KIB,
  /** A login queues behind others for the server's password threads. */
  answerTimeoutMs: 30 * SECOND_MS,
  /** Full jitter: a random wait up to min(cap, base · 2^attempt). */
  reconnectBaseMs: SECOND_MS,
  reconnectMsMax: MINUTE_MS,
  /** Online for so long, the next loss counts as the first. */
  stableAfterMs: 30 * SECOND_MS,

  // Sending
  /** A send, a request, a first login: from the call until it is told that time is up. */
  operationTimeoutMs: MINUTE_MS,
  /** Well within what the server takes of one sender before it reads no further. */
  outstandingMessagesMax: 256,
  outstandingBytesMax: 2 * MIB,
  /** Sends that wait for room in what is outstanding. */
  waitingMessagesMax: 10_000,
  waitingBytesMax: 16 * MIB,
  /** What a message counts for beside its content. */
  messageOverheadBytes: 256,
  /** A message refused for now is sent again after a random wait up to min(cap, base · 2^attempt). */
  resendBaseMs: SECOND_MS,
  resendMsMax: 30 * SECOND_MS,
  /** Requests such as to add a device, unanswered. */
  requestsMax: 1_000,

  // Receiving
  /** Messages received and not yet handled: four of the server's windows. Beyond it they are left to a redelivery. */
  unhandledMessagesMax: 1_024,
  /** The same in bytes: far more than a server that keeps to its windows has on its way. */
  unhandledBytesMax: 16 * MIB,
  /** Ids of handled messages, for de-duplication, in each of two generations: as many at least, twice as many at most. */
  handledIdsMax: 10_000,
  /** Ids in one frame of acks: at their longest they fit into it. */
  ackIdsMax: 1_000,
} as const;

/** What the terminal clients bound: `hawser app` and `hawser device`. */
export const terminalLimits = /* @__PURE__ */ (() =>
  ({
    /** A command under `--exec` that takes longer is killed, and its message not acked. */
    execTimeoutMs: 30 * SECOND_MS,
    /** What such a command may print: the answer is a message. */
    execOutputBytesMax: wireLimits.msgBytesMax,
    /** Commands at once, if they are asked for. */
    execJobsMax: 1_024,
    /** Answers of an `--echo` that are on their way; the messages behind them wait. */
    echoesMax: 64,
    /** Devices of one fleet: each takes a descriptor and a local port. */
    fleetDevicesMax: 20_000,
    /** Devices of a fleet that log in at once: their key exchanges queue on the server. */
    fleetLoginsMax: 64,
  }) as const)();

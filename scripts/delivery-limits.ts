/** What happens at each limit that a message can meet: for the table in `docs/delivery.md`, which adds the numbers. */
import type { serverLimits, wireLimits } from '@hawser/protocol';
import type { SettingName } from '@hawser/server';

export interface DeliveryLimit {
  readonly name: keyof typeof serverLimits | keyof typeof wireLimits;
  /** What an operator may set it with. */
  readonly setting?: SettingName;
  /** What happens there. */
  readonly happens: string;
  /** What the sender sees of it. */
  readonly sender: string;
  /** What counts it, or shows how near it is. */
  readonly metric?: string;
}

const refused = (reason: string): string => `hawser_refused_total{reason="${reason}"}`;
const closed = (reason: string): string => `hawser_closed_total{reason="${reason}"}`;
const limited = (limit: string): string => `hawser_limited_total{limit="${limit}"}`;
const expired = (reason: string): string => `hawser_messages_expired_total{reason="${reason}"}`;

const stored = 'hawser_messages_stored_total';
const nothing = 'nothing';
const waits = 'it waits';

export const deliveryLimits: readonly DeliveryLimit[] = [
  // The message
  { name: 'msgBytesMax', happens: 'refused for good', sender: 'code 200', metric: refused('msgTooLarge') },
  {
    name: 'ttlSecondsMax',
    happens: 'a larger `ttl` is refused for good',
    sender: 'code 200',
    metric: refused('badBody'),
  },

  // Its sender
  {
    name: 'senderPendingMessagesMax',
    happens: 'its sender is not read from until half of them are acked or refused',
    sender: waits,
  },
  {
    name: 'senderPendingBytesMax',
    happens: 'its sender is not read from until half of them are acked or refused',
    sender: waits,
  },
  {
    name: 'pendingBytesMax',
    happens: 'each sender is not read from after its next message, until there is room',
    sender: waits,
    metric: 'hawser_pending_bytes',
  },
  { name: 'pendingOverheadBytes', happens: 'counted for each message with its content', sender: nothing },
  {
    name: 'memoryPercentPause',
    happens: 'each sender is not read from after its next message; a warning is logged',
    sender: waits,
    metric: 'process_resident_memory_bytes',
  },
  { name: 'ownersLookupsMax', happens: 'a filter of all owners is made', sender: nothing },
  {
    name: 'ownersFilterBytes',
    happens: 'a name that owns nothing may pass for one that does, and is looked for',
    sender: nothing,
  },
  { name: 'heapGarbageBytes', happens: 'the heap is collected', sender: nothing },
  { name: 'heapGrowthPercentLeast', happens: 'a large heap may gather at least so much', sender: nothing },
  { name: 'heapGrowthPercentMost', happens: 'a small heap may gather at most so much', sender: nothing },
  { name: 'garbageRestsMs', happens: 'what is left of a load that is over is collected', sender: nothing },
  { name: 'wireBytesPerCollection', happens: 'young buffers are collected', sender: nothing },
  { name: 'memoryPercentResume', happens: 'senders are read from again', sender: nothing },
  { name: 'memoryCheckMs', happens: 'how often memory is looked at', sender: nothing },
  {
    name: 'sessionFramesPerSecondMax',
    setting: 'sessionFrames',
    happens: 'its sender is not read from until the second is over',
    sender: waits,
    metric: limited('sessionRate'),
  },
  {
    name: 'sessionBytesPerSecondMax',
    setting: 'sessionBytes',
    happens: 'its sender is not read from until the second is over',
    sender: waits,
    metric: limited('sessionRate'),
  },
  {
    name: 'unsentBytesPauseReading',
    happens: 'who does not take its answers is not read from until it has taken all',
    sender: waits,
    metric: closed('idleTimeout'),
  },
  {
    name: 'frameTimeoutMs',
    happens: 'a connection whose frame is not whole by then is closed',
    sender: 'FIN',
    metric: closed('frameTimeout'),
  },
  {
    name: 'unfinishedBytesMax',
    happens: 'a connection that takes more than the next limit of it is closed',
    sender: 'FIN',
    metric: closed('unfinishedFrames'),
  },
  { name: 'unfinishedBytesFree', happens: 'so much is granted to each in any case', sender: nothing },
  {
    name: 'rememberedIdsPerSender',
    happens: 'the older generation of ids is forgotten',
    sender: 'older ids are new ones',
    metric: 'hawser_remembered_ids',
  },
  {
    name: 'rememberedForMs',
    happens: 'the older generation of ids is forgotten',
    sender: 'older ids are new ones',
    metric: 'hawser_remembered_ids',
  },
  {
    name: 'rememberedIdsMax',
    happens: 'senders lose their settled ids in turn',
    sender: 'older ids are new ones',
    metric: 'hawser_remembered_ids',
  },

  // Its receiver's connection
  {
    name: 'persistAfterMs',
    setting: 'persistAfter',
    happens: 'what is not acked joins the next commit',
    sender: 'the ack, once it is synced',
    metric: stored,
  },
  { name: 'windowMessagesMax', happens: 'more goes to the disk', sender: 'the ack, once it is synced', metric: stored },
  { name: 'windowBytesMax', happens: 'more goes to the disk', sender: 'the ack, once it is synced', metric: stored },
  {
    name: 'unsentPushBytesMax',
    happens: 'more goes to the disk',
    sender: 'the ack, once it is synced',
    metric: stored,
  },
  { name: 'pushBatchBytesMax', happens: 'the next push begins another frame', sender: nothing },
  { name: 'stuckAfterMs', happens: 'a push no longer holds up what lies behind it', sender: nothing },
  {
    name: 'redeliveryAfterMs',
    setting: 'redeliveryAfter',
    happens: 'it is pushed again; the next time after twice as long',
    sender: nothing,
    metric: 'hawser_messages_redelivered_total',
  },
  {
    name: 'redeliveryAfterMsMax',
    happens: 'the wait grows no further',
    sender: nothing,
    metric: 'hawser_messages_redelivered_total',
  },
  {
    name: 'redeliveryBytesMax',
    happens: 'what falls due beyond it in one second is pushed again later',
    sender: nothing,
    metric: 'hawser_messages_redelivered_total',
  },
  {
    name: 'backlogAfterMs',
    setting: 'backlogAfter',
    happens: 'a backlog is pushed though no 202 came',
    sender: nothing,
  },
  {
    name: 'refetchAfterMs',
    happens: 'a 202 pushes again what was pushed that long ago',
    sender: nothing,
    metric: 'hawser_messages_redelivered_total',
  },

  // The disk
  {
    name: 'commitMessagesMax',
    happens: 'the rest goes with the next commit',
    sender: nothing,
    metric: 'hawser_store_batches_total',
  },
  {
    name: 'commitBytesMax',
    happens: 'the rest goes with the next commit',
    sender: nothing,
    metric: 'hawser_store_batches_total',
  },
  { name: 'commitsAtOnceMax', happens: 'further commits of few messages wait for each other', sender: 'a later ack' },
  { name: 'commitsCountedForMs', happens: 'the time in which they are counted', sender: nothing },
  { name: 'commitSpacingMs', happens: 'a commit that waited begins', sender: nothing },
  { name: 'commitSpacingBusyMs', happens: 'a commit that waited on a busy server begins', sender: nothing },
  { name: 'loopBusyPercent', happens: 'the server counts as busy', sender: nothing },
  { name: 'loopBusyCheckMs', happens: 'it is looked whether the server is busy', sender: nothing },
  { name: 'commitSmallMessagesMax', happens: 'a commit of so many does not wait', sender: nothing },
  { name: 'commitSmallBytesMax', happens: 'a commit of so many does not wait', sender: nothing },
  {
    name: 'mailboxesUnusedMax',
    happens: 'mailboxes of receivers that are away leave memory',
    sender: nothing,
    metric: 'hawser_mailboxes',
  },
  {
    name: 'inboxMessagesMax',
    setting: 'inboxMessages',
    happens: 'refused for now',
    sender: 'silence',
    metric: refused('inboxFull'),
  },
  {
    name: 'inboxBytesMax',
    setting: 'inboxBytes',
    happens: 'refused for now',
    sender: 'silence',
    metric: refused('inboxFull'),
  },
  {
    name: 'inboxSenderShare',
    happens: 'more than that part of either from one sender is refused for now',
    sender: 'silence',
    metric: refused('inboxFull'),
  },
  {
    name: 'inboxAgeMsMax',
    setting: 'inboxAge',
    happens: 'dropped and logged',
    sender: 'nothing: it was acked',
    metric: expired('age'),
  },
  {
    name: 'expirySweepMs',
    happens: 'all inboxes are looked through for what is too old',
    sender: nothing,
    metric: expired('age'),
  },
  { name: 'expirySweepFirstMs', happens: 'the first time after the start', sender: nothing, metric: expired('age') },
  {
    name: 'inboxClearEveryMs',
    happens: 'a full inbox is looked through for messages whose `ttl` has run out, at most once in this time',
    sender: 'refused; sent again later, there may be room',
    metric: expired('ttl'),
  },
  { name: 'inboxesClearedMax', happens: 'others may be looked through more often', sender: nothing },
  { name: 'expiryLogMs', happens: 'what was dropped meanwhile is told in the log, by receiver', sender: nothing },
  { name: 'expiryReceiversLoggedMax', happens: 'further receivers share one line', sender: nothing },
  {
    name: 'inboxesKnownBytesMax',
    happens: 'what is known of the inboxes longest in memory is forgotten, and read again when it is needed',
    sender: 'a later ack',
  },
  { name: 'inboxesKnownShare', happens: 'or that part of the memory, where it is more', sender: nothing },
  { name: 'inboxesKnownHeapShare', happens: 'but no more than that part of the heap', sender: nothing },
  { name: 'inboxReadBytesMax', happens: 'the rest of a page is read behind it', sender: nothing },
  { name: 'inboxRecordBytesFree', happens: 'the size of the record is known, and counts', sender: nothing },
  { name: 'readAheadMessagesMax', happens: 'more of an inbox is read with a later page', sender: nothing },
  {
    name: 'readAheadInboxBytesMax',
    happens: 'what was read beyond it is read again for the next page',
    sender: nothing,
  },
  { name: 'readAheadBytesMax', happens: 'further pages read what they need, and keep nothing', sender: nothing },
  { name: 'readAheadKeptMs', happens: 'what was read for a later page may go', sender: nothing },

  // Logins, and the end
  {
    name: 'passwordQueueMax',
    happens: 'login and registration are refused for now',
    sender: 'code 200',
    metric: refused('busy'),
  },
  { name: 'rsaQueueMax', happens: 'the key (cmd 2) is refused for now', sender: 'code 200', metric: refused('busy') },
  { name: 'stopTimeoutMs', happens: 'a server that is not done stopping ends all the same', sender: 'silence' },
];

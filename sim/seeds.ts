/** Seeds that failed once, kept for good: each with what it found. */
export const keptSeeds: readonly {
  readonly seed: number;
  readonly nodes?: number;
  readonly minutes?: number;
  /** With clients that are the package. */
  readonly sdk?: boolean;
  readonly found: string;
}[] = [
  {
    seed: 4,
    found: 'stored while the store was being read to its end: passed over until the next session, out of order',
  },
  { seed: 54, found: 'the same: not delivered to a receiver that stays' },
  { seed: 64, found: 'a message held back behind another with its msgId was pushed after its ttl' },
  { seed: 98, found: 'a message that waited for the mailbox to be live was pushed after its ttl' },
  {
    seed: 289,
    found: 'the store was away: a message was refused as by an error in the server, which is taken for an ack',
  },
  { seed: 307, found: 'a binding made while a session was loading its peers was not seen by that session' },
  { seed: 584, found: 'the same with a binding that was removed' },
  { seed: 415, found: 'a window message stored late moved the cursor past others that had not been read' },
  { seed: 708, found: 'refused as the inbox was full, then acked by its receiver: the sender never heard of it' },
  { seed: 883, found: 'the store was away when it was read: nobody read again' },
  { seed: 600, found: 'the late ack of a refused message counted for another under the same msgId' },
  { seed: 10163, found: 'a message whose ttl passed while it was being written stayed in the inbox' },
  { seed: 10357, found: 'a client that had ended its side was kept for as long as it was pushed to' },
  { seed: 11957, found: 'the ack of a push whose ttl had passed counted for another under the same msgId' },
  { seed: 104184, found: 'a failing disk that took the same message twice: of the simulated store' },
  { seed: 302129, found: 'a message whose ttl passed while it was read to be pushed again was pushed all the same' },
  { seed: 3, nodes: 2, found: 'a message forwarded late to a receiver that was about to read it from the store' },
  { seed: 24, nodes: 2, found: 'a forward that came after its message had been read, pushed and acked' },
  {
    seed: 43,
    nodes: 2,
    found: 'a resend joined what a node that has ended had forwarded, and was stored after later ones',
  },
  { seed: 47, nodes: 2, found: 'a fenced node wrote acks' },
  { seed: 47, nodes: 3, found: 'a forward that turned out to be in the store already was kept without end' },
  { seed: 62, nodes: 2, found: 'other content under a msgId in the window, stored by another node, was passed over' },
  { seed: 67, nodes: 3, found: 'the mailbox of a receiver was forgotten while its session came' },
  { seed: 71, nodes: 2, found: 'stored, and the answer lost with the store: pushed again though acked' },
  { seed: 89, nodes: 2, found: 'acked while the store was read: pushed again from the page' },
  { seed: 95, nodes: 2, found: 'a claim whose answer came late: the session on the other node was not ended' },
  { seed: 95, nodes: 3, found: 'a stream began while it was not known whether what came before was stored' },
  {
    seed: 32,
    nodes: 2,
    found: 'what a session sent and was in memory came behind the first message of the next session',
  },
  { seed: 870436196, nodes: 3, found: 'acked while it was stored, and read from the store before that was known' },
  { seed: 419459694, nodes: 3, found: 'a node that had ended was nudged without end while there was news' },
  { seed: 3045, nodes: 3, minutes: 5, found: 'forwards that were refused kept a route from being direct' },
  { seed: 7035, nodes: 3, minutes: 6, found: 'a first message that was in the store already was no barrier' },
  {
    seed: 7037,
    nodes: 3,
    minutes: 6,
    found: 'an ack from another node was counted down and never up: the store was read too early',
  },
  { seed: 7038, nodes: 3, minutes: 6, found: 'an answer to older news began a stream' },
  { seed: 7053, nodes: 3, minutes: 6, found: 'what its node had not taken was waited for' },
  { seed: 1305, nodes: 3, found: 'a forward that found no room in the inbox was waited for without end' },
  { seed: 1361, nodes: 2, found: 'an id found in the store was acked and not remembered' },
  { seed: 1448, nodes: 3, found: 'stored long after it was forwarded, when its ack had been forgotten' },
  { seed: 1499, nodes: 3, found: 'the ack of a forward that could not be stored was not passed on' },
  { seed: 1532, nodes: 3, found: 'a forward that had waited for a paused node was pushed after its ttl' },
  { seed: 300335, nodes: 3, found: 'a fenced node took messages that had waited behind a command' },
  { seed: 301275, nodes: 3, found: 'the same' },
  {
    seed: 8001371,
    nodes: 3,
    minutes: 6,
    found: 'a claim confirmed for a newer one that a node had let go of a name, which it had again: two were served',
  },
  { seed: 7010938, nodes: 3, found: 'a node that had a name by a newer claim said that it had handed it over' },
  {
    seed: 7004601,
    nodes: 3,
    found: 'refused as the inbox had other content under its msgId, and counted as pending: of the checker',
  },
  {
    seed: 3,
    sdk: true,
    found: 'the client acked what an earlier connection had pushed: it counted for another message with its msgId',
  },
  { seed: 25, sdk: true, found: 'a send that waited for room did not hear of the ack of an earlier attempt' },
  { seed: 43, nodes: 3, sdk: true, found: 'the same' },
  { seed: 20, sdk: true, found: 'refused for now, told of as without effect, and delivered' },
  { seed: 5288, sdk: true, found: 'the refusal of an earlier attempt under a msgId: of the checker' },
  {
    seed: 4010028,
    nodes: 3,
    found:
      'that a run was void could not be written, or was lost with a failover, and was not written again: no login ever',
  },
  { seed: 3010017, nodes: 3, found: 'read twice to be pushed again while the store was slow: pushed twice at once' },
  { seed: 3010221, nodes: 3, found: 'the same' },
  { seed: 3010217, nodes: 3, found: 'the removal of a name failed, and what was known of its sender was forgotten' },
  { seed: 3020299, nodes: 2, found: 'the same, of a removal by a node that ended in the midst of it' },
  { seed: 3020855, nodes: 2, found: 'the same' },
  {
    seed: 6030095,
    nodes: 5,
    found: 'others had heard that a run was over, and the checker only later, its database being away: of the checker',
  },
  { seed: 2020062, nodes: 2, found: 'the simulated pool lost a connection to who had waited too long: of the model' },
  {
    seed: 1010364,
    nodes: 3,
    found: 'an id that was used again had the place and content of its first use on the next node',
  },
  {
    seed: 800058,
    nodes: 3,
    found: "the database's clock was set, and nodes leapt before the checker looked: of the checker",
  },
  {
    seed: 1473146685,
    nodes: 3,
    found:
      'what a crash of the database brought back came behind later messages of the same connection: of the checker',
  },
  { seed: 1473151201, nodes: 3, found: 'the same, of what had expired, which nobody read any more: of the checker' },
  {
    seed: 1328513196,
    nodes: 2,
    found: 'no node was at work for longer than the time in service counts on: of the checker',
  },
  {
    seed: 1243141394,
    nodes: 3,
    found: 'what had expired while the store went away was taken for acked: a repeat was acked, and nobody had it',
  },
  {
    seed: 5004858,
    nodes: 3,
    found:
      'an answer of the database that came late was taken for what was so when it came: of bindings that another node changed',
  },
  { seed: 5010000, nodes: 3, found: 'the same, of what had been allowed' },
  {
    seed: 5011266,
    nodes: 3,
    found: 'what waited behind an expired push of its msgId was read again, and waited twice',
  },
  { seed: 6000707, nodes: 3, found: 'the same, of what its sender repeated' },
  { seed: 6000525, nodes: 3, found: 'given up, and told so, while it was stored once more' },
  {
    seed: 5012529,
    nodes: 3,
    found: 'a push that the store had no more let go of its msgId, and its ack would have counted for another',
  },
  {
    seed: 5015087,
    nodes: 3,
    found: 'what a node in good order had said had not come when its lease was over: of the checker',
  },
  {
    seed: 7008855,
    nodes: 3,
    found: 'nodes that did not get to their work kept the time in service going: of the checker',
  },
  {
    seed: 8001921,
    nodes: 3,
    found: 'what was given up when its stream was ended, its ack being lost, was forgotten with the next stream',
  },
  {
    seed: 9000388,
    nodes: 3,
    found: 'a node that stopped was void to others while a removal of its own was under way in the database',
  },
  { seed: 9005113, nodes: 3, found: 'repeated after a thousand others: of the checker' },
  {
    seed: 11003978,
    nodes: 3,
    found:
      'a device that was about to be forgotten, the database going away, and was of use then: its ids were forgotten',
  },
  {
    seed: 11005915,
    nodes: 3,
    found: 'a forward of a node that had ended came late, behind what its sender sent since',
  },
  { seed: 11006098, nodes: 3, found: 'the time in service on a slow disk: of the checker' },
  {
    seed: 13012892,
    nodes: 3,
    found: 'paused between the decision to push and the push, when a ttl passed: of the checker',
  },
];

/*
 * A device for Hawser in plain C: POSIX sockets and nothing else. It prints each message that it gets and answers it.
 *
 *     device lamp-1 http://hawser.example.org:9999      asks the dispatcher for a server, before each connection
 *     device lamp-1 192.168.1.5:8888                    always this server
 *
 * Nothing is encrypted. Nothing is kept on disk and nothing is lost: a message is acked (201) only when the server has
 * acked the answer to it (200). What is not acked is pushed again, and its answer has the same msgId: it arrives once.
 */
#define _POSIX_C_SOURCE 200809L
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
#ifndef HEARTBEAT_MS
#define HEARTBEAT_MS 30000 /* a heartbeat after so long without reading or writing; 4 unanswered: it connects anew */
#define RECONNECT_MS 1000  /* a random wait of up to this before that, twice as long each time, up to a minute */
#endif
#define IO_SECONDS 15           /* to connect, to send, to ask the dispatcher */
#define FRAME_MAX (1024 * 1024) /* The server sends no larger frame. What is larger than the next is skipped: only a */
#define IN_MAX (80 * 1024)      /* message of more than 64 KiB is. It stays on the server, which pushes it again. */
#define OUT_MAX (IN_MAX + 4096) /* an answer holds the message that it answers */
#define TEXT_MAX 772            /* names and msgids: 128 bytes, each an escape at worst, in quotes */
#define SEEN_MAX 512            /* messages remembered: twice what the server pushes without an ack */

typedef struct { const char *at; size_t n; } Text; /* a piece of JSON, as it came */
typedef struct { uint64_t hash; int isAnswered; size_t n; char msgid[TEXT_MAX]; } Seen;
enum { CODE, IP, PORT, FROM, MSGID, MSG, MEMBERS }; /* the members of objects that matter here */
static const char *const names[] = {"code", "ip", "port", "from", "msgid", "msg"};
static unsigned char in[IN_MAX];
static size_t inBytes, skipBytes, seenCount;
static Seen seen[SEEN_MAX];
static int sock = -1, isOnline;
static int64_t readAt, wroteAt;
static int64_t now(void) { /* ms */
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* JSON, compact as the server writes it: each gives the end of what begins at p, NULL where it is none before `end`. */
static const char *string(const char *p, const char *end) {
  if (p >= end || *p++ != '"') return NULL;
  for (; p < end && *p != '"'; p++) if (*p == '\\' && ++p == end) return NULL;
  return p < end ? p + 1 : NULL;
}
static const char *value(const char *p, const char *end) { /* brackets are counted, not recursed into */
  size_t depth = 0;
  do {
    if (p >= end || ((*p == '}' || *p == ']') && depth-- == 0)) return NULL;
    if (*p == '{' || *p == '[') depth++;
    if (!(p = *p == '"' ? string(p, end) : p + 1)) return NULL;
  } while (depth > 0 || (p < end && *p != ',' && *p != ']' && *p != '}'));
  return p;
}
static const char *object(const char *p, const char *end, Text found[MEMBERS]) { /* notes where its members lie */
  memset(found, 0, sizeof *found * MEMBERS);
  if (p >= end || *p != '{') return NULL;
  do {
    const char *key = p + 1, *keyEnd = string(key, end);
    if (!keyEnd || keyEnd == end || *keyEnd != ':' || !(p = value(keyEnd + 1, end))) return NULL;
    for (int i = 0; i < MEMBERS; i++)
      if ((size_t)(keyEnd - key) == strlen(names[i]) + 2 && !memcmp(key + 1, names[i], strlen(names[i])))
        found[i] = (Text){keyEnd + 1, (size_t)(p - keyEnd) - 1};
  } while (p < end && *p == ',');
  return p < end && *p == '}' ? p + 1 : NULL;
}
static int number(Text text) { return text.n > 0 && text.n < 10 ? atoi(text.at) : -1; }

/* Frames: a length of 4 bytes, then protobuf: cmd = 1, msgId = 2, isEncrypt = 3, data = 4. All give 0 on failure. */
static int transmit(const void *bytes, size_t n) {
  const char *p = bytes;
  for (ssize_t sent; n > 0; p += sent, n -= (size_t)sent) if ((sent = send(sock, p, n, 0)) <= 0) return 0;
  return wroteAt = now(), 1;
}
static unsigned char *field(unsigned char *p, unsigned char tag, size_t n, const char *bytes) { /* none when n is 0 */
  if (n == 0) return p;
  *p++ = tag;
  for (size_t rest = n; rest > 0; rest >>= 7) *p++ = (unsigned char)(rest & 127) | (rest > 127 ? 128 : 0);
  return bytes ? (unsigned char *)memcpy(p, bytes, n) + n : p;
}
static int sendFrame(unsigned cmd, const char *msgId, const char *data) {
  static unsigned char out[OUT_MAX + 256];
  unsigned char *end = field(field(field(out + 4, 8, cmd, NULL), 18, strlen(msgId), msgId), 34, strlen(data), data);
  for (int i = 0; i < 4; i++) out[i] = (unsigned char)((size_t)(end - out - 4) >> (24 - 8 * i));
  return transmit(out, (size_t)(end - out));
}
static int sendAck(const char *msgid, size_t n) {
  char data[TEXT_MAX + 32];
  snprintf(data, sizeof data, "[{\"msgid\":%.*s}]", (int)n, msgid);
  return sendFrame(201, "", data);
}

/* Messages. 0 when the connection is to be given up; what makes no sense is ignored. */
static void handle(Text from, Text msg) { /* what the device is there for: here it would switch something */
  printf("%.*s: %.*s\n", (int)from.n, from.at, (int)msg.n, msg.at), fflush(stdout);
}
static Seen *find(uint64_t hash) {
  for (int i = 0; i < SEEN_MAX; i++) if (seen[i].n > 0 && seen[i].hash == hash) return &seen[i];
  return NULL;
}
static int message(Text from, Text msgid, Text msg) { /* perhaps not for the first time */
  static char answer[OUT_MAX], answerId[17];
  uint64_t hash = 14695981039346656037u; /* FNV-1a of sender and msgid, by which a message is known */
  Seen *it;
  if (msgid.n == 0 || msgid.n > TEXT_MAX || from.n == 0 || from.n > TEXT_MAX || msg.n == 0) return 1;
  for (size_t i = 0; i < from.n; i++) hash = (hash ^ (unsigned char)from.at[i]) * 1099511628211u;
  for (size_t i = 0; i < msgid.n; i++) hash = (hash ^ (unsigned char)msgid.at[i]) * 1099511628211u;
  if (!(it = find(hash))) {
    handle(from, msg);
    it = &seen[seenCount++ % SEEN_MAX];
    *it = (Seen){hash, 0, msgid.n, ""}, memcpy(it->msgid, msgid.at, msgid.n);
  }
  if (it->isAnswered) return sendAck(msgid.at, msgid.n);
  sprintf(answerId, "%016llx", (unsigned long long)hash);
  snprintf(answer, sizeof answer, "{\"to\":%.*s,\"msg\":{\"re\":%.*s,\"got\":%.*s}}", (int)from.n, from.at,
           (int)msgid.n, msgid.at, (int)msg.n, msg.at);
  return sendFrame(200, answerId, answer);
}
static int answered(Text id, Text data) { /* the answer is acked, or refused for good: the message is done with */
  char hex[17] = "";
  Seen *it = id.n == 16 ? find(strtoull(memcpy(hex, id.at, 16), NULL, 16)) : NULL;
  if (!it || it->isAnswered) return 1;
  if (data.n > 0) fprintf(stderr, "not answered: %.*s\n", (int)data.n, data.at);
  it->isAnswered = 1;
  return sendAck(it->msgid, it->n);
}
static int pushed(const char *p, const char *end) {
  Text found[MEMBERS];
  while (p < end && (*p == '[' || *p == ',') && (p = object(p + 1, end, found)))
    if (!message(found[FROM], found[MSGID], found[MSG])) return 0;
  return 1;
}
static const unsigned char *varint(const unsigned char *p, const unsigned char *end, uint64_t *n) {
  *n = 0;
  for (int shift = 0; p < end && shift < 64; shift += 7) if (*n |= (uint64_t)(*p & 127) << shift, *p++ < 128) return p;
  return NULL;
}
static int frame(const unsigned char *p, const unsigned char *end) {
  uint64_t cmd = 0, tag, n;
  Text id = {"", 0}, data = {"", 0}, found[MEMBERS];
  while (p < end) {
    if (!(p = varint(p, end, &tag))) return 1;
    n = (tag & 7) == 1 ? 8 : 4; /* bytes of a fixed number; otherwise it follows, or how many bytes follow */
    if ((tag & 7) != 1 && (tag & 7) != 5 && (((tag & 7) != 0 && (tag & 7) != 2) || !(p = varint(p, end, &n)))) return 1;
    if (tag == 8) cmd = n;
    if ((tag & 7) == 0) continue;
    if (n > (uint64_t)(end - p)) return 1;
    if (tag == 18) id = (Text){(const char *)p, (size_t)n};
    if (tag == 34) data = (Text){(const char *)p, (size_t)n};
    p += n;
  }
  if (cmd == 200) return answered(id, data);
  if (cmd == 201) return pushed(data.at, data.at + data.n);
  if (cmd == 103) fprintf(stderr, "another device has come with this id\n"), exit(2);
  if (cmd == 101 && object(data.at, data.at + data.n, found) && number(found[CODE]) == 100)
    return fprintf(stderr, "online\n"), isOnline = 1, sendFrame(202, "", "");
  if (cmd == 101 || cmd == 3) fprintf(stderr, "refused: %.*s\n", (int)data.n, data.at);
  return cmd != 101; /* a login may be refused for now: the next attempt comes later */
}
static int frames(void) { /* all that have arrived whole */
  for (size_t at = 0, n;;) {
    size_t skip = skipBytes < inBytes - at ? skipBytes : inBytes - at;
    at += skip, skipBytes -= skip, n = 0;
    for (int i = 0; i < 4 && inBytes - at >= 4; i++) n = n << 8 | in[at + (size_t)i];
    if (n > FRAME_MAX) return 0;
    if (n <= IN_MAX - 4 && inBytes - at < 4 + n) return memmove(in, in + at, inBytes -= at), 1;
    if (n > IN_MAX - 4) fprintf(stderr, "skipped a frame of %d bytes\n", (int)n), skipBytes = n + 4;
    else if (!frame(in + at + 4, in + at + 4 + n)) return 0;
    else at += 4 + n;
  }
}

static int dial(const char *host, const char *port) {
  struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list, *each;
  struct timeval limit = {IO_SECONDS, 0};
  if (sock >= 0) close(sock), sock = -1;
  if (getaddrinfo(host, port, &hints, &list)) return 0;
  for (each = list; each && sock < 0; each = each->ai_next) {
    if ((sock = socket(each->ai_family, each->ai_socktype, each->ai_protocol)) < 0) continue;
    setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    if (connect(sock, each->ai_addr, each->ai_addrlen)) close(sock), sock = -1;
  }
  freeaddrinfo(list);
  return sock >= 0;
}
/* Asks the dispatcher: GET /?id=… is answered with {"code":100,"ip":…,"port":…}. */
static int locate(const char *id, const char *host, const char *port, char ip[256], char tcpPort[8]) {
  char text[2048] = "GET /?id=", *body;
  size_t n = strlen(text);
  int64_t until = now() + IO_SECONDS * 1000;
  Text found[MEMBERS];
  if (!dial(host, port)) return 0;
  for (; *id; id++) n += (size_t)sprintf(text + n, "%%%02X", (unsigned char)*id);
  n += (size_t)snprintf(text + n, sizeof text - n, " HTTP/1.0\r\nHost: %s\r\n\r\n", host);
  if (!transmit(text, n)) return 0;
  n = 0;
  for (ssize_t got; n < sizeof text - 1 && now() < until; n += (size_t)got)
    if ((got = recv(sock, text + n, sizeof text - 1 - n, 0)) <= 0) break;
  text[n] = 0;
  if (!(body = strstr(text, "\r\n\r\n")) || !object(body + 4, text + n, found)) return 0;
  if (number(found[CODE]) != 100 || found[IP].n < 3 || found[IP].n > 250) return 0;
  snprintf(ip, 256, "%.*s", (int)found[IP].n - 2, found[IP].at + 1);
  snprintf(tcpPort, 8, "%u", (unsigned)number(found[PORT]) & 65535);
  return 1;
}
static void serve(const char *id) { /* until the connection is lost */
  char login[256];
  int unanswered = 0;
  inBytes = skipBytes = 0, readAt = now();
  snprintf(login, sizeof login, "{\"id\":\"%s\",\"version\":\"1.0\",\"abilities\":[\"echo\"]}", id);
  if (!sendFrame(101, "login", login)) return;
  for (;;) {
    struct pollfd ready = {sock, POLLIN, 0};
    int64_t waitMs = (readAt > wroteAt ? readAt : wroteAt) + HEARTBEAT_MS - now();
    if (waitMs <= 0 && (unanswered++ == 4 || !sendFrame(0, "", ""))) return;
    if (waitMs > 0 && poll(&ready, 1, (int)waitMs) > 0) {
      ssize_t got = recv(sock, in + inBytes, IN_MAX - inBytes, 0);
      readAt = now(), unanswered = 0, inBytes += got > 0 ? (size_t)got : 0;
      if (got <= 0 || !frames()) return;
    }
  }
}

int main(int argc, char **argv) {
  char host[256], port[8], ip[256], tcpPort[8];
  int isUrl = argc == 3 && !strncmp(argv[2], "http://", 7);
  if (argc != 3 || strlen(argv[1]) > 128 || strpbrk(argv[1], "\"\\") || !*argv[1] ||
      sscanf(argv[2] + (isUrl ? 7 : 0), "%255[^:/]:%7[0-9]", host, port) != 2)
    return fprintf(stderr, "usage: device ID http://DISPATCHER:PORT | device ID HOST:PORT\n"), 1;
  unsigned seed = (unsigned)time(NULL) ^ (unsigned)getpid() << 16; /* and the id: devices may start as one */
  for (const char *p = argv[1]; *p; p++) seed = seed * 31 + (unsigned char)*p;
  srand(seed), signal(SIGPIPE, SIG_IGN);
  for (int attempt = 0;; attempt++) {
    if (isUrl ? locate(argv[1], host, port, ip, tcpPort) && dial(ip, tcpPort) : dial(host, port)) serve(argv[1]);
    if (isOnline) isOnline = attempt = 0;
    long ms = (long)(rand() / (RAND_MAX + 1.0) * RECONNECT_MS * (attempt < 6 ? 1 << attempt : 60));
    fprintf(stderr, "not connected, next attempt in %ld ms\n", ms);
    nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL);
  }
}

/* Many websocket clients in one process, cheap enough to stay ahead of any server here: the load of bench/live.

   clients FEEDBACK DIALECT FIRST
     FEEDBACK  a file (a FIFO) that is told each broadcast's number once every client has it; "-": nobody
     DIALECT   centrifuge, plain or socketio: how answers, events and pings look
     FIRST     the number of each writer's first message

   Orders come as lines on standard input, each answered by one line of JSON on standard output; `open FILE AT_ONCE
   DEFLATE` first. Clients are lines of FILE, their fields parted by tabs: source address, port, path, role (r: counts
   what arrives; w: writes, its own echo has it write again), the message to write, the first frame of a later
   connection (with @E and @O for the epoch and offset it knows; both only where the role needs them), the first frames.

   Every event carries ~TTTTTTTTTTTTTTTT~NNNNNNNNNN~ somewhere: microseconds since 1970, and a number. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MARK = 29, ROOM = 1 << 20, EVENTS = 512, NUMBERS = 1 << 16, RETRY_US = 100000 };
enum state { IDLE, CONNECTING, UPGRADING, GREETING, READY };

struct client {
    int fd, port, answers, hellos, outstanding;
    enum state state;
    char role, *source, *path, *message, *again, **hello;
    uint32_t number; /* of the message it writes next */
    uint64_t retry_at;
    char epoch[40];
    unsigned long offset, seen; /* its place in its stream; the newest number it was told */
    char *rest; /* the beginning of a frame that is not all here */
    size_t rest_size;
    int connects;
};

struct sample { uint64_t at; uint32_t number, late; }; /* when it was sent, its number, microseconds until it came */

static struct client *clients;
static int count, ready, opening, at_once = 100, epoll, feedback = -1, deflate, keep_coming;
static enum { CENTRIFUGE, PLAIN, SOCKETIO } dialect;
static uint32_t first;
static char room[ROOM + 65536];
static uint32_t arrived[NUMBERS];
static int listeners;

/* What the current window counts. */
static unsigned long deliveries, echoes, replies, reads, bytes, losses, refusals, sent;
static struct sample *samples;
static size_t sample_count, sample_room;
static unsigned sample_every = 1, sample_turn;

/* Writing: a closed loop while `loop_until`, or at a pace. */
static uint64_t loop_until;

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static double cpu(void) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
           (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

static void give_up(const char *why) {
    fprintf(stderr, "clients: %s: %s\n", why, strerror(errno));
    exit(1);
}

static void *must(void *memory) {
    if (!memory) give_up("memory");
    return memory;
}

static void lose(struct client *c) {
    if (c->state == READY) ready--, losses++;
    else if (c->state != IDLE) opening--;
    if (c->fd >= 0) close(c->fd);
    free(c->rest);
    c->fd = -1, c->state = IDLE, c->rest = NULL, c->rest_size = 0, c->outstanding = 0;
    c->retry_at = now() + RETRY_US / 2 + (uint64_t)(rand() % RETRY_US);
}

static void put(struct client *c, const void *data, size_t size) {
    if (send(c->fd, data, size, MSG_NOSIGNAL) != (ssize_t)size) lose(c); /* clients write too little to wait */
}

/* A client's frame must be masked; the key is 0, so that masking costs us nothing. */
static void put_frame(struct client *c, int opcode, const char *text, size_t size) {
    unsigned char frame[8192], *at = frame;
    if (size > sizeof frame - 16) give_up("a frame too long");
    *at++ = (unsigned char)(0x80 | opcode);
    if (size < 126) *at++ = (unsigned char)(0x80 | size);
    else *at++ = 0x80 | 126, *at++ = (unsigned char)(size >> 8), *at++ = (unsigned char)size;
    memset(at, 0, 4);
    memcpy(at + 4, text, size);
    put(c, frame, (size_t)(at + 4 - frame) + size);
}

static void replace(char *text, const char *what, const char *with) {
    for (char *at; (at = strstr(text, what));) {
        memmove(at + strlen(with), at + strlen(what), strlen(at + strlen(what)) + 1);
        memcpy(at, with, strlen(with));
    }
}

static void greet(struct client *c) {
    c->state = GREETING;
    char text[8192];
    for (int i = 0; i < c->hellos && c->state == GREETING; i++) {
        snprintf(text, sizeof text - 64, "%s", i == 0 && c->connects && *c->again && *c->epoch ? c->again : c->hello[i]);
        char offset[24];
        snprintf(offset, sizeof offset, "%lu", c->offset);
        replace(text, "@E", c->epoch);
        replace(text, "@O", offset);
        put_frame(c, 1, text, strlen(text));
    }
}

static void write_message(struct client *c) {
    char text[4096], stamp[24], number[16];
    snprintf(text, sizeof text - 64, "%s", c->message);
    snprintf(stamp, sizeof stamp, "%016llu", (unsigned long long)now());
    snprintf(number, sizeof number, "%010u", c->number++);
    replace(text, "@T", stamp);
    replace(text, "@N", number);
    c->outstanding++, sent++;
    put_frame(c, 1, text, strlen(text));
}

static void answered(struct client *c) {
    if (c->state != GREETING || ++c->answers < c->hellos) return;
    c->state = READY, c->connects++;
    ready++, opening--;
}

static void keep(uint64_t at, uint32_t number, uint64_t moment) {
    if (++sample_turn < sample_every) return;
    sample_turn = 0;
    if (sample_count == sample_room)
        samples = must(realloc(samples, (sample_room = sample_room ? 2 * sample_room : 1 << 16) * sizeof *samples));
    samples[sample_count++] = (struct sample){at, number, moment > at ? (uint32_t)(moment - at) : 0};
}

static void event(struct client *c, const char *mark, uint64_t moment) {
    uint64_t at = strtoull(mark + 1, NULL, 10);
    uint32_t number = (uint32_t)strtoul(mark + 18, NULL, 10);
    c->seen = number;
    if (c->role == 'w') {
        echoes++;
        if (c->outstanding > 0) c->outstanding--;
        if (moment < loop_until) write_message(c);
        return;
    }
    deliveries++;
    keep(at, number, moment);
    if (feedback >= 0 && ++arrived[number % NUMBERS] >= (uint32_t)listeners) {
        arrived[number % NUMBERS] = 0;
        dprintf(feedback, "%u\n", number);
    }
}

static void marks(struct client *c, const char *text, size_t size, uint64_t moment) {
    const char *end = text + size;
    for (const char *at; end - text >= MARK && (at = memchr(text, '~', (size_t)(end - text) - MARK + 1));) {
        if (at[17] == '~' && at[28] == '~') event(c, at, moment), text = at + MARK;
        else text = at + 1;
    }
}

static int starts(const char *text, size_t size, const char *with) {
    return size >= strlen(with) && !memcmp(text, with, strlen(with));
}

/* Where the client's own channel stands, as the reply to its connect tells it. */
static void note_place(struct client *c, const char *line, size_t size) {
    const char *from = memmem(line, size, "\"epoch\":\"", 9);
    if (!from) return;
    from += 9;
    const char *to = memchr(from, '"', size - (size_t)(from - line));
    const char *offset = memmem(from, size - (size_t)(from - line), "\"offset\":", 9);
    if (!to || !offset || (size_t)(to - from) >= sizeof c->epoch) return;
    snprintf(c->epoch, sizeof c->epoch, "%.*s", (int)(to - from), from);
    c->offset = strtoul(offset + 9, NULL, 10);
}

static void line(struct client *c, const char *text, size_t size, uint64_t moment) {
    if (size == 2) put_frame(c, 1, "{}", 2);
    else if (starts(text, size, "{\"push\"")) {
        marks(c, text, size, moment);
        if (*c->again && starts(text, size, "{\"push\":{\"channel\":\"user:"))
            c->offset = strtoul((char *)memrchr(text, ':', size) + 1, NULL, 10);
    } else if (starts(text, size, "{\"id\"")) {
        if (memmem(text, size < 200 ? size : 200, "\"error\"", 7)) {
            if (!refusals++) fprintf(stderr, "clients: refused: %.*s\n", (int)size, text);
            if (c->state == GREETING) { lose(c); return; } /* and come back */
        }
        if (c->state != GREETING) replies++;
        else {
            if (*c->again && !c->answers) note_place(c, text, size), marks(c, text, size, moment);
            answered(c);
        }
    }
}

static void text_frame(struct client *c, const char *text, size_t size, uint64_t moment) {
    if (dialect == CENTRIFUGE) {
        for (const char *end = text + size, *next; text < end && c->fd >= 0; text = next + 1) {
            next = memchr(text, '\n', (size_t)(end - text));
            if (!next) next = end;
            line(c, text, (size_t)(next - text), moment);
        }
    } else if (dialect == PLAIN) {
        if (c->state == GREETING && starts(text, size, "{\"ready\"")) answered(c);
        else marks(c, text, size, moment);
    } else if (starts(text, size, "0{")) greet(c);
    else if (starts(text, size, "40")) answered(c);
    else if (starts(text, size, "44")) refusals++;
    else if (starts(text, size, "2")) put_frame(c, 1, "3", 1);
    else marks(c, text, size, moment);
}

static void frame(struct client *c, int head, const char *text, size_t size, uint64_t moment) {
    int opcode = head & 15;
    if (head & 0x40) { /* deflated, which is only there to be weighed: the first is the answer, tiny ones are pings */
        if (c->state == GREETING) answered(c);
        else if (size < 8) put_frame(c, 1, "{}", 2);
    } else if (opcode == 9) put_frame(c, 10, text, size);
    else if (opcode == 8) lose(c);
    else if (opcode == 1 || opcode == 2) text_frame(c, text, size, moment);
}

/* How much of a frame's length is known and it is all here: its size with its head; 0 while more must come. */
static size_t whole(const unsigned char *at, size_t size, size_t *head) {
    if (size < 2) return 0;
    size_t length = at[1] & 127;
    *head = length < 126 ? 2 : length == 126 ? 4 : 10;
    if (size < *head) return 0;
    if (length >= 126) {
        length = 0;
        for (size_t i = 2; i < *head; i++) length = length << 8 | at[i];
    }
    return size >= *head + length ? *head + length : 0;
}

static char *upgraded(struct client *c, char *text, size_t size) {
    char *end = memmem(text, size, "\r\n\r\n", 4);
    if (!end) return NULL;
    if (!starts(text, size, "HTTP/1.1 101")) {
        if (!refusals++) fprintf(stderr, "clients: not upgraded: %.*s\n", (int)(end - text), text);
        lose(c);
        return NULL;
    }
    if (dialect == SOCKETIO) c->state = GREETING;
    else greet(c);
    return end + 4;
}

static void take(struct client *c) {
    memcpy(room, c->rest, c->rest_size);
    ssize_t got = recv(c->fd, room + c->rest_size, ROOM - c->rest_size, 0);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) { lose(c); return; }
    reads++, bytes += (unsigned long)got;
    char *at = room;
    size_t size = c->rest_size + (size_t)got, head, length;
    uint64_t moment = now();
    if (c->state == UPGRADING) {
        at = upgraded(c, room, size);
        if (c->fd < 0) return;
        if (!at) at = room;
        else size -= (size_t)(at - room);
    }
    while (c->state >= GREETING && (length = whole((unsigned char *)at, size, &head))) {
        frame(c, (unsigned char)at[0], at + head, length - head, moment);
        if (c->fd < 0) return;
        at += length, size -= length;
    }
    if (size > c->rest_size || size) c->rest = must(realloc(c->rest, size + 1));
    else free(c->rest), c->rest = NULL;
    if (size) memcpy(c->rest, at, size);
    c->rest_size = size;
}

static void begin(struct client *c) {
    int yes = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (c->fd < 0) give_up("socket");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &yes, sizeof yes);
    struct sockaddr_in from = {.sin_family = AF_INET}, to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)c->port)};
    inet_pton(AF_INET, c->source, &from.sin_addr);
    inet_pton(AF_INET, "127.0.0.1", &to.sin_addr);
    if (bind(c->fd, (struct sockaddr *)&from, sizeof from)) give_up("bind");
    c->state = CONNECTING, c->answers = 0, opening++;
    if (connect(c->fd, (struct sockaddr *)&to, sizeof to) && errno != EINPROGRESS) { lose(c); return; }
    struct epoll_event want = {.events = EPOLLIN | EPOLLOUT, .data.u32 = (uint32_t)(c - clients)};
    epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &want);
}

static void upgrade(struct client *c) {
    struct epoll_event want = {.events = EPOLLIN, .data.u32 = (uint32_t)(c - clients)};
    epoll_ctl(epoll, EPOLL_CTL_MOD, c->fd, &want);
    char text[2048];
    int size = snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n%s\r\n",
        c->path, c->port, deflate ? "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n" : "");
    c->state = UPGRADING;
    put(c, text, (size_t)size);
}

static void open_more(void) {
    uint64_t moment = now();
    for (int i = 0, tried = 0; i < count && opening < at_once && tried < at_once; i++)
        if (clients[i].state == IDLE && clients[i].retry_at <= moment) begin(&clients[i]), tried++;
}

/* One turn of the loop: whatever happened, for at most `wait` milliseconds. */
static void turn(int wait) {
    struct epoll_event happened[EVENTS];
    int n = epoll_wait(epoll, happened, EVENTS, wait);
    for (int i = 0; i < n; i++) {
        if (happened[i].data.u32 == UINT32_MAX) continue;
        struct client *c = &clients[happened[i].data.u32];
        if (c->fd < 0) continue;
        if (c->state == CONNECTING) {
            if (happened[i].events & (EPOLLERR | EPOLLHUP)) lose(c);
            else if (happened[i].events & EPOLLOUT) upgrade(c);
        } else take(c);
    }
    if (keep_coming && ready + opening < count && opening < at_once) open_more();
}

static char *next_field(char **rest) {
    char *field = strsep(rest, "\t\n");
    if (!field) give_up("a client has too few fields");
    return must(strdup(field));
}

static void add(char *text) {
    clients = must(realloc(clients, (size_t)(count + 1) * sizeof *clients));
    struct client *c = memset(&clients[count++], 0, sizeof *clients);
    c->fd = -1, c->number = first;
    c->source = next_field(&text), c->port = atoi(next_field(&text)), c->path = next_field(&text);
    c->role = *next_field(&text), c->message = next_field(&text), c->again = next_field(&text);
    c->hello = must(malloc(8 * sizeof *c->hello));
    while (text && *text && *text != '\n' && c->hellos < 8) c->hello[c->hellos++] = next_field(&text);
    if (c->role == 'r') listeners++;
}

static void load(const char *name) {
    FILE *file = fopen(name, "r");
    char *text = NULL;
    size_t size = 0;
    if (!file) give_up(name);
    while (getline(&text, &size, file) > 0) add(text);
    free(text);
    fclose(file);
}

/* Until all are connected (and, with `number`, have that event), or the time is up. */
static void connect_all(double seconds, unsigned long number) {
    uint64_t begun = now(), until = begun + (uint64_t)(seconds * 1e6);
    double used = cpu();
    int there = 0;
    keep_coming = 1;
    open_more();
    while (now() < until) {
        turn(2);
        if (ready < count) continue;
        for (there = 0; there < count && (!number || clients[there].seen >= number);) there++;
        if (there == count) break;
    }
    keep_coming = 0;
    double took = (double)(now() - begun) / 1e6;
    printf("{\"ready\": %d, \"caught_up\": %d, \"seconds\": %.6f, \"cpu\": %.4f, \"refusals\": %lu, \"losses\": %lu}\n",
           ready, there, took, cpu() - used, refusals, losses);
}

static void zero(void) {
    deliveries = echoes = replies = reads = bytes = losses = refusals = sent = 0;
    sample_count = 0;
}

static void report(uint64_t begun, double used, double late, const char *file) {
    double took = (double)(now() - begun) / 1e6;
    FILE *out = fopen(file, "wb");
    if (!out) give_up(file);
    if (sample_count) fwrite(samples, sizeof *samples, sample_count, out);
    fclose(out);
    printf("{\"deliveries\": %lu, \"echoes\": %lu, \"replies\": %lu, \"sent\": %lu, \"reads\": %lu, \"bytes\": %lu, "
           "\"losses\": %lu, \"refusals\": %lu, \"ready\": %d, \"seconds\": %.6f, \"cpu\": %.4f, \"late\": %.6f}\n",
           deliveries, echoes, replies, sent, reads, bytes, losses, refusals, ready, took, used, late);
}

/* Count for a while what arrives. */
static void listen_for(double seconds, unsigned every, const char *file) {
    zero();
    sample_every = every;
    uint64_t begun = now(), until = begun + (uint64_t)(seconds * 1e6);
    double used = cpu();
    while (now() < until) turn(5);
    report(begun, cpu() - used, 0, file);
}

/* Write for a while, every writer with `most` unanswered messages, or all of them together at a rate. */
static void chat(double warm_up, double seconds, int most, double rate, const char *file) {
    uint64_t start = now(), begun = start + (uint64_t)(warm_up * 1e6), until = begun + (uint64_t)(seconds * 1e6);
    double used = cpu(), worst = 0;
    unsigned long done = 0;
    int turn_of = 0, counting = 0;
    zero();
    sample_every = 1;
    loop_until = rate > 0 ? 0 : until;
    for (int i = 0; rate <= 0 && i < count; i++)
        for (int k = 0; clients[i].role == 'w' && clients[i].state == READY && k < most; k++) write_message(&clients[i]);
    while (now() < until) {
        turn(rate > 0 ? 1 : 5);
        if (!counting && now() >= begun) counting = 1, begun = now(), used = cpu(), worst = 0, zero();
        while (rate > 0 && (double)(now() - start) / 1e6 * rate >= (double)done) {
            double late = (double)(now() - start) / 1e6 - (double)done / rate;
            worst = late > worst ? late : worst;
            while (clients[turn_of %= count].role != 'w' || clients[turn_of].state != READY) turn_of++;
            write_message(&clients[turn_of++]);
            done++;
        }
    }
    report(begun, cpu() - used, worst, file);
    loop_until = 0;
    for (uint64_t rest = now() + 3000000; now() < rest;) { /* what is on its way arrives */
        int waiting = 0;
        for (int i = 0; i < count; i++) waiting += clients[i].role == 'w' && clients[i].outstanding > 0;
        if (!waiting) break;
        turn(5);
    }
}

static void obey(char *order) {
    char word[16] = "", file[512] = "";
    double a = 0, b = 0, rate = 0;
    unsigned long number = 0;
    int most = 0;
    sscanf(order, "%15s", word);
    if (!strcmp(word, "open") && sscanf(order, "%*s %511s %d %d", file, &at_once, &deflate) == 3) {
        load(file);
        printf("{\"clients\": %d}\n", count);
    } else if (!strcmp(word, "connect") && sscanf(order, "%*s %lf %lu", &a, &number) == 2) connect_all(a, number);
    else if (!strcmp(word, "listen") && sscanf(order, "%*s %lf %d %511s", &a, &most, file) == 3)
        listen_for(a, (unsigned)most, file);
    else if (!strcmp(word, "chat") && sscanf(order, "%*s %lf %lf %d %lf %511s", &a, &b, &most, &rate, file) == 5)
        chat(a, b, most, rate, file);
    else give_up("an order that is not understood");
    fflush(stdout);
}

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    dialect = !strcmp(argv[2], "centrifuge") ? CENTRIFUGE : !strcmp(argv[2], "plain") ? PLAIN : SOCKETIO;
    first = (uint32_t)strtoul(argv[3], NULL, 10);
    if (strcmp(argv[1], "-") && (feedback = open(argv[1], O_WRONLY)) < 0) give_up("feedback");
    epoll = epoll_create1(0);
    struct epoll_event orders = {.events = EPOLLIN, .data.u32 = UINT32_MAX};
    epoll_ctl(epoll, EPOLL_CTL_ADD, STDIN_FILENO, &orders);
    fcntl(STDIN_FILENO, F_SETFL, fcntl(STDIN_FILENO, F_GETFL) | O_NONBLOCK);
    char text[1024];
    size_t size = 0;
    for (;;) { /* between orders pings are answered and what arrives is counted by nobody */
        ssize_t got = read(STDIN_FILENO, text + size, sizeof text - 1 - size);
        if (got == 0) return 0;
        if (got > 0) size += (size_t)got;
        text[size] = 0;
        char *end = memchr(text, '\n', size);
        if (end) {
            *end = 0;
            obey(text);
            size -= (size_t)(end + 1 - text);
            memmove(text, end + 1, size);
        } else turn(50);
    }
}

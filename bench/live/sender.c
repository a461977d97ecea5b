/* A server that does nothing but send, to see how far the clients of clients.c get: sender PORT SIZE TOGETHER

   It upgrades whoever comes, answers any frame with {"ready":true}, and once nobody has come for a while sends TOGETHER
   events of SIZE bytes at a time to each connection in turn, as fast as they are taken. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

static const char upgraded[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
static const char ready[] = "\x81\x0e{\"ready\":true}";

/* The handshake of one client, which sends nothing before it has its answer. */
static void welcome(int fd) {
    char text[8192];
    if (recv(fd, text, sizeof text, 0) <= 0 || send(fd, upgraded, sizeof upgraded - 1, MSG_NOSIGNAL) < 0) exit(0);
    if (recv(fd, text, sizeof text, 0) <= 0 || send(fd, ready, sizeof ready - 1, MSG_NOSIGNAL) < 0) exit(0);
    int yes = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
}

/* `together` frames with marks as if they had been sent just now. */
static size_t fill(char *frames, size_t size, int together) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    char mark[64], *at = frames;
    unsigned long long stamp = (unsigned long long)t.tv_sec * 1000000 + (unsigned long long)t.tv_nsec / 1000;
    snprintf(mark, sizeof mark, "~%016llu~%010u~", stamp, 1000000000u);
    for (int i = 0; i < together; i++) {
        *at++ = (char)0x81, *at++ = 126, *at++ = (char)(size >> 8), *at++ = (char)size;
        memset(at, 'x', size);
        memcpy(at + 10, mark, 29);
        at += size;
    }
    return (size_t)(at - frames);
}

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    size_t size = (size_t)atoi(argv[2]);
    int together = atoi(argv[3]), yes = 1, count = 0, *fds = calloc(65536, sizeof *fds);
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[1]))};
    inet_pton(AF_INET, "127.0.0.1", &here.sin_addr);
    int door = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(door, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(door, (struct sockaddr *)&here, sizeof here) || listen(door, 1024)) return 1;
    struct pollfd coming = {.fd = door, .events = POLLIN};
    while (poll(&coming, 1, count ? 300 : -1) > 0) welcome(fds[count++] = accept(door, NULL, NULL));
    char *frames = malloc((size + 4) * (size_t)together);
    size_t *done = calloc((size_t)count, sizeof *done); /* how much of its frames a connection has taken */
    for (size_t length;;) {
        length = fill(frames, size, together);
        for (int i = 0; i < count; i++) {
            ssize_t took = send(fds[i], frames + done[i], length - done[i], MSG_NOSIGNAL | MSG_DONTWAIT);
            if (took < 0 && errno != EAGAIN) return 0;
            if (took > 0) done[i] = (done[i] + (size_t)took) % length;
        }
    }
}

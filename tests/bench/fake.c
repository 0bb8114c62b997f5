/* fake: a server that answers every POST with a stream of chunks at a set pace, and does nothing
 * else: what the load generator's own speed is measured against.
 *
 *   fake [PORT [MS_BETWEEN_TOKENS]]     0 ms: as fast as the socket takes them
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "engine/base/buf.h"
#include "engine/base/clock.h"

#define EVENTS_MAX  1024
#define REQUEST_MAX ((size_t)8 << 20)
#define TICK_NS     1000000
#define BURST       64 /* tokens written at once when there is no pace */

static const char head[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                           "Transfer-Encoding: chunked\r\n\r\n";
static const char models[] = "HTTP/1.1 200 OK\r\nContent-Length: 51\r\n\r\n"
                             "{\"object\":\"list\",\"data\":[{\"id\":\"fake\",\"object\":0}]}";
static const char token[] =
    "data: {\"id\":\"cmpl-5hT3sdNgjUCZP1OO3R398WxdJFkVq\",\"object\":\"text_completion\","
    "\"created\":1795278599,\"model\":\"fake\",\"system_fingerprint\":\"fp_5ad65dcbda\","
    "\"choices\":[{\"index\":0,\"text\":\" word\",\"logprobs\":null,\"finish_reason\":null}],"
    "\"usage\":null}\n\n";

/* One connection: a request comes in, an answer goes out, then another request. */
struct peer {
    struct peer *next; /* of those that are streaming */
    int fd;
    bool streaming, dead;
    struct buf in, out;
    size_t tokens, left; /* of the answer: all, and those not yet written */
    uint64_t next_ns;    /* of the next one */
};

static struct peer *streaming;
static uint64_t pace_ns;

static void chunk(struct buf *out, const char *bytes, size_t size)
{
    buf_printf(out, "%zx\r\n", size);
    buf_append(out, bytes, size);
    buf_append_c(out, "\r\n");
}

static void put_end(struct peer *p)
{
    char usage[300];
    int size = snprintf(usage, sizeof usage,
                        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\""
                        ":%zu,\"prompt_tokens_details\":{\"cached_tokens\":3}}}\n\n"
                        "data: [DONE]\n\n",
                        p->tokens);
    chunk(&p->out, usage, (size_t)size);
    buf_append_c(&p->out, "0\r\n\r\n");
}

static void flush(struct peer *p)
{
    if (p->out.size == 0) {
        return;
    }
    ssize_t size = send(p->fd, p->out.data, p->out.size, MSG_NOSIGNAL);
    if (size > 0) {
        buf_drop(&p->out, (size_t)size);
    } else if (errno != EAGAIN && errno != EINTR) {
        p->dead = true;
    }
}

/* Writes the tokens that are due by now; false at the answer's end. */
static bool stream(struct peer *p, uint64_t now)
{
    size_t due = pace_ns == 0 ? BURST : now >= p->next_ns ? (now - p->next_ns) / pace_ns + 1 : 0;
    for (; due > 0 && p->left > 0 && p->out.size < 65536; due--, p->left--) {
        chunk(&p->out, token, sizeof token - 1);
        p->next_ns += pace_ns;
        if (p->left == 1) {
            put_end(p);
        }
    }
    flush(p);
    return !p->dead && (p->left > 0 || p->out.size > 0);
}

static void stream_all(uint64_t now)
{
    struct peer **at = &streaming;
    while (*at != NULL) {
        struct peer *p = *at;
        if (stream(p, now)) {
            at = &p->next;
        } else {
            p->streaming = false;
            *at = p->next;
        }
    }
}

/* A whole request in `in`: its answer begins. */
static void answer(struct peer *p)
{
    struct str in = buf_view(&p->in);
    const char *end = in.size > 0 ? memmem(in.data, in.size, "\r\n\r\n", 4) : NULL;
    const char *length = end != NULL ? memmem(in.data, in.size, "Content-Length: ", 16) : NULL;
    size_t body = length != NULL ? strtoul(length + 16, NULL, 10) : 0;
    if (end == NULL || (size_t)(end + 4 - in.data) + body > in.size) {
        return;
    }
    const char *wanted = memmem(in.data, in.size, "\"max_tokens\":", 13);
    p->tokens = p->left = wanted != NULL ? strtoul(wanted + 13, NULL, 10) : 16;
    bool post = str_starts_with(in, STR("POST"));
    buf_append_c(&p->out, post ? head : models);
    buf_clear(&p->in);
    p->next_ns = clock_now_ns() + pace_ns;
    if (post && p->left > 0 && !p->streaming) {
        p->streaming = true;
        p->next = streaming;
        streaming = p;
    }
    flush(p);
}

static void on_readable(struct peer *p, char *scratch, size_t scratch_size)
{
    ssize_t size = recv(p->fd, scratch, scratch_size, 0);
    if (size > 0) {
        buf_append(&p->in, scratch, (size_t)size);
        answer(p);
    } else if (size == 0 || (errno != EAGAIN && errno != EINTR)) {
        p->dead = true;
        if (p->streaming) {
            stream_all(clock_now_ns()); /* takes it off the list */
        }
        close(p->fd);
        buf_fini(&p->in);
        buf_fini(&p->out);
        free(p);
    }
}

static void on_accept(int listener, int epoll_fd)
{
    int one = 1;
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
    struct peer *p = fd >= 0 ? calloc(1, sizeof *p) : NULL;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = p};
    if (p == NULL) {
        return;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    p->fd = fd;
    buf_init(&p->in, REQUEST_MAX);
    buf_init(&p->out, REQUEST_MAX);
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event);
}

static int listen_on(unsigned port)
{
    int one = 1;
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || listen(fd, 4096) != 0) {
        perror("fake");
        return -1;
    }
    socklen_t size = sizeof address;
    getsockname(fd, (struct sockaddr *)&address, &size);
    printf("http://127.0.0.1:%u\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

int main(int argc, char **argv)
{
    static struct epoll_event events[EVENTS_MAX];
    static char scratch[65536];
    static int tag_listener, tag_timer;
    const struct itimerspec tick = {{0, TICK_NS}, {0, TICK_NS}};
    int listener = listen_on(argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 0);
    int epoll_fd = epoll_create1(0), timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    pace_ns = argc > 2 ? (uint64_t)(strtod(argv[2], NULL) * CLOCK_NS_PER_MS) : 0;
    struct epoll_event on_listener = {.events = EPOLLIN, .data.ptr = &tag_listener};
    struct epoll_event on_timer = {.events = EPOLLIN, .data.ptr = &tag_timer};
    if (listener < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &on_listener) != 0 ||
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, timer, &on_timer) != 0 ||
        timerfd_settime(timer, 0, &tick, NULL) != 0) {
        return 1;
    }
    for (;;) {
        int count = epoll_wait(epoll_fd, events, EVENTS_MAX, streaming && pace_ns == 0 ? 0 : -1);
        for (int i = 0; i < count; i++) {
            uint64_t ticks;
            if (events[i].data.ptr == &tag_listener) {
                on_accept(listener, epoll_fd);
            } else if (events[i].data.ptr == &tag_timer) {
                ssize_t ignored = read(timer, &ticks, sizeof ticks);
                (void)ignored;
            } else {
                on_readable(events[i].data.ptr, scratch, sizeof scratch);
            }
        }
        stream_all(clock_now_ns());
    }
}

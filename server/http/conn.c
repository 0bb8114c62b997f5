#include "server/http/conn.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server/http/exchange.h"
#include "server/http/intake.h"
#include "server/http/tls.h"

#define IN_MAX     ((size_t)65536)  /* bytes read ahead from a client */
#define OUT_MAX    ((size_t)131072) /* bytes of answer waiting for a client */
#define ROUNDS_MAX 8                /* turns of one pump before others get theirs */

/* -------------------------------------------------------------- life cycle */

bool conn_open(struct io *io, int fd)
{
    struct conn *c = calloc(1, sizeof *c);
    if (c == NULL) {
        close(fd);
        return false;
    }
    c->io = io;
    c->fd = fd;
    c->inner = -1;
    c->deadline_ms = io->now_ms + IO_HEAD_MS;
    buf_init(&c->in, CONN_BUFFER_MAX);
    buf_init(&c->to_inner, CONN_BUFFER_MAX);
    buf_init(&c->to_client, CONN_BUFFER_MAX);
    head_scan_init(&c->scan);
    c->fd_events = EPOLLIN | EPOLLRDHUP;
    struct epoll_event event = {.events = c->fd_events, .data.ptr = c};
    if ((io->tls != NULL && (c->tls = tls_session_new(io->tls, fd)) == NULL) ||
        epoll_ctl(io->epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0) {
        close(fd);
        tls_session_free(c->tls);
        free(c);
        return false;
    }
    c->next = io->conns;
    if (c->next != NULL) {
        c->next->previous = c;
    }
    io->conns = c;
    io->conn_count++;
    return true;
}

/* Events of this round may still name it, so it only dies at the round's end. */
static void bury(struct conn *c)
{
    c->next = c->io->graveyard;
    c->io->graveyard = c;
}

void conn_close_inner(struct conn *c)
{
    if (c->inner >= 0) {
        close(c->inner);
        c->inner = -1;
    }
}

void conn_close(struct conn *c)
{
    if (c->state == CONN_CLOSED) {
        return;
    }
    c->state = CONN_CLOSED;
    tls_session_free(c->tls);
    c->tls = NULL;
    close(c->fd);
    conn_close_inner(c);
    if (c->exchange != NULL) {
        exchange_abandon(c->exchange);
    }
    if (c->previous != NULL) {
        c->previous->next = c->next;
    } else {
        c->io->conns = c->next;
    }
    if (c->next != NULL) {
        c->next->previous = c->previous;
    }
    c->io->conn_count--;
    if (c->held == 0) {
        bury(c);
    }
}

void conn_free(struct conn *c)
{
    buf_fini(&c->in);
    buf_fini(&c->to_inner);
    buf_fini(&c->to_client);
    free(c->head_bytes);
    free(c);
}

void conn_touch(struct conn *c)
{
    if (!c->touched) {
        c->touched = true;
        c->next_touched = c->io->touched;
        c->io->touched = c;
    }
}

void conn_completed(struct conn *c)
{
    c->exchange = NULL;
    c->completed = true;
    conn_touch(c);
}

void conn_released(struct conn *c)
{
    c->held--;
    conn_touch(c);
    if (c->state == CONN_CLOSED && c->held == 0) {
        bury(c);
    }
}

bool conn_is_idle(const struct conn *c)
{
    return c->state == CONN_HEAD && c->in.size == 0 && c->to_client.size == 0;
}

/* ---------------------------------------------------------------- transfers */

static bool would_block(void)
{
    return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
}

static ssize_t client_receive(struct conn *c, void *bytes, size_t size)
{
    return c->tls != NULL ? tls_session_read(c->tls, bytes, size) : recv(c->fd, bytes, size, 0);
}

static ssize_t client_send(struct conn *c, const void *bytes, size_t size)
{
    return c->tls != NULL ? tls_session_write(c->tls, bytes, size)
                          : send(c->fd, bytes, size, MSG_NOSIGNAL);
}

/* Its side is shut: it is gone, or it only has no more to ask. */
static void client_leaves(struct conn *c)
{
    if (!c->client_leaving) {
        c->client_leaving = true;
        c->probe_ms = c->io->now_ms + IO_PROBE_MS;
    }
}

static bool read_client(struct conn *c)
{
    if (!c->readable || c->client_eof || (c->state != CONN_LINGER && c->in.size >= IN_MAX)) {
        return false;
    }
    ssize_t size = client_receive(c, c->io->scratch, IO_SCRATCH);
    /* TLS may hold more than the socket shows. */
    c->readable = size == IO_SCRATCH || (size > 0 && c->tls != NULL);
    if (size > 0) {
        if (c->state != CONN_LINGER) {
            buf_append(&c->in, c->io->scratch, (size_t)size);
        }
        if (c->in.failed) {
            conn_close(c);
        }
        return true;
    }
    if (size < 0 && would_block()) {
        return false;
    }
    c->client_eof = true;
    client_leaves(c);
    if (size < 0) {
        conn_close(c);
    }
    return true;
}

static bool write_client(struct conn *c)
{
    if (c->to_client.size == 0) {
        return false;
    }
    ssize_t size = client_send(c, c->to_client.data, c->to_client.size);
    if (size > 0) {
        buf_drop(&c->to_client, (size_t)size);
        c->stalled_ms = c->to_client.size > 0 ? c->io->now_ms : 0;
        return true;
    }
    if (size < 0 && would_block()) {
        c->stalled_ms = c->stalled_ms > 0 ? c->stalled_ms : c->io->now_ms;
        return false;
    }
    conn_close(c);
    return true;
}

static bool write_inner(struct conn *c)
{
    if (c->to_inner.size == 0 || c->inner < 0) {
        return false;
    }
    ssize_t size = send(c->inner, c->to_inner.data, c->to_inner.size, MSG_NOSIGNAL);
    if (size < 0 && would_block()) {
        return false;
    }
    /* On an error libmicrohttpd has closed its end: it answered without reading all of the body. */
    buf_drop(&c->to_inner, size > 0 ? (size_t)size : c->to_inner.size);
    return true;
}

/* libmicrohttpd closed its end: after a complete answer this is the end of the connection. */
static void on_inner_eof(struct conn *c)
{
    struct api_error error;
    c->inner_eof = true;
    if (c->state == CONN_HEAD) {
        conn_close_inner(c); /* idle: the next request gets a new pair */
    } else if (!c->answered) {
        api_fail(&error, API_INTERNAL, NULL,
                 "The server had an error while processing your request.");
        intake_refuse(c, &error);
    } else {
        intake_linger(c);
    }
}

static bool read_inner(struct conn *c)
{
    bool worth_it = c->inner_readable || (c->completed && c->state == CONN_WAIT);
    if (c->inner < 0 || c->inner_eof || c->to_client.size >= OUT_MAX || !worth_it) {
        return false;
    }
    ssize_t size = recv(c->inner, c->io->scratch, IO_SCRATCH, 0);
    c->inner_readable = size == IO_SCRATCH;
    if (size > 0 && c->muted) {
        return true;
    }
    if (size > 0) {
        buf_append(&c->to_client, c->io->scratch, (size_t)size);
        /* An interim "100 Continue" is no answer yet. */
        c->answered |= c->exchange == NULL || c->exchange->status_sent > 0;
        if (c->to_client.failed) {
            conn_close(c);
        }
        return true;
    }
    if (size < 0 && would_block()) {
        if (c->completed && c->state == CONN_WAIT) {
            intake_end_request(c);
            return true;
        }
        return false;
    }
    on_inner_eof(c);
    return true;
}

static bool feed_client(struct conn *c)
{
    if (c->exchange == NULL || c->to_client.size >= OUT_MAX ||
        !exchange_feed(c->exchange, &c->to_client)) {
        return false;
    }
    if (c->to_client.failed) {
        conn_close(c);
    }
    return true;
}

/* ------------------------------------------------------------------- pumping */

static void set_events(struct conn *c, int fd, uint32_t *current, uint32_t wanted, uint64_t tag)
{
    struct epoll_event event = {.events = wanted, .data.u64 = tag};
    if (*current != wanted && epoll_ctl(c->io->epoll_fd, EPOLL_CTL_MOD, fd, &event) == 0) {
        *current = wanted;
    }
}

static void update_events(struct conn *c)
{
    uint32_t client = c->client_leaving ? 0 : EPOLLRDHUP;
    bool reads = !c->client_eof && (c->state == CONN_LINGER || c->in.size < IN_MAX);
    if (reads || (c->tls != NULL && tls_session_wants_read(c->tls))) {
        client |= EPOLLIN;
    }
    if (c->to_client.size > 0 || (c->tls != NULL && tls_session_wants_write(c->tls))) {
        client |= EPOLLOUT;
    }
    set_events(c, c->fd, &c->fd_events, client, (uint64_t)(uintptr_t)c);
    if (c->inner >= 0) {
        uint32_t inner = c->to_client.size < OUT_MAX && !c->inner_eof ? EPOLLIN : 0;
        inner |= c->to_inner.size > 0 ? EPOLLOUT : 0;
        set_events(c, c->inner, &c->inner_events, inner, (uint64_t)(uintptr_t)c | 1);
    }
}

/* What only the end of the client's bytes decides. True when the connection was closed. */
static bool check_client(struct conn *c, bool progress)
{
    bool nothing_left = c->client_eof && c->to_client.size == 0;
    /* Without progress, what is left of the input is no whole head. */
    if (nothing_left && ((c->state == CONN_HEAD && !progress) || c->state == CONN_LINGER ||
                         (c->state == CONN_BODY && c->in.size == 0))) {
        conn_close(c);
        return true;
    }
    return false;
}

/* All is sent: tell the client that nothing follows. */
static void say_goodbye(struct conn *c)
{
    if (c->said_goodbye) {
        return;
    }
    c->said_goodbye = true;
    c->deadline_ms = c->io->now_ms + IO_LINGER_MS;
    if (c->tls != NULL) {
        tls_session_shutdown(c->tls);
    }
    shutdown(c->fd, SHUT_WR);
}

void conn_pump(struct conn *c)
{
    bool progress = true;
    for (int round = 0; round < ROUNDS_MAX && progress && c->state != CONN_CLOSED; round++) {
        progress = read_client(c);
        progress |= c->state != CONN_CLOSED && intake_advance(c);
        progress |= c->state != CONN_CLOSED && write_inner(c);
        progress |= c->state != CONN_CLOSED && read_inner(c);
        progress |= c->state != CONN_CLOSED && feed_client(c);
        progress |= c->state != CONN_CLOSED && write_client(c);
        if (c->state == CONN_LINGER && c->to_client.size == 0) {
            say_goodbye(c);
        }
        if (c->state != CONN_CLOSED && check_client(c, progress)) {
            return;
        }
    }
    if (c->state != CONN_CLOSED) {
        update_events(c);
    }
    if (progress) {
        conn_touch(c); /* the others first */
    }
}

void conn_on_client(struct conn *c, uint32_t events)
{
    if (c->state == CONN_CLOSED) {
        return;
    }
    if ((events & (EPOLLERR | EPOLLHUP)) != 0) {
        conn_close(c);
        return;
    }
    if ((events & EPOLLRDHUP) != 0) {
        client_leaves(c);
    }
    c->readable |= (events & (EPOLLIN | EPOLLRDHUP)) != 0 || c->tls != NULL;
    conn_pump(c);
}

void conn_on_inner(struct conn *c, uint32_t events)
{
    if (c->state != CONN_CLOSED) {
        c->inner_readable |= (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0;
        conn_pump(c);
    }
}

static uint64_t body_deadline(const struct conn *c)
{
    return c->body_since_ms + IO_BODY_MS + c->framing.total * 1000 / IO_BODY_RATE;
}

/* A client that has shut its side may be waiting for the answer or be gone, and only what happens
 * to bytes sent to it tells: an interim answer, which every HTTP/1.1 client skips, is answered by a
 * reset from a socket that was closed. In a stream a ping does the same. */
static void probe(struct conn *c)
{
    if (!c->client_leaving || c->exchange == NULL || c->io->now_ms < c->probe_ms) {
        return;
    }
    c->probe_ms = c->io->now_ms + IO_REPROBE_MS;
    if (exchange_ping(c->exchange) || c->answered || c->to_client.size > 0) {
        return;
    }
    if (c->head.version_1_0) { /* it knows no interim answers */
        conn_close(c);
        return;
    }
    buf_append_c(&c->to_client, "HTTP/1.1 100 Continue\r\n\r\n");
    conn_pump(c);
}

void conn_sweep(struct conn *c)
{
    struct api_error error;
    uint64_t now = c->io->now_ms;
    if (c->exchange != NULL) {
        exchange_sweep(c->exchange);
    }
    probe(c);
    if (c->state == CONN_CLOSED) {
        return;
    }
    if (c->stalled_ms > 0 && now - c->stalled_ms >= IO_STALL_MS) {
        conn_close(c);
    } else if (c->state == CONN_HEAD && now >= c->deadline_ms) {
        if (c->scan.at == 0) {
            conn_close(c);
            return;
        }
        c->answered = false;
        c->head = (struct head){0};
        api_fail(&error, API_HEAD_TIMEOUT, NULL, "The request head took longer than %d seconds.",
                 IO_HEAD_MS / 1000);
        intake_refuse(c, &error);
        conn_pump(c);
    } else if (c->state == CONN_BODY && now >= body_deadline(c)) {
        api_fail(&error, API_BODY_TIMEOUT, NULL, "The request body took too long.");
        intake_refuse(c, &error);
        if (c->state != CONN_CLOSED) {
            conn_pump(c);
        }
    } else if (c->state == CONN_LINGER && c->to_client.size == 0 && now >= c->deadline_ms) {
        conn_close(c);
    }
}

/* The I/O thread: one epoll loop that owns the listening socket, every connection, libmicrohttpd
 * and every exchange.
 *
 * Nothing in server/http needs a lock, because all of it runs here; other threads only hand an
 * exchange over by io_wake (a lock-free list and an eventfd). Nothing here may block or parse a
 * body.
 *
 *   client socket -- conn.c checks --> socketpair --> libmicrohttpd --> exchange.c
 *
 * libmicrohttpd runs without a thread of its own inside this loop and only ever sees request heads
 * that conn.c has written itself. */
#ifndef PHID_SERVER_HTTP_IO_H
#define PHID_SERVER_HTTP_IO_H

#include <microhttpd.h>
#include <pthread.h>
#include <stdatomic.h>

#include "server/api/api.h"
#include "server/http/cors.h"
#include "server/http/keys.h"
#include "server/http/quota.h"
#include "server/http/worker.h"
#include "server/metrics/metrics.h"

#define IO_SWEEP_MS 200 /* how often deadlines are looked at */
#define IO_SCRATCH  65536

#define IO_HEAD_MS    10000 /* a request's head, from its first byte (or the connection) */
#define IO_IDLE_MS    75000 /* between two requests of a connection */
#define IO_BODY_MS    30000 /* a body, plus its size at IO_BODY_RATE */
#define IO_BODY_RATE  65536 /* bytes a second */
#define IO_STALL_MS   30000 /* a client that takes nothing of its answer */
#define IO_LINGER_MS  3000  /* for the client to close after our last byte */
#define IO_PROBE_MS   200  /* a client that sends no more is asked so soon whether it still reads */
#define IO_REPROBE_MS 5000 /* and again */

struct conn;
struct exchange;

/* How far a stop has come; only ever grows. */
enum io_phase {
    IO_SERVING,
    IO_DELAYING, /* not ready, still serving */
    IO_DRAINING, /* new requests are refused, running ones finish */
    IO_ENDING,   /* what runs has been failed; answers are flushed */
};

struct io {
    /* set before the thread starts, then constant */
    struct cors cors;
    struct keys keys; /* has its own lock */
    size_t max_connections, max_body_bytes, max_buffered_bytes;
    uint32_t sse_ping_ms, drain_delay_ms, drain_timeout_ms, request_timeout_ms;
    bool metrics_page, metrics_open; /* there is one; it needs no key */
    bool loopback;                   /* bound to this machine only */
    uint16_t port;
    void (*log)(void *user, enum server_log_level level, const char *line);
    void *log_user;
    struct tls *tls; /* NULL: plain HTTP */

    /* written before `loaded` is set, then constant */
    struct api api;
    atomic_bool loaded; /* there is a model and an engine; release, acquire by io_is_loaded */

    /* I/O thread */
    struct metrics metrics;
    struct quotas quotas;
    int epoll_fd, listen_fd, wake_fd;
    struct MHD_Daemon *daemon;
    bool daemon_ready; /* something for it has happened */
    struct workers *workers;
    struct conn *conns;     /* list */
    struct conn *adding;    /* the one being given to libmicrohttpd */
    struct conn *touched;   /* list: something happened to them inside libmicrohttpd */
    struct conn *graveyard; /* list: freed at the end of the round */
    size_t conn_count;
    size_t exchanges;      /* requests being answered */
    size_t generating;     /* of these, with requests in the engine */
    size_t preparing;      /* of these, with a worker */
    size_t buffered_bytes; /* of request bodies held */
    bool accepting;
    uint64_t now_ms; /* of this round */
    uint64_t swept_ms;
    enum io_phase phase;
    uint64_t phase_since_ms;
    char *scratch; /* [IO_SCRATCH] */
    struct epoll_event *events;

    /* pushed by other threads, release; taken whole by the I/O thread, acquire */
    _Atomic(struct exchange *) woken;    /* by the engine: there is output */
    _Atomic(struct exchange *) prepared; /* by the workers: done */
    atomic_bool drain_asked, stop_asked;
};

/* Opens the listening socket and the epoll set, starts libmicrohttpd and the workers. io's
 * constants are set. */
enum phid_status io_open(struct io *io, const char *host, uint16_t port, struct phid_error *err);

/* The loop; returns when a drain or stop is complete. */
void io_run(struct io *io);
void io_close(struct io *io);

/* Any thread: the loop looks at its flags and at the woken exchanges. */
void io_poke(struct io *io);

/* printf to the log sink; every value must be free of control characters. */
void io_log(const struct io *io, enum server_log_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* False while the model loads: `api` must not be touched then. */
static inline bool io_is_loaded(const struct io *io)
{
    return atomic_load_explicit(&io->loaded, memory_order_acquire);
}

static inline bool io_refuses(const struct io *io)
{
    return io->phase >= IO_DRAINING;
}

#endif

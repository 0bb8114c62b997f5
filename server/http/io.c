#include "server/http/io.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "server/http/conn.h"
#include "server/http/exchange.h"
#include "server/http/slice.h"

#define EVENTS_MAX                                                                                 \
    4096 /* of one round: all of them, so that no connection waits for several rounds */
#define ACCEPTS_MAX 64 /* new connections of one round */
#define BACKLOG     4096
#define MHD_POOL    16384 /* bytes a connection: its heads are ours and short */
#define ENDING_MS   1500  /* for the last bytes to be taken */

/* What an epoll event is about; connections are tagged with their address. */
enum { TAG_WAKE = 1, TAG_LISTEN = 3, TAG_DAEMON = 5, TAG_LAST = 7 };

void io_log(const struct io *io, enum server_log_level level, const char *format, ...)
{
    char line[1024];
    va_list args;
    if (io->log == NULL) {
        return;
    }
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    io->log(io->log_user, level, line);
}

void io_poke(struct io *io)
{
    uint64_t one = 1;
    /* Can only fail when the counter is full, and then the loop wakes anyway. */
    ssize_t ignored = write(io->wake_fd, &one, sizeof one);
    (void)ignored;
}

static uint64_t now_ms(void)
{
    return clock_now_ns() / CLOCK_NS_PER_MS;
}

/* -------------------------------------------------------------------- open */

static int listen_on(const struct addrinfo *address)
{
    int one = 1;
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -1;
    }
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, address->ai_addr, address->ai_addrlen) != 0 || listen(fd, BACKLOG) != 0) {
        int reason = errno;
        close(fd);
        errno = reason;
        return -1;
    }
    return fd;
}

static void note_address(struct io *io)
{
    struct sockaddr_storage bound = {0};
    socklen_t size = sizeof bound;
    getsockname(io->listen_fd, (struct sockaddr *)&bound, &size);
    if (bound.ss_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&bound;
        io->port = ntohs(v6->sin6_port);
        io->loopback = IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr);
    } else {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)&bound;
        io->port = ntohs(v4->sin_port);
        io->loopback = ntohl(v4->sin_addr.s_addr) >> 24 == 127;
    }
}

/* IPv4 first: "localhost" often means both, and most clients then try 127.0.0.1. */
static enum phid_status open_listener(struct io *io, const char *host, uint16_t port,
                                      struct phid_error *err)
{
    static const int families[] = {AF_INET, AF_INET6};
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    char service[8];
    snprintf(service, sizeof service, "%u", port);
    int problem = getaddrinfo(host, service, &hints, &found);
    if (problem != 0) {
        return phid_fail_at(err, PHID_ERR_ARGUMENT, "server.host", "server.host: '%s': %s", host,
                            gai_strerror(problem));
    }
    int reason = EADDRNOTAVAIL;
    for (size_t f = 0; f < 2 && io->listen_fd < 0; f++) {
        for (struct addrinfo *a = found; a != NULL && io->listen_fd < 0; a = a->ai_next) {
            if (a->ai_family == families[f]) {
                io->listen_fd = listen_on(a);
                reason = errno;
            }
        }
    }
    freeaddrinfo(found);
    if (io->listen_fd < 0) {
        return phid_fail_at(err, PHID_ERR_IO, "server.port", "cannot listen on %s port %u: %s",
                            host, port, strerror(reason));
    }
    note_address(io);
    return PHID_OK;
}

static void on_connection(void *cls, struct MHD_Connection *mhd, void **context,
                          enum MHD_ConnectionNotificationCode code)
{
    struct io *io = cls;
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        *context = io->adding;
        if (io->adding != NULL) {
            io->adding->held++;
        }
    } else if (*context != NULL) {
        conn_released(*context);
        *context = NULL;
    }
}

static void on_daemon_log(void *cls, const char *format, va_list args)
{
    const struct io *io = cls;
    char text[256];
    vsnprintf(text, sizeof text, format, args);
    for (char *c = text; *c != '\0'; c++) {
        *c = (unsigned char)*c < 0x20 ? ' ' : *c;
    }
    io_log(io, SERVER_LOG_DEBUG, "event=libmicrohttpd message=\"%s\"", text);
}

static bool watch(struct io *io, int fd, uint64_t tag)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = tag};
    return epoll_ctl(io->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0;
}

static bool open_daemon(struct io *io)
{
    unsigned flags =
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_NO_LISTEN_SOCKET | MHD_USE_ERROR_LOG;
    io->daemon =
        MHD_start_daemon(flags, 0, NULL, NULL, exchange_on_request, io, MHD_OPTION_EXTERNAL_LOGGER,
                         on_daemon_log, io, MHD_OPTION_NOTIFY_CONNECTION, on_connection, io,
                         MHD_OPTION_NOTIFY_COMPLETED, exchange_on_completed, io,
                         MHD_OPTION_CONNECTION_LIMIT, (unsigned)(io->max_connections + 64),
                         MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)MHD_POOL, MHD_OPTION_END);
    if (io->daemon == NULL) {
        return false;
    }
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(io->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    return info != NULL && watch(io, info->epoll_fd, TAG_DAEMON);
}

enum phid_status io_open(struct io *io, const char *host, uint16_t port, struct phid_error *err)
{
    io->listen_fd = -1;
    io->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    io->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    io->scratch = malloc(IO_SCRATCH);
    io->events = calloc(EVENTS_MAX, sizeof *io->events);
    io->now_ms = io->swept_ms = now_ms();
    enum phid_status status = open_listener(io, host, port, err);
    if (status == PHID_OK) {
        status = workers_new(&io->workers, err);
    }
    if (status != PHID_OK) {
        goto fail;
    }
    if (io->epoll_fd < 0 || io->wake_fd < 0 || io->scratch == NULL || io->events == NULL ||
        !watch(io, io->wake_fd, TAG_WAKE) || !watch(io, io->listen_fd, TAG_LISTEN) ||
        !open_daemon(io)) {
        status = phid_fail(err, PHID_ERR_IO, "cannot set up the server's event loop: %s",
                           strerror(errno));
        goto fail;
    }
    io->accepting = true;
    return PHID_OK;
fail:
    io_close(io);
    return status;
}

/* ------------------------------------------------------------------- accept */

static void set_accepting(struct io *io, bool accepting)
{
    struct epoll_event event = {.events = accepting ? EPOLLIN : 0, .data.u64 = TAG_LISTEN};
    if (io->listen_fd >= 0 && io->accepting != accepting &&
        epoll_ctl(io->epoll_fd, EPOLL_CTL_MOD, io->listen_fd, &event) == 0) {
        io->accepting = accepting;
    }
}

/* One more than we can serve: says so and hangs up, without keeping anything. */
static void turn_away(struct io *io, int fd)
{
    struct api_error error;
    struct reply reply;
    struct buf wire;
    char id[REPLY_ID_SIZE];
    api_fail(&error, API_OVERLOADED, NULL, "The server has too many connections.");
    metrics_count_fault(&io->metrics, error.fault);
    reply_init(&reply);
    buf_init(&wire, 4096);
    reply_error(&reply, &error);
    (void)reply_make_id(id);
    reply_header(&reply, "x-request-id", str_of(id));
    reply_write(&reply, &wire);
    if (io->tls == NULL && !wire.failed) {
        ssize_t ignored = send(fd, wire.data, wire.size, MSG_NOSIGNAL | MSG_DONTWAIT);
        (void)ignored;
        shutdown(fd, SHUT_WR);
    }
    buf_fini(&wire);
    reply_fini(&reply);
    close(fd);
}

static void accept_some(struct io *io)
{
    int one = 1;
    for (size_t i = 0; i < ACCEPTS_MAX; i++) {
        int fd = accept4(io->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
                set_accepting(io, false); /* until the next sweep */
                io_log(io, SERVER_LOG_WARN, "event=accept_paused connections=%zu", io->conn_count);
            }
            return;
        }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        io->metrics.connections++;
        if (io->conn_count >= io->max_connections) {
            turn_away(io, fd);
        } else {
            conn_open(io, fd);
        }
    }
}

/* --------------------------------------------------------------------- loop */

static void on_event(struct io *io, const struct epoll_event *event)
{
    uint64_t tag = event->data.u64;
    uint64_t count;
    if (tag == TAG_WAKE) {
        ssize_t ignored = read(io->wake_fd, &count, sizeof count);
        (void)ignored;
    } else if (tag == TAG_LISTEN) {
        accept_some(io);
    } else if (tag == TAG_DAEMON) {
        io->daemon_ready = true;
    } else if (tag > TAG_LAST) {
        struct conn *c = (struct conn *)(uintptr_t)(tag & ~(uint64_t)1);
        if ((tag & 1) == 0) {
            conn_on_client(c, event->events);
        } else {
            conn_on_inner(c, event->events);
        }
    }
}

static bool daemon_has_work(struct io *io)
{
    MHD_UNSIGNED_LONG_LONG wait;
    return MHD_get_timeout(io->daemon, &wait) == MHD_YES && wait == 0;
}

static void pump_touched(struct io *io)
{
    struct conn *c = io->touched;
    io->touched = NULL;
    while (c != NULL) {
        struct conn *next = c->next_touched;
        c->touched = false;
        if (c->state != CONN_CLOSED) {
            conn_pump(c);
        }
        c = next;
    }
}

static void empty_graveyard(struct io *io)
{
    while (io->graveyard != NULL && io->touched == NULL) {
        struct conn *c = io->graveyard;
        io->graveyard = c->next;
        conn_free(c);
    }
}

static void sweep(struct io *io)
{
    struct conn *next;
    for (struct conn *c = io->conns; c != NULL; c = next) {
        next = c->next;
        conn_sweep(c);
    }
    set_accepting(io, io->listen_fd >= 0);
    io->swept_ms = io->now_ms;
}

/* --------------------------------------------------------------------- stop */

static void enter(struct io *io, enum io_phase phase)
{
    static const char *const names[] = {"serving", "delaying", "draining", "ending"};
    io->phase = phase;
    io->phase_since_ms = io->now_ms;
    /* A server that ends while it loads says why elsewhere. */
    io_log(io, io_is_loaded(io) ? SERVER_LOG_INFO : SERVER_LOG_DEBUG,
           "event=phase phase=%s requests=%zu", names[phase], io->exchanges);
}

/* Closes what waits for another request; with `fresh`, also those that have not asked anything yet
 * and would otherwise be told to come back. */
static void close_idle(struct io *io, bool fresh)
{
    struct conn *next;
    for (struct conn *c = io->conns; c != NULL; c = next) {
        next = c->next;
        if (conn_is_idle(c) && (fresh || c->served)) {
            conn_close(c);
        }
    }
}

static void end_all(struct io *io)
{
    for (struct conn *c = io->conns; c != NULL; c = c->next) {
        if (c->exchange != NULL) {
            exchange_end(c->exchange, API_DRAINING);
        }
    }
    enter(io, IO_ENDING);
}

static void close_listener(struct io *io)
{
    if (io->listen_fd >= 0) {
        close(io->listen_fd);
        io->listen_fd = -1;
    }
}

/* One look at how far the stop has come. False when it is complete. */
static bool advance_phase(struct io *io)
{
    uint64_t elapsed = io->now_ms - io->phase_since_ms;
    if (io->phase < IO_ENDING && atomic_load_explicit(&io->stop_asked, memory_order_acquire)) {
        end_all(io);
    }
    switch (io->phase) {
    case IO_SERVING:
        if (atomic_load_explicit(&io->drain_asked, memory_order_acquire)) {
            enter(io, IO_DELAYING);
        }
        return true;
    case IO_DELAYING:
        if (elapsed >= io->drain_delay_ms) {
            enter(io, IO_DRAINING);
        }
        return true;
    case IO_DRAINING:
        close_idle(io, false);
        if (io->exchanges == 0) {
            enter(io, IO_ENDING);
        } else if (elapsed >= io->drain_timeout_ms) {
            end_all(io);
        }
        return true;
    case IO_ENDING:
        break;
    }
    close_listener(io);
    close_idle(io, true);
    return elapsed < ENDING_MS && (io->conn_count > 0 || io->exchanges > 0);
}

static int round_timeout(struct io *io)
{
    if (io->touched != NULL || io->daemon_ready || daemon_has_work(io)) {
        return 0;
    }
    return io->phase == IO_SERVING ? IO_SWEEP_MS : IO_SWEEP_MS / 10;
}

void io_run(struct io *io)
{
    slice_shorten();
    do {
        int count = epoll_wait(io->epoll_fd, io->events, EVENTS_MAX, round_timeout(io));
        io->now_ms = now_ms();
        for (int i = 0; i < count; i++) {
            on_event(io, &io->events[i]);
        }
        exchange_run_woken(io);
        if (io->daemon_ready || daemon_has_work(io)) {
            io->daemon_ready = false;
            MHD_run(io->daemon);
        }
        pump_touched(io);
        if (io->now_ms - io->swept_ms >= IO_SWEEP_MS) {
            sweep(io);
        }
        empty_graveyard(io);
    } while (advance_phase(io));
}

/* Lets go of every connection. libmicrohttpd aborts when it is stopped with suspended ones, so all
 * are resumed and run to their end first. */
static void close_connections(struct io *io)
{
    while (io->conns != NULL) {
        conn_close(io->conns);
    }
    workers_free(io->workers);
    io->workers = NULL;
    while (io->daemon != NULL && (io->exchanges > 0 || daemon_has_work(io))) {
        exchange_run_woken(io);
        MHD_run(io->daemon);
        pump_touched(io);
    }
}

void io_close(struct io *io)
{
    close_listener(io);
    close_connections(io);
    if (io->daemon != NULL) {
        MHD_stop_daemon(io->daemon);
        io->daemon = NULL;
    }
    pump_touched(io);
    exchange_run_woken(io);
    empty_graveyard(io);
    if (io->wake_fd >= 0) {
        close(io->wake_fd);
    }
    if (io->epoll_fd >= 0) {
        close(io->epoll_fd);
    }
    free(io->scratch);
    free(io->events);
    io->scratch = NULL;
    io->events = NULL;
}

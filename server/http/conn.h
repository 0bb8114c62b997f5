/* One client connection: bytes from the client are checked here before libmicrohttpd sees anything
 * of them.
 *
 *   HEAD    collect and parse a head
 *   BODY    check and forward a body
 *   WAIT    the answer is being made
 *   LINGER  all is said, wait for the client to close
 *
 * One request at a time is inside libmicrohttpd; pipelined ones wait in `in`. The head that goes on
 * is written anew from the parsed one, and a chunked body is chunked anew, so nothing ambiguous can
 * pass. Owned by the I/O thread. Lives until the client's socket is closed and libmicrohttpd has
 * let go of its end. */
#ifndef PHID_SERVER_HTTP_CONN_H
#define PHID_SERVER_HTTP_CONN_H

#include "server/http/framing.h"
#include "server/http/io.h"

#define CONN_INNER_MAX  ((size_t)65536)   /* bytes on their way to libmicrohttpd */
#define CONN_BUFFER_MAX ((size_t)1 << 20) /* never reached: reading stops first */

struct exchange;
struct tls_session;

enum conn_state { CONN_HEAD, CONN_BODY, CONN_WAIT, CONN_LINGER, CONN_CLOSED };

struct conn {
    struct io *io;
    struct conn *previous, *next; /* io->conns, then io->graveyard */
    struct conn *next_touched;
    enum conn_state state;
    int fd;                           /* the client */
    int inner;                        /* our end of the socketpair; -1 until the first request */
    uint32_t fd_events, inner_events; /* what epoll was last told */
    struct tls_session *tls;          /* NULL: plain */
    struct buf in;                    /* from the client, not yet forwarded */
    struct buf to_inner;
    struct buf to_client;
    struct head_scan scan;
    char *head_bytes; /* heap; what `head` views */
    struct head head; /* of the request being answered */
    struct framing framing;
    struct exchange *exchange; /* borrowed; NULL while nothing is being answered */
    uint64_t deadline_ms;      /* of the head, the body or the lingering */
    uint64_t body_since_ms;
    uint64_t stalled_ms;           /* since when the client takes nothing; 0: it does */
    unsigned held;                 /* sockets of ours that libmicrohttpd has */
    bool readable, inner_readable; /* epoll said so, and no read has come up short since */
    bool client_eof;               /* no more bytes will come */
    bool client_leaving;           /* its side is shut; bytes may still be in the socket */
    uint64_t probe_ms;             /* then it is asked (again) whether it still reads */
    bool inner_eof;
    bool answered;  /* some of the current answer was relayed */
    bool completed; /* libmicrohttpd has written all of the answer */
    bool muted;     /* what it writes is not for the client, who had a stream */
    bool touched;
    bool said_goodbye; /* while lingering: our side is shut */
    bool served;       /* at least one request was answered */
};

/* Takes the socket. False: out of memory or descriptors; the socket is closed. */
bool conn_open(struct io *io, int fd);

/* Moves bytes wherever they can go. Called when either socket has something, and whenever else
 * helps. */
void conn_pump(struct conn *c);
void conn_on_client(struct conn *c, uint32_t events);
void conn_on_inner(struct conn *c, uint32_t events);
void conn_close_inner(struct conn *c);
void conn_sweep(struct conn *c);
void conn_close(struct conn *c);
void conn_free(struct conn *c); /* once closed and let go by libmicrohttpd */

/* It is pumped before the loop waits again. */
void conn_touch(struct conn *c);

/* From libmicrohttpd's callbacks. */
void conn_completed(struct conn *c);
void conn_released(struct conn *c);

/* Idle between two requests, with nothing left to send. */
bool conn_is_idle(const struct conn *c);

#endif

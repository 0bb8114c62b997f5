/* One request and its answer, between libmicrohttpd and the API.
 *
 *   READING -> REPLYING                                  models, health, errors
 *   READING -> PREPARING -> GENERATING -> REPLYING       a whole answer
 *   READING -> PREPARING -> STREAMING -> REPLYING        server-sent events
 *
 * Made at the first callback of a request, freed when libmicrohttpd says it is completed. While
 * PREPARING the worker owns `generation` and `error`; everything else belongs to the I/O thread.
 * libmicrohttpd's connection is suspended while there is nothing to send and during all of a stream
 * (feed.h), and resumed exactly once for each suspension. */
#ifndef PHID_SERVER_HTTP_EXCHANGE_H
#define PHID_SERVER_HTTP_EXCHANGE_H

#include "server/api/generation.h"
#include "server/http/io.h"
#include "server/http/reply.h"
#include "server/http/route.h"
#include "server/http/wishes.h"

enum exchange_stage {
    EXCHANGE_READING,
    EXCHANGE_PREPARING,
    EXCHANGE_GENERATING,
    EXCHANGE_STREAMING,
    EXCHANGE_REPLYING,
};

struct exchange {
    struct job job; /* first: the worker's view of it */
    struct io *io;
    struct conn *conn;
    struct MHD_Connection *mhd;
    struct exchange *next_woken;    /* list of io->woken */
    struct exchange *next_prepared; /* list of io->prepared */
    char id[REPLY_ID_SIZE];         /* x-request-id */
    char method[8], path[64];       /* for the log, cut */
    char client_id[64];             /* x-client-request-id, for the log, cut */
    struct caller caller;           /* whose key let it in */
    char tenant[24];                /* the same, for the engine; "" without keys */
    struct wishes wishes;
    struct quota *quota; /* what it holds of the caller's; NULL: nothing */
    enum exchange_stage stage;
    struct route route;
    struct buf body;
    struct api_error refusal; /* decided at the head, sent once the body is read */
    struct reply reply;
    struct generation *generation;
    struct api_error error; /* of the preparation */
    uint64_t started_ms, deadline_ms, last_sent_ms;
    uint64_t status_sent; /* for the log */
    enum api_fault fault; /* of the error answered, for the metrics */
    bool suspended;
    bool fresh;           /* of a stream: the engine may have something */
    bool ping_due;        /* of a stream */
    bool streamed;        /* to its end */
    bool prompt_reply;    /* refused before its body: the connection ends */
    bool completed;       /* libmicrohttpd is done with it */
    enum api_fault ended; /* not API_OK: to be failed with this once prepared */
    atomic_bool gone;     /* the client left */
    atomic_bool woken;    /* it is in io->woken */
};

/* libmicrohttpd's callbacks. */
enum MHD_Result exchange_on_request(void *cls, struct MHD_Connection *mhd, const char *url,
                                    const char *method, const char *version, const char *data,
                                    size_t *size, void **exchange);
void exchange_on_completed(void *cls, struct MHD_Connection *mhd, void **exchange,
                           enum MHD_RequestTerminationCode code);

/* Takes the woken ones and lets them go on. */
void exchange_run_woken(struct io *io);

/* The client left: a generation is cancelled at once, anything else finishes by itself. */
void exchange_abandon(struct exchange *x);

/* Appends what a stream has to `out`. False when that is nothing, or x is no stream. */
bool exchange_feed(struct exchange *x, struct buf *out);

/* A stream that has nothing to send sends a comment. False when it is no stream. */
bool exchange_ping(struct exchange *x);

/* Deadlines and pings; called every IO_SWEEP_MS. */
void exchange_sweep(struct exchange *x);

/* Ends a generation with an error. */
void exchange_end(struct exchange *x, enum api_fault fault);

#endif

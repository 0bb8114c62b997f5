#include "server/http/exchange.h"

#include <stdio.h>
#include <stdlib.h>

#include "engine/base/clock.h"
#include "server/api/stream.h"
#include "server/http/conn.h"
#include "server/http/delivery.h"
#include "server/http/feed.h"
#include "server/http/gate.h"
#include "server/http/record.h"
#include "server/http/watch.h"

#define STREAM_OUT_MAX 65536 /* bytes of events kept ready for a reader */

#define SKIPPED_BODY_MAX 65536 /* a refused request's body that is read to keep the connection */

/* -------------------------------------------------------------- life cycle */

static void copy_cut(char *out, size_t size, struct str text)
{
    snprintf(out, size, "%.*s", (int)(text.size < size ? text.size : size - 1), text.data);
}

/* A client's own word in our log line: letters, digits and marks that cannot break it. */
static void copy_word(char *out, size_t size, struct str text)
{
    static const char good[] =
        "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_.:+/";
    copy_cut(out, size, text);
    for (char *c = out; *c != '\0'; c++) {
        *c = strchr(good, *c) != NULL ? *c : '?';
    }
}

static struct exchange *exchange_new(struct conn *conn, struct MHD_Connection *mhd)
{
    struct exchange *x = calloc(1, sizeof *x);
    if (x == NULL || !reply_make_id(x->id)) {
        free(x);
        return NULL;
    }
    x->io = conn->io;
    x->conn = conn;
    x->mhd = mhd;
    x->started_ms = x->last_sent_ms = x->io->now_ms;
    copy_cut(x->method, sizeof x->method, conn->head.method);
    copy_cut(x->path, sizeof x->path, conn->head.path);
    copy_word(x->client_id, sizeof x->client_id, conn->head.client_request_id);
    buf_init(&x->body, x->io->max_body_bytes);
    reply_init(&x->reply);
    conn->exchange = x;
    x->io->exchanges++;
    return x;
}

static void exchange_free(struct exchange *x)
{
    reply_fini(&x->reply);
    buf_fini(&x->route.model);
    free(x);
}

static void release_body(struct exchange *x)
{
    x->io->buffered_bytes -= x->body.size;
    buf_fini(&x->body);
}

static void release_generation(struct exchange *x)
{
    if (x->generation == NULL) {
        return;
    }
    generation_free(x->generation);
    x->generation = NULL;
    x->io->generating--;
}

void exchange_on_completed(void *cls, struct MHD_Connection *mhd, void **exchange,
                           enum MHD_RequestTerminationCode code)
{
    struct exchange *x = *exchange;
    if (x == NULL) {
        return;
    }
    *exchange = NULL;
    if (code != MHD_REQUEST_TERMINATED_COMPLETED_OK) {
        atomic_store_explicit(&x->gone, true, memory_order_relaxed);
    }
    record_log(x);
    record_count(x);
    if (x->generation != NULL) {
        quota_use(x->quota, generation_usage(x->generation).completion);
    }
    quota_leave(x->quota);
    x->quota = NULL;
    release_generation(x);
    release_body(x);
    x->io->exchanges--;
    conn_completed(x->conn);
    x->completed = true;
    if (!atomic_load_explicit(&x->woken, memory_order_acquire)) {
        exchange_free(x);
    }
}

/* ------------------------------------------------------- suspend and resume */

static void suspend(struct exchange *x)
{
    x->suspended = true;
    MHD_suspend_connection(x->mhd);
}

static void resume(struct exchange *x)
{
    if (x->suspended) {
        x->suspended = false;
        x->io->daemon_ready = true;
        MHD_resume_connection(x->mhd);
    }
}

/* From the engine's step thread: hands x to the I/O thread, once until that has looked. The push is
 * the last touch. */
static void wake(void *user)
{
    struct exchange *x = user;
    struct io *io = x->io;
    if (atomic_exchange_explicit(&x->woken, true, memory_order_acq_rel)) {
        return;
    }
    struct exchange *head = atomic_load_explicit(&io->woken, memory_order_relaxed);
    do {
        x->next_woken = head;
    } while (!atomic_compare_exchange_weak_explicit(&io->woken, &head, x, memory_order_release,
                                                    memory_order_relaxed));
    if (head == NULL) {
        io_poke(
            io); /* whoever pushed onto a list that was not empty relies on the first one's poke */
    }
}

/* From a worker that is done with x. The push is the last touch. */
static void hand_back(struct exchange *x)
{
    struct io *io = x->io;
    struct exchange *head = atomic_load_explicit(&io->prepared, memory_order_relaxed);
    do {
        x->next_prepared = head;
    } while (!atomic_compare_exchange_weak_explicit(&io->prepared, &head, x, memory_order_release,
                                                    memory_order_relaxed));
    if (head == NULL) {
        io_poke(
            io); /* whoever pushed onto a list that was not empty relies on the first one's poke */
    }
}

/* ---------------------------------------------------------------- the head */

static bool generates(const struct exchange *x)
{
    return x->route.id == ROUTE_COMPLETIONS || x->route.id == ROUTE_CHAT;
}

static bool is_options(const struct exchange *x)
{
    return strcmp(x->method, "OPTIONS") == 0;
}

/* True when the answer must not wait for the body: POST bodies that will not be read. */
static bool begin(struct exchange *x)
{
    const struct head *head = &x->conn->head;
    if (is_options(x)) {
        return false;
    }
    enum api_fault fault = gate_check(x, &x->refusal);
    if (fault == API_OK && (!generates(x) || gate_check_room(x, &x->refusal) == API_OK)) {
        return false;
    }
    if (fault == API_OK && !head->chunked && head->content_length <= SKIPPED_BODY_MAX) {
        return false; /* it will be back: reading a little costs less than a new connection */
    }
    x->prompt_reply =
        str_equal_c(head->method, "POST") && (head->chunked || head->content_length > 0);
    return x->prompt_reply;
}

static void take_body(struct exchange *x, const char *data, size_t size)
{
    if (is_options(x) || x->refusal.fault != API_OK) {
        return;
    }
    if (x->io->buffered_bytes + size > x->io->max_buffered_bytes) {
        api_fail(&x->refusal, API_OVERLOADED, NULL,
                 "The server is busy with other large requests.");
        release_body(x);
        return;
    }
    size_t before = x->body.size;
    buf_append(&x->body, data, size);
    x->io->buffered_bytes += x->body.size - before;
    if (x->body.failed) {
        api_fail(&x->refusal, API_OVERLOADED, NULL,
                 "The server is out of memory for this request.");
    }
}

/* ------------------------------------------------------------- generations */

/* On a worker: everything that can fail before the status line. */
static void prepare(struct job *job)
{
    struct exchange *x = (struct exchange *)job;
    struct generation_request request = {
        .api = &x->io->api,
        .body = buf_view(&x->body),
        .id = x->id,
        .tenant = x->tenant,
        .priority = x->wishes.priority,
        .timeout_ms = x->wishes.timeout_ms,
        .arrived_ns = x->started_ms * CLOCK_NS_PER_MS,
        .wake = wake,
        .wake_user = x,
    };
    struct generation *g = NULL;
    if (!atomic_load_explicit(&x->gone, memory_order_relaxed)) {
        if (x->route.id == ROUTE_CHAT) {
            generation_start_chat(&request, &g, &x->error);
        } else {
            generation_start_completion(&request, &g, &x->error);
        }
    }
    x->generation = g;
    hand_back(x);
}

static enum MHD_Result start_preparing(struct exchange *x)
{
    x->stage = EXCHANGE_PREPARING;
    uint32_t most_ms = x->io->request_timeout_ms;
    if (most_ms > 0 && (x->wishes.timeout_ms == 0 || x->wishes.timeout_ms > most_ms)) {
        x->wishes.timeout_ms = most_ms;
    }
    x->deadline_ms = x->wishes.timeout_ms > 0 ? x->io->now_ms + x->wishes.timeout_ms : 0;
    if (x->caller.id != 0) {
        snprintf(x->tenant, sizeof x->tenant, "%016llx", (unsigned long long)x->caller.id);
    }
    x->io->preparing++;
    suspend(x);
    x->job.run = prepare;
    workers_push(x->io->workers, &x->job, x->body.size);
    return MHD_YES;
}

static const char *ending_message(enum api_fault fault)
{
    return fault == API_REQUEST_TIMEOUT ? "The request took longer than this server allows."
                                        : "The server is shutting down.";
}

/* The worker is done: what it made belongs to the I/O thread now. */
static void take_prepared(struct exchange *x)
{
    x->io->preparing--;
    release_body(x);
    x->stage = EXCHANGE_REPLYING;
    if (x->generation == NULL) {
        resume(x);
        return;
    }
    x->io->generating++;
    quota_use(x->quota, generation_usage(x->generation).prompt);
    if (x->ended != API_OK || atomic_load_explicit(&x->gone, memory_order_relaxed)) {
        /* Nothing was sent yet: this can still be an ordinary error. */
        api_fail(&x->error, x->ended != API_OK ? x->ended : API_INTERNAL, NULL, "%s",
                 ending_message(x->ended));
        release_generation(x);
    } else if (x->generation->settings.stream) {
        delivery_open_stream(x);
        return;
    } else {
        x->stage = EXCHANGE_GENERATING;
        generation_pull(x->generation, STREAM_OUT_MAX);
        if (!x->generation->done) {
            return;
        }
    }
    resume(x);
}

static void on_wake(struct exchange *x)
{
    if (x->completed) {
        exchange_free(x);
    } else if (x->stage == EXCHANGE_STREAMING) {
        x->fresh = true;
        conn_touch(x->conn);
    } else if (x->stage == EXCHANGE_GENERATING) {
        generation_pull(x->generation, STREAM_OUT_MAX);
        if (x->generation->done) {
            resume(x);
        }
    }
    /* While the worker has it, output waits; afterwards there is none. */
}

void exchange_run_woken(struct io *io)
{
    struct exchange *x = atomic_exchange_explicit(&io->woken, NULL, memory_order_acquire);
    while (x != NULL) {
        struct exchange *next = x->next_woken;
        atomic_store_explicit(&x->woken, false, memory_order_release);
        on_wake(x);
        x = next;
    }
    x = atomic_exchange_explicit(&io->prepared, NULL, memory_order_acquire);
    while (x != NULL) {
        struct exchange *next = x->next_prepared;
        take_prepared(x);
        x = next;
    }
}

static enum MHD_Result send_generated(struct exchange *x)
{
    struct generation *g = x->generation;
    if (g == NULL) {
        return delivery_send_error(x, &x->error);
    }
    if (g->error.fault != API_OK) {
        return delivery_send_error(x, &g->error);
    }
    generation_write_reply(g, &x->reply.body);
    return delivery_send_json(x);
}

/* ---------------------------------------------------------------- dispatch */

static enum MHD_Result dispatch(struct exchange *x)
{
    struct api *api = &x->io->api;
    struct buf *out = &x->reply.body;
    struct api_error error;
    if (is_options(x)) {
        cors_preflight(&x->io->cors, &x->conn->head, &x->reply);
        return delivery_send(x);
    }
    if (x->refusal.fault != API_OK) {
        return delivery_send_error(x, &x->refusal);
    }
    switch (x->route.id) {
    case ROUTE_ROOT:
        api_write_root(api, out);
        break;
    case ROUTE_HEALTH:
        watch_health(x->io, &x->reply);
        return delivery_send(x);
    case ROUTE_READY:
        watch_ready(x->io, &x->reply);
        return delivery_send(x);
    case ROUTE_METRICS:
        watch_metrics(x->io, &x->reply);
        return delivery_send(x);
    case ROUTE_MODELS:
        api_write_models(api, out);
        break;
    case ROUTE_MODEL:
        if (api_write_model(api, buf_view(&x->route.model), out, &error) != API_OK) {
            return delivery_send_error(x, &error);
        }
        break;
    case ROUTE_COMPLETIONS:
    case ROUTE_CHAT:
        return start_preparing(x);
    case ROUTE_NONE:
        break; /* answered above, as a refusal */
    }
    return delivery_send_json(x);
}

enum MHD_Result exchange_on_request(void *cls, struct MHD_Connection *mhd, const char *url,
                                    const char *method, const char *version, const char *data,
                                    size_t *size, void **exchange)
{
    struct exchange *x = *exchange;
    if (x == NULL) {
        const union MHD_ConnectionInfo *info =
            MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
        x = info != NULL && info->socket_context != NULL ? exchange_new(info->socket_context, mhd)
                                                         : NULL;
        if (x == NULL) {
            return MHD_NO;
        }
        *exchange = x;
        return begin(x) ? delivery_send_error(x, &x->refusal) : MHD_YES;
    }
    if (*size > 0) {
        take_body(x, data, *size);
        *size = 0;
        return MHD_YES;
    }
    if (atomic_load_explicit(&x->gone, memory_order_relaxed)) {
        return MHD_NO;
    }
    switch (x->stage) {
    case EXCHANGE_READING:
        return dispatch(x);
    case EXCHANGE_GENERATING:
    case EXCHANGE_REPLYING:
        return x->streamed ? delivery_send_nothing(x) : send_generated(x);
    case EXCHANGE_PREPARING:
    case EXCHANGE_STREAMING:
        break;
    }
    return MHD_NO;
}

/* ------------------------------------------------------------- from outside */

void exchange_abandon(struct exchange *x)
{
    if (x->stage == EXCHANGE_READING || atomic_load_explicit(&x->gone, memory_order_relaxed)) {
        return;
    }
    if (x->stage == EXCHANGE_REPLYING && !x->suspended) {
        return;
    }
    atomic_store_explicit(&x->gone, true, memory_order_relaxed);
    if (x->stage != EXCHANGE_PREPARING) {
        if (x->generation != NULL) {
            generation_fail(x->generation, API_INTERNAL, "");
        }
        resume(x);
    }
}

bool exchange_feed(struct exchange *x, struct buf *out)
{
    size_t before = out->size;
    if (x->stage != EXCHANGE_STREAMING ||
        (!x->fresh && !x->ping_due && x->generation->out.size == 0 && !x->generation->done)) {
        return false;
    }
    if (feed_write(x, out)) {
        x->stage = EXCHANGE_REPLYING;
        x->streamed = true;
        resume(x);
    }
    return out->size > before;
}

void exchange_end(struct exchange *x, enum api_fault fault)
{
    if (x->stage == EXCHANGE_PREPARING) {
        x->ended = x->ended == API_OK ? fault : x->ended;
    } else if (x->generation != NULL && !x->generation->done) {
        generation_fail(x->generation, fault, ending_message(fault));
        if (x->stage == EXCHANGE_STREAMING) {
            conn_touch(x->conn);
        } else {
            resume(x);
        }
    }
}

bool exchange_ping(struct exchange *x)
{
    if (x->stage == EXCHANGE_STREAMING) {
        x->ping_due = true;
        conn_touch(x->conn);
    }
    return x->stage == EXCHANGE_STREAMING;
}

void exchange_sweep(struct exchange *x)
{
    uint64_t now = x->io->now_ms;
    if (x->deadline_ms > 0 && now >= x->deadline_ms) {
        x->deadline_ms = 0;
        exchange_end(x, API_REQUEST_TIMEOUT);
    }
    if (x->io->sse_ping_ms > 0 && now - x->last_sent_ms >= x->io->sse_ping_ms) {
        (void)exchange_ping(x);
    }
}

#include "server/http/watch.h"

#include "engine/base/clock.h"
#include "server/http/route.h"
#include "server/metrics/exposition.h"

/* Why it is not alive; NULL: it is. */
static const char *trouble(const struct io *io)
{
    struct phid_engine_stats stats;
    if (!io_is_loaded(io)) {
        return NULL;
    }
    phid_engine_stats(io->api.engine, &stats);
    if (stats.failed) {
        return "device_lost";
    }
    return stats.stalled_ns >= (uint64_t)WATCH_STALL_MS * CLOCK_NS_PER_MS ? "stalled" : NULL;
}

/* Why it takes no new requests; NULL: it does. */
static const char *absence(const struct io *io)
{
    const char *reason = trouble(io);
    if (reason == NULL && io->phase != IO_SERVING) {
        reason = "draining";
    }
    if (reason == NULL && !io_is_loaded(io)) {
        reason = "loading";
    }
    return reason;
}

void watch_health(const struct io *io, struct reply *reply)
{
    const char *state = absence(io);
    reply->status = trouble(io) == NULL ? 200 : 503;
    buf_printf(&reply->body, "{\"status\":\"%s\",\"running\":%zu,\"waiting\":%zu}",
               state != NULL ? state : "ok", io->generating, io->preparing);
    reply_header(reply, "Content-Type", STR("application/json"));
}

void watch_ready(const struct io *io, struct reply *reply)
{
    const char *reason = absence(io);
    reply->status = reason == NULL ? 200 : 503;
    if (reason == NULL) {
        buf_append_c(&reply->body, "{\"ready\":true}");
    } else {
        buf_printf(&reply->body, "{\"ready\":false,\"reason\":\"%s\"}", reason);
    }
    reply_header(reply, "Content-Type", STR("application/json"));
}

static const char *path_name(size_t path)
{
    return route_name((enum route_id)path);
}

void watch_metrics(const struct io *io, struct reply *reply)
{
    bool loaded = io_is_loaded(io);
    const struct metrics_now now = {
        .engine = loaded ? io->api.engine : NULL,
        .model = loaded ? io->api.names[0] : NULL,
        .ready = absence(io) == NULL,
        .draining = io->phase != IO_SERVING,
        .connections = io->conn_count,
        .requests = io->exchanges,
        .preparing = io->preparing,
        .body_bytes = io->buffered_bytes,
        .path_name = path_name,
    };
    metrics_write(&io->metrics, &now, &reply->body);
    reply_header(reply, "Content-Type", STR(EXPOSITION_TYPE));
    reply_header(reply, "Cache-Control", STR("no-store"));
}

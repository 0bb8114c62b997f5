#include "server/http/record.h"

#include <stdio.h>

/* One line a request; requests that only ask how the server is doing are for debugging. */
void record_log(const struct exchange *x)
{
    const struct generation *g = x->generation;
    bool gone = atomic_load_explicit(&x->gone, memory_order_relaxed);
    unsigned long long total_ms = x->io->now_ms - x->started_ms;
    bool watching =
        x->route.id == ROUTE_HEALTH || x->route.id == ROUTE_READY || x->route.id == ROUTE_METRICS;
    enum server_log_level level = watching ? SERVER_LOG_DEBUG : SERVER_LOG_INFO;
    char who[sizeof x->caller.name + sizeof x->client_id + 24];
    snprintf(who, sizeof who, "%s%s%s%s", x->caller.id != 0 ? " key=" : "", x->caller.name,
             x->client_id[0] != '\0' ? " client_id=" : "", x->client_id);
    if (g == NULL) {
        io_log(x->io, level, "event=request id=%s method=%s path=%s status=%llu total_ms=%llu%s%s",
               x->id, x->method, x->path, (unsigned long long)x->status_sent, total_ms,
               gone ? " finish=client_gone" : "", who);
        return;
    }
    struct usage usage = generation_usage(g);
    io_log(x->io, level,
           "event=request id=%s method=%s path=%s status=%llu prompt_tokens=%zu cached_tokens=%zu "
           "completion_tokens=%zu queue_ms=%llu ttft_ms=%llu total_ms=%llu finish=%s%s",
           x->id, x->method, x->path, (unsigned long long)x->status_sent, usage.prompt,
           usage.cached, usage.completion, (unsigned long long)g->queue_ns / 1000000,
           (unsigned long long)g->first_token_ns / 1000000, total_ms,
           gone ? "client_gone" : generation_finish(g), who);
}

void record_count(const struct exchange *x)
{
    struct metrics *m = &x->io->metrics;
    bool in_stream = x->fault == API_OK && x->generation != NULL;
    bool gone = atomic_load_explicit(&x->gone, memory_order_relaxed);
    metrics_count_request(m, x->route.id, (unsigned)x->status_sent);
    m->clients_gone += gone;
    if (!gone) {
        metrics_count_fault(m, in_stream ? x->generation->error.fault : x->fault);
    }
    if (!gone && in_stream && x->generation->error.fault == API_OK) {
        metrics_count_answer(m, (size_t)x->generation->settings.n,
                             generation_longest(x->generation));
    }
}

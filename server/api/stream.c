#include "server/api/stream.h"

#include "server/api/json_write.h"

void reply_begin(const struct generation *g, const char *object, struct buf *out)
{
    buf_append_c(out, "{\"id\":");
    json_put_string(out, str_of(g->id));
    buf_append_c(out, ",\"object\":");
    json_put_string(out, str_of(object));
    buf_append_c(out, ",\"created\":");
    json_put_int(out, g->created);
    buf_append_c(out, ",\"model\":");
    json_put_string(out, str_of(g->api->names[0]));
    buf_append_c(out, ",\"system_fingerprint\":");
    json_put_string(out, str_of(g->api->fingerprint));
    if (g->service_tier) {
        buf_append_c(out, ",\"service_tier\":\"default\"");
    }
    buf_append_c(out, ",\"choices\":[");
}

void usage_write(const struct generation *g, struct buf *out)
{
    struct usage u = generation_usage(g);
    buf_printf(out, "{\"prompt_tokens\":%zu,\"completion_tokens\":%zu,\"total_tokens\":%zu",
               u.prompt, u.completion, u.prompt + u.completion);
    buf_printf(out, ",\"prompt_tokens_details\":{\"cached_tokens\":%zu,\"audio_tokens\":0}",
               u.cached);
    buf_printf(out,
               ",\"completion_tokens_details\":{\"reasoning_tokens\":0,\"audio_tokens\":0,"
               "\"accepted_prediction_tokens\":%zu,\"rejected_prediction_tokens\":%zu}}",
               u.drafts_accepted, u.drafts_rejected);
}

void stream_chunk_begin(struct generation *g)
{
    if (g->chunk_head.size == 0) {
        buf_append_c(&g->chunk_head, "data: ");
        reply_begin(g, g->format->chunk_object, &g->chunk_head);
        g->out.failed |= g->chunk_head.failed;
    }
    buf_append_str(&g->out, buf_view(&g->chunk_head));
}

void stream_chunk_end(struct generation *g)
{
    buf_append_c(&g->out, g->settings.include_usage ? "],\"usage\":null}\n\n" : "]}\n\n");
}

void stream_usage(struct generation *g)
{
    stream_chunk_begin(g);
    buf_append_c(&g->out, "],\"usage\":");
    usage_write(g, &g->out);
    buf_append_c(&g->out, "}\n\n");
}

void stream_done(struct generation *g)
{
    buf_append_c(&g->out, "data: [DONE]\n\n");
}

void stream_error(struct generation *g)
{
    buf_append_c(&g->out, "data: ");
    api_error_write(&g->error, &g->out);
    buf_append_c(&g->out, "\n\n");
}

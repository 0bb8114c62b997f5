#include "server/api/generation.h"

#include <stdlib.h>
#include <time.h>

#include "server/api/stream.h"

static enum api_fault make(const struct generation_request *r,
                           const struct generation_format *format, struct generation **ret,
                           struct api_error *err)
{
    struct generation *g = calloc(1, sizeof *g);
    if (g == NULL) {
        return api_fail(err, API_OVERLOADED, NULL, "The server is out of memory.");
    }
    g->api = r->api;
    g->format = format;
    g->created = (int64_t)time(NULL);
    g->best_of = 1;
    g->logprobs = -1;
    buf_init(&g->chunk_head, GENERATION_TEXT_MAX);
    buf_init(&g->out, GENERATION_TEXT_MAX);
    if (!api_random_id(g->id, sizeof g->id, format->id_prefix, 29)) {
        generation_free(g);
        return api_fail(err, API_INTERNAL, NULL, "The server has no source of randomness.");
    }
    *ret = g;
    return API_OK;
}

struct prompt *generation_add_prompts(struct generation *g, size_t count)
{
    g->prompts = calloc(count, sizeof *g->prompts);
    g->prompt_count = g->prompts != NULL ? count : 0;
    return g->prompts;
}

void generation_free(struct generation *g)
{
    if (g == NULL) {
        return;
    }
    for (size_t i = 0; i < g->choice_count; i++) {
        phid_request_free(g->choices[i].request);
        buf_fini(&g->choices[i].text);
        logprobs_fini(&g->choices[i].logprobs);
    }
    for (size_t i = 0; i < g->prompt_count; i++) {
        free(g->prompts[i].ids);
        free(g->prompts[i].text);
    }
    free(g->choices);
    free(g->prompts);
    free(g->prediction);
    settings_fini(&g->settings);
    buf_fini(&g->chunk_head);
    buf_fini(&g->out);
    free(g);
}

/* ------------------------------------------------------------------ submit */

static struct phid_request_params request_params(const struct generation *g,
                                                 const struct generation_request *r)
{
    const struct settings *s = &g->settings;
    struct phid_request_params p = {
        .max_tokens = s->max_tokens < 0 || (uint64_t)s->max_tokens > g->api->context
                          ? g->api->context
                          : (size_t)s->max_tokens,
        .min_tokens = (size_t)s->min_tokens,
        .ignore_eos = s->ignore_eos,
        .prediction = g->prediction,
        .prediction_count = g->prediction_count,
        .sampling = {.temperature = (float)s->temperature,
                     .top_p = (float)s->top_p,
                     .top_k = s->top_k < 0 ? 0 : (int32_t)s->top_k,
                     .min_p = (float)s->min_p,
                     .repetition_penalty = (float)s->repetition_penalty,
                     .frequency_penalty = (float)s->frequency_penalty,
                     .presence_penalty = (float)s->presence_penalty,
                     .logit_bias = s->biases,
                     .logit_bias_count = s->bias_count},
        .stops = s->stops,
        .stop_count = s->stop_count,
        .logprobs = (int32_t)g->logprobs,
        .prompt_logprobs = g->echo && g->logprobs >= 0,
        .continues_text = g->format->continues_text,
        .id = r->id,
        .cache_salt = json_string_value(s->cache_salt),
        .cache_salt_size = json_string_length(s->cache_salt),
        .arrived_ns = r->arrived_ns,
        .tenant = r->tenant,
        .priority = s->priority_given ? (int32_t)s->priority : r->priority,
        .timeout_ms = r->timeout_ms,
        .wake = r->wake,
        .wake_user = r->wake_user,
    };
    if (p.logprobs < 0 && g->best_of > (size_t)s->n) {
        p.logprobs = 0; /* candidates are ranked by them */
    }
    return p;
}

static void init_choice(struct generation *g, size_t i)
{
    struct choice *c = &g->choices[i];
    c->prompt = i / g->best_of;
    c->index = i;
    const struct prompt *prompt = &g->prompts[c->prompt];
    int32_t last = prompt->ids[prompt->count - 1];
    buf_init(&c->text, GENERATION_TEXT_MAX);
    logprobs_init(&c->logprobs, g->format->logprobs, g->logprobs, g->echo,
                  !g->format->continues_text || phid_token_is_control(g->api->model, last));
}

static enum api_fault submit(struct generation *g, const struct generation_request *r,
                             struct api_error *err)
{
    struct phid_request_params params = request_params(g, r);
    struct phid_error engine_error;
    size_t count = g->prompt_count * g->best_of;
    if (count > GENERATION_CHOICES_MAX) {
        return api_fail(err, API_INVALID_VALUE, g->prompt_count > 1 ? g->format->prompt_field : "n",
                        "A request may ask for at most %d answers, prompts times candidates; this "
                        "one asks for %zu.",
                        GENERATION_CHOICES_MAX, count);
    }
    size_t queue = phid_engine_info(g->api->engine)->queue;
    if (count > queue) {
        return api_fail(err, API_INVALID_VALUE, g->prompt_count > 1 ? g->format->prompt_field : "n",
                        "This server queues at most %zu answers; this request asks for %zu.", queue,
                        count);
    }
    g->choices = calloc(count, sizeof *g->choices);
    if (g->choices == NULL) {
        return api_fail(err, API_OVERLOADED, NULL, "The server is out of memory.");
    }
    for (size_t i = 0; i < count; i++) {
        init_choice(g, i);
        g->choice_count++;
    }
    for (size_t i = 0; i < count; i++) {
        struct choice *c = &g->choices[i];
        /* A given seed makes candidate j of every prompt repeatable; a drawn one makes all of them
         * different. */
        uint64_t stream = g->settings.seed_given ? i % g->best_of : i;
        params.sampling.seed = settings_seed((uint64_t)g->settings.seed, stream);
        params.prompt = g->prompts[c->prompt].ids;
        params.prompt_count = g->prompts[c->prompt].count;
        enum phid_status status =
            phid_engine_submit(g->api->engine, &params, &c->request, &engine_error);
        if (status != PHID_OK) {
            engine_error.status = status;
            if (status == PHID_ERR_BUSY) {
                return api_fail_overloaded(err, g->api->engine, engine_error.message);
            }
            return api_fail_engine(err, &engine_error,
                                   status == PHID_ERR_CONTEXT ? g->format->prompt_field : NULL);
        }
    }
    settings_fini(&g->settings);
    if (g->settings.stream) {
        for (size_t i = 0; i < count; i++) {
            g->format->write_first(g, &g->choices[i]);
        }
    }
    return API_OK;
}

enum api_fault generation_start(const struct generation_format *format,
                                const struct generation_request *r, struct generation **ret,
                                struct api_error *err)
{
    struct generation *g = NULL;
    json_t *body = NULL;
    enum api_fault fault = api_parse_body(r->body, &body, err);
    if (fault == API_OK) {
        fault = make(r, format, &g, err);
    }
    if (fault == API_OK) {
        fault = format->read_fields(g, body, err);
    }
    if (fault == API_OK) {
        fault = format->read_prompts(g, body, err);
    }
    if (fault == API_OK) {
        fault = submit(g, r, err);
    }
    json_decref(body);
    if (fault != API_OK) {
        generation_free(g);
        return fault;
    }
    *ret = g;
    return API_OK;
}

/* -------------------------------------------------------------------- pull */

static void take_output(struct generation *g, struct choice *c, const struct phid_output *output)
{
    if (g->echo && !c->echoed) {
        const struct prompt *prompt = &g->prompts[c->prompt];
        buf_append(&c->text, prompt->text, prompt->text_size);
        c->echoed = true;
    }
    buf_append(&c->text, output->text, output->text_size);
    for (size_t i = 0; i < output->token_count; i++) {
        const struct phid_token *token = &output->tokens[i];
        logprobs_add(&c->logprobs, g->api, token);
        if (!token->is_prompt) {
            c->logprob_sum += (double)token->logprob;
            c->logprob_count++;
        }
    }
    c->completion_tokens = output->completion_tokens;
    c->cached_tokens = output->cached_tokens;
    c->drafts_accepted = output->drafts_accepted;
    c->drafts_rejected = output->drafts_rejected;
    c->finish = output->finish;
    if (g->first_token_ns == 0 && output->first_token_ns > 0) {
        g->first_token_ns = output->first_token_ns;
        g->queue_ns = output->queue_ns;
    }
}

static void fail_from_engine(struct generation *g, const struct phid_output *output)
{
    struct phid_error cause = output->error;
    struct api_error error;
    if (output->finish != PHID_FINISH_ERROR || cause.status == PHID_OK) {
        cause.status = PHID_ERR_INTERNAL;
    }
    api_fail_engine(&error, &cause, NULL);
    generation_fail(g, error.fault, error.message);
}

static void finish_choice(struct generation *g, struct choice *c)
{
    phid_request_free(c->request);
    c->request = NULL;
    g->finished++;
}

static const char answer_too_large[] =
    "The answer has become larger than 64 MiB; ask for fewer choices or log-probabilities, or for "
    "a stream.";

static size_t held_bytes(const struct choice *c)
{
    const struct logprobs *l = &c->logprobs;
    return c->text.size + l->entries.size + l->values.size + l->tops.size + l->offsets.size;
}

static void pull_choice(struct generation *g, struct choice *c, size_t out_max)
{
    struct phid_output output;
    while (!g->done && c->request != NULL && g->out.size <= out_max &&
           phid_request_poll(c->request, &output)) {
        if (output.finish == PHID_FINISH_ERROR || output.finish == PHID_FINISH_CANCELLED) {
            fail_from_engine(g, &output);
            return;
        }
        size_t before = held_bytes(c);
        take_output(g, c, &output);
        g->held_bytes += held_bytes(c) - before;
        if (output.finish != PHID_FINISH_NONE) {
            finish_choice(g, c);
        }
        if (g->settings.stream) {
            g->format->write_pending(g, c);
            buf_clear(&c->text);
            logprobs_clear(&c->logprobs);
        } else if (g->held_bytes > GENERATION_ANSWER_MAX) {
            generation_fail(g, API_ANSWER_TOO_LARGE, answer_too_large);
        }
        if (c->text.failed || g->out.failed || logprobs_failed(&c->logprobs)) {
            generation_fail(g, API_OVERLOADED, "The server is out of memory for this answer.");
        }
    }
}

void generation_pull(struct generation *g, size_t out_max)
{
    for (size_t i = 0; i < g->choice_count && !g->done; i++) {
        pull_choice(g, &g->choices[i], out_max);
    }
    if (g->done || g->finished < g->choice_count) {
        return;
    }
    g->done = true;
    if (g->settings.stream) {
        if (g->settings.include_usage) {
            stream_usage(g);
        }
        stream_done(g);
    }
}

void generation_fail(struct generation *g, enum api_fault fault, const char *message)
{
    if (g->done) {
        return;
    }
    g->done = true;
    api_fail(&g->error, fault, NULL, "%s", message);
    for (size_t i = 0; i < g->choice_count; i++) {
        phid_request_free(g->choices[i].request);
        g->choices[i].request = NULL;
    }
    if (g->settings.stream) {
        if (g->out.failed) {
            buf_clear(&g->out);
        }
        stream_error(g);
    }
}

/* ------------------------------------------------------------------- reply */

struct usage generation_usage(const struct generation *g)
{
    struct usage u = {0};
    for (size_t i = 0; i < g->prompt_count; i++) {
        u.prompt += g->prompts[i].count;
    }
    for (size_t i = 0; i < g->choice_count; i++) {
        const struct choice *c = &g->choices[i];
        u.completion += c->completion_tokens;
        u.drafts_accepted += c->drafts_accepted;
        u.drafts_rejected += c->drafts_rejected;
        u.cached += i % g->best_of == 0 ? c->cached_tokens : 0;
    }
    return u;
}

const char *generation_finish_name(enum phid_finish finish)
{
    switch (finish) {
    case PHID_FINISH_STOP:
        return "stop";
    case PHID_FINISH_LENGTH:
        return "length";
    case PHID_FINISH_NONE:
    case PHID_FINISH_CANCELLED:
    case PHID_FINISH_ERROR:
        break;
    }
    return NULL;
}

size_t generation_longest(const struct generation *g)
{
    size_t longest = 0;
    for (size_t i = 0; i < g->choice_count; i++) {
        size_t tokens = g->choices[i].completion_tokens;
        longest = tokens > longest ? tokens : longest;
    }
    return longest;
}

const char *generation_finish(const struct generation *g)
{
    if (g->error.fault != API_OK) {
        return api_error_code(g->error.fault);
    }
    const char *name = g->choice_count > 0 ? generation_finish_name(g->choices[0].finish) : NULL;
    return name != NULL ? name : "cancelled";
}

static double mean_logprob(const struct choice *c)
{
    return c->logprob_count > 0 ? c->logprob_sum / (double)c->logprob_count : 0;
}

/* Puts the best candidate of choices[from .. to) first. */
static void best_first(struct choice *choices, size_t from, size_t to)
{
    size_t best = from;
    for (size_t i = from + 1; i < to; i++) {
        if (mean_logprob(&choices[i]) > mean_logprob(&choices[best])) {
            best = i;
        }
    }
    struct choice swap = choices[from];
    choices[from] = choices[best];
    choices[best] = swap;
}

void generation_write_reply(struct generation *g, struct buf *out)
{
    size_t n = (size_t)g->settings.n;
    size_t written = 0;
    reply_begin(g, g->format->object, out);
    for (size_t p = 0; p < g->prompt_count; p++) {
        size_t first = p * g->best_of;
        for (size_t j = 0; j < n; j++) {
            if (n < g->best_of) {
                best_first(g->choices, first + j, first + g->best_of);
            }
            if (written > 0) {
                buf_append_byte(out, ',');
            }
            g->format->write_choice(g, &g->choices[first + j], written++, out);
        }
    }
    buf_append_c(out, "],\"usage\":");
    usage_write(g, out);
    buf_append_byte(out, '}');
}

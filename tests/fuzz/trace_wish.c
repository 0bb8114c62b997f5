#include "tests/fuzz/trace_wish.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PREFIXES     4
#define TEXT_MAX     ((size_t)1 << 20)
#define PAGE_TOKENS  64
#define LONE_WAIT_MS 120000
#define LONE_BYTES   ((uint64_t)32 << 20) /* of keys and values */

const enum phid_kv_type trace_kv_types[TRACE_KV_TYPES] = {PHID_KV_F16, PHID_KV_INT8};

static const char *const questions[] = {
    "What is the capital of France?",
    "Count to ten.",
    "Hello",
    "Who wrote Faust?",
    "Name three colors.",
    "What is 2 + 2?",
    "Say it in one word: yes or no?",
};
static const struct phid_stop stops[] = {{"a", 1}, {". ", 2}, {"Paris", 5}, {"\n", 1}};

/* Mostly short ones, a few that take several pages, some beyond the rotary factors' change. */
static size_t draw_length(struct rng *rng)
{
    uint64_t kind = rng_below(rng, 100);
    if (kind < 92) {
        return 1 + rng_below(rng, 30);
    }
    return kind < 98 ? 30 + rng_below(rng, 130) : 230 + rng_below(rng, 300);
}

static bool draw_question(struct wish *w, struct phid_model *model, struct rng *rng)
{
    const char *text = questions[rng_below(rng, sizeof questions / sizeof questions[0])];
    const struct phid_message message = {PHID_ROLE_USER, text, strlen(text)};
    return phid_chat_tokens(model, &message, 1, &w->prompt, &w->params.prompt_count, NULL) ==
           PHID_OK;
}

/* Random tokens; every fifth prompt begins like others do. */
static bool draw_tokens(struct wish *w, size_t vocab, struct rng *rng)
{
    size_t shared = rng_below(rng, 5) == 0 ? PAGE_TOKENS * (1 + rng_below(rng, 3)) : 0;
    size_t count = shared + draw_length(rng);
    struct rng prefix;
    w->prompt = calloc(count, sizeof *w->prompt);
    if (w->prompt == NULL) {
        return false;
    }
    rng_init(&prefix, 1000 + rng_below(rng, PREFIXES));
    for (size_t i = 0; i < count; i++) {
        w->prompt[i] = (int32_t)rng_below(i < shared ? &prefix : rng, vocab);
    }
    w->params.prompt_count = count;
    return true;
}

static void draw_params(struct wish *w, struct rng *rng)
{
    static const size_t lengths[] = {0, 1, 2, 3, 4, 8, 12, 40};
    struct phid_request_params *p = &w->params;
    bool sampled = rng_below(rng, 4) == 0;
    p->prompt = w->prompt;
    p->max_tokens = lengths[rng_below(rng, sizeof lengths / sizeof lengths[0])];
    p->ignore_eos = rng_below(rng, 3) > 0;
    p->continues_text = rng_below(rng, 2) == 0;
    p->logprobs = rng_below(rng, 4) == 0 ? (int32_t)rng_below(rng, 6) : -1;
    p->prompt_logprobs = p->logprobs >= 0 && rng_below(rng, 3) == 0;
    p->sampling = (struct phid_sampling){.temperature = sampled ? 0.9f : 0,
                                         .top_p = sampled ? 0.95f : 1,
                                         .repetition_penalty = rng_below(rng, 8) == 0 ? 1.2f : 1,
                                         .seed = rng_next(rng)};
    if (rng_below(rng, 4) == 0) {
        p->stops = stops;
        p->stop_count = 1 + rng_below(rng, sizeof stops / sizeof stops[0]);
    }
}

bool wishes_make(struct wishes *w, size_t count, struct phid_model *model, struct rng *rng)
{
    size_t vocab = phid_model_info(model)->vocab_size;
    w->items = calloc(count, sizeof *w->items);
    if (w->items == NULL) {
        return false;
    }
    for (; w->count < count; w->count++) {
        struct wish *wish = &w->items[w->count];
        for (size_t t = 0; t < TRACE_KV_TYPES; t++) {
            buf_init(&wish->lone[t].text, TEXT_MAX);
        }
        if (!(rng_below(rng, 4) == 0 ? draw_question(wish, model, rng)
                                     : draw_tokens(wish, vocab, rng))) {
            return false;
        }
        draw_params(wish, rng);
    }
    return true;
}

static bool answer_one(const struct wish *w, struct phid_engine *engine, struct lone *ret)
{
    struct phid_request *request = NULL;
    struct phid_output out = {0};
    struct phid_error err = {0};
    if (phid_engine_submit(engine, &w->params, &request, &err) != PHID_OK) {
        fprintf(stderr, "trace: a lone request was refused: %s\n", err.message);
        return false;
    }
    while (out.finish == PHID_FINISH_NONE && phid_request_wait(request, LONE_WAIT_MS)) {
        if (phid_request_poll(request, &out)) {
            buf_append(&ret->text, out.text, out.text_size);
        }
    }
    ret->completion_tokens = out.completion_tokens;
    ret->finish = out.finish;
    phid_request_free(request);
    if (out.finish != PHID_FINISH_STOP && out.finish != PHID_FINISH_LENGTH) {
        fprintf(stderr, "trace: a lone request ended with %d: %s\n", out.finish, out.error.message);
        return false;
    }
    return !ret->text.failed;
}

/* One after the other, each computed from nothing. */
static bool answer_all(struct wishes *w, struct phid_model *model, size_t type)
{
    const struct phid_engine_options options = {.context = TRACE_CONTEXT,
                                                .max_running = 1,
                                                .kv_type = trace_kv_types[type],
                                                .kv_memory_bytes = LONE_BYTES,
                                                .speculation = PHID_SPECULATION_OFF,
                                                .prefix_cache_off = true};
    struct phid_engine_stats stats;
    struct phid_engine *engine = NULL;
    struct phid_error err = {0};
    if (phid_engine_new(model, &options, &engine, &err) != PHID_OK) {
        fprintf(stderr, "trace: %s\n", err.message);
        return false;
    }
    bool good = true;
    for (size_t i = 0; i < w->count && good; i++) {
        good = answer_one(&w->items[i], engine, &w->items[i].lone[type]);
    }
    phid_engine_stats(engine, &stats);
    w->page_bytes[type] = LONE_BYTES / stats.pages_total;
    phid_engine_free(engine);
    return good;
}

bool wishes_answer(struct wishes *w, struct phid_model *model)
{
    for (size_t t = 0; t < TRACE_KV_TYPES; t++) {
        if (!answer_all(w, model, t)) {
            return false;
        }
    }
    return true;
}

void wishes_free(struct wishes *w)
{
    for (size_t i = 0; i < w->count; i++) {
        free(w->items[i].prompt);
        for (size_t t = 0; t < TRACE_KV_TYPES; t++) {
            buf_fini(&w->items[i].lone[t].text);
        }
    }
    free(w->items);
    *w = (struct wishes){0};
}

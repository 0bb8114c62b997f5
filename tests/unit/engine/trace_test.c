/* Random traffic from several threads against a small engine: whatever happens around it, a
 * request's answer is the one that follows from its prompt alone, and in the end no page is lost.
 * The seed is printed; a number as argument replaces it. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "engine/text/detok.h"
#include "tests/unit/engine/client.h"
#include "tests/unit/engine/fake_backend.h"

enum {
    CONTEXT = 320,
    PROMPT_MAX = 260,
    ANSWER_MAX = 120,
    THREADS = 4,
    REQUESTS = 40,
    STOPS_MAX = 4
};

static uint64_t trace_seed = 20240;

struct random {
    uint64_t state;
};

static size_t draw(struct random *r, size_t below)
{
    r->state = r->state * 6364136223846793005u + 1442695040888963407u;
    return (size_t)(r->state >> 33) % below;
}

struct trace {
    struct fake_model model;
    struct phid_engine *engine;
    size_t original_context;
};

struct driver {
    struct trace *trace;
    struct random random;
    pthread_t thread;
    size_t survivors;
    char complaint[1024]; /* empty: all is well; cmocka's failures belong to the main thread */
};

struct wish {
    int32_t prompt[PROMPT_MAX];
    struct phid_stop stops[STOPS_MAX];
    struct phid_request_params params;
};

static const char *const stop_texts[] = {
    "a",      "bc",       " is", "w3",  "END",     "\xEF\xBF\xBD\xEF\xBF\xBD",
    "abcabc", "\xC3\xA9", "xx",  "5 w", ". Paris",
};
enum { STOP_TEXTS = sizeof(stop_texts) / sizeof(stop_texts[0]) };

static void draw_wish(struct random *r, struct wish *w)
{
    static const char *const tenants[] = {NULL, NULL, NULL, "a", "b"};
    size_t count = 1 + draw(r, draw(r, 3) == 0 ? PROMPT_MAX : 40);
    /* Half of them begin like others. */
    size_t common = draw(r, 2) == 0 ? 0 : draw(r, PROMPT_MAX), family = draw(r, 3);
    for (size_t i = 0; i < count; i++) {
        w->prompt[i] = FAKE_BYTE + (int32_t)(i < common ? (i * 7 + family * 31) % 300
                                                        : draw(r, FAKE_VOCAB - FAKE_BYTE));
    }
    w->params = client_params(w->prompt, count, draw(r, ANSWER_MAX));
    w->params.tenant = tenants[draw(r, sizeof(tenants) / sizeof(tenants[0]))];
    w->params.logprobs = (int32_t)draw(r, 5) - 1;
    w->params.prompt_logprobs = draw(r, 3) == 0;
    w->params.continues_text = draw(r, 2) == 0;
    w->params.ignore_eos = draw(r, 4) == 0;
    w->params.stops = w->stops;
    w->params.stop_count = draw(r, 2) * draw(r, STOPS_MAX + 1);
    for (size_t i = 0; i < w->params.stop_count; i++) {
        const char *text = stop_texts[draw(r, STOP_TEXTS)];
        w->stops[i] = (struct phid_stop){.text = text, .size = strlen(text)};
    }
}

struct expected {
    struct buf text;
    int32_t ids[ANSWER_MAX];
    size_t id_count;
    size_t completion_tokens;
    enum phid_finish finish;
};

/* The earliest end of any stop in the text, the longest that ends there. */
static bool find_stop(const struct wish *w, struct str text, size_t *ret_cut, size_t *ret_end)
{
    for (size_t end = 1; end <= text.size; end++) {
        size_t longest = 0;
        for (size_t i = 0; i < w->params.stop_count; i++) {
            size_t size = w->stops[i].size;
            if (size <= end && size > longest &&
                memcmp(text.data + end - size, w->stops[i].text, size) == 0) {
                longest = size;
            }
        }
        if (longest > 0) {
            *ret_cut = end - longest;
            *ret_end = end;
            return true;
        }
    }
    return false;
}

static void expect(const struct trace *t, const struct wish *w, struct expected *e)
{
    bool ended = false;
    size_t room = CONTEXT - w->params.prompt_count;
    size_t max = w->params.max_tokens < room ? w->params.max_tokens : room;
    size_t count = fake_answer(w->prompt, w->params.prompt_count, max, t->original_context,
                               w->params.ignore_eos, e->ids, &ended);
    buf_init(&e->text, (size_t)64 << 20);
    struct detok detok;
    detok_init(&detok, t->model.model.tokenizer, !w->params.continues_text, false);
    size_t starts[ANSWER_MAX], ends[ANSWER_MAX], sizes[ANSWER_MAX];
    for (size_t i = 0; i < count; i++) {
        starts[i] = e->text.size;
        detok_push(&detok, e->ids[i], &e->text);
        sizes[i] = e->text.size;
        ends[i] = e->text.size + (detok.held_count > 0);
    }
    detok_finish(&detok, &e->text);
    e->id_count = count;
    e->completion_tokens = count + ended;
    e->finish = ended ? PHID_FINISH_STOP : PHID_FINISH_LENGTH;
    size_t cut, end;
    if (!find_stop(w, buf_view(&e->text), &cut, &end)) {
        return;
    }
    e->finish = PHID_FINISH_STOP;
    e->text.size = cut;
    for (size_t i = 0; i < count; i++) {
        if (sizes[i] >= end) {
            e->completion_tokens = i + 1;
            count = i + 1;
        }
    }
    e->id_count = 0;
    while (e->id_count < count && (ends[e->id_count] <= cut || starts[e->id_count] < cut)) {
        e->id_count++;
    }
}

static bool complain(struct driver *d, const char *what, size_t have, size_t want)
{
    snprintf(d->complaint, sizeof(d->complaint), "%s: %zu, not %zu", what, have, want);
    return false;
}

static bool compare(struct driver *d, const struct wish *w, const struct client *c)
{
    struct expected e;
    expect(d->trace, w, &e);
    bool good = true;
    size_t prompt_tokens = w->params.prompt_logprobs ? w->params.prompt_count : 0;
    if (c->last.finish != e.finish) {
        good = complain(d, "finish", c->last.finish, e.finish);
    } else if (!str_equal(buf_view(&c->text), buf_view(&e.text))) {
        good = complain(d, "text bytes", c->text.size, e.text.size);
    } else if (c->last.completion_tokens != e.completion_tokens) {
        good = complain(d, "completion tokens", c->last.completion_tokens, e.completion_tokens);
    } else if (c->token_count != prompt_tokens + e.id_count) {
        good = complain(d, "tokens", c->token_count, prompt_tokens + e.id_count);
    }
    for (size_t i = 0; good && i < c->token_count; i++) {
        int32_t want = i < prompt_tokens ? w->prompt[i] : e.ids[i - prompt_tokens];
        if (c->tokens[i].id != want) {
            good = complain(d, "token", (size_t)c->tokens[i].id, (size_t)want);
        }
    }
    buf_fini(&e.text);
    return good;
}

static void nap(struct random *r)
{
    struct timespec pause = {.tv_nsec = (long)draw(r, 300000)};
    nanosleep(&pause, NULL);
}

enum manner {
    READ_AT_ONCE,
    READ_SLOWLY,
    READ_LATE,
    CANCEL_EARLY,
    CANCEL_LATER,
    FREE_EARLY,
    MANNERS
};

/* One request from submission to the end, treated in one of several manners. */
static bool run_request(struct driver *d, const struct wish *w)
{
    struct client c = {0};
    struct phid_error error = {0};
    enum phid_status status;
    buf_init(&c.text, (size_t)64 << 20);
    c.tokens = calloc(CLIENT_TOKENS_MAX, sizeof(*c.tokens));
    while ((status = phid_engine_submit(d->trace->engine, &w->params, &c.request, &error)) ==
           PHID_ERR_BUSY) {
        nap(&d->random);
    }
    if (status != PHID_OK) {
        client_fini(&c);
        return complain(d, error.message, status, PHID_OK);
    }
    enum manner manner = (enum manner)draw(&d->random, MANNERS);
    if (manner == READ_LATE) {
        nap(&d->random);
    } else if (manner == CANCEL_EARLY) {
        phid_request_cancel(c.request);
    }
    size_t stay = draw(&d->random, 20);
    while (manner != FREE_EARLY && c.last.finish == PHID_FINISH_NONE) {
        if (!phid_request_wait(c.request, 30000)) {
            return complain(d, "seconds without output", 30,
                            0); /* leaks, but the test has failed */
        }
        client_poll(&c);
        if (manner == READ_SLOWLY) {
            nap(&d->random);
        } else if (manner == CANCEL_LATER && stay-- == 0) {
            phid_request_cancel(c.request);
        }
    }
    bool good = true;
    if (c.last.finish == PHID_FINISH_ERROR) {
        good = complain(d, c.last.error.message, 0, 0);
    } else if (manner != FREE_EARLY && c.last.finish != PHID_FINISH_CANCELLED) {
        good = compare(d, w, &c);
        d->survivors++;
    }
    client_fini(&c);
    return good;
}

static void *drive(void *arg)
{
    struct driver *d = arg;
    struct wish w;
    for (size_t i = 0; i < REQUESTS; i++) {
        draw_wish(&d->random, &w);
        if (!run_request(d, &w)) {
            break;
        }
    }
    return NULL;
}

static void run_trace(uint64_t seed)
{
    struct random r = {.state = seed};
    draw(&r, 2);
    struct trace t = {.original_context = draw(&r, 2) * (60 + draw(&r, 200))};
    struct phid_engine_options options = {
        .kv_memory_bytes = 1024 * (CONTEXT / 64 + draw(&r, 12)),
        .max_running = 1 + draw(&r, 8),
        .step_tokens = 1 + draw(&r, 100),
        .queue = 1 + draw(&r, 6),
        .speculation = (enum phid_speculation)draw(&r, 3),
        .prefix_cache_off = draw(&r, 6) == 0,
    };
    fake_backend_reset();
    fake_backend.period = (unsigned)(draw(&r, 2) * (1 + draw(&r, 30)));
    fake_backend.end_odds = 60;
    fake_backend.step_us = (unsigned)draw(&r, 2) * 20;
    fake_model_init(&t.model, CONTEXT, t.original_context);
    t.engine = client_engine(&t.model, &options);
    struct driver drivers[THREADS];
    for (size_t i = 0; i < THREADS; i++) {
        drivers[i] = (struct driver){.trace = &t, .random = {.state = seed * 100 + i}};
        assert_int_equal(pthread_create(&drivers[i].thread, NULL, drive, &drivers[i]), 0);
    }
    size_t survivors = 0;
    for (size_t i = 0; i < THREADS; i++) {
        pthread_join(drivers[i].thread, NULL);
        if (drivers[i].complaint[0] != '\0') {
            fail_msg("seed %llu, thread %zu: %s", (unsigned long long)seed, i,
                     drivers[i].complaint);
        }
        survivors += drivers[i].survivors;
    }
    assert_true(survivors > 0);
    client_expect_all_free(t.engine);
    assert_int_equal(atomic_load(&fake_backend.faults), 0);
    struct phid_engine_stats stats;
    phid_engine_stats(t.engine, &stats);
    assert_int_equal(stats.requests_finished + stats.requests_cancelled, THREADS * REQUESTS);
    phid_engine_free(t.engine);
    fake_model_fini(&t.model);
}

static void test_trace_survivors_are_exact(void **state)
{
    enum { ROUNDS = 12 };
    print_message("seed %llu\n", (unsigned long long)trace_seed);
    for (uint64_t round = 0; round < ROUNDS; round++) {
        run_trace(trace_seed + round);
    }
}

int main(int argc, char **argv)
{
    if (argc > 1) {
        trace_seed = strtoull(argv[1], NULL, 10);
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_trace_survivors_are_exact)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

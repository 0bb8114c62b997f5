/* The engine through its public interface: admission, cancelling, failing, ending. */
#include "engine/phid.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/base/clock.h"
#include "engine/sched/loop_state.h"
#include "tests/unit/engine/fake_backend.h"
#include "tests/unit/engine/world.h"

static void test_engine_one_request(void **state)
{
    struct world w;
    struct phid_engine_options options = world_pool(2);
    world_init(&w, 0, &options);
    int32_t prompt[150];
    world_prompt(prompt, 150, 1);
    struct phid_request_params params = client_params(prompt, 150, 90);
    struct client c;
    client_submit(&c, w.engine, &params);
    world_expect_answer(&w, &c, prompt, 150, 90, 0);
    assert_true(c.last.queue_ns > 0 && c.last.first_token_ns >= c.last.queue_ns);
    assert_true(c.last.total_ns >= c.last.first_token_ns);
    client_fini(&c);
    /* Every token once: 150 of the prompt and all of the answer but the last. */
    assert_int_equal(atomic_load(&fake_backend.rows), 150 + 89);
    assert_int_equal(atomic_load(&fake_backend.max_rows), 64);
    struct phid_engine_stats stats;
    phid_engine_stats(w.engine, &stats);
    assert_int_equal(stats.tokens_prefilled, 150);
    assert_int_equal(stats.tokens_decoded, 90);
    assert_int_equal(stats.requests_finished, 1);
    assert_int_equal(stats.pages_total, 16);
    world_fini(&w);
}

static uint64_t count_of(struct world *w, enum phid_histogram_id id, uint64_t *ret_sum)
{
    struct phid_histogram h;
    uint64_t count = 0;
    phid_engine_histogram(w->engine, id, &h);
    for (size_t i = 0; i <= h.bound_count; i++) {
        count += h.counts[i];
    }
    *ret_sum = h.sum;
    return count;
}

static void test_engine_measures(void **state)
{
    struct world w;
    struct phid_engine_options options = world_pool(2);
    world_init(&w, 0, &options);
    int32_t prompt[150];
    world_prompt(prompt, 150, 1);
    struct phid_request_params params = client_params(prompt, 150, 9);
    params.arrived_ns = clock_now_ns() - 5 * (uint64_t)CLOCK_NS_PER_S;
    struct client c;
    client_submit(&c, w.engine, &params);
    world_expect_answer(&w, &c, prompt, 150, 9, 0);
    client_fini(&c);
    params.max_tokens = 0;
    params.arrived_ns = 0;
    client_submit(&c, w.engine, &params);
    client_finish(&c);
    client_fini(&c);
    static const struct {
        enum phid_histogram_id id;
        uint64_t count, sum; /* 0: a time */
    } want[] = {
        {PHID_HISTOGRAM_FIRST_TOKEN, 1, 0},     {PHID_HISTOGRAM_INTER_TOKEN, 8, 0},
        {PHID_HISTOGRAM_PER_TOKEN, 1, 0},       {PHID_HISTOGRAM_WHOLE, 2, 0},
        {PHID_HISTOGRAM_QUEUE, 2, 0},           {PHID_HISTOGRAM_PREFILL, 2, 0},
        {PHID_HISTOGRAM_DECODE, 1, 0},          {PHID_HISTOGRAM_INFERENCE, 2, 0},
        {PHID_HISTOGRAM_PROMPT_TOKENS, 2, 300}, {PHID_HISTOGRAM_ANSWER_TOKENS, 2, 9},
        {PHID_HISTOGRAM_MAX_TOKENS, 2, 9},
    };
    uint64_t sum = 0;
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
        assert_int_equal(count_of(&w, want[i].id, &sum), want[i].count);
        assert_true(want[i].sum == 0 || sum == want[i].sum);
    }
    (void)count_of(&w, PHID_HISTOGRAM_FIRST_TOKEN, &sum);
    assert_true(sum >= 5 * (uint64_t)CLOCK_NS_PER_S); /* since it arrived, not since submit */
    struct phid_engine_stats stats;
    phid_engine_stats(w.engine, &stats);
    assert_int_equal(count_of(&w, PHID_HISTOGRAM_STEP_ROWS, &sum), stats.steps);
    assert_int_equal(sum, atomic_load(&fake_backend.rows));
    assert_int_equal(stats.prompt_tokens, 300);
    assert_int_equal(stats.finished[PHID_FINISH_LENGTH], 2);
    world_fini(&w);
}

/* Rings all the while, so that the step thread looks around. */
static void expect_stall(struct world *w)
{
    struct phid_engine_stats stats;
    uint64_t start = clock_now_ns();
    do {
        doorbell_ring(loop_doorbell(w->engine->loop));
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
        phid_engine_stats(w->engine, &stats);
    } while (stats.stalled_ns < 30 * (uint64_t)CLOCK_NS_PER_MS && clock_seconds_since(start) < 10);
    assert_true(stats.stalled_ns >= 30 * (uint64_t)CLOCK_NS_PER_MS);
    assert_false(stats.failed);
}

static void expect_rest(struct world *w)
{
    struct phid_engine_stats stats;
    uint64_t start = clock_now_ns();
    do {
        phid_engine_stats(w->engine, &stats);
    } while (stats.stalled_ns > 0 && clock_seconds_since(start) < 10);
    assert_int_equal(stats.stalled_ns, 0); /* asleep is not stalled */
}

/* While there is no request: then the step thread looks at them under the mutex only. */
static void set_seats(struct world *w, size_t seats)
{
    struct loop *l = w->engine->loop;
    pthread_mutex_lock(&l->mu);
    l->options.max_running = seats;
    pthread_mutex_unlock(&l->mu);
}

static void test_engine_stall_is_seen(void **state)
{
    struct world w;
    struct phid_engine_options options = world_pool(2);
    world_init(&w, 0, &options);
    fake_backend.gated = true;
    int32_t prompt[20];
    world_prompt(prompt, 20, 1);
    struct phid_request_params params = client_params(prompt, 20, 3);
    struct client c;
    client_submit(&c, w.engine, &params);
    expect_stall(&w);
    fake_backend_let(-1);
    client_finish(&c);
    client_fini(&c);
    expect_rest(&w);

    /* No step hangs, but none is begun either: there are no seats to give. */
    set_seats(&w, 0);
    client_submit(&c, w.engine, &params);
    expect_stall(&w);
    phid_request_cancel(c.request);
    client_finish(&c);
    client_fini(&c);
    expect_rest(&w);
    set_seats(&w, options.max_running);
    client_submit(&c, w.engine, &params);
    world_expect_answer(&w, &c, prompt, 20, 3, 0);
    client_fini(&c);
    world_fini(&w);
}

static void test_engine_info(void **state)
{
    struct world w;
    struct phid_engine_options options = world_pool(3);
    options.threads = 1;
    world_init(&w, 0, &options);
    const struct phid_engine_info *info = phid_engine_info(w.engine);
    assert_int_equal(info->context, WORLD_CONTEXT);
    assert_int_equal(info->max_running, 8);
    assert_int_equal(info->kv_tokens, 3 * WORLD_CONTEXT);
    assert_int_equal(info->threads, 1);
    assert_string_equal(info->devices, "fake");
    assert_true(info->memory_bytes > 1000);
    assert_int_equal(info->step_bytes, 3500);
    assert_string_not_equal(phid_version(), "");
    assert_string_not_equal(phid_commit(), "");
    world_fini(&w);
}

static void test_engine_refusals(void **state)
{
    struct world w;
    world_init(&w, 0, NULL);
    int32_t prompt[WORLD_CONTEXT + 1];
    world_prompt(prompt, WORLD_CONTEXT + 1, 1);
    struct phid_request_params params = client_params(prompt, WORLD_CONTEXT + 1, 0);
    world_expect_refusal(&w, &params, PHID_ERR_CONTEXT, "maximum context length is 512 tokens");
    params = client_params(prompt, WORLD_CONTEXT, 1);
    world_expect_refusal(&w, &params, PHID_ERR_CONTEXT, "512");
    params = client_params(prompt, 0, 1);
    world_expect_refusal(&w, &params, PHID_ERR_ARGUMENT, "prompt");
    int32_t bad[] = {1, FAKE_VOCAB};
    params = client_params(bad, 2, 1);
    world_expect_refusal(&w, &params, PHID_ERR_ARGUMENT, "prompt[1]");
    bad[1] = -1;
    world_expect_refusal(&w, &params, PHID_ERR_ARGUMENT, "prompt[1]");
    params = client_params(prompt, 4, 1);
    params.logprobs = 21;
    world_expect_refusal(&w, &params, PHID_ERR_ARGUMENT, "logprobs");
    params = client_params(prompt, 4, 1);
    params.sampling.temperature = -1;
    world_expect_refusal(&w, &params, PHID_ERR_ARGUMENT, "temperature");
    params = client_params(prompt, 4, 1);
    params.stops = &(struct phid_stop){.text = "", .size = 0};
    params.stop_count = 1;
    world_expect_refusal(&w, &params, PHID_ERR_ARGUMENT, "stop[0]");
    struct phid_logit_bias bias = {.id = FAKE_VOCAB, .bias = 1};
    params = client_params(prompt, 4, 1);
    params.sampling.logit_bias = &bias;
    params.sampling.logit_bias_count = 1;
    world_expect_refusal(&w, &params, PHID_ERR_ARGUMENT, "logit_bias");
    world_fini(&w);
}

static void test_engine_clamps_to_context(void **state)
{
    struct world w;
    struct phid_engine_options options = world_pool(1);
    world_init(&w, 0, &options);
    int32_t prompt[500];
    world_prompt(prompt, 500, 1);
    struct phid_request_params params = client_params(prompt, 500, 100000);
    struct client c;
    client_submit(&c, w.engine, &params);
    world_expect_answer(&w, &c, prompt, 500, 12, 0);
    client_fini(&c);
    world_fini(&w);
}

static void test_engine_no_room_for_a_context(void **state)
{
    fake_backend_reset();
    struct fake_model m;
    fake_model_init(&m, WORLD_CONTEXT, 0);
    struct phid_engine_options options = {.kv_memory_bytes = 7 * 1024};
    struct phid_engine *engine = NULL;
    struct phid_error error = {0};
    assert_int_equal(engine_new_with_backend(&m.model, &m.description, fake_backend_api(), &options,
                                             &engine, &error),
                     PHID_ERR_MEMORY);
    assert_non_null(strstr(error.message, "8192 bytes"));
    options = (struct phid_engine_options){.context = WORLD_CONTEXT + 1};
    assert_int_equal(engine_new_with_backend(&m.model, &m.description, fake_backend_api(), &options,
                                             &engine, &error),
                     PHID_ERR_ARGUMENT);
    assert_int_equal(phid_engine_new(&m.model, NULL, &engine, &error), PHID_ERR_ARGUMENT);
    fake_model_fini(&m);
}

static void test_engine_crosses_to_long_factors(void **state)
{
    struct world w;
    struct phid_engine_options options = world_pool(2);
    options.prefix_cache_off = true; /* rows are counted */
    world_init(&w, 100, &options);
    int32_t prompt[150];
    world_prompt(prompt, 150, 1);
    const size_t lengths[] = {90, 99, 100, 101, 150};
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        atomic_store(&fake_backend.long_rows, 0);
        struct phid_request_params params = client_params(prompt, lengths[i], 30);
        struct client c;
        client_submit(&c, w.engine, &params);
        world_expect_answer(&w, &c, prompt, lengths[i], 30, 100);
        client_fini(&c);
        /* Long from the token on that makes it 101: all rows of that sequence. */
        assert_int_equal(atomic_load(&fake_backend.long_rows), lengths[i] + 29);
    }
    /* Never longer than the original context: never long. */
    atomic_store(&fake_backend.long_rows, 0);
    struct phid_request_params params = client_params(prompt, 90, 11);
    struct client c;
    client_submit(&c, w.engine, &params);
    world_expect_answer(&w, &c, prompt, 90, 11, 100);
    client_fini(&c);
    assert_int_equal(atomic_load(&fake_backend.long_rows), 0);
    world_fini(&w);
}

/* Rows under the long factors of a prompt of 150 tokens and an answer of 10, around an original
 * context of 100. */
static size_t long_rows(enum phid_longrope longrope, size_t prompt_count)
{
    struct world w;
    struct phid_engine_options options = world_pool(2);
    options.longrope = longrope;
    options.context = longrope == PHID_LONGROPE_SHORT ? 0 : WORLD_CONTEXT;
    world_init(&w, 100, &options);
    int32_t prompt[150];
    world_prompt(prompt, 150, 1);
    struct phid_request_params params = client_params(prompt, prompt_count, 10);
    struct client c;
    client_submit(&c, w.engine, &params);
    client_finish(&c);
    assert_int_equal(c.last.finish, PHID_FINISH_LENGTH);
    client_fini(&c);
    float logits[FAKE_VOCAB], expected[FAKE_VOCAB];
    assert_int_equal(phid_engine_logits(w.engine, prompt, 90, false, logits, NULL), PHID_OK);
    bool is_long = longrope == PHID_LONGROPE_LONG;
    fake_logits(fake_hash(prompt, 90, is_long ? BLOCK_ROPE_LONG : BLOCK_ROPE_SHORT), prompt, 90,
                expected);
    assert_memory_equal(logits, expected, sizeof(expected));
    world_fini(&w);
    return atomic_load(&fake_backend.long_rows) - (is_long ? 90 : 0);
}

static void test_engine_longrope_policies(void **state)
{
    assert_int_equal(long_rows(PHID_LONGROPE_HF, 150), 159);
    assert_int_equal(long_rows(PHID_LONGROPE_HF, 50), 0);
    assert_int_equal(long_rows(PHID_LONGROPE_LONG, 150), 159);
    assert_int_equal(long_rows(PHID_LONGROPE_LONG, 50), 59);
    assert_int_equal(long_rows(PHID_LONGROPE_SHORT, 50), 0);
}

static void test_engine_short_factors_end_the_context(void **state)
{
    struct world w;
    struct phid_engine_options options = world_pool(2);
    options.longrope = PHID_LONGROPE_SHORT;
    world_init(&w, 100, &options);
    assert_int_equal(phid_engine_info(w.engine)->context, 100);
    int32_t prompt[150];
    world_prompt(prompt, 150, 1);
    struct phid_request_params params = client_params(prompt, 150, 1);
    world_expect_refusal(&w, &params, PHID_ERR_CONTEXT, "100 tokens");
    world_fini(&w);
    fake_model_init(&w.model, WORLD_CONTEXT, 100);
    options.context = 101;
    struct phid_error error = {0};
    assert_int_equal(engine_new_with_backend(&w.model.model, &w.model.description,
                                             fake_backend_api(), &options, &w.engine, &error),
                     PHID_ERR_ARGUMENT);
    assert_non_null(strstr(error.message, "short rotary factors"));
    fake_model_fini(&w.model);
}

static void test_engine_long_factors_do_not_share_with_short(void **state)
{
    struct world w;
    struct phid_engine_options options = world_pool(4);
    options.speculation = PHID_SPECULATION_OFF; /* rows are counted */
    world_init(&w, 100, &options);
    int32_t prompt[150];
    world_prompt(prompt, 150, 1);
    /* Two that cross: the second finds what the first computed under either set. */
    for (int i = 0; i < 2; i++) {
        struct phid_request_params params = client_params(prompt, 95, 30);
        size_t before = atomic_load(&fake_backend.rows);
        struct client c;
        client_submit(&c, w.engine, &params);
        world_expect_answer(&w, &c, prompt, 95, 30, 100);
        assert_int_equal(c.last.cached_tokens, i == 0 ? 0 : 94);
        client_fini(&c);
        size_t rows = atomic_load(&fake_backend.rows) - before;
        if (i == 0) {
            assert_int_equal(rows, 100 + 124);
        } else {
            assert_int_equal(rows, 6 + 1 + 23); /* only the last token of what is there */
        }
    }
    struct phid_request_params params = client_params(prompt, 120, 1);
    struct client c;
    client_submit(&c, w.engine, &params);
    world_expect_answer(&w, &c, prompt, 120, 1, 100);
    assert_int_equal(c.last.cached_tokens, 95); /* the answers differ from this prompt afterwards */
    client_fini(&c);
    world_fini(&w);
}

static void test_engine_preemption_is_exact(void **state)
{
    struct world w;
    struct phid_engine_options options = world_pool(1); /* 8 pages for everybody */
    world_init(&w, 200, &options);
    enum { COUNT = 6 };
    int32_t prompts[COUNT][60];
    struct client clients[COUNT];
    for (int i = 0; i < COUNT; i++) {
        world_prompt(prompts[i], 60, i);
        struct phid_request_params params = client_params(prompts[i], 60, 200);
        params.prompt_logprobs = i % 2 == 1;
        client_submit(&clients[i], w.engine, &params);
    }
    for (int i = 0; i < COUNT; i++) {
        if (i % 2 == 0) {
            world_expect_answer(&w, &clients[i], prompts[i], 60, 200, 200);
        } else {
            client_finish(&clients[i]);
            assert_int_equal(clients[i].token_count, 260); /* the prompt's tokens once */
        }
        client_fini(&clients[i]);
    }
    struct phid_engine_stats stats;
    phid_engine_stats(w.engine, &stats);
    assert_true(stats.preemptions > 0);
    world_fini(&w);
}

static void test_engine_decodes_while_prefilling(void **state)
{
    struct world w;
    struct phid_engine_options options = world_pool(4);
    options.step_tokens = 16;
    world_init(&w, 0, &options);
    fake_backend.gated = true;
    int32_t prompt[400];
    world_prompt(prompt, 400, 1);
    struct phid_request_params first = client_params(prompt, 4, 40),
                               second = client_params(prompt, 400, 1);
    struct client a, b;
    client_submit(&a, w.engine, &first);
    fake_backend_let(1);
    assert_true(phid_request_wait(a.request, 5000));
    client_submit(&b, w.engine, &second);
    /* A step may have begun without the second one; afterwards each has one row of the first and 15
     * of the second. */
    fake_backend_let(11);
    while (a.token_count < 12) {
        assert_true(phid_request_wait(a.request, 5000));
        client_poll(&a);
    }
    assert_int_equal(b.token_count, 0);
    assert_int_equal(atomic_load(&fake_backend.max_rows), 16);
    fake_backend_let(-1);
    world_expect_answer(&w, &a, prompt, 4, 40, 0);
    world_expect_answer(&w, &b, prompt, 400, 1, 0);
    client_fini(&a);
    client_fini(&b);
    world_fini(&w);
}

/* Streams find memory for the pages they begin: some before they come, the rest with their steps.
 */
static void test_engine_warms_pages(void **state)
{
    enum { CLIENTS = 4, PROMPT = 10, ANSWER = 200 };
    struct world w;
    struct phid_engine_options options = world_pool(8);
    world_init(&w, 0, &options);
    for (int ms = 0; !atomic_load(&fake_backend.warm); ms++) {
        assert_true(ms < 5000);
        (void)usleep(1000);
    }
    int32_t prompts[CLIENTS][PROMPT];
    struct client clients[CLIENTS];
    for (int i = 0; i < CLIENTS; i++) {
        world_prompt(prompts[i], PROMPT, i);
        struct phid_request_params params = client_params(prompts[i], PROMPT, ANSWER);
        client_submit(&clients[i], w.engine, &params);
    }
    for (int i = 0; i < CLIENTS; i++) {
        world_expect_answer(&w, &clients[i], prompts[i], PROMPT, ANSWER, 0);
        client_fini(&clients[i]);
    }
    struct phid_engine_stats stats;
    phid_engine_stats(w.engine, &stats);
    assert_in_range(stats.pages_cached, CLIENTS * (ANSWER / 64), stats.pages_total);
    assert_int_equal(atomic_load(&fake_backend.cold), 0);
    world_fini(&w);
}

static void test_engine_queue_is_bounded(void **state)
{
    struct world w;
    struct phid_engine_options options = world_pool(1);
    options.max_running = 1;
    options.queue = 2;
    world_init(&w, 0, &options);
    fake_backend.gated = true;
    struct phid_request_params params = client_params(world_bos, 1, 3);
    struct client clients[3];
    client_submit(&clients[0], w.engine, &params);
    struct phid_engine_stats stats = {0};
    while (stats.running == 0) {
        phid_engine_stats(w.engine, &stats);
    }
    client_submit(&clients[1], w.engine, &params);
    client_submit(&clients[2], w.engine, &params);
    world_expect_refusal(&w, &params, PHID_ERR_BUSY, "queue is full");
    phid_engine_stats(w.engine, &stats);
    assert_int_equal(stats.waiting, 2);
    fake_backend_let(-1);
    for (int i = 0; i < 3; i++) {
        world_expect_answer(&w, &clients[i], world_bos, 1, 3, 0);
        client_fini(&clients[i]);
    }
    world_fini(&w);
}

static void test_engine_drain(void **state)
{
    struct world w;
    world_init(&w, 0, NULL);
    fake_backend.step_us = 200;
    struct phid_request_params params = client_params(world_bos, 1, 20);
    struct client c;
    client_submit(&c, w.engine, &params);
    phid_engine_drain(w.engine);
    world_expect_refusal(&w, &params, PHID_ERR_CLOSED, "");
    world_expect_answer(&w, &c, world_bos, 1, 20, 0);
    client_fini(&c);
    world_fini(&w);
}

static void test_engine_cancel(void **state)
{
    struct world w;
    struct phid_engine_options options = world_pool(1);
    options.max_running = 2;
    world_init(&w, 0, &options);
    fake_backend.gated = true;
    int32_t prompt[400];
    world_prompt(prompt, 400, 1);
    struct phid_request_params small = client_params(prompt, 4, 400),
                               large = client_params(prompt, 400, 5);
    struct client running, prefilling, queued;
    client_submit(&running, w.engine, &small);
    fake_backend_let(3);
    while (running.token_count < 2) {
        phid_request_wait(running.request, 5000);
        client_poll(&running);
    }
    client_submit(&prefilling, w.engine, &large);
    client_submit(&queued, w.engine, &small);
    fake_backend_let(2);
    phid_request_cancel(queued.request);
    phid_request_cancel(prefilling.request);
    fake_backend_let(2);
    client_finish(&queued);
    client_finish(&prefilling);
    assert_int_equal(queued.last.finish, PHID_FINISH_CANCELLED);
    assert_int_equal(prefilling.last.finish, PHID_FINISH_CANCELLED);
    phid_request_cancel(running.request);
    fake_backend_let(-1);
    client_finish(&running);
    assert_int_equal(running.last.finish, PHID_FINISH_CANCELLED);
    /* The pages were free before the end could be seen. */
    struct phid_engine_stats stats;
    phid_engine_stats(w.engine, &stats);
    assert_int_equal(stats.pages_free, stats.pages_total);
    assert_int_equal(stats.requests_cancelled, 3);
    client_fini(&running);
    client_fini(&prefilling);
    client_fini(&queued);
    world_fini(&w);
}

static void test_engine_slow_reader(void **state)
{
    struct world w;
    struct phid_engine_options options = world_pool(1);
    options.max_running = 2;
    world_init(&w, 0, &options);
    /* Nobody reads the first two; when 64 KiB wait for each of them, others get their seats and
     * pages. */
    world_script_long();
    int32_t prompt[200];
    world_prompt(prompt, 200, 1);
    struct phid_request_params params = client_params(prompt, 200, 300);
    struct client slow[2], quick;
    for (int i = 0; i < 2; i++) {
        client_submit(&slow[i], w.engine, &params);
    }
    for (int i = 0; i < 2; i++) {
        while (!atomic_load(&slow[i].request->sequence->output.full)) {
            assert_true(phid_request_wait(slow[i].request, 20000));
        }
    }
    expect_rest(&w); /* who waits for readers has nothing to do */
    params.max_tokens = 20;
    for (int i = 0; i < 5; i++) {
        client_submit(&quick, w.engine, &params);
        world_expect_answer(&w, &quick, prompt, 200, 20, 0);
        client_fini(&quick);
    }
    for (int i = 0; i < 2; i++) {
        assert_true(client_poll(&slow[i]));
        assert_in_range(slow[i].text.size, OUTPUT_TEXT_FULL, OUTPUT_TEXT_FULL + FAKE_LONG_BYTES);
        world_expect_answer(&w, &slow[i], prompt, 200, 300, 0);
        client_fini(&slow[i]);
    }
    world_fini(&w);
}

static void test_engine_nan_ends_one(void **state)
{
    struct world w;
    world_init(&w, 0, NULL);
    fake_backend.nan_token = 300;
    fake_backend.step_us = 100;
    const int32_t bad[] = {1, 300, 5};
    struct phid_request_params good_params = client_params(world_bos, 1, 60),
                               bad_params = client_params(bad, 3, 60);
    struct client good, poisoned;
    client_submit(&good, w.engine, &good_params);
    client_submit(&poisoned, w.engine, &bad_params);
    client_finish(&poisoned);
    assert_int_equal(poisoned.last.finish, PHID_FINISH_ERROR);
    assert_int_equal(poisoned.last.error.status, PHID_ERR_INTERNAL);
    assert_non_null(strstr(poisoned.last.error.message, "NaN"));
    client_fini(&poisoned);
    bad_params.prompt_logprobs = true;
    client_submit(&poisoned, w.engine, &bad_params);
    client_finish(&poisoned);
    assert_int_equal(poisoned.last.finish, PHID_FINISH_ERROR);
    client_fini(&poisoned);
    client_finish(&good);
    assert_int_not_equal(good.last.finish, PHID_FINISH_ERROR);
    client_fini(&good);
    world_fini(&w);
}

static void test_engine_backend_failure(void **state)
{
    struct world w;
    world_init(&w, 0, NULL);
    atomic_store(&fake_backend.fail_step, 3);
    struct phid_request_params params = client_params(world_bos, 1, 60);
    struct client c;
    client_submit(&c, w.engine, &params);
    client_finish(&c);
    assert_int_equal(c.last.finish, PHID_FINISH_ERROR);
    assert_int_equal(c.last.error.status, PHID_ERR_INTERNAL);
    client_fini(&c);
    client_submit(&c, w.engine, &params); /* the engine goes on */
    world_expect_answer(&w, &c, world_bos, 1, 60, 0);
    client_fini(&c);
    fake_backend.failure = PHID_ERR_DEVICE;
    atomic_store(&fake_backend.fail_step, atomic_load(&fake_backend.steps) + 2);
    client_submit(&c, w.engine, &params);
    client_finish(&c);
    assert_int_equal(c.last.error.status, PHID_ERR_DEVICE);
    client_fini(&c);
    struct phid_request *request = NULL;
    assert_int_equal(phid_engine_submit(w.engine, &params, &request, NULL), PHID_ERR_DEVICE);
    float logits[FAKE_VOCAB];
    assert_int_equal(phid_engine_logits(w.engine, world_bos, 1, false, logits, NULL),
                     PHID_ERR_DEVICE);
    world_fini(&w);
}

static void test_engine_free_while_running(void **state)
{
    struct world w;
    struct phid_engine_options options = world_pool(1);
    options.max_running = 1;
    world_init(&w, 0, &options);
    fake_backend.step_us = 100;
    struct phid_request_params params = client_params(world_bos, 1, 500);
    struct client clients[3], gone;
    for (int i = 0; i < 3; i++) {
        client_submit(&clients[i], w.engine, &params);
    }
    client_submit(&gone, w.engine, &params);
    client_fini(&gone);
    phid_engine_free(w.engine);
    for (int i = 0; i < 3; i++) {
        client_finish(&clients[i]);
        assert_int_equal(clients[i].last.finish, PHID_FINISH_ERROR);
        assert_int_equal(clients[i].last.error.status, PHID_ERR_CLOSED);
        phid_request_cancel(clients[i].request);
        client_fini(&clients[i]);
    }
    fake_model_fini(&w.model);
}

static void test_engine_logits(void **state)
{
    struct world w;
    struct phid_engine_options options = world_pool(1);
    options.step_tokens = 16;
    options.max_running = 5;
    world_init(&w, 50, &options);
    fake_backend.step_us = 100;
    int32_t prompt[90];
    world_prompt(prompt, 90, 1);
    /* Two that fill the pool, so that pages must be taken from them. */
    struct phid_request_params params = client_params(prompt, 40, 200);
    struct client clients[2];
    client_submit(&clients[0], w.engine, &params);
    client_submit(&clients[1], w.engine, &params);
    phid_request_wait(clients[0].request, 5000);
    float *all = calloc(90 * FAKE_VOCAB, sizeof(*all));
    float expected[FAKE_VOCAB];
    assert_int_equal(phid_engine_logits(w.engine, prompt, 90, true, all, NULL), PHID_OK);
    for (size_t i = 0; i < 90; i++) {
        fake_logits(fake_hash(prompt, i + 1, BLOCK_ROPE_LONG), prompt, i + 1, expected);
        assert_memory_equal(all + i * FAKE_VOCAB, expected, sizeof(expected));
    }
    assert_int_equal(phid_engine_logits(w.engine, prompt, 50, false, all, NULL), PHID_OK);
    fake_logits(fake_hash(prompt, 50, BLOCK_ROPE_SHORT), prompt, 50, expected);
    assert_memory_equal(all, expected, sizeof(expected));
    struct phid_error error;
    int32_t *many = calloc(WORLD_CONTEXT + 1, sizeof(*many));
    assert_int_equal(phid_engine_logits(w.engine, many, WORLD_CONTEXT + 1, false, all, &error),
                     PHID_ERR_CONTEXT);
    assert_int_equal(phid_engine_logits(w.engine, many, 0, false, all, &error), PHID_ERR_ARGUMENT);
    many[2] = FAKE_VOCAB;
    assert_int_equal(phid_engine_logits(w.engine, many, 3, false, all, &error), PHID_ERR_ARGUMENT);
    for (int i = 0; i < 2; i++) {
        world_expect_answer(&w, &clients[i], prompt, 40, 200, 50);
        client_fini(&clients[i]);
    }
    free(many);
    free(all);
    world_fini(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_engine_one_request),
        cmocka_unit_test(test_engine_measures),
        cmocka_unit_test(test_engine_stall_is_seen),
        cmocka_unit_test(test_engine_info),
        cmocka_unit_test(test_engine_refusals),
        cmocka_unit_test(test_engine_clamps_to_context),
        cmocka_unit_test(test_engine_no_room_for_a_context),
        cmocka_unit_test(test_engine_crosses_to_long_factors),
        cmocka_unit_test(test_engine_longrope_policies),
        cmocka_unit_test(test_engine_short_factors_end_the_context),
        cmocka_unit_test(test_engine_long_factors_do_not_share_with_short),
        cmocka_unit_test(test_engine_preemption_is_exact),
        cmocka_unit_test(test_engine_decodes_while_prefilling),
        cmocka_unit_test(test_engine_warms_pages),
        cmocka_unit_test(test_engine_queue_is_bounded),
        cmocka_unit_test(test_engine_drain),
        cmocka_unit_test(test_engine_cancel),
        cmocka_unit_test(test_engine_slow_reader),
        cmocka_unit_test(test_engine_nan_ends_one),
        cmocka_unit_test(test_engine_backend_failure),
        cmocka_unit_test(test_engine_free_while_running),
        cmocka_unit_test(test_engine_logits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

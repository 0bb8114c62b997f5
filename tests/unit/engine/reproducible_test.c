/* The real engine on the tiny model: a request's tokens are the same alone and among 64 mixed
 * neighbours, greedy or seeded, with prefixes shared or not, with steps of any size, and across the
 * change of rotary factors. The argument is the model's file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/phid.h"

enum { REQUESTS = 64, ANSWER_MAX = 40, ALONE_STEP = 512, ORIGINAL = 256 };

static const char *model_path;

struct wanted {
    int32_t *prompt; /* heap */
    size_t prompt_count, max_tokens;
    float temperature;
    uint64_t seed;
    int32_t answer[ANSWER_MAX]; /* alone */
    size_t answer_count;
};

struct running {
    struct phid_request *request;
    int32_t ids[ANSWER_MAX];
    size_t count, cached;
};

static const char rules[] =
    "You are a helpful assistant. Answer every question in one short sentence. Do not guess. ";
static const char story[] = "Once upon a time there was a small house by the sea. ";

static void make_wanted(const struct phid_model *model, struct wanted *w, size_t i)
{
    char text[4096] = "";
    size_t used = 0;
    /* One in eight begins short of the original context of 256 tokens and crosses it. */
    size_t stories = i % 8 == 3 ? 14 + i % 3 : i % 5;
    if (i % 2 == 0) {
        used += (size_t)snprintf(text + used, sizeof(text) - used, "%s", rules);
    }
    for (size_t n = 0; n < stories; n++) {
        used += (size_t)snprintf(text + used, sizeof(text) - used, "%s", story);
    }
    used +=
        (size_t)snprintf(text + used, sizeof(text) - used, "What is %zu and %zu?", i % 7, i % 11);
    struct phid_message message = {.role = PHID_ROLE_USER, .content = text, .content_size = used};
    struct phid_error error = {0};
    memset(w, 0, sizeof(*w));
    if (phid_chat_tokens(model, &message, 1, &w->prompt, &w->prompt_count, &error) != PHID_OK) {
        fail_msg("%s", error.message);
    }
    w->max_tokens = i % 8 == 3 ? ANSWER_MAX : 8 + i % 12;
    w->temperature = i % 3 == 1 ? 0.9f : 0;
    w->seed = i;
}

static void submit(struct phid_engine *engine, const struct wanted *w, struct running *r)
{
    struct phid_request_params params = {
        .prompt = w->prompt,
        .prompt_count = w->prompt_count,
        .max_tokens = w->max_tokens,
        .ignore_eos = true,
        .sampling = {.temperature = w->temperature,
                     .top_p = 1,
                     .repetition_penalty = 1,
                     .seed = w->seed},
        .logprobs = 0,
    };
    struct phid_error error = {0};
    memset(r, 0, sizeof(*r));
    if (phid_engine_submit(engine, &params, &r->request, &error) != PHID_OK) {
        fail_msg("submit: %s", error.message);
    }
}

static void finish(struct running *r)
{
    struct phid_output output = {0};
    while (output.finish == PHID_FINISH_NONE) {
        assert_true(phid_request_wait(r->request, 120000));
        if (!phid_request_poll(r->request, &output)) {
            continue;
        }
        for (size_t i = 0; i < output.token_count; i++) {
            assert_true(r->count < ANSWER_MAX);
            r->ids[r->count++] = output.tokens[i].id;
        }
    }
    assert_int_equal(output.finish, PHID_FINISH_LENGTH);
    r->cached = output.cached_tokens;
    phid_request_free(r->request);
}

static struct phid_engine *open_engine(struct phid_model *model,
                                       const struct phid_engine_options *options)
{
    struct phid_engine *engine = NULL;
    struct phid_error error = {0};
    if (phid_engine_new(model, options, &engine, &error) != PHID_OK) {
        fail_msg("engine: %s", error.message);
    }
    return engine;
}

static void answer_alone(struct phid_model *model, struct wanted *wanted, enum phid_kv_type type)
{
    struct phid_engine_options options = {.context = 512,
                                          .step_tokens = ALONE_STEP,
                                          .kv_type = type,
                                          .kv_memory_bytes = 64 << 20,
                                          .speculation = PHID_SPECULATION_OFF,
                                          .prefix_cache_off = true};
    struct phid_engine *engine = open_engine(model, &options);
    for (size_t i = 0; i < REQUESTS; i++) {
        struct running r;
        submit(engine, &wanted[i], &r);
        finish(&r);
        assert_int_equal(r.cached, 0);
        memcpy(wanted[i].answer, r.ids, sizeof(r.ids));
        wanted[i].answer_count = r.count;
    }
    phid_engine_free(engine);
}

/* Everybody at once, and again: the second time all prompts are cached, where they may be. */
static void answer_together(struct phid_model *model, const struct wanted *wanted,
                            const struct phid_engine_options *options)
{
    static struct running running[REQUESTS];
    struct phid_engine *engine = open_engine(model, options);
    struct phid_engine_stats stats;
    for (int turn = 0; turn < 2; turn++) {
        for (size_t i = 0; i < REQUESTS; i++) {
            submit(engine, &wanted[i], &running[i]);
        }
        for (size_t i = 0; i < REQUESTS; i++) {
            const struct wanted *w = &wanted[i];
            finish(&running[i]);
            assert_int_equal(running[i].count, w->answer_count);
            if (memcmp(running[i].ids, w->answer, w->answer_count * sizeof(*w->answer)) != 0) {
                fail_msg("request %zu, turn %d, steps of %zu, cache %d, kv %d: other tokens", i,
                         turn, options->step_tokens, !options->prefix_cache_off, options->kv_type);
            }
        }
    }
    phid_engine_stats(engine, &stats);
    assert_int_equal(stats.prefix_hits > 0, !options->prefix_cache_off);
    assert_int_equal(stats.pages_free, stats.pages_total);
    phid_engine_free(engine);
}

static void check(enum phid_kv_type type, const size_t *steps, size_t step_count)
{
    static struct wanted wanted[REQUESTS];
    size_t crossing = 0;
    struct phid_model *model = NULL;
    struct phid_error error = {0};
    if (phid_model_open(model_path, NULL, &model, &error) != PHID_OK) {
        fail_msg("%s: %s", model_path, error.message);
    }
    for (size_t i = 0; i < REQUESTS; i++) {
        make_wanted(model, &wanted[i], i);
        crossing += wanted[i].prompt_count <= ORIGINAL &&
                    wanted[i].prompt_count + wanted[i].max_tokens > ORIGINAL;
    }
    assert_true(crossing > 0);
    answer_alone(model, wanted, type);
    for (size_t i = 0; i < step_count; i++) {
        for (int off = 0; off < 2; off++) {
            struct phid_engine_options options = {.context = 512,
                                                  .step_tokens = steps[i],
                                                  .max_running = 64,
                                                  .kv_type = type,
                                                  .kv_memory_bytes = 16 << 20,
                                                  .prefix_cache_off = off == 1};
            answer_together(model, wanted, &options);
        }
    }
    for (size_t i = 0; i < REQUESTS; i++) {
        free(wanted[i].prompt);
    }
    phid_model_close(model);
}

static void test_reproducible_any_crowd_and_step(void **state)
{
    static const size_t steps[] = {1, 7, 64, 512};
    check(PHID_KV_F16, steps, sizeof(steps) / sizeof(steps[0]));
}

static void test_reproducible_int8(void **state)
{
    static const size_t steps[] = {33, 512};
    check(PHID_KV_INT8, steps, sizeof(steps) / sizeof(steps[0]));
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: %s MODEL\n", argv[0]);
        return 2;
    }
    model_path = argv[1];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reproducible_any_crowd_and_step),
        cmocka_unit_test(test_reproducible_int8),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

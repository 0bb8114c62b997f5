/* Guessing ahead: fewer steps, the same tokens. */
#include "engine/phid.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/unit/engine/fake_backend.h"
#include "tests/unit/engine/world.h"

enum { PROMPT = 40, ANSWER = 300 };

struct run {
    struct phid_engine_stats stats;
    struct phid_output last;
    int steps;
};

/* One request whose text repeats itself with small breaks; the answer is checked. */
static struct run run_one(enum phid_speculation speculation, size_t original_context,
                          unsigned step_us)
{
    struct world w;
    struct phid_engine_options options = world_pool(2);
    options.speculation = speculation;
    world_init(&w, original_context, &options);
    fake_backend.period = 9;
    fake_backend.step_us = step_us;
    int32_t prompt[PROMPT];
    world_prompt(prompt, PROMPT, 1);
    struct phid_request_params params = client_params(prompt, PROMPT, ANSWER);
    params.logprobs = 2;
    struct client c;
    client_submit(&c, w.engine, &params);
    world_expect_answer(&w, &c, prompt, PROMPT, ANSWER, original_context);
    struct run r = {.last = c.last, .steps = atomic_load(&fake_backend.steps)};
    client_fini(&c);
    phid_engine_stats(w.engine, &r.stats);
    world_fini(&w);
    return r;
}

static void test_speculate_saves_steps(void **state)
{
    (void)state;
    struct run off = run_one(PHID_SPECULATION_OFF, 0, 0);
    assert_int_equal(off.steps, ANSWER);
    assert_int_equal(off.stats.draft_tokens, 0);
    assert_int_equal(off.last.drafts_accepted + off.last.drafts_rejected, 0);

    struct run on = run_one(PHID_SPECULATION_ALWAYS, 0, 0);
    assert_true(on.steps < ANSWER * 2 / 3);
    assert_int_equal(on.steps, ANSWER - (int)on.last.drafts_accepted);
    assert_int_equal(on.stats.draft_accepted, on.last.drafts_accepted);
    uint64_t by_place = 0;
    for (size_t i = 0; i < PHID_DRAFT_PLACES; i++) { /* a guess counts if those before were right */
        by_place += on.stats.draft_accepted_at[i];
        assert_true(i == 0 || on.stats.draft_accepted_at[i] <= on.stats.draft_accepted_at[i - 1]);
    }
    assert_int_equal(by_place, on.stats.draft_accepted);
    assert_int_equal(on.stats.draft_tokens, on.last.drafts_accepted + on.last.drafts_rejected);
    assert_true(on.stats.drafts > 0 && on.last.drafts_rejected > 0);
    assert_int_equal(on.stats.tokens_decoded, ANSWER);
    assert_int_equal(on.stats.tokens_prefilled, PROMPT);
}

/* A step takes as long with guesses as without: the loop finds out that they pay. */
static void test_speculate_auto_when_it_pays(void **state)
{
    (void)state;
    struct run r = run_one(PHID_SPECULATION_AUTO, 0, 2000);
    assert_true(r.last.drafts_accepted > ANSWER / 10);
}

static void test_speculate_up_to_the_original_context(void **state)
{
    (void)state;
    for (size_t original = 60; original < 72; original++) {
        struct run r = run_one(PHID_SPECULATION_ALWAYS, original, 0);
        assert_true(r.last.drafts_accepted > 0);
    }
}

/* Seeded sampling: each token is drawn as it would be alone. */
static void test_speculate_leaves_samples_alone(void **state)
{
    (void)state;
    struct client clients[2];
    for (int on = 0; on < 2; on++) {
        struct world w;
        struct phid_engine_options options = world_pool(2);
        options.speculation = on ? PHID_SPECULATION_ALWAYS : PHID_SPECULATION_OFF;
        world_init(&w, 0, &options);
        fake_backend.period = 5;
        int32_t prompt[PROMPT];
        world_prompt(prompt, PROMPT, 3);
        struct phid_request_params params = client_params(prompt, PROMPT, ANSWER);
        params.sampling.temperature = 0.02f;
        params.sampling.frequency_penalty = 0.001f;
        params.sampling.seed = 99;
        client_submit(&clients[on], w.engine, &params);
        client_finish(&clients[on]);
        phid_request_free(clients[on].request);
        clients[on].request = NULL;
        world_fini(&w);
    }
    assert_true(clients[1].last.drafts_accepted > 0);
    assert_int_equal(clients[0].token_count, clients[1].token_count);
    for (size_t i = 0; i < clients[0].token_count; i++) {
        assert_int_equal(clients[0].tokens[i].id, clients[1].tokens[i].id);
    }
    client_fini(&clients[0]);
    client_fini(&clients[1]);
}

/* The client has said what the answer will be, but for a word. */
static void test_speculate_prediction(void **state)
{
    (void)state;
    struct world w;
    struct phid_engine_options options = world_pool(2);
    options.speculation = PHID_SPECULATION_ALWAYS;
    world_init(&w, 0, &options);
    int32_t prompt[PROMPT], prediction[ANSWER];
    bool ended = false;
    world_prompt(prompt, PROMPT, 1);
    assert_int_equal(fake_answer(prompt, PROMPT, ANSWER, 0, false, prediction, &ended), ANSWER);
    prediction[ANSWER / 2] ^= 1;
    struct phid_request_params params = client_params(prompt, PROMPT, ANSWER);
    params.prediction = prediction;
    params.prediction_count = ANSWER;
    struct client c;
    client_submit(&c, w.engine, &params);
    world_expect_answer(&w, &c, prompt, PROMPT, ANSWER, 0);
    assert_true(c.last.drafts_accepted > ANSWER * 3 / 4);
    client_fini(&c);
    prediction[3] = FAKE_VOCAB;
    world_expect_refusal(&w, &params, PHID_ERR_ARGUMENT, "prediction");
    world_fini(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_speculate_saves_steps),
        cmocka_unit_test(test_speculate_auto_when_it_pays),
        cmocka_unit_test(test_speculate_up_to_the_original_context),
        cmocka_unit_test(test_speculate_leaves_samples_alone),
        cmocka_unit_test(test_speculate_prediction),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

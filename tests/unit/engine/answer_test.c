/* What a request gets to see: text, tokens, log-probabilities, stop strings, wake-ups. */
#include "engine/phid.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/engine/fake_backend.h"
#include "tests/unit/engine/world.h"

static void test_answer_end_token(void **state)
{
    struct world w;
    world_init(&w, 0, NULL);
    int32_t script[3];
    const char *const pieces[] = {" Paris", " is", " nice"};
    world_script(script, pieces, 3);
    struct phid_request_params params = client_params(world_bos, 1, 50);
    struct client c;
    client_submit(&c, w.engine, &params);
    client_finish(&c);
    world_expect_text(&c, "Paris is nice"); /* an answer drops the leading space, */
    assert_int_equal(c.last.finish, PHID_FINISH_STOP);
    assert_int_equal(c.last.completion_tokens, 4);
    assert_int_equal(c.token_count, 3);
    client_fini(&c);
    params.continues_text = true;
    client_submit(&c, w.engine, &params);
    client_finish(&c);
    world_expect_text(&c, "Paris is nice"); /* and so does a text behind a control token; */
    client_fini(&c);
    const int32_t word = fake_piece_id(" the");
    params.prompt = &word;
    client_submit(&c, w.engine, &params);
    client_finish(&c);
    world_expect_text(&c, " Paris is nice"); /* a text that goes on keeps it */
    client_fini(&c);
    params.ignore_eos = true;
    params.max_tokens = 6;
    client_submit(&c, w.engine, &params);
    client_finish(&c);
    assert_int_equal(c.last.finish, PHID_FINISH_LENGTH);
    assert_int_equal(c.token_count, 6);
    client_fini(&c);
    params.ignore_eos = false;
    params.min_tokens = 5;
    client_submit(&c, w.engine, &params);
    client_finish(&c);
    assert_int_equal(c.last.finish, PHID_FINISH_STOP);
    assert_int_equal(c.token_count, 5);
    client_fini(&c);
    world_fini(&w);
}

static void test_answer_stop_across_tokens(void **state)
{
    struct world w;
    world_init(&w, 0, NULL);
    int32_t script[5];
    const char *const pieces[] = {" Paris", " is", "EN", "D", " nice"};
    world_script(script, pieces, 5);
    struct phid_stop stops[] = {
        {.text = "ENDE", .size = 4}, {.text = "sEND", .size = 4}, {.text = "zz", .size = 2}};
    struct phid_request_params params = client_params(world_bos, 1, 50);
    params.stops = stops;
    params.stop_count = 3;
    struct client c;
    client_submit(&c, w.engine, &params);
    client_finish(&c);
    world_expect_text(&c, "Paris i");
    assert_int_equal(c.last.finish, PHID_FINISH_STOP);
    assert_int_equal(c.last.completion_tokens, 4); /* also those that were cut */
    assert_int_equal(c.token_count, 2);            /* " is" is partly there */
    client_fini(&c);
    /* A stop that does not come after all is released at the end. */
    fake_backend.script_count = 4;
    params.stop_count = 1;
    client_submit(&c, w.engine, &params);
    client_finish(&c);
    world_expect_text(&c, "Paris isEND");
    assert_int_equal(c.last.finish, PHID_FINISH_STOP);
    assert_int_equal(c.token_count, 4);
    client_fini(&c);
    params.max_tokens = 3;
    client_submit(&c, w.engine, &params);
    client_finish(&c);
    world_expect_text(&c, "Paris isEN");
    assert_int_equal(c.last.finish, PHID_FINISH_LENGTH);
    assert_int_equal(c.token_count, 3);
    client_fini(&c);
    world_fini(&w);
}

static void test_answer_split_character(void **state)
{
    struct world w;
    world_init(&w, 0, NULL);
    const int32_t script[] = {FAKE_BYTE + 0xF0, FAKE_BYTE + 0x9F, FAKE_BYTE + 0x98,
                              FAKE_BYTE + 0x80, FAKE_BYTE + 0xE6, FAKE_BYTE + 0x97};
    fake_backend.script = script;
    fake_backend.script_count = 6;
    struct phid_request_params params = client_params(world_bos, 1, 6);
    struct client c;
    client_submit(&c, w.engine, &params);
    client_finish(&c);
    world_expect_text(&c, "\xF0\x9F\x98\x80\xEF\xBF\xBD");
    assert_int_equal(c.token_count, 6);
    for (size_t i = 0; i < 4; i++) {
        assert_true(c.tokens[i].text_size >= 4); /* not before its text */
    }
    client_fini(&c);
    world_fini(&w);
}

static void test_answer_logprobs(void **state)
{
    struct world w;
    struct phid_engine_options options = world_pool(1);
    options.step_tokens = 7;
    world_init(&w, 0, &options);
    int32_t prompt[20];
    world_prompt(prompt, 20, 3);
    struct phid_request_params params = client_params(prompt, 20, 5);
    params.logprobs = 3;
    params.prompt_logprobs = true;
    params.continues_text = true;
    struct client c;
    client_submit(&c, w.engine, &params);
    client_finish(&c);
    assert_int_equal(c.token_count, 25);
    int32_t all[25];
    float logits[FAKE_VOCAB];
    for (size_t i = 0; i < 25; i++) {
        const struct client_token *t = &c.tokens[i];
        assert_int_equal(t->is_prompt, i < 20);
        if (i < 20) {
            assert_int_equal(t->id, prompt[i]);
        }
        all[i] = t->id;
        if (i == 0) {
            assert_true(isnan(t->logprob));
            assert_int_equal(t->top_count, 0);
            continue;
        }
        fake_logits(fake_hash(all, i, BLOCK_ROPE_SHORT), all, i, logits);
        double sum = 0;
        int32_t best = 0;
        for (int32_t id = 0; id < FAKE_VOCAB; id++) {
            sum += exp((double)logits[id]);
            best = logits[id] > logits[best] ? id : best;
        }
        assert_float_equal(t->logprob, (float)((double)logits[t->id] - log(sum)), 1e-4f);
        assert_int_equal(t->top_count, 3);
        assert_int_equal(t->top[0].id, best);
        assert_float_equal(t->top[0].logprob, (float)((double)logits[best] - log(sum)), 1e-4f);
    }
    client_fini(&c);
    world_fini(&w);
}

static void test_answer_only_prompt(void **state)
{
    struct world w;
    world_init(&w, 0, NULL);
    int32_t prompt[WORLD_CONTEXT];
    world_prompt(prompt, WORLD_CONTEXT, 3);
    struct phid_request_params params = client_params(prompt, WORLD_CONTEXT, 0);
    params.logprobs = 0;
    params.prompt_logprobs = true;
    struct client c;
    client_submit(&c, w.engine, &params);
    client_finish(&c);
    assert_int_equal(c.last.finish, PHID_FINISH_LENGTH);
    assert_int_equal(c.token_count, WORLD_CONTEXT);
    assert_int_equal(c.last.completion_tokens, 0);
    assert_int_equal(c.text.size, 0);
    client_fini(&c);
    params = client_params(prompt, 1, 0);
    params.prompt_logprobs = true;
    client_submit(&c, w.engine, &params);
    client_finish(&c);
    assert_int_equal(c.token_count, 1);
    client_fini(&c);
    world_fini(&w);
}

static void count_wake(void *user)
{
    atomic_fetch_add((atomic_int *)user, 1);
}

static void test_answer_wake(void **state)
{
    struct world w;
    world_init(&w, 0, NULL);
    atomic_int wakes = 0;
    struct phid_request_params params = client_params(world_bos, 1, 50);
    params.wake = count_wake;
    params.wake_user = &wakes;
    struct client c;
    client_submit(&c, w.engine, &params);
    client_expect_all_free(w.engine);
    /* Nobody has polled: once for the first output, once for the end. */
    assert_int_equal(atomic_load(&wakes), 2);
    client_finish(&c);
    assert_int_equal(c.polls, 1);
    client_fini(&c);
    fake_backend.step_us = 100;
    params.max_tokens = 500;
    client_submit(&c, w.engine, &params);
    phid_request_wait(c.request, 5000);
    client_fini(&c);
    int after = atomic_load(&wakes);
    client_expect_all_free(w.engine);
    assert_int_equal(atomic_load(&wakes), after);
    world_fini(&w);
}

static void test_answer_seed_is_the_requests_own(void **state)
{
    struct world w;
    struct phid_engine_options options = world_pool(2);
    world_init(&w, 0, &options);
    int32_t prompt[10];
    world_prompt(prompt, 10, 5);
    struct phid_request_params params = client_params(prompt, 10, 40);
    params.sampling.temperature = 1;
    params.sampling.seed = 42;
    struct client alone, crowd[8];
    client_submit(&alone, w.engine, &params);
    client_finish(&alone);
    for (int i = 0; i < 8; i++) {
        params.sampling.seed = i % 2 == 0 ? 42 : (uint64_t)i;
        client_submit(&crowd[i], w.engine, &params);
    }
    for (int i = 0; i < 8; i++) {
        client_finish(&crowd[i]);
        bool same = str_equal(buf_view(&crowd[i].text), buf_view(&alone.text));
        assert_int_equal(same, i % 2 == 0);
        client_fini(&crowd[i]);
    }
    client_fini(&alone);
    world_fini(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answer_end_token),
        cmocka_unit_test(test_answer_stop_across_tokens),
        cmocka_unit_test(test_answer_split_character),
        cmocka_unit_test(test_answer_logprobs),
        cmocka_unit_test(test_answer_only_prompt),
        cmocka_unit_test(test_answer_wake),
        cmocka_unit_test(test_answer_seed_is_the_requests_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

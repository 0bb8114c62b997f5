/* Computed prefixes through the public interface: what is found, what is computed, and that no
 * answer changes for it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/engine/fake_backend.h"
#include "tests/unit/engine/world.h"

/* Without guesses, since rows are counted. */
static struct phid_engine_options plain_pool(size_t contexts)
{
    struct phid_engine_options options = world_pool(contexts);
    options.speculation = PHID_SPECULATION_OFF;
    return options;
}

static size_t rows(void)
{
    return atomic_load(&fake_backend.rows);
}

/* One request from beginning to end; returns the rows it took. */
static size_t ask(struct world *w, const struct phid_request_params *params, size_t cached)
{
    size_t before = rows();
    struct client c;
    client_submit(&c, w->engine, params);
    world_expect_answer(w, &c, params->prompt, params->prompt_count, params->max_tokens, 0);
    assert_int_equal(c.last.cached_tokens, cached);
    client_fini(&c);
    return rows() - before;
}

static void test_sharing_same_prompt(void **state)
{
    struct world w;
    struct phid_engine_options options = plain_pool(4);
    world_init(&w, 0, &options);
    int32_t prompt[200];
    world_prompt(prompt, 200, 1);
    struct phid_request_params params = client_params(prompt, 200, 5);
    assert_int_equal(ask(&w, &params, 0), 204);
    /* Three pages, and the begun fourth one, but for the last token. */
    assert_int_equal(ask(&w, &params, 199), 5);
    assert_int_equal(ask(&w, &params, 199), 5);
    params.prompt_count = 192; /* ends with a page: that page is copied, not shared */
    size_t copies = atomic_load(&fake_backend.copies);
    assert_int_equal(ask(&w, &params, 191), 5);
    assert_int_equal(atomic_load(&fake_backend.copies), copies + 1);
    params.prompt_count = 100;
    assert_int_equal(ask(&w, &params, 99), 5);
    params.prompt_count = 30; /* less than a page */
    assert_int_equal(ask(&w, &params, 29), 5);
    params.prompt_count = 1;
    assert_int_equal(ask(&w, &params, 0), 5);
    params.prompt_count = 150;
    params.max_tokens = 0;
    assert_int_equal(ask(&w, &params, 149), 1);
    struct phid_engine_stats stats;
    phid_engine_stats(w.engine, &stats);
    assert_int_equal(stats.prefix_queries, 200 * 3 + 192 + 100 + 30 + 1 + 150);
    assert_int_equal(stats.prefix_hits, 199 * 2 + 191 + 99 + 29 + 149);
    assert_int_equal(stats.pages_free, stats.pages_total);
    assert_in_range(stats.pages_cached, 4, stats.pages_total);
    world_fini(&w);
}

static void test_sharing_other_prompts(void **state)
{
    struct world w;
    struct phid_engine_options options = plain_pool(4);
    world_init(&w, 0, &options);
    int32_t prompt[200];
    world_prompt(prompt, 200, 1);
    struct phid_request_params params = client_params(prompt, 200, 1);
    ask(&w, &params, 0);
    prompt[150]++; /* the same up to the middle of the third page */
    assert_int_equal(ask(&w, &params, 150), 50);
    prompt[131]++; /* three tokens into it: not worth a copy */
    assert_int_equal(ask(&w, &params, 128), 72);
    prompt[0]++;
    assert_int_equal(ask(&w, &params, 0), 200);
    world_fini(&w);
}

static void test_sharing_is_apart(void **state)
{
    struct world w;
    struct phid_engine_options options = plain_pool(8);
    world_init(&w, 0, &options);
    int32_t prompt[100];
    world_prompt(prompt, 100, 1);
    struct phid_request_params params = client_params(prompt, 100, 1);
    ask(&w, &params, 0);
    params.tenant = "";
    ask(&w, &params, 99); /* the same as none */
    params.tenant = "alice";
    ask(&w, &params, 0);
    ask(&w, &params, 99);
    params.cache_salt = "pepper";
    params.cache_salt_size = 6;
    ask(&w, &params, 0);
    ask(&w, &params, 99);
    params.cache_salt_size = 5;
    ask(&w, &params, 0);
    params.tenant = "bob";
    ask(&w, &params, 0);
    world_fini(&w);
}

static void test_sharing_off(void **state)
{
    struct world w;
    struct phid_engine_options options = plain_pool(4);
    options.prefix_cache_off = true;
    world_init(&w, 0, &options);
    int32_t prompt[200];
    world_prompt(prompt, 200, 1);
    struct phid_request_params params = client_params(prompt, 200, 5);
    assert_int_equal(ask(&w, &params, 0), 204);
    assert_int_equal(ask(&w, &params, 0), 204);
    struct phid_engine_stats stats;
    phid_engine_stats(w.engine, &stats);
    assert_int_equal(stats.prefix_queries, 0);
    assert_int_equal(stats.pages_cached, 0);
    world_fini(&w);
}

static void test_sharing_next_turn(void **state)
{
    struct world w;
    struct phid_engine_options options = plain_pool(4);
    world_init(&w, 0, &options);
    int32_t chat[400];
    world_prompt(chat, 400, 1);
    size_t count = 75;
    for (int turn = 0; turn < 3; turn++) {
        bool ended = false;
        int32_t answer[60];
        struct phid_request_params params = client_params(chat, count, 60);
        size_t known = turn == 0 ? 0 : count - 11; /* the last token of an answer is not computed */
        assert_int_equal(ask(&w, &params, known), count - known + 59);
        assert_int_equal(fake_answer(chat, count, 60, 0, false, answer, &ended), 60);
        memcpy(chat + count, answer, sizeof(answer));
        count += 60 + 10; /* the client's next ten */
    }
    assert_int_equal(atomic_load(&fake_backend.copies), 0); /* it goes on in its own last page */
    world_fini(&w);
}

static void test_sharing_prompt_logprobs_computes(void **state)
{
    struct world w;
    struct phid_engine_options options = plain_pool(4);
    world_init(&w, 0, &options);
    int32_t prompt[150];
    world_prompt(prompt, 150, 1);
    struct phid_request_params params = client_params(prompt, 150, 1);
    ask(&w, &params, 0);
    params.prompt_logprobs = true;
    struct client c;
    size_t before = rows();
    client_submit(&c, w.engine, &params);
    client_finish(&c);
    assert_int_equal(c.token_count, 151);
    assert_int_equal(c.last.cached_tokens, 0);
    assert_int_equal(rows() - before, 150);
    client_fini(&c);
    params.prompt_logprobs = false;
    ask(&w, &params, 149);
    world_fini(&w);
}

enum { CROWD = 32, PREFIX = 1500, TAIL = 20 };

static void crowd_prompt(int32_t *prompt, int who)
{
    world_prompt(prompt, PREFIX + TAIL, 1);
    for (int i = 0; i < TAIL; i++) {
        prompt[PREFIX + i] = FAKE_PIECES + (who * 3 + i) % 100;
    }
}

static void crowd_open(struct world *w, size_t step_tokens, size_t page_bytes)
{
    fake_backend_reset();
    fake_backend.page_bytes = page_bytes;
    fake_model_init(&w->model, 2048, 0);
    struct phid_engine_options options = {.kv_memory_bytes = (uint64_t)page_bytes * 200,
                                          .context = 2048,
                                          .step_tokens = step_tokens,
                                          .speculation = PHID_SPECULATION_OFF,
                                          .max_running = CROWD};
    w->engine = client_engine(&w->model, &options);
}

static void test_sharing_crowd_computes_once(void **state)
{
    static const size_t steps[] = {512, 100, 64, 33};
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        static int32_t prompts[CROWD][PREFIX + TAIL];
        static struct client clients[CROWD];
        struct world w;
        crowd_open(&w, steps[i], i % 2 == 0 ? 1024 : (size_t)64 << 20);
        fake_backend.gated = true;
        for (int who = 0; who < CROWD; who++) {
            crowd_prompt(prompts[who], who);
            struct phid_request_params params = client_params(prompts[who], PREFIX + TAIL, 10);
            client_submit(&clients[who], w.engine, &params);
        }
        fake_backend_let(-1);
        for (int who = 0; who < CROWD; who++) {
            world_expect_answer(&w, &clients[who], prompts[who], PREFIX + TAIL, 10, 0);
            client_fini(&clients[who]);
        }
        struct phid_engine_stats stats;
        phid_engine_stats(w.engine, &stats);
        assert_in_range(stats.tokens_prefilled, PREFIX, PREFIX * 11 / 10 + CROWD * TAIL);
        assert_int_equal(stats.preemptions, 0);
        /* A large page is copied for one of them at a time, so that no step is late. */
        assert_int_equal(atomic_load(&fake_backend.copies), CROWD - 1);
        assert_true(i % 2 == 0 || stats.steps >= CROWD - 1);
        world_fini(&w);
    }
}

static void test_sharing_leader_leaves(void **state)
{
    static int32_t prompts[CROWD][PREFIX + TAIL];
    static struct client clients[CROWD];
    struct world w;
    crowd_open(&w, 100, 1024);
    fake_backend.gated = true;
    for (int who = 0; who < CROWD; who++) {
        crowd_prompt(prompts[who], who);
        struct phid_request_params params = client_params(prompts[who], PREFIX + TAIL, 10);
        client_submit(&clients[who], w.engine, &params);
    }
    for (int who = 0; who < 6; who++) { /* each after a few of the pages */
        int before = atomic_load(&fake_backend.steps);
        fake_backend_let(2);
        while (atomic_load(&fake_backend.steps) < before + 2) {
        }
        phid_request_cancel(clients[who].request);
    }
    fake_backend_let(-1);
    for (int who = 0; who < CROWD; who++) {
        if (who < 6) {
            client_finish(&clients[who]);
            assert_int_equal(clients[who].last.finish, PHID_FINISH_CANCELLED);
        } else {
            world_expect_answer(&w, &clients[who], prompts[who], PREFIX + TAIL, 10, 0);
        }
        client_fini(&clients[who]);
    }
    struct phid_engine_stats stats;
    phid_engine_stats(w.engine, &stats);
    assert_in_range(stats.tokens_prefilled, PREFIX, PREFIX * 11 / 10 + CROWD * TAIL);
    world_fini(&w);
}

static void test_sharing_candidates_of_one_prompt(void **state)
{
    struct world w;
    struct phid_engine_options options = plain_pool(8);
    world_init(&w, 0, &options);
    fake_backend.gated = true;
    int32_t prompt[40];
    world_prompt(prompt, 40, 1);
    struct client clients[8];
    struct phid_request_params params = client_params(prompt, 40, 4);
    for (int i = 0; i < 8; i++) {
        client_submit(&clients[i], w.engine, &params);
    }
    fake_backend_let(-1);
    for (int i = 0; i < 8; i++) {
        world_expect_answer(&w, &clients[i], prompt, 40, 4, 0);
        client_fini(&clients[i]);
    }
    assert_int_equal(rows(), 40 + 7 + 8 * 3);
    world_fini(&w);
}

static void test_sharing_evicts_before_preempting(void **state)
{
    struct world w;
    struct phid_engine_options options = plain_pool(1); /* 8 pages */
    world_init(&w, 0, &options);
    int32_t prompt[300];
    for (int i = 0; i < 40; i++) {
        world_prompt(prompt, 300, i / 2 % 5);
        struct phid_request_params params = client_params(prompt, 60 + (size_t)(i % 4) * 80, 40);
        struct client c;
        client_submit(&c, w.engine, &params);
        world_expect_answer(&w, &c, prompt, params.prompt_count, 40, 0);
        client_fini(&c);
    }
    struct phid_engine_stats stats;
    phid_engine_stats(w.engine, &stats);
    assert_true(stats.prefix_evictions > 0 && stats.prefix_hits > 0);
    assert_int_equal(stats.preemptions, 0);
    assert_int_equal(stats.pages_free, stats.pages_total);
    world_fini(&w);
}

static void test_sharing_parked_finds_its_pages(void **state)
{
    struct world w;
    struct phid_engine_options options = plain_pool(4);
    options.max_running = 1;
    world_init(&w, 0, &options);
    world_script_long();
    int32_t prompt[200];
    world_prompt(prompt, 200, 1);
    struct phid_request_params params = client_params(prompt, 200, 300);
    struct client slow, quick;
    client_submit(&slow, w.engine, &params);
    while (!atomic_load(&slow.request->sequence->output.full)) {
        assert_true(phid_request_wait(slow.request, 20000));
    }
    int32_t other[2] = {1, 300};
    params = client_params(other, 2, 3);
    client_submit(&quick, w.engine, &params);
    world_expect_answer(&w, &quick, other, 2, 3, 0);
    client_fini(&quick);
    size_t before = rows();
    assert_true(client_poll(&slow));
    size_t had = slow.token_count;
    world_expect_answer(&w, &slow, prompt, 200, 300, 0);
    assert_int_equal(slow.last.cached_tokens, 0); /* its own work is no hit */
    assert_in_range(rows() - before, 300 - had - 1, 300 - had + 2);
    client_fini(&slow);
    world_fini(&w);
}

static void test_sharing_copies_may_fail(void **state)
{
    struct world w;
    struct phid_engine_options options = plain_pool(4);
    world_init(&w, 0, &options);
    fake_backend.fail_copies = true;
    int32_t prompt[128];
    world_prompt(prompt, 128, 1);
    struct phid_request_params params = client_params(prompt, 128, 2);
    ask(&w, &params, 0);
    assert_int_equal(ask(&w, &params, 64), 65);
    world_fini(&w);
}

struct events {
    char last[64];
    size_t preemptions, twice;
};

static void note(void *user, const char *line)
{
    struct events *e = user;
    const char *id = strstr(line, "id=");
    if (strncmp(line, "event=preempt ", 14) != 0 || id == NULL) {
        return;
    }
    size_t size = strcspn(id, " ");
    e->twice += e->preemptions > 0 && strlen(e->last) == size && memcmp(e->last, id, size) == 0;
    snprintf(e->last, sizeof(e->last), "%.*s", (int)size, id);
    e->preemptions++;
}

static void test_sharing_none_is_preempted_twice_in_a_row(void **state)
{
    for (int round = 0; round < 6; round++) {
        struct events events = {0};
        struct world w;
        struct phid_engine_options options = plain_pool(2);
        options.log = note;
        options.log_user = &events;
        options.prefix_cache_off = round % 2 == 1;
        world_init(&w, 0, &options);
        fake_backend.gated = true;
        enum { COUNT = 8 };
        int32_t prompts[COUNT][60];
        struct client clients[COUNT];
        char ids[COUNT][8];
        for (int i = 0; i < COUNT; i++) {
            world_prompt(prompts[i], 60, i + round);
            struct phid_request_params params =
                client_params(prompts[i], 20 + (size_t)(i * 5), 200 + (size_t)(i % 3) * 90);
            snprintf(ids[i], sizeof(ids[i]), "r%d", i);
            params.id = ids[i];
            client_submit(&clients[i], w.engine, &params);
        }
        fake_backend_let(-1);
        for (int i = 0; i < COUNT; i++) {
            world_expect_answer(&w, &clients[i], prompts[i], 20 + (size_t)(i * 5),
                                200 + (size_t)(i % 3) * 90, 0);
            client_fini(&clients[i]);
        }
        assert_true(events.preemptions > 0);
        assert_int_equal(events.twice, 0);
        world_fini(&w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sharing_same_prompt),
        cmocka_unit_test(test_sharing_other_prompts),
        cmocka_unit_test(test_sharing_is_apart),
        cmocka_unit_test(test_sharing_off),
        cmocka_unit_test(test_sharing_next_turn),
        cmocka_unit_test(test_sharing_prompt_logprobs_computes),
        cmocka_unit_test(test_sharing_crowd_computes_once),
        cmocka_unit_test(test_sharing_leader_leaves),
        cmocka_unit_test(test_sharing_candidates_of_one_prompt),
        cmocka_unit_test(test_sharing_evicts_before_preempting),
        cmocka_unit_test(test_sharing_parked_finds_its_pages),
        cmocka_unit_test(test_sharing_copies_may_fail),
        cmocka_unit_test(test_sharing_none_is_preempted_twice_in_a_row),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

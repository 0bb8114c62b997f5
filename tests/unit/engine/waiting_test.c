/* Waiting: who is refused, who goes first, and who is ended because time is up. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "tests/unit/engine/fake_backend.h"
#include "tests/unit/engine/world.h"

static void wait_for_running(struct world *w, size_t count)
{
    struct phid_engine_stats stats = {0};
    for (int i = 0; i < 5000 && stats.running != count; i++) {
        struct timespec pause = {.tv_nsec = 1000000};
        nanosleep(&pause, NULL);
        phid_engine_stats(w->engine, &stats);
    }
    assert_int_equal(stats.running, count);
}

static void expect_expired(struct client *c, enum phid_status status)
{
    client_finish(c);
    assert_int_equal(c->last.finish, PHID_FINISH_ERROR);
    assert_int_equal(c->last.error.status, status);
}

/* A gated engine of one seat, which the first client holds. */
static void open_one_seat(struct world *w, struct phid_engine_options options,
                          struct client *holder, size_t tokens)
{
    options.kv_memory_bytes = 2 * (WORLD_CONTEXT / 64) * 1024;
    options.step_tokens = 64;
    options.max_running = 1;
    world_init(w, 0, &options);
    fake_backend.gated = true;
    struct phid_request_params params = client_params(world_bos, 1, tokens);
    params.ignore_eos = true;
    client_submit(holder, w->engine, &params);
    wait_for_running(w, 1);
}

static void test_waiting_bounded_in_tokens(void **state)
{
    struct world w;
    struct client holder, first, second;
    struct phid_engine_load load;
    int32_t prompt[300];
    world_prompt(prompt, 300, 1);
    open_one_seat(&w, (struct phid_engine_options){.queue_tokens = 250}, &holder, 3);
    phid_engine_load(w.engine, &load);
    assert_false(load.full);
    /* One may always wait, however long; a second one only if both fit. */
    struct phid_request_params params = client_params(prompt, 300, 2);
    client_submit(&first, w.engine, &params);
    phid_engine_load(w.engine, &load);
    assert_true(load.full);
    assert_int_equal(load.waiting, 1);
    assert_int_equal(load.waiting_tokens, 300);
    params.prompt_count = 1;
    world_expect_refusal(&w, &params, PHID_ERR_BUSY, "1 requests with 300 prompt tokens");
    client_fini(&first);
    for (int i = 0; i < 5000 && load.full; i++) {
        struct timespec pause = {.tv_nsec = 1000000};
        fake_backend_let(i < 2 ? 1 : 0); /* the cancelled one goes between two steps */
        nanosleep(&pause, NULL);
        phid_engine_load(w.engine, &load);
    }
    assert_false(load.full);
    params.prompt_count = 120;
    client_submit(&first, w.engine, &params);
    client_submit(&second, w.engine, &params);
    params.prompt_count = 20;
    world_expect_refusal(&w, &params, PHID_ERR_BUSY, "240 prompt tokens");
    fake_backend_let(-1);
    client_finish(&holder);
    world_expect_answer(&w, &first, prompt, 120, 2, 0);
    world_expect_answer(&w, &second, prompt, 120, 2, 0);
    client_fini(&holder);
    client_fini(&first);
    client_fini(&second);
    world_fini(&w);
}

static void test_waiting_ends_after_max_wait(void **state)
{
    struct world w;
    struct client holder, waits, late;
    open_one_seat(&w, (struct phid_engine_options){.max_wait_ms = 50}, &holder, 400);
    struct phid_request_params params = client_params(world_bos, 1, 2);
    client_submit(&waits, w.engine, &params);
    struct timespec pause = {.tv_nsec = 60000000};
    nanosleep(&pause, NULL);
    client_submit(&late, w.engine, &params);
    fake_backend_let(1); /* it is looked at between two steps */
    expect_expired(&waits, PHID_ERR_BUSY);
    assert_non_null(strstr(waits.last.error.message, "without its turn"));
    assert_false(phid_request_wait(late.request, 0));
    fake_backend_let(-1);
    client_finish(&holder); /* who runs has no such limit */
    assert_int_equal(holder.last.finish, PHID_FINISH_LENGTH);
    client_finish(&late);
    client_fini(&holder);
    client_fini(&waits);
    client_fini(&late);
    world_fini(&w);
}

/* Once it is known what the engine can do, it does not let anybody wait in vain. */
static void test_waiting_too_long_is_refused_at_once(void **state)
{
    struct world w;
    struct phid_engine_options options = world_pool(1);
    options.max_running = 1;
    options.max_wait_ms = 300;
    options.queue = 1000;
    world_init(&w, 0, &options);
    fake_backend.step_us = 1000;
    struct phid_request_params params = client_params(world_bos, 1, 100); /* 100 ms each */
    params.ignore_eos = true;
    struct client c;
    for (int i = 0; i < 8; i++) {
        client_submit(&c, w.engine, &params);
        client_finish(&c);
        client_fini(&c);
    }
    struct phid_request *requests[40];
    size_t count = 0;
    struct phid_error error = {0};
    while (count < 40 &&
           phid_engine_submit(w.engine, &params, &requests[count], &error) == PHID_OK) {
        count++;
    }
    assert_in_range(count, 1, 20);
    assert_non_null(strstr(error.message, "the wait would be about"));
    struct phid_engine_load load;
    phid_engine_load(w.engine, &load);
    assert_true(load.full && load.wait_ms > 200);
    while (count > 0) {
        phid_request_free(requests[--count]);
    }
    world_fini(&w);
}

static void test_waiting_by_priority(void **state)
{
    struct world w;
    struct client holder, clients[4];
    open_one_seat(&w, (struct phid_engine_options){0}, &holder, 3);
    const int32_t priorities[] = {1, 0, -5, 0};
    const size_t order[] = {2, 1, 3, 0};
    for (int i = 0; i < 4; i++) {
        struct phid_request_params params = client_params(world_bos, 1, 4);
        params.priority = priorities[i];
        client_submit(&clients[i], w.engine, &params);
    }
    fake_backend_let(-1);
    client_finish(&holder);
    uint64_t before = 0;
    for (int i = 0; i < 4; i++) {
        struct client *c = &clients[order[i]];
        world_expect_answer(&w, c, world_bos, 1, 4, 0);
        assert_true(c->last.queue_ns + c->request->sequence->submitted_ns > before);
        before = c->last.queue_ns + c->request->sequence->submitted_ns;
    }
    for (int i = 0; i < 4; i++) {
        client_fini(&clients[i]);
    }
    client_fini(&holder);
    world_fini(&w);
}

/* A key that floods holds the only seat; another's single request is the next. */
static void test_waiting_tenants_take_turns(void **state)
{
    struct world w;
    struct client flood[12], single;
    open_one_seat(&w, (struct phid_engine_options){0}, &flood[0], 3);
    struct phid_request_params params = client_params(world_bos, 1, 30);
    params.tenant = "flood";
    params.ignore_eos = true;
    for (int i = 1; i < 12; i++) {
        client_submit(&flood[i], w.engine, &params);
    }
    fake_backend_let(20); /* into the first of them */
    client_finish(&flood[0]);
    while (flood[1].token_count < 5) {
        assert_true(phid_request_wait(flood[1].request, 5000));
        client_poll(&flood[1]);
    }
    params.tenant = "single";
    client_submit(&single, w.engine, &params);
    fake_backend_let(-1);
    client_finish(&single);
    uint64_t began = single.request->sequence->submitted_ns + single.last.queue_ns;
    size_t before = 0;
    for (int i = 1; i < 12; i++) {
        client_finish(&flood[i]);
        before += flood[i].request->sequence->submitted_ns + flood[i].last.queue_ns < began;
    }
    assert_int_equal(before, 1);
    for (int i = 0; i < 12; i++) {
        client_fini(&flood[i]);
    }
    client_fini(&single);
    world_fini(&w);
}

/* Its pages are back before the next step: running, in mid-prompt, waiting, and with a reader that
 * does not read while nothing else happens. */
static void test_waiting_deadlines(void **state)
{
    struct world w;
    struct phid_engine_options options = world_pool(2);
    options.max_running = 2;
    world_init(&w, 0, &options);
    fake_backend.gated = true;
    int32_t prompt[400];
    world_prompt(prompt, 400, 1);
    struct phid_request_params brief = client_params(world_bos, 1, 400);
    brief.timeout_ms = 400;
    struct phid_request_params lengthy = client_params(prompt, 400, 5);
    lengthy.timeout_ms = 400;
    struct client decodes, prefills, waits, stays;
    client_submit(&decodes, w.engine, &brief);
    client_submit(&prefills, w.engine, &lengthy);
    client_submit(&waits, w.engine, &brief);
    fake_backend_let(1);
    wait_for_running(&w, 2);
    struct timespec pause = {.tv_nsec = 450000000};
    nanosleep(&pause, NULL);
    int steps = atomic_load(&fake_backend.steps);
    struct phid_request_params params = client_params(world_bos, 1, 3);
    client_submit(&stays, w.engine, &params);
    fake_backend_let(1);
    expect_expired(&decodes, PHID_ERR_TIMEOUT);
    expect_expired(&prefills, PHID_ERR_TIMEOUT);
    expect_expired(&waits, PHID_ERR_TIMEOUT);
    assert_in_range(atomic_load(&fake_backend.steps), steps, steps + 1);
    fake_backend_let(-1);
    world_expect_answer(&w, &stays, world_bos, 1, 3, 0);
    client_fini(&decodes);
    client_fini(&prefills);
    client_fini(&waits);
    client_fini(&stays);
    world_fini(&w);
}

static void test_waiting_deadline_of_a_slow_reader(void **state)
{
    struct world w;
    struct phid_engine_options options = world_pool(1);
    world_init(&w, 0, &options);
    world_script_long();
    struct phid_request_params params = client_params(world_bos, 1, 400);
    params.timeout_ms = 300;
    struct client c;
    client_submit(&c, w.engine, &params);
    client_expect_all_free(w.engine); /* nobody rings, nobody reads */
    expect_expired(&c, PHID_ERR_TIMEOUT);
    client_fini(&c);
    world_fini(&w);
}

/* Pages run out: the lowest priority gives its own up, and goes on exactly where it was. */
static void test_waiting_victims_by_priority(void **state)
{
    struct world w;
    struct phid_engine_options options = world_pool(1); /* 8 pages for everybody */
    options.max_running = 2;
    world_init(&w, 0, &options);
    fake_backend.gated = true; /* they begin together */
    int32_t prompts[2][60];
    struct client clients[2];
    for (int i = 0; i < 2; i++) {
        world_prompt(prompts[i], 60, i);
        struct phid_request_params params = client_params(prompts[i], 60, 200);
        params.priority = i == 0 ? 1 : 0; /* the older one is the less important */
        client_submit(&clients[i], w.engine, &params);
    }
    fake_backend_let(-1);
    for (int i = 1; i >= 0; i--) {
        world_expect_answer(&w, &clients[i], prompts[i], 60, 200, 0);
    }
    assert_true(clients[0].last.total_ns > clients[1].last.total_ns);
    struct phid_engine_stats stats;
    phid_engine_stats(w.engine, &stats);
    assert_true(stats.preemptions > 0);
    for (int i = 0; i < 2; i++) {
        client_fini(&clients[i]);
    }
    world_fini(&w);
}

static void wait_until_full(struct client *c)
{
    while (!atomic_load(&c->request->sequence->output.full)) {
        assert_true(phid_request_wait(c->request, 20000));
    }
}

/* Whose pages were needed gets them back when its reader reads, although they are the whole pool
 * and somebody else, whose reader does not, has a seat. */
static void test_waiting_behind_a_slow_reader(void **state)
{
    struct world w;
    struct phid_engine_options options = world_pool(1);
    options.max_running = 2;
    world_init(&w, 0, &options);
    world_script_long();
    int32_t prompt[230];
    world_prompt(prompt, 230, 1);
    struct phid_request_params params = client_params(prompt, 2, 450);
    struct client idle, reading;
    client_submit(&idle, w.engine, &params);
    wait_until_full(&idle);
    params = client_params(prompt, 230, 250);
    client_submit(&reading, w.engine, &params);
    wait_until_full(&reading); /* it took the other's pages */
    assert_true(client_poll(&idle));
    wait_until_full(&idle); /* which took them back */
    world_expect_answer(&w, &reading, prompt, 230, 250, 0);
    client_fini(&reading);
    world_expect_answer(&w, &idle, prompt, 2, 450, 0);
    client_fini(&idle);
    world_fini(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_waiting_behind_a_slow_reader),
        cmocka_unit_test(test_waiting_bounded_in_tokens),
        cmocka_unit_test(test_waiting_ends_after_max_wait),
        cmocka_unit_test(test_waiting_too_long_is_refused_at_once),
        cmocka_unit_test(test_waiting_by_priority),
        cmocka_unit_test(test_waiting_tenants_take_turns),
        cmocka_unit_test(test_waiting_deadlines),
        cmocka_unit_test(test_waiting_deadline_of_a_slow_reader),
        cmocka_unit_test(test_waiting_victims_by_priority),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

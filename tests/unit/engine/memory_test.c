/* Every allocation of the engine fails once: each failure is a status or an error at the end of a
 * request, nothing crashes, leaks or hangs, and what does succeed is right. Linked with wrappers
 * around the allocating functions. */
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/engine/client.h"
#include "tests/unit/engine/fake_backend.h"

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
int __real_posix_memalign(void **ret, size_t alignment, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);
int __wrap_posix_memalign(void **ret, size_t alignment, size_t size);

static atomic_int allocations_left; /* until the one that fails; below zero: it has been */
static atomic_int allocations;      /* counted so far */
static _Thread_local bool spared;   /* the test's own */

static bool must_fail(void)
{
    if (spared) {
        return false;
    }
    atomic_fetch_add(&allocations, 1);
    return atomic_fetch_sub(&allocations_left, 1) == 0;
}

void *__wrap_malloc(size_t size)
{
    return must_fail() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return must_fail() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *old, size_t size)
{
    return must_fail() ? NULL : __real_realloc(old, size);
}

int __wrap_posix_memalign(void **ret, size_t alignment, size_t size)
{
    return must_fail() ? 12 : __real_posix_memalign(ret, alignment, size);
}

static const int32_t prompt[] = {1, 300, 301, 302};

static struct phid_request_params wish(void)
{
    static const struct phid_stop stops[] = {{.text = "never so", .size = 8},
                                             {.text = "xx", .size = 2}};
    static const struct phid_logit_bias bias[] = {{.id = 300, .bias = -100},
                                                  {.id = 301, .bias = 2}};
    struct phid_request_params params = client_params(prompt, 4, 60);
    params.stops = stops;
    params.stop_count = 2;
    params.logprobs = 4;
    params.prompt_logprobs = true;
    params.sampling.logit_bias = bias;
    params.sampling.logit_bias_count = 2;
    params.sampling.temperature = 0.5f;
    params.sampling.top_k = 20;
    params.sampling.repetition_penalty = 1.1f;
    params.sampling.seed = 3;
    return params;
}

/* One life of an engine with one request. Returns whether everything went well. */
static bool live(struct fake_model *m, struct client *c)
{
    struct phid_engine_options options = {.kv_memory_bytes = 8 * 1024, .step_tokens = 8};
    struct phid_request_params params = wish();
    struct phid_engine *engine = NULL;
    struct phid_error error = {0};
    memset(c, 0, sizeof(*c));
    buf_init(&c->text, (size_t)1 << 20);
    c->tokens = calloc(CLIENT_TOKENS_MAX, sizeof(*c->tokens));
    spared = false;
    enum phid_status status = engine_new_with_backend(
        &m->model, &m->description, fake_backend_api(), &options, &engine, &error);
    if (status == PHID_OK) {
        status = phid_engine_submit(engine, &params, &c->request, &error);
    }
    spared = true;
    if (status == PHID_OK) {
        client_finish(c);
    } else {
        assert_int_equal(status, PHID_ERR_MEMORY);
        assert_string_not_equal(error.message, "");
    }
    bool good = status == PHID_OK && c->last.finish != PHID_FINISH_ERROR;
    if (status == PHID_OK && !good) {
        assert_int_equal(c->last.error.status, PHID_ERR_MEMORY);
    }
    phid_engine_free(engine);
    return good;
}

static void test_memory_each_allocation_fails(void **state)
{
    spared = true;
    fake_backend_reset();
    struct fake_model m;
    fake_model_init(&m, 512, 0);
    struct client right, c;
    atomic_store(&allocations_left, -1);
    assert_true(live(&m, &right));
    size_t failures = 0;
    for (int n = 0;; n++) {
        assert_true(n < 2000);
        atomic_store(&allocations_left, n);
        bool good = live(&m, &c);
        bool was_reached = atomic_load(&allocations_left) < 0;
        failures += !good;
        if (good) {
            assert_true(str_equal(buf_view(&c.text), buf_view(&right.text)));
            assert_int_equal(c.token_count, right.token_count);
        }
        client_fini(&c);
        if (!was_reached) {
            assert_true(good);
            break;
        }
    }
    assert_true(failures > 30);
    client_fini(&right);
    fake_model_fini(&m);
}

/* Lets steps happen until both have so many tokens. */
static void decode(struct client *c, size_t count)
{
    while (c[0].token_count < count || c[1].token_count < count) {
        int steps = atomic_load(&fake_backend.steps);
        fake_backend_let(1);
        while (atomic_load(&fake_backend.steps) == steps) {
            sched_yield();
        }
        client_poll(&c[0]);
        client_poll(&c[1]);
        assert_int_equal(c[0].last.finish, PHID_FINISH_NONE);
        assert_int_equal(c[1].last.finish, PHID_FINISH_NONE);
    }
}

static void test_memory_decoding_allocates_nothing(void **state)
{
    spared = true;
    fake_backend_reset();
    fake_backend.gated = true;
    atomic_store(&allocations_left, -1);
    struct fake_model m;
    fake_model_init(&m, 512, 0);
    struct phid_engine_options options = {.kv_memory_bytes = 32 * 1024, .step_tokens = 8};
    struct phid_engine *engine = client_engine(&m, &options);
    struct phid_request_params params = wish();
    params.prompt_logprobs = false;
    params.stop_count = 1; /* the other one may come */
    params.max_tokens = 400;
    struct client c[2];
    client_submit(&c[0], engine, &params);
    client_submit(&c[1], engine, &params);
    decode(c, 30); /* by then every buffer has been used */
    int before = atomic_load(&allocations);
    decode(c, 250);
    assert_int_equal(atomic_load(&allocations), before);
    fake_backend_let(-1);
    client_fini(&c[0]);
    client_fini(&c[1]);
    phid_engine_free(engine);
    fake_model_fini(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory_each_allocation_fails),
        cmocka_unit_test(test_memory_decoding_allocates_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "engine/sched/output.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

static void count_wake(void *user)
{
    (*(int *)user)++;
}

static void add(struct output *o, const char *text, int32_t id, size_t top_count)
{
    struct phid_top top[3] = {
        {.id = id, .logprob = -1}, {.id = id + 1, .logprob = -2}, {.id = id + 2, .logprob = -3}};
    output_begin(o);
    assert_true(output_add_text(o, text, strlen(text)));
    assert_true(output_add_token(o, id, -0.5f, false, top, top_count));
    output_end(o);
}

static void test_output_coalesces(void **state)
{
    struct output o;
    struct phid_output got;
    bool was_full;
    int wakes = 0;
    assert_int_equal(output_init(&o, count_wake, &wakes, NULL), PHID_OK);
    assert_false(output_poll(&o, &got, &was_full));
    add(&o, "ab", 1, 3);
    add(&o, "c", 5, 0);
    add(&o, "d", 7, 2);
    assert_int_equal(wakes, 1);
    assert_true(output_poll(&o, &got, &was_full));
    assert_false(was_full);
    assert_int_equal(got.text_size, 4);
    assert_memory_equal(got.text, "abcd", 4);
    assert_int_equal(got.token_count, 3);
    assert_int_equal(got.tokens[0].top[2].id, 3);
    assert_null(got.tokens[1].top);
    assert_int_equal(got.tokens[2].top_count, 2);
    assert_int_equal(got.tokens[2].top[1].id, 8);
    assert_int_equal(got.finish, PHID_FINISH_NONE);
    /* What was taken stays while the next is filled. */
    add(&o, "efgh", 9, 1);
    assert_memory_equal(got.text, "abcd", 4);
    assert_int_equal(wakes, 2);
    assert_true(output_poll(&o, &got, &was_full));
    assert_memory_equal(got.text, "efgh", 4);
    assert_false(output_poll(&o, &got, &was_full));
    output_fini(&o);
}

static void test_output_finish_comes_once(void **state)
{
    struct output o;
    struct phid_output got;
    bool was_full;
    int wakes = 0;
    assert_int_equal(output_init(&o, count_wake, &wakes, NULL), PHID_OK);
    add(&o, "a", 1, 0);
    struct phid_error error;
    phid_fail(&error, PHID_ERR_INTERNAL, "why");
    output_begin(&o);
    output_finish(&o, PHID_FINISH_ERROR, &error);
    output_end(&o);
    assert_int_equal(wakes, 2);
    assert_true(output_wait(&o, -1));
    assert_true(output_poll(&o, &got, &was_full));
    assert_int_equal(got.finish, PHID_FINISH_ERROR);
    assert_string_equal(got.error.message, "why");
    assert_int_equal(got.text_size, 1);
    assert_false(output_wait(&o, -1)); /* nothing can come any more */
    assert_false(output_poll(&o, &got, &was_full));
    output_fini(&o);
}

static void test_output_full(void **state)
{
    struct output o;
    struct phid_output got;
    bool was_full;
    assert_int_equal(output_init(&o, NULL, NULL, NULL), PHID_OK);
    for (size_t i = 0; i <= OUTPUT_TOKENS_FULL; i++) {
        assert_false(atomic_load(&o.full));
        add(&o, "", 1, 1);
    }
    assert_true(atomic_load(&o.full));
    assert_true(output_poll(&o, &got, &was_full));
    assert_true(was_full);
    assert_int_equal(got.token_count, OUTPUT_TOKENS_FULL + 1);
    assert_false(atomic_load(&o.full));
    char *text = calloc(1, OUTPUT_TEXT_FULL + 2);
    assert_non_null(text);
    memset(text, 'x', OUTPUT_TEXT_FULL + 1);
    add(&o, text, 1, 0);
    assert_true(atomic_load(&o.full));
    free(text);
    output_fini(&o);
}

static void test_output_silence(void **state)
{
    struct output o;
    int wakes = 0;
    assert_int_equal(output_init(&o, count_wake, &wakes, NULL), PHID_OK);
    output_silence(&o);
    add(&o, "a", 1, 0);
    assert_int_equal(wakes, 0);
    output_fini(&o);
}

static void *add_later(void *arg)
{
    struct timespec pause = {.tv_nsec = 20000000};
    nanosleep(&pause, NULL);
    add(arg, "a", 1, 0);
    return NULL;
}

static void test_output_wait(void **state)
{
    struct output o;
    assert_int_equal(output_init(&o, NULL, NULL, NULL), PHID_OK);
    assert_false(output_wait(&o, 0));
    assert_false(output_wait(&o, 5));
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, add_later, &o), 0);
    assert_true(output_wait(&o, -1));
    pthread_join(thread, NULL);
    assert_true(output_wait(&o, 0));
    output_fini(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_output_coalesces), cmocka_unit_test(test_output_finish_comes_once),
        cmocka_unit_test(test_output_full),      cmocka_unit_test(test_output_silence),
        cmocka_unit_test(test_output_wait),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

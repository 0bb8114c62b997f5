#include "engine/sched/stop.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

static struct stop_set make_set(const char *const *texts, size_t count)
{
    struct str stops[16];
    for (size_t i = 0; i < count; i++) {
        stops[i] = str_of(texts[i]);
    }
    struct stop_set set;
    assert_int_equal(stop_set_init(&set, stops, count, NULL), PHID_OK);
    return set;
}

static void test_stop_none(void **state)
{
    struct stop_set set;
    stop_state at = 0;
    size_t end, size;
    assert_int_equal(stop_set_init(&set, NULL, 0, NULL), PHID_OK);
    assert_false(stop_walk(&set, &at, STR("anything"), &end, &size));
    assert_int_equal(stop_held(&set, at), 0);
    stop_set_fini(&set);
}

static void test_stop_across_pieces(void **state)
{
    const char *const texts[] = {"END", "NDx"};
    struct stop_set set = make_set(texts, 2);
    stop_state at = 0;
    size_t end, size;
    assert_false(stop_walk(&set, &at, STR("the E"), &end, &size));
    assert_int_equal(stop_held(&set, at), 1);
    assert_false(stop_walk(&set, &at, STR("N"), &end, &size));
    assert_int_equal(stop_held(&set, at), 2);
    assert_true(stop_walk(&set, &at, STR("D is"), &end, &size));
    assert_int_equal(end, 1);
    assert_int_equal(size, 3);
    stop_set_fini(&set);
}

static void test_stop_held_falls_back(void **state)
{
    const char *const texts[] = {"aab"};
    struct stop_set set = make_set(texts, 1);
    stop_state at = 0;
    size_t end, size;
    for (int i = 0; i < 10; i++) {
        assert_false(stop_walk(&set, &at, STR("a"), &end, &size));
        assert_int_equal(stop_held(&set, at),
                         i == 0 ? 1 : 2); /* never more than could become a stop */
    }
    assert_false(stop_walk(&set, &at, STR("c"), &end, &size));
    assert_int_equal(stop_held(&set, at), 0);
    stop_set_fini(&set);
}

static void test_stop_longest_of_those_that_end_first(void **state)
{
    const char *const texts[] = {"bcd", "c", "abc", "bc"};
    struct stop_set set = make_set(texts, 4);
    stop_state at = 0;
    size_t end, size;
    assert_true(stop_walk(&set, &at, STR("xabcd"), &end, &size));
    assert_int_equal(end, 4);
    assert_int_equal(size, 3);
    stop_set_fini(&set);
}

static void test_stop_refusals(void **state)
{
    struct stop_set set;
    struct phid_error error;
    struct str stops[] = {STR("a"), {.data = "", .size = 0}};
    assert_int_equal(stop_set_init(&set, stops, 2, &error), PHID_ERR_ARGUMENT);
    assert_string_equal(error.where, "stop[1]");
    stops[1] = (struct str){.data = "x", .size = STOP_BYTES_MAX};
    assert_int_equal(stop_set_init(&set, stops, 2, &error), PHID_ERR_ARGUMENT);
    stop_set_fini(&set);
}

/* Against searching by definition, over a small alphabet where everything overlaps. */
static void test_stop_random(void **state)
{
    uint64_t random = 1;
    for (int round = 0; round < 3000; round++) {
        char texts[4][8];
        struct str stops[4];
        char stream[40];
        for (int i = 0; i < 4; i++) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            stops[i] = (struct str){.data = texts[i], .size = 1 + (random >> 60) % 7};
            for (size_t j = 0; j < stops[i].size; j++) {
                texts[i][j] = (char)('a' + (random >> (20 + 3 * j)) % 2);
            }
        }
        for (size_t i = 0; i < sizeof(stream); i++) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            stream[i] = (char)('a' + (random >> 40) % 3 % 2);
        }
        struct stop_set set;
        assert_int_equal(stop_set_init(&set, stops, 4, NULL), PHID_OK);
        stop_state at = 0;
        for (size_t n = 1; n <= sizeof(stream); n++) {
            size_t longest = 0, held = 0;
            for (int i = 0; i < 4; i++) {
                size_t size = stops[i].size;
                for (size_t k = 1; k <= size && k <= n; k++) {
                    bool same = memcmp(stream + n - k, texts[i], k) == 0;
                    longest = same && k == size && k > longest ? k : longest;
                    held = same && k > held ? k : held;
                }
            }
            size_t end = 0, size = 0;
            bool found =
                stop_walk(&set, &at, (struct str){.data = stream + n - 1, .size = 1}, &end, &size);
            assert_int_equal(found, longest > 0);
            if (found) {
                assert_int_equal(size, longest);
                break;
            }
            assert_int_equal(stop_held(&set, at), held);
        }
        stop_set_fini(&set);
    }
}

static void test_stop_is_linear(void **state)
{
    enum { SIZE = 500000 };
    char *text = malloc(SIZE);
    assert_non_null(text);
    memset(text, 'a', SIZE);
    struct str stop = {.data = text, .size = SIZE};
    struct stop_set set;
    assert_int_equal(stop_set_init(&set, &stop, 1, NULL), PHID_OK);
    stop_state at = 0;
    size_t end, size;
    struct timespec begin, done;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    for (int i = 0; i < 4; i++) { /* nearly a match, again and again */
        assert_false(
            stop_walk(&set, &at, (struct str){.data = text, .size = SIZE - 1}, &end, &size));
        assert_false(stop_walk(&set, &at, STR("b"), &end, &size));
    }
    clock_gettime(CLOCK_MONOTONIC, &done);
    assert_true(done.tv_sec - begin.tv_sec < 20);
    stop_set_fini(&set);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stop_none),
        cmocka_unit_test(test_stop_across_pieces),
        cmocka_unit_test(test_stop_held_falls_back),
        cmocka_unit_test(test_stop_longest_of_those_that_end_first),
        cmocka_unit_test(test_stop_refusals),
        cmocka_unit_test(test_stop_random),
        cmocka_unit_test(test_stop_is_linear),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

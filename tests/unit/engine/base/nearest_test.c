#include "engine/base/nearest.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static const struct {
    const char *a, *b;
    size_t distance;
} pairs[] = {
    {"", "", 0},          {"port", "port", 0},      {"", "abc", 3},
    {"prot", "port", 1},  {"kitten", "sitting", 3}, {"ca", "abc", 3},
    {"serve", "srve", 1}, {"serve", "server", 1},   {"serve", "x", 5},
};

static void test_distance(void **state)
{
    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        assert_int_equal(nearest_distance(str_of(pairs[i].a), str_of(pairs[i].b)),
                         pairs[i].distance);
        assert_int_equal(nearest_distance(str_of(pairs[i].b), str_of(pairs[i].a)),
                         pairs[i].distance);
    }
    char longest[66];
    memset(longest, 'a', sizeof(longest));
    assert_int_equal(nearest_distance((struct str){longest, 64}, STR("a")), 63);
    assert_true(nearest_distance((struct str){longest, 65}, STR("a")) == SIZE_MAX);
}

static void test_the_nearest_and_when_none_is_meant(void **state)
{
    struct nearest nearest = {0};
    assert_false(nearest_found(&nearest, 4));
    nearest_offer(&nearest, STR("host"), 3);
    assert_false(nearest_found(&nearest, 4));
    assert_true(nearest_found(&nearest, 6));
    nearest_offer(&nearest, STR("port"), 1);
    nearest_offer(&nearest, STR("post"), 1);
    assert_true(str_equal(nearest.word, STR("port")));
    assert_true(nearest_found(&nearest, 4));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_distance),
        cmocka_unit_test(test_the_nearest_and_when_none_is_meant),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "engine/base/map.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <stdio.h>

#include "engine/base/clock.h"

/* Vectors of the reference implementation: key 00 01 .. 0f, message 00 01 .. n-1. */
static void test_map_siphash_vectors(void **state)
{
    static const struct {
        size_t size;
        uint64_t hash;
    } vectors[] = {
        {0, 0x726fdb47dd0e0e31u},  {1, 0x74f839c593dc67fdu},  {7, 0xab0200f58b01d137u},
        {8, 0x93f5f5799a932462u},  {15, 0xa129ca6149be45e5u}, {16, 0x3f2acc7f57c29bdbu},
        {63, 0x958a324ceb064572u},
    };
    const uint64_t seed[2] = {0x0706050403020100u, 0x0f0e0d0c0b0a0908u};
    char bytes[64];
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (char)i;
    }
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
        struct str s = {.data = bytes, .size = vectors[i].size};
        assert_int_equal(map_siphash(seed, s), vectors[i].hash);
    }
}

static void test_map_put_find_set(void **state)
{
    struct map m;
    map_init(&m);
    uint64_t value = 99;
    assert_false(map_find(&m, STR("a"), &value));
    assert_int_equal(map_put(&m, STR("a"), 1), MAP_ADDED);
    assert_int_equal(map_put(&m, STR("a"), 2), MAP_EXISTS);
    assert_true(map_find(&m, STR("a"), &value));
    assert_int_equal(value, 1);
    assert_true(map_set(&m, STR("a"), 3));
    assert_true(map_set(&m, STR("b"), 4));
    assert_true(map_find(&m, STR("a"), &value));
    assert_int_equal(value, 3);
    assert_int_equal(m.count, 2);
    value = 99;
    assert_false(map_find(&m, STR("c"), &value));
    assert_int_equal(value, 99);
    map_fini(&m);
    assert_false(map_find(&m, STR("a"), &value));
}

static void test_map_keys_are_bytes(void **state)
{
    struct map m;
    map_init(&m);
    assert_int_equal(map_put(&m, (struct str){.data = NULL, .size = 0}, 1), MAP_ADDED);
    assert_int_equal(map_put(&m, STR(""), 2), MAP_EXISTS);
    assert_int_equal(map_put(&m, STR("a\0b"), 3), MAP_ADDED);
    assert_int_equal(map_put(&m, STR("a\0c"), 4), MAP_ADDED);
    assert_int_equal(map_put(&m, STR("a"), 5), MAP_ADDED);
    uint64_t value;
    assert_true(map_find(&m, STR("a\0c"), &value));
    assert_int_equal(value, 4);
    assert_true(map_find(&m, (struct str){.data = NULL, .size = 0}, &value));
    assert_int_equal(value, 1);
    map_fini(&m);
}

enum { MANY = 200000, KEY_BYTES = 12 };

static void test_map_many_keys_survive_growth(void **state)
{
    char *keys = malloc((size_t)MANY * KEY_BYTES);
    assert_non_null(keys);
    struct map m;
    map_init(&m);
    uint64_t start = clock_now_ns();
    for (size_t i = 0; i < MANY; i++) {
        char *key = keys + i * KEY_BYTES;
        snprintf(key, KEY_BYTES, "key%zu", i);
        assert_int_equal(map_put(&m, str_of(key), i), MAP_ADDED);
    }
    for (size_t i = 0; i < MANY; i++) {
        uint64_t value;
        assert_true(map_find(&m, str_of(keys + i * KEY_BYTES), &value));
        assert_int_equal(value, i);
    }
    assert_true(clock_seconds_since(start) < 5.0);
    assert_int_equal(m.count, MANY);
    assert_true(m.capacity >= 2 * m.count);
    map_fini(&m);
    free(keys);
}

/* What an attacker would prepare against a map whose seed he knew does no harm to one he does not
 * know. */
static void test_map_seed_differs_and_spreads(void **state)
{
    struct map a;
    struct map b;
    map_init(&a);
    map_init(&b);
    assert_true(a.seed[0] != b.seed[0] || a.seed[1] != b.seed[1]);

    enum { BUCKETS = 64 };
    static char keys[4096][KEY_BYTES];
    size_t kept = 0;
    for (uint64_t i = 0; kept < 4096; i++) {
        char *key = keys[kept];
        snprintf(key, KEY_BYTES, "%lu", (unsigned long)i);
        kept += map_siphash(a.seed, str_of(key)) % BUCKETS == 0; /* all collide in a */
    }
    size_t fullest = 0;
    size_t count[BUCKETS] = {0};
    for (size_t i = 0; i < 4096; i++) {
        size_t *bucket = &count[map_siphash(b.seed, str_of(keys[i])) % BUCKETS];
        *bucket += 1;
        fullest = *bucket > fullest ? *bucket : fullest;
    }
    assert_true(fullest < 128); /* 64 expected in b */
    map_fini(&a);
    map_fini(&b);
}

static void test_map_reserve_refuses_nonsense(void **state)
{
    struct map m;
    map_init(&m);
    assert_int_equal(map_put(&m, STR("a"), 1), MAP_ADDED);
    assert_false(map_reserve(&m, SIZE_MAX));
    assert_false(map_reserve(&m, SIZE_MAX / 2 + 1));
    assert_false(map_reserve(&m, SIZE_MAX / 64));
    uint64_t value;
    assert_true(map_find(&m, STR("a"), &value));
    map_fini(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_map_siphash_vectors),
        cmocka_unit_test(test_map_put_find_set),
        cmocka_unit_test(test_map_keys_are_bytes),
        cmocka_unit_test(test_map_many_keys_survive_growth),
        cmocka_unit_test(test_map_seed_differs_and_spreads),
        cmocka_unit_test(test_map_reserve_refuses_nonsense),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "engine/base/tokens.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/base/checked.h"
#include "engine/base/clock.h"
#include "engine/base/cpuid.h"
#include "engine/base/str.h"

static void test_tokens_grow(void **state)
{
    struct tokens t = {0};
    for (int32_t i = 0; i < 10000; i++) {
        assert_true(tokens_push(&t, i));
    }
    const int32_t more[3] = {-1, -2, -3};
    assert_true(tokens_append(&t, more, 3));
    assert_true(tokens_append(&t, NULL, 0));
    assert_int_equal(t.count, 10003);
    for (int32_t i = 0; i < 10000; i++) {
        assert_int_equal(t.ids[i], i);
    }
    assert_int_equal(t.ids[10002], -3);
    assert_true(tokens_reserve(&t, 5));
    assert_false(tokens_reserve(&t, SIZE_MAX));
    assert_false(tokens_append(&t, more, SIZE_MAX));
    assert_false(tokens_append(&t, more, SIZE_MAX / 8));
    assert_int_equal(t.count, 10003);
    tokens_fini(&t);
    tokens_fini(&t);
    assert_int_equal(t.count, 0);
}

static void test_str_compares(void **state)
{
    assert_true(str_equal(STR("ab"), str_of("ab")));
    assert_false(str_equal(STR("ab"), STR("ac")));
    assert_false(str_equal(STR("ab"), STR("abc")));
    assert_true(str_equal((struct str){.data = NULL, .size = 0}, STR("")));
    assert_true(str_equal_c(STR("x"), "x"));
    assert_true(str_starts_with(STR("abc"), STR("ab")));
    assert_true(str_starts_with(STR("abc"), STR("")));
    assert_false(str_starts_with(STR("a"), STR("ab")));
    assert_true(str_contains(STR("abc"), STR("bc")));
    assert_true(str_contains(STR("abc"), STR("")));
    assert_true(str_contains(STR("a\0b"), STR("\0b")));
    assert_false(str_contains(STR("abc"), STR("cb")));
    assert_false(str_contains(STR(""), STR("a")));
    char *copy = str_dup((struct str){.data = "abcdef", .size = 3});
    assert_string_equal(copy, "abc");
    free(copy);
    assert_null(str_dup((struct str){.data = "", .size = SIZE_MAX}));
}

static void test_checked_edges(void **state)
{
    size_t out = 7;
    assert_false(checked_add(SIZE_MAX, 1, &out));
    assert_false(checked_mul(SIZE_MAX / 2 + 1, 2, &out));
    assert_int_equal(out, 7);
    assert_true(checked_add(SIZE_MAX - 1, 1, &out));
    assert_int_equal(out, SIZE_MAX);
    assert_true(checked_mul(SIZE_MAX, 0, &out));
    assert_int_equal(out, 0);
    uint64_t wide = 7;
    assert_false(checked_add_u64(UINT64_MAX, 1, &wide));
    assert_false(checked_mul_u64((uint64_t)1 << 32, (uint64_t)1 << 32, &wide));
    assert_int_equal(wide, 7);
    assert_true(checked_mul_u64((uint64_t)1 << 32, ((uint64_t)1 << 32) - 1, &wide));
    assert_true(checked_add_u64(UINT64_MAX - 5, 5, &wide));
}

static void test_clock_moves_forward(void **state)
{
    uint64_t a = clock_now_ns();
    uint64_t b = clock_now_ns();
    assert_true(b >= a);
    assert_true(clock_seconds_since(a) >= 0.0 && clock_seconds_since(a) < 10.0);
}

static void test_cpuid_names(void **state)
{
    for (unsigned i = 0; i < CPUID_ISA_COUNT; i++) {
        enum cpuid_isa isa = CPUID_ISA_COUNT;
        assert_true(cpuid_isa_find(str_of(cpuid_isa_name((enum cpuid_isa)i)), &isa));
        assert_int_equal(isa, i);
    }
    enum cpuid_isa isa = CPUID_AVX2;
    assert_false(cpuid_isa_find(STR("avx3"), &isa));
    assert_false(cpuid_isa_find(STR(""), &isa));
    assert_int_equal(isa, CPUID_AVX2);
    assert_string_equal(cpuid_isa_name((enum cpuid_isa)99), "unknown");
}

static void test_cpuid_has_avxvnni_apart(void **state)
{
    (void)state;
    struct cpuid_features wide = {.isa = CPUID_AVX512VNNI};
    assert_false(cpuid_has(&wide, CPUID_AVXVNNI));
    assert_true(cpuid_has(&wide, CPUID_AVX512));
    assert_false(cpuid_has(&wide, CPUID_AMX));
    struct cpuid_features widest = {.isa = CPUID_AMX};
    assert_true(cpuid_has(&widest, CPUID_AVX512VNNI));
    assert_false(cpuid_has(&widest, CPUID_AVXVNNI));
    assert_false(cpuid_has(&widest, CPUID_NEON));
    struct cpuid_features narrow = {.isa = CPUID_AVXVNNI, .avxvnni = true};
    assert_true(cpuid_has(&narrow, CPUID_AVXVNNI));
    assert_true(cpuid_has(&narrow, CPUID_AVX2));
    assert_false(cpuid_has(&narrow, CPUID_AVX512));
}

static void test_cpuid_has_families_apart(void **state)
{
    (void)state;
    struct cpuid_features arm = {.isa = CPUID_DOTPROD};
    assert_true(cpuid_has(&arm, CPUID_SCALAR));
    assert_true(cpuid_has(&arm, CPUID_NEON));
    assert_true(cpuid_has(&arm, CPUID_DOTPROD));
    assert_false(cpuid_has(&arm, CPUID_I8MM));
    assert_false(cpuid_has(&arm, CPUID_AVX2));
    struct cpuid_features x86 = {.isa = CPUID_AVX512VNNI};
    assert_false(cpuid_has(&x86, CPUID_NEON));
}

/* The compiler's own detection must agree. */
static void test_cpuid_detect(void **state)
{
    struct cpuid_features features = cpuid_detect();
#if defined(__x86_64__)
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                  __builtin_cpu_supports("avx512cd");
    bool vnni = avx512 && __builtin_cpu_supports("avx512vnni");
    bool amx = vnni && __builtin_cpu_supports("amx-tile") && __builtin_cpu_supports("amx-int8") &&
               __builtin_cpu_supports("amx-bf16") && __builtin_cpu_supports("avx512bf16") &&
               __builtin_cpu_supports("avx512vbmi");
    assert_int_equal(features.isa >= CPUID_AVX2, avx2);
    assert_int_equal(features.isa >= CPUID_AVX512, avx512);
    assert_int_equal(features.isa >= CPUID_AVX512VNNI, vnni);
    assert_int_equal(cpuid_has(&features, CPUID_AVX2), avx2);
    assert_int_equal(cpuid_has(&features, CPUID_AVXVNNI), features.avxvnni);
    assert_int_equal(cpuid_has(&features, CPUID_AVX512VNNI), vnni);
    assert_true(amx || features.isa < CPUID_AMX); /* the kernel may refuse */
    assert_int_equal(cpuid_detect().isa, features.isa);
    assert_true(avx2 || !features.avxvnni);
#elif defined(__aarch64__)
    assert_true(cpuid_has(&features, CPUID_NEON));
#else
    assert_int_equal(features.isa, CPUID_SCALAR);
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tokens_grow),
        cmocka_unit_test(test_str_compares),
        cmocka_unit_test(test_checked_edges),
        cmocka_unit_test(test_clock_moves_forward),
        cmocka_unit_test(test_cpuid_names),
        cmocka_unit_test(test_cpuid_detect),
        cmocka_unit_test(test_cpuid_has_avxvnni_apart),
        cmocka_unit_test(test_cpuid_has_families_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

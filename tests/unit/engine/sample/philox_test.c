#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "engine/sample/philox.h"

/* The published known answers of Philox 4x32-10. */
static void test_philox_known_answers(void **state)
{
    (void)state;
    static const struct {
        uint32_t counter[4], key[2], expected[4];
    } cases[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint32_t out[4];
        philox_block(cases[i].counter, cases[i].key, out);
        assert_memory_equal(out, cases[i].expected, sizeof(out));
    }
}

static void test_philox_uniform_range_and_mean(void **state)
{
    (void)state;
    double sum = 0, square = 0;
    enum { DRAWS = 100000 };
    for (uint64_t i = 0; i < DRAWS; i++) {
        double u = philox_uniform(12345, i);
        assert_true(u >= 0 && u < 1);
        sum += u;
        square += u * u;
    }
    /* Standard errors: 0.0009 and 0.0009. */
    assert_true(sum / DRAWS > 0.495 && sum / DRAWS < 0.505);
    assert_true(square / DRAWS > 0.328 && square / DRAWS < 0.338);
}

static void test_philox_uniform_depends_on_all_bits(void **state)
{
    (void)state;
    double base = philox_uniform(1, 1);
    assert_true(base == philox_uniform(1, 1));
    for (unsigned bit = 0; bit < 64; bit++) {
        assert_true(base != philox_uniform(1 ^ (uint64_t)1 << bit, 1));
        assert_true(base != philox_uniform(1, 1 ^ (uint64_t)1 << bit));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_philox_known_answers),
        cmocka_unit_test(test_philox_uniform_range_and_mean),
        cmocka_unit_test(test_philox_uniform_depends_on_all_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

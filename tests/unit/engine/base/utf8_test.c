#include "engine/base/utf8.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char *const valid[] = {
    "",
    "a",
    "abcdefgh\xc3\xbc",
    "\xc2\x80",         /* U+0080, the first of two bytes */
    "\xdf\xbf",         /* U+07FF */
    "\xe0\xa0\x80",     /* U+0800 */
    "\xed\x9f\xbf",     /* U+D7FF, before the surrogates */
    "\xee\x80\x80",     /* U+E000, after them */
    "\xef\xbf\xbf",     /* U+FFFF */
    "\xf0\x90\x80\x80", /* U+10000 */
    "\xf4\x8f\xbf\xbf", /* U+10FFFF */
};

static const char *const invalid[] = {
    "\x80",                     /* a continuation by itself */
    "\xbf",                     /* the same */
    "\xc0\x80",                 /* overlong NUL */
    "\xc1\xbf",                 /* overlong */
    "\xe0\x80\x80",             /* overlong */
    "\xe0\x9f\xbf",             /* overlong */
    "\xf0\x8f\xbf\xbf",         /* overlong */
    "\xed\xa0\x80",             /* U+D800 */
    "\xed\xbf\xbf",             /* U+DFFF */
    "\xf4\x90\x80\x80",         /* U+110000 */
    "\xf5\x80\x80\x80",         /* beyond */
    "\xf8\x88\x80\x80\x80",     /* five bytes */
    "\xfe",                     /* never a first byte */
    "\xff",                     /* never */
    "\xc3",                     /* cut */
    "\xe4\xb8",                 /* cut */
    "\xf0\x9f\x98",             /* cut */
    "\xc3(",                    /* wrong second byte */
    "\xe4\xb8(",                /* wrong third */
    "\xf0\x9f\x98(",            /* wrong fourth */
    "abcdefghijklmnop\xff",     /* behind the fast path */
    "abcdefgh\xffijklmnopqrst", /* within it */
};

static void test_utf8_valid_table(void **state)
{
    for (size_t i = 0; i < sizeof valid / sizeof valid[0]; i++) {
        assert_true(utf8_valid(str_of(valid[i])));
    }
    for (size_t i = 0; i < sizeof invalid / sizeof invalid[0]; i++) {
        if (utf8_valid(str_of(invalid[i]))) {
            fail_msg("invalid[%zu] was taken for valid", i);
        }
    }
    assert_true(utf8_valid(STR("a\0b")));
}

static void test_utf8_round_trip_of_every_code_point(void **state)
{
    for (uint32_t c = 0; c <= 0x110010; c++) {
        char bytes[UTF8_MAX_BYTES];
        size_t size = utf8_encode(c, bytes);
        bool character = c <= 0x10ffff && !(c >= 0xd800 && c <= 0xdfff);
        assert_int_equal(size > 0, character);
        if (!character) {
            continue;
        }
        struct str s = {.data = bytes, .size = size};
        uint32_t back = 0xffffffff;
        assert_int_equal(utf8_decode(s, &back), size);
        assert_int_equal(back, c);
        assert_true(utf8_valid(s));
        for (size_t cut = 1; cut < size; cut++) {
            s.size = cut;
            assert_int_equal(utf8_decode(s, &back), 0);
            assert_int_equal(utf8_complete_prefix(s), 0);
        }
    }
}

static void test_utf8_decode_leaves_result_alone(void **state)
{
    uint32_t c = 7;
    assert_int_equal(utf8_decode(STR(""), &c), 0);
    assert_int_equal(utf8_decode(STR("\xff"), &c), 0);
    assert_int_equal(c, 7);
}

static void test_utf8_complete_prefix(void **state)
{
    static const struct {
        const char *text;
        size_t complete;
    } cases[] = {
        {"", 0},
        {"abc", 3},
        {"abc\xc3", 3},
        {"abc\xc3\xbc", 5},
        {"a\xe4", 1},
        {"a\xe4\xb8", 1},
        {"a\xe4\xb8\xad", 4},
        {"a\xf0\x9f", 1},
        {"a\xf0\x9f\x98", 1},
        {"a\xf0\x9f\x98\x80", 5},
        {"a\xff", 2},         /* will not get better */
        {"a\x80\x80", 3},     /* nor this */
        {"a\xc0", 2},         /* nor an overlong start */
        {"a\xe0\x80", 3},     /* nor an overlong second byte */
        {"a\xed\xa0", 3},     /* nor half a surrogate */
        {"a\xf4\x90", 3},     /* nor what is beyond */
        {"a\xe4\xb8\xe4", 3}, /* the first is broken, the second may come */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (utf8_complete_prefix(str_of(cases[i].text)) != cases[i].complete) {
            fail_msg("case %zu", i);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_utf8_valid_table),
        cmocka_unit_test(test_utf8_round_trip_of_every_code_point),
        cmocka_unit_test(test_utf8_decode_leaves_result_alone),
        cmocka_unit_test(test_utf8_complete_prefix),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

#include "server/http/framing.h"

/* Feeds `text` in pieces of `piece` bytes; collects the body. */
static enum api_fault feed(struct framing *f, struct str text, size_t piece, struct buf *body,
                           size_t *ret_used, struct api_error *err)
{
    size_t used = 0;
    while (used < text.size && f->state != FRAMING_END) {
        size_t size = text.size - used < piece ? text.size - used : piece;
        size_t taken = 0;
        struct str part;
        enum api_fault fault =
            framing_next(f, (struct str){text.data + used, size}, &taken, &part, err);
        if (fault != API_OK) {
            return fault;
        }
        assert_true(taken > 0);
        buf_append_str(body, part);
        used += taken;
    }
    *ret_used = used;
    return API_OK;
}

static void test_length(void **state)
{
    const struct head head = {.has_length = true, .content_length = 5};
    struct api_error err;
    for (size_t piece = 1; piece < 8; piece++) {
        struct framing f;
        struct buf body;
        size_t used = 0;
        buf_init(&body, 100);
        assert_int_equal(framing_init(&f, &head, 5, &err), API_OK);
        assert_int_equal(feed(&f, STR("helloGET"), piece, &body, &used, &err), API_OK);
        assert_int_equal(used, 5);
        assert_true(str_equal_c(buf_view(&body), "hello"));
        buf_fini(&body);
    }
}

static void test_length_limits(void **state)
{
    const struct head none = {0};
    const struct head six = {.has_length = true, .content_length = 6};
    const struct head huge = {.has_length = true, .content_length = UINT64_MAX};
    struct framing f;
    struct api_error err;
    assert_int_equal(framing_init(&f, &none, 5, &err), API_OK);
    assert_int_equal(f.state, FRAMING_END);
    assert_int_equal(framing_init(&f, &six, 5, &err), API_BODY_TOO_LARGE);
    assert_int_equal(framing_init(&f, &huge, 5, &err), API_BODY_TOO_LARGE);
}

static void test_chunked(void **state)
{
    static const char text[] =
        "3\r\nhel\r\n002;a=b;c=\"d\"\r\nlo\r\n0\r\nTrailer: x\r\nB: y\r\n\r\nGET";
    const struct head head = {.chunked = true};
    struct api_error err;
    for (size_t piece = 1; piece < sizeof text; piece++) {
        struct framing f;
        struct buf body;
        size_t used = 0;
        buf_init(&body, 100);
        assert_int_equal(framing_init(&f, &head, 5, &err), API_OK);
        assert_int_equal(feed(&f, STR(text), piece, &body, &used, &err), API_OK);
        assert_int_equal(f.state, FRAMING_END);
        assert_int_equal(used, sizeof text - 1 - 3);
        assert_true(str_equal_c(buf_view(&body), "hello"));
        buf_fini(&body);
    }
}

static void test_chunked_refusals(void **state)
{
    static const struct {
        const char *text;
        enum api_fault fault;
    } cases[] = {
        {"FFFFFFFFFFFFFFFF\r\n", API_BODY_TOO_LARGE},
        {"00000000000000001\r\n", API_BAD_REQUEST},
        {"65\r\n", API_BODY_TOO_LARGE},
        {"\r\n", API_BAD_REQUEST},
        {"-1\r\n", API_BAD_REQUEST},
        {"0x1\r\n", API_BAD_REQUEST},
        {"1 \r\n", API_BAD_REQUEST},
        {"zz\r\n", API_BAD_REQUEST},
        {"1\nx", API_BAD_REQUEST},
        {"1\r\nxy\r\n", API_BAD_REQUEST},
        {"1\r\nx\n", API_BAD_REQUEST},
        {"1\r\nx\r0", API_BAD_REQUEST},
        {"1;\n\r\n", API_BAD_REQUEST},
        {"0\r\nA: b\n\r\n", API_BAD_REQUEST},
        {"0\r\n\rX", API_BAD_REQUEST},
    };
    const struct head head = {.chunked = true};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct framing f;
        struct buf body;
        struct api_error err;
        size_t used = 0;
        buf_init(&body, 1000);
        assert_int_equal(framing_init(&f, &head, 100, &err), API_OK);
        enum api_fault fault = feed(&f, str_of(cases[i].text), 100, &body, &used, &err);
        if (fault != cases[i].fault) {
            fail_msg("%zu: got fault %d, expected %d", i, fault, cases[i].fault);
        }
        buf_fini(&body);
    }
}

static void test_extra_bytes_are_bounded(void **state)
{
    static const char *const starts[] = {"1;", "0\r\n"};
    const struct head head = {.chunked = true};
    for (size_t i = 0; i < 2; i++) {
        struct framing f;
        struct buf text;
        struct buf body;
        struct api_error err;
        size_t used = 0;
        buf_init(&text, 100000);
        buf_init(&body, 1000);
        buf_append_c(&text, starts[i]);
        for (size_t j = 0; j < 20000; j++) {
            buf_append_c(&text, j % 100 == 99 && i == 1 ? "\r\n" : "a");
        }
        assert_int_equal(framing_init(&f, &head, 100, &err), API_OK);
        assert_int_equal(feed(&f, buf_view(&text), 1000, &body, &used, &err), API_BAD_REQUEST);
        buf_fini(&text);
        buf_fini(&body);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_length),
        cmocka_unit_test(test_length_limits),
        cmocka_unit_test(test_chunked),
        cmocka_unit_test(test_chunked_refusals),
        cmocka_unit_test(test_extra_bytes_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

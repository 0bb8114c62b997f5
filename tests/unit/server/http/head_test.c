#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

#include "server/http/head.h"

#define HOST "Host: x\r\n"

static enum api_fault parse(const char *text, size_t size, struct head *head, struct api_error *err)
{
    return head_parse((struct str){text, size}, head, err);
}

static void test_head_views(void **state)
{
    static const char text[] =
        "POST /v1/x?a=b HTTP/1.1\r\nHost: h:1\r\ncontent-LENGTH:  12 \r\n"
        "Authorization: Bearer k\r\nOrigin: http://a\r\nExpect: 100-Continue\r\n\r\n";
    struct head head;
    struct api_error err;
    assert_int_equal(parse(text, sizeof text - 1, &head, &err), API_OK);
    assert_true(str_equal_c(head.method, "POST"));
    assert_true(str_equal_c(head.path, "/v1/x"));
    assert_true(str_equal_c(head.host, "h:1"));
    assert_true(str_equal_c(head.authorization, "Bearer k"));
    assert_true(str_equal_c(head.origin, "http://a"));
    assert_true(head.has_length && head.content_length == 12);
    assert_true(head.expects_continue && head.keep_alive && !head.chunked && !head.version_1_0);
}

static void test_head_connection(void **state)
{
    static const struct {
        const char *text;
        bool keep_alive;
    } cases[] = {
        {"GET / HTTP/1.1\r\n" HOST "\r\n", true},
        {"GET / HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n", false},
        {"GET / HTTP/1.1\r\n" HOST "Connection: foo, Close\r\n\r\n", false},
        {"GET / HTTP/1.0\r\n\r\n", false},
        {"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct head head;
        struct api_error err;
        assert_int_equal(parse(cases[i].text, strlen(cases[i].text), &head, &err), API_OK);
        assert_int_equal(head.keep_alive, cases[i].keep_alive);
    }
}

/* Every head here is whole as far as its lines go; what is wrong with it must be found by the
 * parser. */
static void test_head_refusals(void **state)
{
    static const struct {
        const char *name, *text;
        enum api_fault fault;
    } cases[] = {
        {"no host", "GET / HTTP/1.1\r\n\r\n", API_BAD_REQUEST},
        {"two hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", API_BAD_REQUEST},
        {"host with a space", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n", API_BAD_REQUEST},
        {"host with a slash", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", API_BAD_REQUEST},
        {"both framings",
         "POST / HTTP/1.1\r\n" HOST "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
         API_BAD_REQUEST},
        {"two lengths", "POST / HTTP/1.1\r\n" HOST "Content-Length: 1\r\nContent-Length: 1\r\n\r\n",
         API_BAD_REQUEST},
        {"length list", "POST / HTTP/1.1\r\n" HOST "Content-Length: 4,4\r\n\r\n", API_BAD_REQUEST},
        {"signed length", "POST / HTTP/1.1\r\n" HOST "Content-Length: +4\r\n\r\n", API_BAD_REQUEST},
        {"hex length", "POST / HTTP/1.1\r\n" HOST "Content-Length: 0x4\r\n\r\n", API_BAD_REQUEST},
        {"empty length", "POST / HTTP/1.1\r\n" HOST "Content-Length:\r\n\r\n", API_BAD_REQUEST},
        {"2^64", "POST / HTTP/1.1\r\n" HOST "Content-Length: 18446744073709551616\r\n\r\n",
         API_BAD_REQUEST},
        {"long length", "POST / HTTP/1.1\r\n" HOST "Content-Length: 000000000000000000001\r\n\r\n",
         API_BAD_REQUEST},
        {"unknown coding", "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: gzip\r\n\r\n",
         API_UNSUPPORTED_FRAMING},
        {"coding list", "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: gzip, chunked\r\n\r\n",
         API_UNSUPPORTED_FRAMING},
        {"two codings",
         "POST / HTTP/1.1\r\n" HOST
         "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
         API_BAD_REQUEST},
        {"chunked 1.0", "POST / HTTP/1.0\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n",
         API_BAD_REQUEST},
        {"expectation", "POST / HTTP/1.1\r\n" HOST "Expect: gold\r\n\r\n", API_UNSUPPORTED_EXPECT},
        {"gzip body", "POST / HTTP/1.1\r\n" HOST "Content-Encoding: gzip\r\n\r\n",
         API_UNSUPPORTED_ENCODING},
        {"two keys", "GET / HTTP/1.1\r\n" HOST "Authorization: a\r\nAuthorization: a\r\n\r\n",
         API_BAD_REQUEST},
        {"space before colon", "GET / HTTP/1.1\r\n" HOST "A : 1\r\n\r\n", API_BAD_REQUEST},
        {"folded", "GET / HTTP/1.1\r\n" HOST "A: 1\r\n 2\r\n\r\n", API_BAD_REQUEST},
        {"folded first", "GET / HTTP/1.1\r\n " HOST "\r\n", API_BAD_REQUEST},
        {"no colon", "GET / HTTP/1.1\r\n" HOST "A\r\n\r\n", API_BAD_REQUEST},
        {"no name", "GET / HTTP/1.1\r\n" HOST ": 1\r\n\r\n", API_BAD_REQUEST},
        {"HTTP/0.9", "GET /\r\n\r\n", API_BAD_REQUEST},
        {"HTTP/1.9", "GET / HTTP/1.9\r\n" HOST "\r\n", API_UNSUPPORTED_VERSION},
        {"HTTP/2.0", "PRI * HTTP/2.0\r\n\r\n", API_UNSUPPORTED_VERSION},
        {"lower case version", "GET / http/1.1\r\n" HOST "\r\n", API_BAD_REQUEST},
        {"two spaces", "GET  / HTTP/1.1\r\n" HOST "\r\n", API_BAD_REQUEST},
        {"space at the end", "GET / HTTP/1.1 \r\n" HOST "\r\n", API_BAD_REQUEST},
        {"bad method", "G@T / HTTP/1.1\r\n" HOST "\r\n", API_BAD_REQUEST},
        {"no method", " / HTTP/1.1\r\n" HOST "\r\n", API_BAD_REQUEST},
        {"long method", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA / HTTP/1.1\r\n" HOST "\r\n",
         API_BAD_REQUEST},
        {"absolute", "GET http://x/ HTTP/1.1\r\n" HOST "\r\n", API_BAD_REQUEST},
        {"authority", "CONNECT x:1 HTTP/1.1\r\n" HOST "\r\n", API_BAD_REQUEST},
        {"star", "GET * HTTP/1.1\r\n" HOST "\r\n", API_BAD_REQUEST},
        {"%00", "GET /a%00 HTTP/1.1\r\n" HOST "\r\n", API_BAD_REQUEST},
        {"half escape", "GET /a%4 HTTP/1.1\r\n" HOST "\r\n", API_BAD_REQUEST},
        {"bad escape", "GET /a%zz HTTP/1.1\r\n" HOST "\r\n", API_BAD_REQUEST},
        {"fragment", "GET /a#b HTTP/1.1\r\n" HOST "\r\n", API_BAD_REQUEST},
        {"empty line", "\r\n", API_BAD_REQUEST},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct head head;
        struct api_error err;
        enum api_fault fault = parse(cases[i].text, strlen(cases[i].text), &head, &err);
        if (fault != cases[i].fault || err.message[0] == '\0') {
            fail_msg("%s: got fault %d, expected %d", cases[i].name, fault, cases[i].fault);
        }
    }
}

static enum head_state scan(const char *text, size_t size, size_t *ret_at, struct api_error *err)
{
    struct head_scan s;
    head_scan_init(&s);
    enum head_state state = head_scan(&s, (struct str){text, size}, err);
    *ret_at = s.at;
    return state;
}

static void test_scan_finds_the_end_byte_by_byte(void **state)
{
    static const char text[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\nrest";
    struct head_scan s;
    struct api_error err;
    head_scan_init(&s);
    for (size_t size = 0; size < sizeof text - 1 - 4; size++) {
        assert_int_equal(head_scan(&s, (struct str){text, size}, &err), HEAD_MORE);
    }
    assert_int_equal(head_scan(&s, (struct str){text, sizeof text - 1}, &err), HEAD_COMPLETE);
    assert_int_equal(s.at, sizeof text - 1 - 4);
}

static void test_scan_refuses_early(void **state)
{
    static const struct {
        const char *text;
        size_t size;
    } cases[] = {
        {"GET / HTTP/1.1\n", 15},
        {"GET / HTTP/1.1\rX", 16},
        {"GET /\0 ", 7},
        {"\x16\x03\x01", 3},
        {"GET /\xff", 6},
        {"GET / HTTP/1.1\r\nA: \x01", 20},
        {"GET / HTTP/1.1\r\nA: b\0c", 22},
        {"GET /\x7f", 6},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct api_error err;
        size_t at;
        assert_int_equal(scan(cases[i].text, cases[i].size, &at, &err), HEAD_BAD);
        assert_int_equal(err.fault, API_BAD_REQUEST);
    }
}

static void test_scan_limits(void **state)
{
    struct buf text;
    struct api_error err;
    size_t at;
    buf_init(&text, 1u << 20);
    buf_append_c(&text, "GET /");
    for (size_t i = 0; i < 70000; i++) {
        buf_append_byte(&text, 'a');
    }
    assert_int_equal(scan(text.data, text.size, &at, &err), HEAD_BAD);
    assert_int_equal(err.fault, API_HEAD_TOO_LARGE);
    buf_clear(&text);
    buf_append_c(&text, "GET / HTTP/1.1\r\n");
    for (int i = 0; i < 101; i++) {
        buf_printf(&text, "A%d: 1\r\n", i);
    }
    buf_append_c(&text, "\r\n");
    assert_int_equal(scan(text.data, text.size, &at, &err), HEAD_BAD);
    assert_int_equal(err.fault, API_HEAD_TOO_LARGE);
    buf_clear(&text);
    buf_append_c(&text, "GET / HTTP/1.1\r\nA: ");
    for (size_t i = 0; i < 33000; i++) {
        buf_append_byte(&text, 'a');
    }
    assert_int_equal(scan(text.data, text.size, &at, &err), HEAD_BAD);
    buf_fini(&text);
}

static void test_blank_lines(void **state)
{
    assert_int_equal(head_blank_lines(STR("GET")), 0);
    assert_int_equal(head_blank_lines(STR("\r\n\r\nGET")), 4);
    assert_int_equal(head_blank_lines(STR("\r")), 0);
    assert_int_equal(head_blank_lines(STR("\r\n\r\n\r\n\r\n\r\n\r\n")), 2 * HEAD_BLANKS_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_head_views),
        cmocka_unit_test(test_head_connection),
        cmocka_unit_test(test_head_refusals),
        cmocka_unit_test(test_scan_finds_the_end_byte_by_byte),
        cmocka_unit_test(test_scan_refuses_early),
        cmocka_unit_test(test_scan_limits),
        cmocka_unit_test(test_blank_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

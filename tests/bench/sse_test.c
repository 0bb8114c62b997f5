#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

#include "tests/bench/response.h"
#include "tests/bench/sse.h"

/* What a stream said, put together. */
struct heard {
    struct buf text;
    struct sse_usage usage;
    size_t events, pieces, errors, usages;
    bool done;
    char code[40];
};

static void hear(struct heard *h, const struct sse_event *event)
{
    h->events++;
    h->pieces += event->text.size > 0;
    buf_append_str(&h->text, event->text);
    if (event->has_usage) {
        h->usages++;
        h->usage = event->usage;
    }
    if (event->error) {
        h->errors++;
        snprintf(h->code, sizeof h->code, "%.*s", (int)event->error_code.size,
                 event->error_code.data);
    }
    h->done |= event->done;
}

/* Scans `text` in pieces of `size` bytes. */
static void scan(struct heard *h, struct str text, size_t size)
{
    struct sse sse;
    struct sse_event event;
    *h = (struct heard){0};
    buf_init(&h->text, 1 << 20);
    sse_init(&sse);
    for (size_t at = 0; at < text.size; at += size) {
        struct str bytes = {text.data + at, text.size - at < size ? text.size - at : size};
        while (sse_next(&sse, &bytes, &event)) {
            hear(h, &event);
        }
        assert_int_equal(bytes.size, 0);
    }
    sse_fini(&sse);
}

static void test_chat(void **state)
{
    static const char stream[] =
        "data: "
        "{\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}],\"usage\":null}\n\n"
        ": ping\n\n"
        "data: {\"choices\":[{\"delta\":{\"content\":\"Par\"}}],\"usage\":null}\n\n"
        "data:{\"choices\":[{\"delta\":{\"content\": \"\\\"is\\\\\"}}]}\r\n\r\n"
        "event: x\ndata: "
        "{\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":null}\n\n"
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":12,\"completion_tokens\": 34,"
        "\"total_tokens\":46,\"prompt_tokens_details\":{\"cached_tokens\":5}}}\n\n"
        "data: [DONE]\n\n";
    for (size_t size = 1; size <= sizeof stream; size++) {
        struct heard h;
        scan(&h, (struct str){stream, sizeof stream - 1}, size);
        assert_true(str_equal_c(buf_view(&h.text), "Par\\\"is\\\\"));
        assert_int_equal(h.events, 6);
        assert_int_equal(h.pieces, 2);
        assert_int_equal(h.usages, 1);
        assert_int_equal(h.usage.prompt_tokens, 12);
        assert_int_equal(h.usage.completion_tokens, 34);
        assert_int_equal(h.usage.cached_tokens, 5);
        assert_int_equal(h.errors, 0);
        assert_true(h.done);
        buf_fini(&h.text);
    }
}

/* Names inside a text have their quotes escaped. */
static void test_text_that_looks_like_members(void **state)
{
    static const char stream[] =
        "data: "
        "{\"choices\":[{\"text\":\"\\\"usage\\\":{\\\"error\\\":{\\\"code\\\":\\\"x\\\"}\"}]}\n\n";
    struct heard h;
    scan(&h, (struct str){stream, sizeof stream - 1}, sizeof stream);
    assert_int_equal(h.pieces, 1);
    assert_int_equal(h.usages, 0);
    assert_int_equal(h.errors, 0);
    buf_fini(&h.text);
}

static void test_error(void **state)
{
    static const char stream[] =
        "data: "
        "{\"error\":{\"message\":\"no\",\"type\":\"server_error\",\"code\":\"draining\"}}\n\n";
    struct heard h;
    scan(&h, (struct str){stream, sizeof stream - 1}, 7);
    assert_int_equal(h.errors, 1);
    assert_string_equal(h.code, "draining");
    assert_false(h.done);
    buf_fini(&h.text);
}

/* ----------------------------------------------------------------- response */

/* Feeds `text` in pieces of `size` bytes; the body is in `body`. */
static void receive(struct response *r, struct str text, size_t size, struct buf *body)
{
    buf_clear(body);
    response_clear(r);
    for (size_t at = 0; at < text.size; at += size) {
        struct str bytes = {text.data + at, text.size - at < size ? text.size - at : size};
        struct str run;
        while (response_next(r, &bytes, &run)) {
            buf_append_str(body, run);
        }
    }
}

static void test_response(void **state)
{
    static const char chunked[] =
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
        "5\r\nhello\r\n1;x=y\r\n \r\nA\r\n0123456789\r\n0\r\nt: v\r\n\r\n";
    static const char length[] = "HTTP/1.1 503 Busy\r\nRetry-After: 3\r\nConnection: close\r\n"
                                 "Content-Length: 4\r\n\r\nbusy";
    static const char until_close[] = "HTTP/1.0 200 OK\r\n\r\nall of it";
    struct response r;
    struct buf body;
    response_init(&r);
    buf_init(&body, 1000);
    for (size_t size = 1; size <= sizeof chunked; size++) {
        receive(&r, (struct str){chunked, sizeof chunked - 1}, size, &body);
        assert_int_equal(r.state, RESPONSE_END);
        assert_int_equal(r.status, 200);
        assert_true(r.keep_alive);
        assert_true(str_equal_c(buf_view(&body), "hello 0123456789"));
        receive(&r, (struct str){length, sizeof length - 1}, size, &body);
        assert_int_equal(r.state, RESPONSE_END);
        assert_int_equal(r.status, 503);
        assert_true(r.has_retry_after && !r.keep_alive);
        assert_true(str_equal_c(buf_view(&body), "busy"));
        receive(&r, (struct str){until_close, sizeof until_close - 1}, size, &body);
        assert_int_equal(r.state, RESPONSE_UNTIL_CLOSE);
        assert_true(response_close(&r));
        assert_true(str_equal_c(buf_view(&body), "all of it"));
    }
    response_fini(&r);
    buf_fini(&body);
}

static void test_bad_responses(void **state)
{
    static const char *const bad[] = {
        "SSH-2.0-x\r\n",
        "HTTP/1.1 20\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n",
    };
    struct response r;
    struct buf body;
    response_init(&r);
    buf_init(&body, 1000);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        receive(&r, str_of(bad[i]), 3, &body);
        assert_int_equal(r.state, RESPONSE_BAD);
        assert_false(response_close(&r));
    }
    receive(&r, STR("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ncut"), 100, &body);
    assert_false(response_close(&r));
    response_fini(&r);
    buf_fini(&body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chat),          cmocka_unit_test(test_text_that_looks_like_members),
        cmocka_unit_test(test_error),         cmocka_unit_test(test_response),
        cmocka_unit_test(test_bad_responses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

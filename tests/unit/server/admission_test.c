/* Who is let in: a full replica, a client's own quota, deadlines and priorities, over real sockets.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "tests/unit/server/wire.h"

/* A full replica says so without reading the prompt, and keeps the connection. */
static void test_full_is_503_and_stays_connected(void **state)
{
    struct world w;
    struct buf all;
    char request[1024];
    open_world(&w, quick, (struct server_options){0});
    buf_init(&all, 1u << 20);
    fake_set_load(w.engine, &(struct phid_engine_load){.full = true, .wait_ms = 40000});
    int fd = dial(&w);
    post(request, sizeof request, "this is no JSON", "");
    for (size_t i = 1; i <= 3; i++) {
        say(fd, request);
        assert_true(hear(fd, &all, "\"code\":\"overloaded\"}}"));
        assert_int_equal(count_of(&all, "HTTP/1.1 503"), 1);
        assert_int_equal(count_of(&all, "Retry-After: 20"), 1);
        assert_int_equal(count_of(&all, "x-should-retry"), 0);
        buf_clear(&all);
    }
    assert_int_equal(fake_submitted(w.engine), 0);
    say(fd, "GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n"); /* what needs no room has it */
    assert_true(hear(fd, &all, "\"object\":\"list\""));
    buf_clear(&all);
    fake_set_load(w.engine, &(struct phid_engine_load){0});
    post(request, sizeof request, BODY(""), "");
    say(fd, request);
    assert_true(hear(fd, &all, "Hello"));
    close(fd);
    buf_fini(&all);
    close_world(&w);
}

static void test_full_does_not_wait_for_a_large_body(void **state)
{
    struct world w;
    struct buf all;
    open_world(&w, quick, (struct server_options){0});
    buf_init(&all, 1u << 20);
    fake_set_load(w.engine, &(struct phid_engine_load){.full = true});
    int fd = dial(&w);
    say(fd, "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000\r\n\r\n{");
    assert_true(hear(fd, &all, NULL)); /* answered and closed */
    assert_int_equal(count_of(&all, "HTTP/1.1 503"), 1);
    assert_int_equal(count_of(&all, "Retry-After: 1"), 1);
    close(fd);
    buf_fini(&all);
    close_world(&w);
}

static void test_quota_is_429(void **state)
{
    struct world w;
    struct buf all;
    char request[1024];
    const char *const keys[] = {"k1", "k2"};
    open_world(&w, slow,
               (struct server_options){.api_keys = keys, .api_key_count = 2, .key_in_flight = 1});
    buf_init(&all, 1u << 20);
    int first = dial(&w), second = dial(&w);
    post(request, sizeof request, BODY(",\"stream\":true"), "Authorization: Bearer k1\r\n");
    say(first, request);
    assert_true(hear(first, &all, "\"content\":\"0\""));
    buf_clear(&all);
    say(second, request);
    assert_true(hear(second, &all, "\"code\":\"rate_limit_exceeded\"}}"));
    assert_int_equal(count_of(&all, "HTTP/1.1 429"), 1);
    assert_int_equal(count_of(&all, "Retry-After: 1"), 1);
    buf_clear(&all);
    post(request, sizeof request, BODY(",\"stream\":true"), "Authorization: Bearer k2\r\n");
    say(second, request); /* another key has its own */
    assert_true(hear(second, &all, "\"content\":\"0\""));
    close(first);
    close(second);
    assert_true(eventually_live(&w, 0, 3000));
    buf_clear(&all);
    first = dial(&w);
    post(request, sizeof request, BODY(",\"stream\":true"), "Authorization: Bearer k1\r\n");
    for (int i = 0; i < 100 && count_of(&all, "\"content\":\"0\"") == 0; i++) {
        buf_clear(&all); /* given back when the request is over for the server too */
        say(first, request);
        assert_true(hear(first, &all, "\r\n\r\n"));
        if (count_of(&all, "HTTP/1.1 200") == 1) {
            assert_true(hear(first, &all, "\"content\":\"0\""));
        } else {
            assert_true(hear(first, &all, "}}"));
            usleep(10000);
        }
    }
    assert_int_equal(count_of(&all, "HTTP/1.1 200"), 1);
    close(first);
    buf_fini(&all);
    close_world(&w);
}

static void test_headers_reach_the_engine(void **state)
{
    struct world w;
    struct buf all;
    char request[1024];
    const char *const keys[] = {"k1"};
    open_world(
        &w, slow,
        (struct server_options){.api_keys = keys, .api_key_count = 1, .request_timeout_ms = 9000});
    buf_init(&all, 1u << 20);
    int fd = dial(&w);
    post(request, sizeof request, BODY(",\"stream\":true"),
         "Authorization: Bearer k1\r\nX-Priority: -2\r\nX-Request-Timeout: 5\r\n");
    say(fd, request);
    assert_true(hear(fd, &all, "\"content\":\"0\""));
    assert_int_equal(fake_last_params(w.engine)->priority, -2);
    assert_int_equal(fake_last_params(w.engine)->timeout_ms, 5000);
    assert_int_equal(strlen(fake_last_params(w.engine)->tenant), 16);
    close(fd);
    fd = dial(&w);
    post(request, sizeof request, BODY(",\"stream\":true,\"priority\":7"),
         "Authorization: Bearer k1\r\nX-Priority: -2\r\nX-Request-Timeout: 50\r\n");
    say(fd, request);
    buf_clear(&all);
    assert_true(hear(fd, &all, "\"content\":\"0\""));
    assert_int_equal(fake_last_params(w.engine)->priority, 7);      /* the body's */
    assert_int_equal(fake_last_params(w.engine)->timeout_ms, 9000); /* the server's */
    close(fd);
    fd = dial(&w);
    post(request, sizeof request, BODY(""),
         "Authorization: Bearer k1\r\nX-Priority: high\r\nConnection: close\r\n");
    say(fd, request);
    buf_clear(&all);
    assert_true(hear(fd, &all, NULL));
    assert_int_equal(count_of(&all, "HTTP/1.1 400"), 1);
    assert_int_equal(count_of(&all, "\"param\":\"x-priority\""), 1);
    close(fd);
    buf_fini(&all);
    close_world(&w);
}

static void test_a_clients_own_deadline(void **state)
{
    struct world w;
    struct buf all;
    char request[1024];
    open_world(&w, slow, (struct server_options){0});
    buf_init(&all, 1u << 20);
    int fd = dial(&w);
    post(request, sizeof request, BODY(",\"stream\":true"), "X-Request-Timeout: 0.2\r\n");
    say(fd, request);
    assert_true(hear(fd, &all, "\"code\":\"request_timeout\""));
    assert_int_equal(count_of(&all, "[DONE]"), 0);
    assert_true(eventually_live(&w, 0, 2000));
    close(fd);
    buf_fini(&all);
    close_world(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_full_is_503_and_stays_connected),
        cmocka_unit_test(test_full_does_not_wait_for_a_large_body),
        cmocka_unit_test(test_quota_is_429),
        cmocka_unit_test(test_headers_reach_the_engine),
        cmocka_unit_test(test_a_clients_own_deadline),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "server/http/wishes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

/* Parses a head with these lines in it. */
static enum api_fault read_lines(const char *lines, struct wishes *wishes, struct api_error *err)
{
    static char text[512];
    struct head head;
    int size = snprintf(text, sizeof text, "POST / HTTP/1.1\r\nHost: x\r\n%s\r\n", lines);
    assert_int_equal(head_parse((struct str){text, (size_t)size}, &head, err), API_OK);
    return wishes_read(&head, wishes, err);
}

static void test_wishes_read(void **state)
{
    static const struct {
        const char *lines;
        int32_t priority;
        uint32_t timeout_ms;
    } cases[] = {
        {"", 0, 0},
        {"X-Priority: -3\r\n", -3, 0},
        {"x-priority: 2147483647\r\n", INT32_MAX, 0},
        {"x-priority: -2147483648\r\nx-request-timeout: 2.5\r\n", INT32_MIN, 2500},
        {"x-priority: +7\r\n", 7, 0},
        {"X-Request-Timeout: 30\r\n", 0, 30000},
        {"x-request-timeout: .0001\r\n", 0, 1},
        {"x-request-timeout: 99999999999999999999\r\n", 0, WISHES_TIMEOUT_MAX_MS},
        {"Timeout: 12\r\n", 0, 12000},
        {"Timeout: 12\r\nx-request-timeout: 3\r\n", 0, 3000},
        {"Timeout: Second-3600\r\n", 0, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct wishes wishes;
        struct api_error err;
        assert_int_equal(read_lines(cases[i].lines, &wishes, &err), API_OK);
        assert_int_equal(wishes.priority, cases[i].priority);
        assert_int_equal(wishes.timeout_ms, cases[i].timeout_ms);
    }
}

static void test_wishes_refused(void **state)
{
    static const char *const lines[] = {
        "x-priority: 2147483648\r\n",
        "x-priority: -2147483649\r\n",
        "x-priority: high\r\n",
        "x-priority: -\r\n",
        "x-priority: 1.5\r\n",
        "x-priority: 00000000000000000001\r\n",
        "x-request-timeout: 0\r\n",
        "x-request-timeout: -1\r\n",
        "x-request-timeout: 1e3\r\n",
        "x-request-timeout: 1.2.3\r\n",
        "x-request-timeout: .\r\n",
        "x-request-timeout: soon\r\n",
        "x-request-timeout: 0000000000000000000000000000000000001\r\n",
    };
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        struct wishes wishes;
        struct api_error err;
        assert_int_equal(read_lines(lines[i], &wishes, &err), API_INVALID_VALUE);
        assert_int_equal(strncmp(err.param, lines[i], strlen(err.param)), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wishes_read),
        cmocka_unit_test(test_wishes_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

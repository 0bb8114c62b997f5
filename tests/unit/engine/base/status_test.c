#include "engine/base/status.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/base/utf8.h"

static void test_status_fail_fills(void **state)
{
    struct phid_error error = {.where = "old"};
    assert_int_equal(phid_fail(&error, PHID_ERR_FORMAT, "expected %d, found %s", 3, "four"),
                     PHID_ERR_FORMAT);
    assert_int_equal(error.status, PHID_ERR_FORMAT);
    assert_string_equal(error.message, "expected 3, found four");
    assert_string_equal(error.where, "");
    assert_int_equal(phid_fail(NULL, PHID_ERR_IO, "nobody listens"), PHID_ERR_IO);
}

static void test_status_fail_at_names_place(void **state)
{
    struct phid_error error;
    assert_int_equal(
        phid_fail_at(&error, PHID_ERR_ARGUMENT, "messages[1].role", "unknown role '%s'", "x"),
        PHID_ERR_ARGUMENT);
    assert_string_equal(error.where, "messages[1].role");
    assert_string_equal(error.message, "unknown role 'x'");
    assert_int_equal(phid_fail_at(NULL, PHID_ERR_BUSY, "a", "b"), PHID_ERR_BUSY);
}

static void test_status_own_message_as_argument(void **state)
{
    struct phid_error error;
    phid_fail(&error, PHID_ERR_IO, "inner");
    phid_fail(&error, PHID_ERR_FORMAT, "outer: %s", error.message);
    assert_string_equal(error.message, "outer: inner");
}

static void test_status_message_is_one_printable_line(void **state)
{
    struct phid_error error;
    phid_fail(&error, PHID_ERR_FORMAT, "%s", "a\nb\tc\x1b[31m\x7f\xc2\x85\xe2\x80\xa8z");
    assert_string_equal(error.message, "a?b?c?[31m???z");
    phid_fail(&error, PHID_ERR_FORMAT, "%s", "\xff[\xe4\xb8\xad\xe4\xb8");
    assert_string_equal(error.message, "?[\xe4\xb8\xad\?\?");
}

static void test_status_truncates_between_characters(void **state)
{
    /* 511 bytes fit; three-byte characters from offset 1 leave one byte over. */
    char text[1024] = "x";
    for (size_t i = 1; i + 3 < sizeof text; i += 3) {
        memcpy(text + i, "\xe4\xb8\xad", 3);
    }
    struct phid_error error;
    phid_fail(&error, PHID_ERR_FORMAT, "%s", text);
    size_t size = strlen(error.message);
    assert_int_equal(size, 511);
    phid_fail(&error, PHID_ERR_FORMAT, "y%s", text);
    size = strlen(error.message);
    assert_int_equal(size, 509);
    assert_true(utf8_valid((struct str){.data = error.message, .size = size}));
}

static void test_status_prefix(void **state)
{
    struct phid_error error;
    phid_fail_at(&error, PHID_ERR_FORMAT, "general.name", "bad string");
    assert_int_equal(phid_prefix(&error, PHID_ERR_FORMAT, "file %d", 2), PHID_ERR_FORMAT);
    assert_string_equal(error.message, "file 2: bad string");
    assert_string_equal(error.where, "general.name");
    assert_int_equal(phid_prefix(NULL, PHID_ERR_IO, "x"), PHID_ERR_IO);

    char longest[PHID_ERROR_MESSAGE_MAX];
    memset(longest, 'm', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    phid_fail(&error, PHID_ERR_IO, "%s", longest);
    phid_prefix(&error, PHID_ERR_IO, "prefix");
    assert_int_equal(strlen(error.message), PHID_ERROR_MESSAGE_MAX - 1);
    assert_memory_equal(error.message, "prefix: mmm", 11);
    phid_prefix(&error, PHID_ERR_IO, "%s", longest);
    assert_int_equal(strlen(error.message), PHID_ERROR_MESSAGE_MAX - 1);
}

static void test_status_names(void **state)
{
    assert_string_equal(phid_status_name(PHID_OK), "ok");
    assert_string_equal(phid_status_name(PHID_ERR_NOT_FOUND), "not_found");
    assert_string_equal(phid_status_name(PHID_ERR_INTERNAL), "internal");
    assert_string_equal(phid_status_name((enum phid_status)99), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_status_fail_fills),
        cmocka_unit_test(test_status_fail_at_names_place),
        cmocka_unit_test(test_status_own_message_as_argument),
        cmocka_unit_test(test_status_message_is_one_printable_line),
        cmocka_unit_test(test_status_truncates_between_characters),
        cmocka_unit_test(test_status_prefix),
        cmocka_unit_test(test_status_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

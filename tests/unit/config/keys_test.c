/* The API key file: what is a key, what is refused, and that no message holds a key. */
#include "config/keys.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char path[64];

static void write_keys(const char *text, size_t size, mode_t mode)
{
    snprintf(path, sizeof(path), "/tmp/phid_keys_test_XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, size), (ssize_t)size);
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
}

static enum phid_status load(const char *text, mode_t mode, struct api_keys *keys,
                             struct phid_error *err)
{
    write_keys(text, strlen(text), mode);
    enum phid_status status = api_keys_load(path, keys, err);
    unlink(path);
    return status;
}

static void test_keys_good(void **state)
{
    (void)state;
    struct api_keys keys = {0};
    struct phid_error err = {0};
    assert_int_equal(
        load("# comment\n\nsk-one\r\n  alice : sk-two \nbob:sk:three\nsk-four", 0600, &keys, &err),
        PHID_OK);
    assert_int_equal(keys.count, 4);
    assert_string_equal(keys.items[0].key, "sk-one");
    assert_string_equal(keys.items[0].name, "");
    assert_string_equal(keys.items[1].key, "sk-two");
    assert_string_equal(keys.items[1].name, "alice");
    assert_string_equal(keys.items[2].key, "sk:three");
    assert_string_equal(keys.items[3].key, "sk-four");
    api_keys_fini(&keys);
    assert_int_equal(load("k\n", 0640, &keys, &err), PHID_OK);
    api_keys_fini(&keys);
}

static void test_keys_refused(void **state)
{
    static const struct {
        const char *text;
        mode_t mode;
        const char *message;
    } cases[] = {
        {"secret\n", 0644, "other users may read it"},
        {"secret\n", 0602, "other users may read it"},
        {"", 0600, "no key in the file"},
        {"# nothing\n", 0600, "no key in the file"},
        {"ok\nalice:\n", 0600, ":2: expected a key of 1 to 512 bytes"},
        {"secret with space\n", 0600, ":1: expected `key` or `name:key` in printable ASCII"},
        {"s\xc3\xa9"
         "cret\n",
         0600, "printable ASCII"},
        {"secret\nx:secret\n", 0600, ":2: this key is in the file already"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct api_keys keys = {0};
        struct phid_error err = {0};
        enum phid_status status = load(cases[i].text, cases[i].mode, &keys, &err);
        if (status == PHID_OK || strstr(err.message, cases[i].message) == NULL) {
            fail_msg("%s gave %s", cases[i].text, err.message);
        }
        assert_null(strstr(err.message, "secret"));
        assert_null(keys.items);
    }
}

static void test_keys_odd_files(void **state)
{
    (void)state;
    struct api_keys keys = {0};
    struct phid_error err = {0};
    write_keys("a\0b\n", 4, 0600);
    assert_int_equal(api_keys_load(path, &keys, &err), PHID_ERR_ARGUMENT);
    unlink(path);
    assert_int_equal(api_keys_load(path, &keys, &err), PHID_ERR_NOT_FOUND);
    assert_int_equal(api_keys_load("/tmp", &keys, &err), PHID_ERR_IO);
    assert_int_equal(api_keys_load("/dev/null", &keys, &err), PHID_ERR_IO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keys_good),
        cmocka_unit_test(test_keys_refused),
        cmocka_unit_test(test_keys_odd_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

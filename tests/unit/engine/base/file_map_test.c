#include "engine/base/file_map.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static char folder[] = "/tmp/file_map_test_XXXXXX";
static char path[128];

static const char *in_folder(const char *name)
{
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void write_file(const char *name, const char *text)
{
    FILE *file = fopen(in_folder(name), "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, strlen(text), file), strlen(text));
    assert_int_equal(fclose(file), 0);
}

static int make_folder(void **state)
{
    return mkdtemp(folder) == NULL;
}

static int remove_folder(void **state)
{
    return rmdir(folder);
}

static void expect_refusal(const char *name, enum phid_status status, const char *fragment)
{
    struct file_map map = {.size = 77};
    struct phid_error error;
    assert_int_equal(file_map_open(name, &map, &error), status);
    if (strstr(error.message, fragment) == NULL || strstr(error.message, name) == NULL) {
        fail_msg("'%s' does not say '%s'", error.message, fragment);
    }
    assert_int_equal(map.size, 77);
}

static void test_file_map_reads(void **state)
{
    write_file("a", "hello");
    struct file_map map;
    assert_int_equal(file_map_open(in_folder("a"), &map, NULL), PHID_OK);
    unlink(path);
    assert_int_equal(map.size, 5);
    assert_memory_equal(map.data, "hello", 5);
    file_map_release(&map, 0, 5);
    file_map_release(&map, 3, 100);
    file_map_release(&map, 100, 1);
    file_map_release(&map, 2, SIZE_MAX);
    assert_memory_equal(map.data, "hello", 5);
    file_map_close(&map);
    file_map_close(&map);
    assert_null(map.data);
}

static void test_file_map_empty_file(void **state)
{
    write_file("empty", "");
    struct file_map map;
    assert_int_equal(file_map_open(in_folder("empty"), &map, NULL), PHID_OK);
    unlink(path);
    assert_int_equal(map.size, 0);
    assert_non_null(map.data);
    file_map_release(&map, 0, 0);
    file_map_close(&map);
}

static void test_file_map_release_drops_whole_pages(void **state)
{
    const char *name = in_folder("large");
    FILE *file = fopen(name, "wb");
    assert_non_null(file);
    for (int i = 0; i < 5 * 4096; i++) {
        fputc(i % 251, file);
    }
    fclose(file);
    struct file_map map;
    assert_int_equal(file_map_open(name, &map, NULL), PHID_OK);
    file_map_release(&map, 100, 3 * 4096);
    for (int i = 0; i < 5 * 4096; i++) {
        assert_int_equal(map.data[i], i % 251);
    }
    file_map_close(&map);
    unlink(name);
}

static void test_file_map_refuses_what_is_no_file(void **state)
{
    expect_refusal(in_folder("missing"), PHID_ERR_NOT_FOUND, "No such file");
    expect_refusal("", PHID_ERR_NOT_FOUND, "No such file");
    expect_refusal("/dev/null/x", PHID_ERR_NOT_FOUND, "Not a directory");
    expect_refusal(folder, PHID_ERR_IO, "is a directory");
    expect_refusal("/dev/zero", PHID_ERR_IO, "is a device");

    assert_int_equal(mkfifo(in_folder("fifo"), 0600), 0);
    expect_refusal(path, PHID_ERR_IO, "is a FIFO"); /* and does not wait for a writer */
    unlink(path);

    struct sockaddr_un address = {.sun_family = AF_UNIX};
    assert_true(strlen(in_folder("socket")) < sizeof address.sun_path);
    memcpy(address.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    expect_refusal(path, PHID_ERR_IO, "is a socket");
    close(fd);
    unlink(path);

    assert_int_equal(symlink("loop", in_folder("loop")), 0);
    expect_refusal(path, PHID_ERR_IO, "symbolic links");
    unlink(path);

    if (geteuid() != 0) { /* root may read everything */
        write_file("secret", "x");
        assert_int_equal(chmod(path, 0), 0);
        expect_refusal(path, PHID_ERR_IO, "Permission denied");
        unlink(path);
    }
}

static void test_file_map_read_notices_changes(void **state)
{
    (void)state;
    write_file("cut", "0123456789");
    struct file_map map;
    struct phid_error error;
    char bytes[16] = "";
    assert_int_equal(file_map_open(path, &map, &error), PHID_OK);
    assert_true(file_map_read(&map, 2, 5, bytes));
    assert_string_equal(bytes, "23456");
    assert_true(file_map_read(&map, 10, 0, bytes));
    assert_false(file_map_read(&map, 6, 5, bytes));
    assert_false(file_map_read(&map, 11, 1, bytes));
    assert_false(file_map_read(&map, SIZE_MAX, 2, bytes));
    assert_int_equal(truncate(path, 4), 0);
    assert_false(file_map_read(&map, 2, 5, bytes));
    assert_false(file_map_read(&map, 0, 2, bytes));
    file_map_close(&map);
    unlink(path);
}

static void test_file_map_long_path_keeps_the_reason(void **state)
{
    char name[4000];
    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    struct file_map map;
    struct phid_error error;
    assert_int_equal(file_map_open(name, &map, &error), PHID_ERR_IO);
    assert_non_null(strstr(error.message, "too long"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_file_map_reads),
        cmocka_unit_test(test_file_map_empty_file),
        cmocka_unit_test(test_file_map_release_drops_whole_pages),
        cmocka_unit_test(test_file_map_refuses_what_is_no_file),
        cmocka_unit_test(test_file_map_read_notices_changes),
        cmocka_unit_test(test_file_map_long_path_keeps_the_reason),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}

#include "engine/gguf/writer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[] = "/tmp/gguf_writer_test_XXXXXX";
static char path[128];

static int make_folder(void **state)
{
    snprintf(path, sizeof path, "%s/model.gguf", folder);
    return mkdtemp(folder) == NULL || snprintf(path, sizeof path, "%s/model.gguf", folder) < 0;
}

static int remove_folder(void **state)
{
    return rmdir(folder); /* fails when a temporary file was left behind */
}

static struct gguf_writer *writer_new(void)
{
    struct gguf_writer *writer = NULL;
    assert_int_equal(gguf_writer_new(&writer, NULL), PHID_OK);
    return writer;
}

static const float data_a[8] = {1, 2, 3, 4, 5, 6, 7, 8};
static const uint16_t data_b[3] = {0x3c00, 0x4000, 0x4200};

static void add_everything(struct gguf_writer *writer)
{
    gguf_writer_add_str(writer, "general.architecture", STR("phi3"));
    gguf_writer_add_u32(writer, "u32", 4000000000u);
    gguf_writer_add_i32(writer, "i32", -5);
    gguf_writer_add_u64(writer, "u64", UINT64_MAX);
    gguf_writer_add_f32(writer, "f32", 1.5f);
    gguf_writer_add_bool(writer, "bool", true);
    gguf_writer_add_strs(writer, "strs", (const struct str[]){STR("a"), STR(""), STR("ccc")}, 3);
    gguf_writer_add_i32s(writer, "i32s", (const int32_t[]){1, -1}, 2);
    gguf_writer_add_f32s(writer, "f32s", (const float[]){0.5f}, 1);
    gguf_writer_add_i32s(writer, "none", NULL, 0);
    gguf_writer_add_tensor(writer, STR("b"), 1, 1, (const uint64_t[]){3});
    gguf_writer_add_tensor(writer, STR("a.weight"), 0, 2, (const uint64_t[]){4, 2});
}

static void expect_everything(struct gguf_file *file)
{
    struct str s;
    uint32_t u32;
    int32_t i32;
    uint64_t u64;
    float f32;
    bool b;
    assert_int_equal(gguf_get_str(file, "general.architecture", &s, NULL), PHID_OK);
    assert_true(str_equal_c(s, "phi3"));
    assert_int_equal(gguf_get_u32(file, "u32", &u32, NULL), PHID_OK);
    assert_int_equal(u32, 4000000000u);
    assert_int_equal(gguf_get_i32(file, "i32", &i32, NULL), PHID_OK);
    assert_int_equal(i32, -5);
    assert_int_equal(gguf_get_u64(file, "u64", &u64, NULL), PHID_OK);
    assert_int_equal(u64, UINT64_MAX);
    assert_int_equal(gguf_get_f32(file, "f32", &f32, NULL), PHID_OK);
    assert_true(f32 == 1.5f);
    assert_int_equal(gguf_get_bool(file, "bool", &b, NULL), PHID_OK);
    assert_true(b);
    struct str *strs;
    int32_t *i32s;
    float *f32s;
    size_t count;
    assert_int_equal(gguf_get_strings(file, "strs", &strs, &count, NULL), PHID_OK);
    assert_true(count == 3 && str_equal_c(strs[2], "ccc"));
    free(strs);
    assert_int_equal(gguf_get_i32s(file, "i32s", &i32s, &count, NULL), PHID_OK);
    assert_true(count == 2 && i32s[1] == -1);
    free(i32s);
    assert_int_equal(gguf_get_f32s(file, "f32s", &f32s, &count, NULL), PHID_OK);
    assert_true(count == 1 && f32s[0] == 0.5f);
    free(f32s);
    assert_int_equal(gguf_entry_count(file), 10);
    assert_int_equal(gguf_tensor_count(file), 2);
    const struct gguf_tensor *a = gguf_tensor_find(file, STR("a.weight"));
    const struct gguf_tensor *t = gguf_tensor_find(file, STR("b"));
    assert_int_equal(a->offset % 32, 0);
    assert_int_equal(a->size_bytes, sizeof data_a);
    assert_memory_equal(a->data, data_a, sizeof data_a);
    assert_int_equal(t->size_bytes, sizeof data_b);
    assert_memory_equal(t->data, data_b, sizeof data_b);
}

static void test_writer_round_trip(void **state)
{
    struct gguf_writer *writer = writer_new();
    add_everything(writer);
    assert_int_equal(gguf_writer_begin(writer, path, NULL), PHID_OK);
    assert_int_not_equal(access(path, F_OK), 0); /* not there until it is whole */
    /* In pieces that cross the border between the tensors. */
    unsigned char all[sizeof data_a + sizeof data_b];
    memcpy(all, data_b, sizeof data_b);
    memcpy(all + sizeof data_b, data_a, sizeof data_a);
    assert_int_equal(gguf_writer_data(writer, all, 5, NULL), PHID_OK);
    assert_int_equal(gguf_writer_data(writer, all + 5, 0, NULL), PHID_OK);
    assert_int_equal(gguf_writer_data(writer, all + 5, sizeof all - 5, NULL), PHID_OK);
    assert_int_equal(gguf_writer_end(writer, NULL), PHID_OK);
    gguf_writer_free(writer);

    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    mode_t mask = umask(0);
    umask(mask);
    assert_int_equal(info.st_mode & 0777, 0666 & ~mask);
    struct gguf_file *file;
    struct phid_error error;
    assert_int_equal(gguf_open(path, &file, &error), PHID_OK);
    expect_everything(file);
    assert_int_equal(gguf_file_bytes(file), info.st_size);
    gguf_tensor_release(file, gguf_tensor_at(file, 0));
    expect_everything(file);

    /* A copy through the entries is the same file. */
    writer = writer_new();
    for (size_t i = 0; i < gguf_entry_count(file); i++) {
        gguf_writer_add_entry(writer, gguf_entry_at(file, i));
    }
    for (size_t i = 0; i < gguf_tensor_count(file); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(file, i);
        gguf_writer_add_tensor(writer, t->name, t->type, t->n_dims, t->ne);
    }
    assert_int_equal(gguf_writer_begin(writer, path, NULL),
                     PHID_OK); /* over the one that is open */
    for (size_t i = 0; i < gguf_tensor_count(file); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(file, i);
        assert_int_equal(gguf_writer_data(writer, t->data, (size_t)t->size_bytes, NULL), PHID_OK);
    }
    assert_int_equal(gguf_writer_end(writer, NULL), PHID_OK);
    gguf_writer_free(writer);
    expect_everything(file); /* the old one is still whole */
    gguf_close(file);
    assert_int_equal(gguf_open(path, &file, NULL), PHID_OK);
    expect_everything(file);
    gguf_close(file);
    unlink(path);
}

static void expect_begin_fails(struct gguf_writer *writer, enum phid_status status,
                               const char *fragment)
{
    struct phid_error error;
    assert_int_equal(gguf_writer_begin(writer, path, &error), status);
    if (strstr(error.message, fragment) == NULL) {
        fail_msg("'%s' does not say '%s'", error.message, fragment);
    }
    gguf_writer_free(writer);
}

static void test_writer_refuses_nonsense(void **state)
{
    struct gguf_writer *writer = writer_new();
    gguf_writer_add_u32(writer, "k", 1);
    gguf_writer_add_str(writer, "k", STR("again"));
    gguf_writer_add_u32(writer, "later", 1); /* the first error stays */
    expect_begin_fails(writer, PHID_ERR_ARGUMENT, "key 'k': given twice");

    writer = writer_new();
    gguf_writer_add_u32(writer, "", 1);
    expect_begin_fails(writer, PHID_ERR_ARGUMENT, "not a name");

    writer = writer_new();
    gguf_writer_add_u32(writer, "t", 1);
    gguf_writer_add_tensor(writer, STR("t"), 0, 1,
                           (const uint64_t[]){1}); /* another space of names */
    gguf_writer_add_tensor(writer, STR("t"), 0, 1, (const uint64_t[]){1});
    expect_begin_fails(writer, PHID_ERR_ARGUMENT, "tensor 't': given twice");

    static const struct {
        uint32_t type, n_dims;
        uint64_t ne[4];
    } shapes[] = {
        {999, 1, {32}}, {0, 0, {1}},    {0, 5, {1, 1, 1, 1}}, {8, 1, {33}},
        {0, 1, {0}},    {0, 2, {8, 0}}, {0, 1, {1ull << 62}}, {0, 2, {1ull << 33, 1ull << 33}},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        writer = writer_new();
        gguf_writer_add_tensor(writer, STR("t"), shapes[i].type, shapes[i].n_dims, shapes[i].ne);
        expect_begin_fails(writer, PHID_ERR_ARGUMENT,
                           "tensor 't': this type and shape give no size");
    }

    char long_name[66] = {0};
    memset(long_name, 'n', 65);
    writer = writer_new();
    gguf_writer_add_tensor(writer, str_of(long_name), 0, 1, (const uint64_t[]){1});
    expect_begin_fails(writer, PHID_ERR_ARGUMENT, "not a name");
}

static void test_writer_data_must_fit(void **state)
{
    struct phid_error error;
    struct gguf_writer *writer = writer_new();
    assert_int_equal(gguf_writer_data(writer, "x", 1, &error),
                     PHID_ERR_ARGUMENT); /* before begin */
    assert_int_equal(gguf_writer_end(writer, &error), PHID_ERR_ARGUMENT);
    add_everything(writer);
    assert_int_equal(gguf_writer_begin(writer, path, &error), PHID_OK);
    assert_int_equal(gguf_writer_begin(writer, path, &error), PHID_ERR_ARGUMENT); /* twice */
    assert_int_equal(gguf_writer_data(writer, data_b, sizeof data_b, &error), PHID_OK);
    assert_int_equal(gguf_writer_end(writer, &error), PHID_ERR_ARGUMENT);
    assert_non_null(strstr(error.message, "1 of 2 tensors"));
    assert_int_equal(gguf_writer_data(writer, data_a, sizeof data_a, &error), PHID_OK);
    assert_int_equal(gguf_writer_data(writer, "x", 1, &error), PHID_ERR_ARGUMENT);
    assert_non_null(strstr(error.message, "1 bytes more"));
    gguf_writer_free(writer); /* never ended: nothing is left */
    assert_int_not_equal(access(path, F_OK), 0);
    gguf_writer_free(NULL);
}

static void test_writer_io_errors(void **state)
{
    struct gguf_writer *writer = writer_new();
    struct phid_error error;
    assert_int_equal(gguf_writer_begin(writer, "/nonexistent/folder/x.gguf", &error), PHID_ERR_IO);
    assert_non_null(strstr(error.message, "/nonexistent/folder/x.gguf: No such file"));
    gguf_writer_free(writer);

    /* The name is taken by a folder: found at once. */
    assert_int_equal(mkdir(path, 0700), 0);
    writer = writer_new();
    assert_int_equal(gguf_writer_begin(writer, path, &error), PHID_ERR_IO);
    assert_non_null(strstr(error.message, "not a regular file"));
    gguf_writer_free(writer);
    assert_int_equal(rmdir(path), 0);

    /* It is taken while the file is written: found at the end, the temporary file goes. */
    writer = writer_new();
    assert_int_equal(gguf_writer_begin(writer, path, &error), PHID_OK);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(gguf_writer_end(writer, &error), PHID_ERR_IO);
    gguf_writer_free(writer);
    assert_int_equal(rmdir(path), 0);
}

/* A disk that is full after 100 kB. */
static void test_writer_file_size_limit(void **state)
{
    struct rlimit old;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    struct rlimit small = {.rlim_cur = 100000, .rlim_max = old.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    struct gguf_writer *writer = writer_new();
    gguf_writer_add_tensor(writer, STR("t"), 0, 1, (const uint64_t[]){1u << 20});
    struct phid_error error;
    assert_int_equal(gguf_writer_begin(writer, path, &error), PHID_OK);
    static const unsigned char block[4096];
    enum phid_status status = PHID_OK;
    for (int i = 0; i < 1024 && status == PHID_OK; i++) {
        status = gguf_writer_data(writer, block, sizeof block, &error);
    }
    if (status == PHID_OK) {
        status = gguf_writer_end(writer, &error);
    }
    assert_int_equal(status, PHID_ERR_IO);
    assert_non_null(strstr(error.message, "File too large"));
    gguf_writer_free(writer);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_not_equal(access(path, F_OK), 0);
}

int main(void)
{
    signal(SIGXFSZ, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_writer_round_trip),
        cmocka_unit_test(test_writer_refuses_nonsense),
        cmocka_unit_test(test_writer_data_must_fit),
        cmocka_unit_test(test_writer_io_errors),
        cmocka_unit_test(test_writer_file_size_limit),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}

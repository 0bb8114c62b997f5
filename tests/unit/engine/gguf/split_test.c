/* Models in several files. */
#include "engine/gguf/gguf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <unistd.h>

#include "tests/unit/engine/gguf/assemble.h"

static char folder[] = "/tmp/gguf_split_test_XXXXXX";
static char path[128];

static int make_folder(void **state)
{
    return mkdtemp(folder) == NULL;
}

static int remove_folder(void **state)
{
    return rmdir(folder);
}

static const char *in_folder(const char *name)
{
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void write_part(const char *name, const char *program)
{
    struct buf bytes;
    buf_init(&bytes, 1u << 20);
    assemble(&bytes, program);
    FILE *file = fopen(in_folder(name), "wb");
    assert_non_null(file);
    assert_true(bytes.size == 0 || fwrite(bytes.data, 1, bytes.size, file) == bytes.size);
    fclose(file);
    buf_fini(&bytes);
}

#define KEYS(number, count) "'split.no' u16 W" #number " 'split.count' u16 W" #count " "
#define TOTAL(count)        "'split.tensors.count' i32 D" #count " "
#define FIRST               "H1,4 'general.name' str 'x' " KEYS(0, 3) TOTAL(3) "'a' D1 Q2 D0 Q0 P F1 F2"
#define SECOND              "H1,3 " KEYS(1, 3) TOTAL(3) "'b' D1 Q2 D0 Q0 P F3 F4"
#define THIRD               "H1,3 " KEYS(2, 3) TOTAL(3) "'c' D1 Q2 D0 Q0 P F5 F6"

static const char *const names[3] = {"m-00001-of-00003.gguf", "m-00002-of-00003.gguf",
                                     "m-00003-of-00003.gguf"};

static void write_parts(const char *first, const char *second, const char *third)
{
    write_part(names[0], first);
    write_part(names[1], second);
    write_part(names[2], third);
}

static void remove_parts(void)
{
    for (int i = 0; i < 3; i++) {
        unlink(in_folder(names[i]));
    }
}

static void expect_refused(const char *name, enum phid_status status, const char *what,
                           const char *why)
{
    struct gguf_file *file = NULL;
    struct phid_error error = {.message = ""};
    enum phid_status got = gguf_open(in_folder(name), &file, &error);
    if (got != status || strstr(error.message, what) == NULL ||
        strstr(error.message, why) == NULL) {
        fail_msg("%s '%s', expected '%s' and '%s'", phid_status_name(got), error.message, what,
                 why);
    }
    assert_null(file);
}

static void test_split_opens_all_parts(void **state)
{
    write_parts(FIRST, SECOND, THIRD);
    struct gguf_file *file = NULL;
    struct phid_error error = {.message = ""};
    if (gguf_open(in_folder(names[0]), &file, &error) != PHID_OK) {
        fail_msg("%s", error.message);
    }
    assert_int_equal(gguf_part_count(file), 3);
    assert_int_equal(gguf_tensor_count(file), 3);
    assert_int_equal(gguf_entry_count(file), 4);
    static const char *const tensor[3] = {"a", "b", "c"};
    for (uint32_t i = 0; i < 3; i++) {
        const struct gguf_tensor *t = gguf_tensor_find(file, str_of(tensor[i]));
        assert_ptr_equal(t, gguf_tensor_at(file, i));
        assert_int_equal(t->part, i);
        float values[2];
        memcpy(values, t->data, sizeof values);
        assert_true(values[0] == (float)(2 * i + 1) && values[1] == (float)(2 * i + 2));
        gguf_tensor_release(file, t);
    }
    gguf_close(file);
    remove_parts();
}

static void test_split_single_part_needs_no_name(void **state)
{
    write_part("single.gguf", "H1,3 " KEYS(0, 1) TOTAL(1) "'a' D1 Q2 D0 Q0 P F1 F2");
    struct gguf_file *file = NULL;
    assert_int_equal(gguf_open(in_folder("single.gguf"), &file, NULL), PHID_OK);
    assert_int_equal(gguf_part_count(file), 1);
    gguf_close(file);
    unlink(in_folder("single.gguf"));
}

static void test_split_opened_at_the_wrong_part(void **state)
{
    write_parts(FIRST, SECOND, THIRD);
    expect_refused(names[1], PHID_ERR_FORMAT, "'split.no' at offset 24: this is part 2 of 3",
                   "m-00001-of-00003.gguf");
    expect_refused(names[2], PHID_ERR_FORMAT, "this is part 3 of 3", "m-00001-of-00003.gguf");
    remove_parts();
}

static void test_split_missing_part(void **state)
{
    write_parts(FIRST, SECOND, THIRD);
    unlink(in_folder(names[1]));
    expect_refused(names[0], PHID_ERR_NOT_FOUND, "part 2 of 3 is missing", "m-00002-of-00003.gguf");
    remove_parts();
}

static void test_split_renamed(void **state)
{
    write_part("model.gguf", FIRST);
    expect_refused("model.gguf", PHID_ERR_FORMAT, "'split.count' at offset",
                   "must end in '-00001-of-00003.gguf'");
    unlink(in_folder("model.gguf"));
    write_part("m-00001-of-00004.gguf", FIRST);
    expect_refused("m-00001-of-00004.gguf", PHID_ERR_FORMAT, "'split.count' at offset",
                   "-00001-of-00003.gguf");
    unlink(in_folder("m-00001-of-00004.gguf"));
}

static void test_split_parts_disagree(void **state)
{
    write_parts(FIRST, THIRD, SECOND); /* swapped */
    expect_refused(names[0], PHID_ERR_FORMAT, "m-00002-of-00003.gguf: key 'split.no' at offset 24",
                   "expected part 2 of 3");
    write_parts(FIRST, "H1,3 " KEYS(1, 4) TOTAL(3) "'b' D1 Q2 D0 Q0 P F3 F4", THIRD);
    expect_refused(names[0], PHID_ERR_FORMAT, "m-00002-of-00003.gguf", "expected part 2 of 3");
    write_parts(FIRST, "H1,0 'b' D1 Q2 D0 Q0 P F3 F4", THIRD); /* an ordinary file */
    expect_refused(names[0], PHID_ERR_FORMAT, "m-00002-of-00003.gguf", "expected part 2 of 3");
    write_parts(FIRST, SECOND, "H1,3 " KEYS(2, 3) TOTAL(3) "'a' D1 Q2 D0 Q0 P F5 F6");
    expect_refused(names[0], PHID_ERR_FORMAT, "m-00003-of-00003.gguf: tensor 'a' at offset",
                   "twice");
    write_parts(FIRST, SECOND, "H0,3 " KEYS(2, 3) TOTAL(3));
    expect_refused(names[0], PHID_ERR_FORMAT, "'split.tensors.count' at offset",
                   "says 3 tensors, but the 3 parts have 2");
    write_parts("H1,2 " KEYS(0, 3) "'a' D1 Q2 D0 Q0 P F1 F2", SECOND, THIRD);
    expect_refused(names[0], PHID_ERR_FORMAT, "'split.tensors.count'", "is missing");
    write_parts(FIRST, SECOND, "=GGUF");
    expect_refused(names[0], PHID_ERR_FORMAT, "m-00003-of-00003.gguf", "header");
    write_parts(FIRST, "", THIRD);
    expect_refused(names[0], PHID_ERR_FORMAT, "m-00002-of-00003.gguf", "not a GGUF file");
    write_parts(FIRST,
                "H1,3 'split.no' str 'x' 'split.count' u16 W3 " TOTAL(3) "'b' D1 Q2 D0 Q0 P F3 F4",
                THIRD);
    expect_refused(names[0], PHID_ERR_FORMAT, "m-00002-of-00003.gguf: key 'split.no'",
                   "found string");
    remove_parts();
}

static void test_split_tensor_past_its_own_part(void **state)
{
    write_parts(FIRST, "H1,3 " KEYS(1, 3) TOTAL(3) "'b' D1 Q2 D0 Q0 P F3", THIRD);
    expect_refused(names[0], PHID_ERR_FORMAT, "m-00002-of-00003.gguf: tensor 'b'", "past the end");
    remove_parts();
}

static void test_split_open_names_the_path(void **state)
{
    struct gguf_file *file;
    struct phid_error error;
    assert_int_equal(gguf_open("/nonexistent.gguf", &file, &error), PHID_ERR_NOT_FOUND);
    assert_string_equal(error.message, "/nonexistent.gguf: No such file or directory");
    assert_int_equal(gguf_open(folder, &file, &error), PHID_ERR_IO);
    assert_non_null(strstr(error.message, "is a directory"));
    assert_int_equal(gguf_open("/dev/zero", &file, &error), PHID_ERR_IO);
    write_part("bad.gguf", "=GGUF D9 Q0 Q0");
    expect_refused("bad.gguf", PHID_ERR_UNSUPPORTED, "bad.gguf: GGUF version 9", "offset 4");
    unlink(in_folder("bad.gguf"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_split_opens_all_parts),
        cmocka_unit_test(test_split_single_part_needs_no_name),
        cmocka_unit_test(test_split_opened_at_the_wrong_part),
        cmocka_unit_test(test_split_missing_part),
        cmocka_unit_test(test_split_renamed),
        cmocka_unit_test(test_split_parts_disagree),
        cmocka_unit_test(test_split_tensor_past_its_own_part),
        cmocka_unit_test(test_split_open_names_the_path),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}

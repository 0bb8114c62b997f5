#include "engine/gguf/gguf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <math.h>

#include "tests/unit/engine/gguf/assemble.h"

/* Opens what the program describes. The bytes live in *bytes. */
static struct gguf_file *open_program(struct buf *bytes, const char *program)
{
    buf_init(bytes, 1u << 20);
    assemble(bytes, program);
    struct gguf_file *file = NULL;
    struct phid_error error = {.message = ""};
    if (gguf_open_memory(bytes->data, bytes->size, &file, &error) != PHID_OK) {
        fail_msg("%s", error.message);
    }
    return file;
}

static void test_reader_empty_model(void **state)
{
    struct buf bytes;
    struct gguf_file *file = open_program(&bytes, "H0,0");
    assert_int_equal(gguf_version(file), 3);
    assert_int_equal(gguf_entry_count(file), 0);
    assert_int_equal(gguf_tensor_count(file), 0);
    assert_int_equal(gguf_file_bytes(file), 24);
    assert_int_equal(gguf_part_count(file), 1);
    assert_true(str_equal_c(gguf_path(file), "<memory>"));
    assert_null(gguf_entry_at(file, 0));
    assert_null(gguf_tensor_at(file, 0));
    assert_null(gguf_find(file, STR("x")));
    assert_null(gguf_tensor_find(file, STR("x")));
    gguf_close(file);
    gguf_close(NULL);
    buf_fini(&bytes);
}

static void test_reader_version_2(void **state)
{
    struct buf bytes;
    struct gguf_file *file = open_program(&bytes, "=GGUF D2 Q0 Q1 'k' u32 D7");
    uint32_t value = 0;
    assert_int_equal(gguf_version(file), 2);
    assert_int_equal(gguf_get_u32(file, "k", &value, NULL), PHID_OK);
    assert_int_equal(value, 7);
    gguf_close(file);
    buf_fini(&bytes);
}

static void test_reader_tensors(void **state)
{
    struct buf bytes;
    struct gguf_file *file = open_program(
        &bytes, "H4,1 'general.alignment' u32 D64 'b.weight' D2 Q32 Q3 D8 Q64 'a' D1 Q2 D0 Q0 "
                "Q64 ~64 D4 Q1 Q2 Q3 Q4 D1 Q192 'half' D1 Q3 D1 Q256 *26 F1 F2 *500");
    assert_int_equal(gguf_tensor_count(file), 4);
    const struct gguf_tensor *b = gguf_tensor_at(file, 0);
    assert_true(str_equal_c(b->name, "b.weight"));
    assert_int_equal(b->type, 8);
    assert_int_equal(b->n_dims, 2);
    assert_int_equal(b->ne[0], 32);
    assert_int_equal(b->ne[1], 3);
    assert_int_equal(b->ne[2], 1);
    assert_int_equal(b->ne[3], 1);
    assert_int_equal(b->size_bytes, 3 * 34);
    assert_int_equal(b->part, 0);
    const struct gguf_tensor *a = gguf_tensor_find(file, STR("a"));
    assert_int_equal(a->offset % 64, 0);
    assert_int_equal(b->offset, a->offset + 64);
    assert_ptr_equal(a->data, bytes.data + a->offset);
    assert_int_equal(gguf_tensor_at(file, 2)->size_bytes, 48);
    assert_int_equal(gguf_tensor_at(file, 2)->name.size, 64);
    assert_int_equal(gguf_tensor_find(file, STR("half"))->size_bytes, 6);
    assert_null(gguf_tensor_find(file, STR("b.weigh")));
    gguf_tensor_release(file, a); /* does nothing in memory */
    gguf_close(file);
    buf_fini(&bytes);
}

static void test_reader_entries(void **state)
{
    struct buf bytes;
    struct gguf_file *file =
        open_program(&bytes, "H0,3 'a' str 'xyz' 'b' arr i16 Q3 W1 W2 W-3 'c' arr str Q2 'p' 'qr'");
    const struct gguf_entry *a = gguf_entry_at(file, 0);
    assert_int_equal(a->type, GGUF_STRING);
    assert_int_equal(a->count, 1);
    assert_int_equal(a->offset, 24);
    assert_int_equal(a->size_bytes, 11);
    assert_memory_equal(a->data + 8, "xyz", 3);
    const struct gguf_entry *b = gguf_find(file, STR("b"));
    assert_ptr_equal(b, gguf_entry_at(file, 1));
    assert_int_equal(b->type, GGUF_ARRAY);
    assert_int_equal(b->element_type, GGUF_I16);
    assert_int_equal(b->count, 3);
    assert_int_equal(b->size_bytes, 6);
    const struct gguf_entry *c = gguf_find(file, STR("c"));
    assert_int_equal(c->element_type, GGUF_STRING);
    assert_int_equal(c->size_bytes, 8 + 1 + 8 + 2);
    gguf_close(file);
    buf_fini(&bytes);
}

#define INTEGERS                                                                                   \
    "H0,12 'u8' u8 B200 'i8' i8 B-100 'u16' u16 W60000 'i16' i16 W-30000 'u32' u32 D4000000000 "   \
    "'i32' i32 D-2000000000 "                                                                      \
    "'u64' u64 Q-1 'i64' i64 Q0x8000000000000000 'small' i64 Q5 'f' f32 F1.5 'b' bool B1 's' str " \
    "'5'"

static void test_reader_integers(void **state)
{
    static const struct {
        const char *key;
        bool fits_u64, fits_u32, fits_i32;
        int64_t value;
    } cases[] = {
        {"u8", true, true, true, 200},          {"i8", false, false, true, -100},
        {"u16", true, true, true, 60000},       {"i16", false, false, true, -30000},
        {"u32", true, true, false, 4000000000}, {"i32", false, false, true, -2000000000},
        {"u64", true, false, false, -1},        {"i64", false, false, false, 0},
        {"small", true, true, true, 5},
    };
    struct buf bytes;
    struct gguf_file *file = open_program(&bytes, INTEGERS);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint64_t u64 = 77;
        uint32_t u32 = 77;
        int32_t i32 = 77;
        struct phid_error error = {.message = ""};
        assert_int_equal(gguf_get_u64(file, cases[i].key, &u64, &error) == PHID_OK,
                         cases[i].fits_u64);
        assert_int_equal(u64, cases[i].fits_u64 ? (uint64_t)cases[i].value : 77);
        assert_int_equal(gguf_get_u32(file, cases[i].key, &u32, &error) == PHID_OK,
                         cases[i].fits_u32);
        assert_int_equal(u32, cases[i].fits_u32 ? (uint32_t)cases[i].value : 77);
        assert_int_equal(gguf_get_i32(file, cases[i].key, &i32, &error) == PHID_OK,
                         cases[i].fits_i32);
        assert_int_equal(i32, cases[i].fits_i32 ? (int32_t)cases[i].value : 77);
        if (!cases[i].fits_i32) {
            assert_int_equal(error.status, PHID_ERR_FORMAT);
            assert_string_equal(error.where, cases[i].key);
            assert_non_null(strstr(error.message, "expected a 32-bit integer, found "));
            assert_non_null(strstr(error.message, "at offset "));
        }
    }
    gguf_close(file);
    buf_fini(&bytes);
}

static void expect_wrong_type(enum phid_status status, const struct phid_error *error,
                              const char *fragment)
{
    assert_int_equal(status, PHID_ERR_FORMAT);
    if (strstr(error->message, fragment) == NULL || strstr(error->message, "at offset ") == NULL) {
        fail_msg("'%s' does not say '%s' and where", error->message, fragment);
    }
}

static void test_reader_wrong_types(void **state)
{
    struct buf bytes;
    struct gguf_file *file = open_program(&bytes, INTEGERS);
    struct phid_error e;
    uint32_t u32;
    uint64_t u64;
    int32_t i32;
    float f;
    bool b;
    struct str s;
    expect_wrong_type(gguf_get_u32(file, "f", &u32, &e), &e,
                      "expected an unsigned 32-bit integer, found f32");
    expect_wrong_type(gguf_get_u32(file, "b", &u32, &e), &e, "found bool");
    expect_wrong_type(gguf_get_u64(file, "s", &u64, &e), &e,
                      "expected an unsigned integer, found string");
    expect_wrong_type(gguf_get_i32(file, "s", &i32, &e), &e,
                      "expected a 32-bit integer, found string");
    expect_wrong_type(gguf_get_f32(file, "u8", &f, &e), &e, "expected a float, found u8");
    expect_wrong_type(gguf_get_bool(file, "u8", &b, &e), &e, "expected a boolean, found u8");
    expect_wrong_type(gguf_get_str(file, "b", &s, &e), &e, "expected a string, found bool");
    assert_int_equal(gguf_get_u32(file, "absent", &u32, &e), PHID_ERR_NOT_FOUND);
    assert_string_equal(e.message, "key 'absent' is missing");
    assert_string_equal(e.where, "absent");
    assert_int_equal(gguf_get_u64(file, "absent", &u64, &e), PHID_ERR_NOT_FOUND);
    assert_int_equal(gguf_get_i32(file, "absent", &i32, &e), PHID_ERR_NOT_FOUND);
    assert_int_equal(gguf_get_f32(file, "absent", &f, &e), PHID_ERR_NOT_FOUND);
    assert_int_equal(gguf_get_bool(file, "absent", &b, &e), PHID_ERR_NOT_FOUND);
    assert_int_equal(gguf_get_str(file, "absent", &s, NULL), PHID_ERR_NOT_FOUND);
    gguf_close(file);
    buf_fini(&bytes);
}

static void test_reader_scalars(void **state)
{
    struct buf bytes;
    struct gguf_file *file = open_program(
        &bytes, "H0,7 'f' f32 F1.5 'd' f64 G0.1 'huge' f64 G1e300 'nan' f32 .00 .00 .c0 .7f "
                "'yes' bool B1 'no' bool B0 's' str ''");
    float f;
    bool b;
    struct str s;
    struct phid_error e;
    assert_int_equal(gguf_get_f32(file, "f", &f, NULL), PHID_OK);
    assert_true(f == 1.5f);
    assert_int_equal(gguf_get_f32(file, "d", &f, NULL), PHID_OK);
    assert_true(f == 0.1f);
    expect_wrong_type(gguf_get_f32(file, "huge", &f, &e), &e, "fits 32 bits, found 1e+300");
    assert_int_equal(gguf_get_f32(file, "nan", &f, NULL), PHID_OK);
    assert_true(isnan(f));
    assert_int_equal(gguf_get_bool(file, "yes", &b, NULL), PHID_OK);
    assert_true(b);
    assert_int_equal(gguf_get_bool(file, "no", &b, NULL), PHID_OK);
    assert_false(b);
    assert_int_equal(gguf_get_str(file, "s", &s, NULL), PHID_OK);
    assert_int_equal(s.size, 0);
    gguf_close(file);
    buf_fini(&bytes);
}

static void test_reader_arrays(void **state)
{
    struct buf bytes;
    struct gguf_file *file = open_program(
        &bytes, "H0,9 's' arr str Q3 'one' '' 'three' 'i8' arr i8 Q2 B-1 B5 'u32' arr u32 Q2 D1 "
                "D0x80000000 "
                "'i64' arr i64 Q2 Q-7 Q0x7fffffff 'f' arr f32 Q2 F1.5 F-2 'd' arr f64 Q1 G0.5 "
                "'none' arr str Q0 'empty' arr i32 Q0 'nofloat' arr f32 Q0");
    struct phid_error e;
    struct str *strings = NULL;
    int32_t *ints = NULL;
    float *floats = NULL;
    size_t count = 77;
    assert_int_equal(gguf_get_strings(file, "s", &strings, &count, NULL), PHID_OK);
    assert_int_equal(count, 3);
    assert_true(str_equal_c(strings[0], "one") && str_equal_c(strings[1], "") &&
                str_equal_c(strings[2], "three"));
    free(strings);
    assert_int_equal(gguf_get_i32s(file, "i8", &ints, &count, NULL), PHID_OK);
    assert_int_equal(count, 2);
    assert_int_equal(ints[0], -1);
    assert_int_equal(ints[1], 5);
    free(ints);
    assert_int_equal(gguf_get_i32s(file, "i64", &ints, &count, NULL), PHID_OK);
    assert_int_equal(ints[0], -7);
    assert_int_equal(ints[1], INT32_MAX);
    free(ints);
    assert_int_equal(gguf_get_f32s(file, "f", &floats, &count, NULL), PHID_OK);
    assert_true(count == 2 && floats[0] == 1.5f && floats[1] == -2.0f);
    free(floats);
    assert_int_equal(gguf_get_f32s(file, "d", &floats, &count, NULL), PHID_OK);
    assert_true(count == 1 && floats[0] == 0.5f);
    free(floats);

    assert_int_equal(gguf_get_strings(file, "none", &strings, &count, NULL), PHID_OK);
    assert_true(count == 0 && strings == NULL);
    assert_int_equal(gguf_get_i32s(file, "empty", &ints, &count, NULL), PHID_OK);
    assert_true(count == 0 && ints == NULL);
    assert_int_equal(gguf_get_f32s(file, "nofloat", &floats, &count, NULL), PHID_OK);
    assert_true(count == 0 && floats == NULL);

    count = 77;
    expect_wrong_type(gguf_get_i32s(file, "u32", &ints, &count, &e), &e,
                      "expected 32-bit integers, found 2147483648");
    expect_wrong_type(gguf_get_strings(file, "i8", &strings, &count, &e), &e,
                      "an array of string, found an array of i8");
    expect_wrong_type(gguf_get_i32s(file, "s", &ints, &count, &e), &e,
                      "an array of integers, found an array of string");
    expect_wrong_type(gguf_get_i32s(file, "f", &ints, &count, &e), &e, "found an array of f32");
    expect_wrong_type(gguf_get_f32s(file, "i8", &floats, &count, &e), &e,
                      "an array of floats, found an array of i8");
    assert_int_equal(gguf_get_strings(file, "absent", &strings, &count, &e), PHID_ERR_NOT_FOUND);
    assert_int_equal(gguf_get_i32s(file, "absent", &ints, &count, &e), PHID_ERR_NOT_FOUND);
    assert_int_equal(gguf_get_f32s(file, "absent", &floats, &count, &e), PHID_ERR_NOT_FOUND);
    assert_int_equal(count, 77);
    gguf_close(file);
    buf_fini(&bytes);
}

static void test_reader_array_is_not_a_scalar(void **state)
{
    struct buf bytes;
    struct gguf_file *file = open_program(&bytes, "H0,2 'a' arr u32 Q1 D5 's' u32 D5");
    struct phid_error e;
    uint32_t u32;
    int32_t *ints;
    size_t count;
    expect_wrong_type(gguf_get_u32(file, "a", &u32, &e), &e, "found an array of u32");
    expect_wrong_type(gguf_get_i32s(file, "s", &ints, &count, &e), &e,
                      "an array of integers, found u32");
    gguf_close(file);
    buf_fini(&bytes);
}

static void test_reader_type_names(void **state)
{
    assert_string_equal(gguf_type_name(GGUF_U8), "u8");
    assert_string_equal(gguf_type_name(GGUF_F64), "f64");
    assert_string_equal(gguf_type_name((enum gguf_type)13), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reader_empty_model),
        cmocka_unit_test(test_reader_version_2),
        cmocka_unit_test(test_reader_tensors),
        cmocka_unit_test(test_reader_entries),
        cmocka_unit_test(test_reader_integers),
        cmocka_unit_test(test_reader_wrong_types),
        cmocka_unit_test(test_reader_scalars),
        cmocka_unit_test(test_reader_arrays),
        cmocka_unit_test(test_reader_array_is_not_a_scalar),
        cmocka_unit_test(test_reader_type_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

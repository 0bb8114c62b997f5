/* The scan before the parser, the writer, the field reader and the error table. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "server/api/api.h"
#include "server/api/fields.h"
#include "server/api/json_scan.h"
#include "server/api/json_write.h"

static void repeat(struct buf *out, const char *text, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        buf_append_c(out, text);
    }
}

static void test_scan(void **state)
{
    static const struct {
        const char *before, *text;
        size_t count;
        enum api_fault fault;
    } cases[] = {
        {"", "[", JSON_DEPTH_MAX, API_OK},
        {"", "[", JSON_DEPTH_MAX + 1, API_INVALID_JSON},
        {"", "{\"a\":", 2000000, API_INVALID_JSON},
        {"[", "{},", 99999, API_OK},
        {"[", "{},", 100001, API_INVALID_JSON},
        {"[", "12,", 1000000, API_OK},
        {"[", "12,", 1000001, API_INVALID_JSON},
        {"[", "true,", 1000001, API_INVALID_JSON},
        {"[", "\"\",", 100001, API_INVALID_JSON},
        {"\"", "[[{{", 1000000, API_OK},
        {"\"\\\"", "[", 1000, API_OK},
        {"\"abc\\", "", 0, API_OK},
        {"", "]", 1000, API_OK},
        {"", "", 0, API_OK},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct buf text;
        struct api_error err;
        buf_init(&text, 1u << 26);
        buf_append_c(&text, cases[i].before);
        repeat(&text, cases[i].text, cases[i].count);
        assert_false(text.failed);
        if (json_scan(buf_view(&text), &err) != cases[i].fault) {
            fail_msg("case %zu", i);
        }
        buf_fini(&text);
    }
}

static void check_string(struct str in, const char *out)
{
    struct buf b;
    buf_init(&b, 1000);
    json_put_string(&b, in);
    assert_string_equal(b.data, out);
    buf_fini(&b);
}

static void test_strings(void **state)
{
    check_string(STR(""), "\"\"");
    check_string(STR("plain"), "\"plain\"");
    check_string(STR("a\"b\\c\n\r\t\x01\x7f"), "\"a\\\"b\\\\c\\n\\r\\t\\u0001\\u007f\"");
    check_string(STR("a\0b"), "\"a\\u0000b\"");
    check_string(STR("h\xc3\xa9 \xf0\x9f\xa6\x99"), "\"h\xc3\xa9 \xf0\x9f\xa6\x99\"");
    check_string(STR("\xff"), "\"\xef\xbf\xbd\"");
    check_string(STR("\xed\xa0\x80"), "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"");
    check_string(STR("a\xf0\x9f"), "\"a\xef\xbf\xbd\xef\xbf\xbd\"");
}

static void test_floats(void **state)
{
    static const struct {
        float value;
        const char *text;
    } cases[] = {
        {0, "0.0"},         {-0.5f, "-0.5"},        {0.1f, "0.1"},
        {-9999, "-9999.0"}, {1e30f, "1e+30"},       {-1e-7f, "-1e-07"},
        {NAN, "-9999.0"},   {-INFINITY, "-9999.0"}, {16777217.0f, "16777216.0"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct buf b;
        buf_init(&b, 100);
        json_put_float(&b, cases[i].value);
        assert_string_equal(b.data, cases[i].text);
        buf_fini(&b);
    }
}

static void test_floats_read_back(void **state)
{
    uint32_t bits = 1;
    for (int i = 0; i < 20000; i++) {
        float value;
        struct buf b;
        bits = bits * 1664525 + 1013904223;
        memcpy(&value, &bits, sizeof value);
        if (!isfinite(value)) {
            continue;
        }
        buf_init(&b, 100);
        json_put_float(&b, value);
        assert_true(strtof(b.data, NULL) == value);
        json_t *parsed = json_loads(b.data, JSON_DECODE_ANY, NULL);
        assert_true(json_is_real(parsed));
        json_decref(parsed);
        buf_fini(&b);
    }
}

/* ------------------------------------------------------------------- fields */

struct target {
    bool flag;
    int64_t integer;
    double number;
    const json_t *string, *array;
};

static const char *const colors[] = {"red", "blue", NULL};

static const struct field table[] = {
    {.name = "flag", .kind = FIELD_BOOL, .offset = offsetof(struct target, flag)},
    {.name = "integer",
     .kind = FIELD_INTEGER,
     .offset = offsetof(struct target, integer),
     .ints = {1, 128}},
    {.name = "number",
     .kind = FIELD_NUMBER,
     .offset = offsetof(struct target, number),
     .numbers = {0, 2}},
    {.name = "color",
     .kind = FIELD_STRING,
     .offset = offsetof(struct target, string),
     .values = colors},
    {.name = "short", .kind = FIELD_STRING, .offset = FIELD_UNUSED, .max_size = 3},
    {.name = "array", .kind = FIELD_ARRAY, .offset = offsetof(struct target, array)},
    {.name = "object", .kind = FIELD_OBJECT, .offset = FIELD_UNUSED},
    {.name = "seed", .kind = FIELD_INTEGER, .offset = FIELD_UNUSED, .ints = {INT64_MIN, INT64_MAX}},
    {.name = "audio", .kind = FIELD_REFUSED},
};

static void test_fields(void **state)
{
    static const struct {
        const char *json;
        const char *code; /* NULL: accepted */
    } cases[] = {
        {"{}", NULL},
        {"{\"flag\":null,\"integer\":null,\"audio\":null}", NULL},
        {"{\"flag\":true,\"integer\":16.0,\"number\":2,\"color\":\"red\",\"array\":[],\"object\":{}"
         "}",
         NULL},
        {"{\"unknown\":[1]}", NULL},
        {"{\"flag\":1}", "invalid_type"},
        {"{\"flag\":\"true\"}", "invalid_type"},
        {"{\"integer\":\"5\"}", "invalid_type"},
        {"{\"integer\":true}", "invalid_type"},
        {"{\"integer\":1.5}", "invalid_type"},
        {"{\"integer\":0}", "integer_below_min_value"},
        {"{\"integer\":129}", "integer_above_max_value"},
        {"{\"integer\":1e30}", "integer_above_max_value"},
        {"{\"integer\":-1e30}", "integer_below_min_value"},
        {"{\"seed\":1e30}", "invalid_value"},
        {"{\"seed\":-9223372036854775808}", NULL},
        {"{\"number\":-0.1}", "decimal_below_min_value"},
        {"{\"number\":2.1}", "decimal_above_max_value"},
        {"{\"number\":\"1\"}", "invalid_type"},
        {"{\"color\":\"green\"}", "invalid_value"},
        {"{\"color\":3}", "invalid_type"},
        {"{\"short\":\"abcd\"}", "string_above_max_length"},
        {"{\"array\":{}}", "invalid_type"},
        {"{\"object\":[]}", "invalid_type"},
        {"{\"audio\":{}}", "unsupported_parameter"},
        {"{\"audio\":false}", "unsupported_parameter"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct target target = {0};
        struct api_error err = {0};
        json_t *object = json_loads(cases[i].json, 0, NULL);
        assert_non_null(object);
        enum api_fault fault =
            fields_read(object, "outer[2]", table, sizeof table / sizeof table[0], &target, &err);
        if ((fault == API_OK) != (cases[i].code == NULL) ||
            (fault != API_OK && strcmp(api_error_code(fault), cases[i].code) != 0)) {
            fail_msg("%s: %s", cases[i].json, api_error_code(fault));
        }
        assert_true(fault == API_OK || strncmp(err.param, "outer[2].", 9) == 0);
        json_decref(object);
    }
}

static void test_fields_store(void **state)
{
    struct target target = {.number = 7};
    struct api_error err;
    json_t *object =
        json_loads("{\"flag\":true,\"integer\":16.0,\"color\":\"blue\",\"number\":null}", 0, NULL);
    assert_int_equal(fields_read(object, "", table, sizeof table / sizeof table[0], &target, &err),
                     API_OK);
    assert_true(target.flag);
    assert_int_equal(target.integer, 16);
    assert_true(target.number == 7);
    assert_string_equal(json_string_value(target.string), "blue");
    json_decref(object);
}

static void test_body(void **state)
{
    static const char *const bad[] = {"",
                                      "  ",
                                      "3",
                                      "\"x\"",
                                      "[]",
                                      "null",
                                      "{",
                                      "{} x",
                                      "\xef\xbb\xbf{}",
                                      "{'a':1}",
                                      "{\"a\":NaN}",
                                      "{\"a\":1e999}",
                                      "{\"a\":\"\xff\"}",
                                      "{\"a\":\"\\ud800\"}",
                                      "{\"a\":\"\n\"}",
                                      "// c\n{}"};
    struct api_error err;
    json_t *body = NULL;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(api_parse_body(str_of(bad[i]), &body, &err), API_INVALID_JSON);
        assert_int_equal(api_error_status(err.fault), 400);
    }
    /* A number beyond 64 bits is for its field to judge; the last of two equal names wins. */
    assert_int_equal(api_parse_body(STR("{\"a\":1,\"a\":99999999999999999999}"), &body, &err),
                     API_OK);
    assert_true(json_real_value(json_object_get(body, "a")) > 9e19);
    json_decref(body);
}

static void test_errors(void **state)
{
    for (int fault = API_OK + 1; fault < API_FAULT_COUNT; fault++) {
        unsigned status = api_error_status((enum api_fault)fault);
        assert_true(status >= 400 && status < 600);
        assert_true(status != 408 && status != 409 &&
                    status != 422); /* the clients retry or misread these */
        assert_non_null(api_error_code((enum api_fault)fault));
        struct api_error one = {.fault = (enum api_fault)fault};
        unsigned seconds = api_error_retry_after(&one);
        assert_true(seconds <= 10);
        one.retry_after = 7;
        assert_int_equal(api_error_retry_after(&one), seconds > 0 ? 7 : 0);
    }
    struct api_error err;
    struct buf out;
    buf_init(&out, 1000);
    api_fail(&err, API_INVALID_TYPE, "messages[1].role", "line\nbreak \"quoted\"");
    api_error_write(&err, &out);
    assert_string_equal(
        out.data,
        "{\"error\":{\"message\":\"line?break \\\"quoted\\\"\",\"type\":\"invalid_request_error\","
        "\"param\":\"messages[1].role\",\"code\":\"invalid_type\"}}");
    buf_clear(&out);
    struct phid_error inside = {.status = PHID_ERR_INTERNAL, .message = "address 0x1234"};
    assert_int_equal(api_fail_engine(&err, &inside, NULL), API_INTERNAL);
    api_error_write(&err, &out);
    assert_null(strstr(out.data, "0x1234"));
    assert_non_null(strstr(out.data, "\"param\":null"));
    buf_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scan),   cmocka_unit_test(test_strings),
        cmocka_unit_test(test_floats), cmocka_unit_test(test_floats_read_back),
        cmocka_unit_test(test_fields), cmocka_unit_test(test_fields_store),
        cmocka_unit_test(test_body),   cmocka_unit_test(test_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

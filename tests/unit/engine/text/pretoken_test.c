/* Pre-tokenizers: where the published expressions cut. Expected pieces come from the `tokenizers`
 * package; `|` marks the cuts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/base/buf.h"
#include "engine/text/pretoken.h"
#include "tests/unit/engine/text/pretoken_vectors.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static void check_cuts(const char *name, const char *expected)
{
    struct buf text;
    struct buf got;
    buf_init(&text, 4096);
    buf_init(&got, 4096);
    for (const char *c = expected; *c != 0; c++) {
        if (*c != '|') {
            buf_append_byte(&text, *c);
        }
    }
    struct pretokenizer *p = NULL;
    struct phid_error err = {0};
    assert_int_equal(pretokenizer_new(str_of(name), &p, &err), PHID_OK);
    struct pretoken_scan *scan = pretoken_scan_new(p);
    assert_non_null(scan);
    for (size_t start = 0, end = 0; start < text.size; start = end) {
        assert_int_equal(pretoken_next(scan, buf_view(&text), start, &end, &err), PHID_OK);
        assert_true(end > start && end <= text.size);
        buf_append_c(&got, start == 0 ? "" : "|");
        buf_append(&got, text.data + start, end - start);
    }
    if (strcmp(got.data, expected) != 0) {
        fail_msg("%s cuts\n%s\nexpected\n%s", name, got.data, expected);
    }
    pretoken_scan_free(scan);
    pretokenizer_free(p);
    buf_fini(&text);
    buf_fini(&got);
}

static void test_cuts(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(pretoken_vectors); i++) {
        check_cuts(pretoken_vectors[i].name, pretoken_vectors[i].pieces);
    }
}

static void test_names_for_the_same(void **state)
{
    (void)state;
    static const char *const names[] = {
        "smollm",           "starcoder", "refact",   "gpt-2", "phi-2",     "default",
        "llama-bpe",        "llama3",    "llama-v3", "dbrx",  "smaug-bpe", "qwen2",
        "deepseek-r1-qwen", "stablelm2", "gpt-4o",   "llama4"};
    for (size_t i = 0; i < COUNT(names); i++) {
        struct pretokenizer *p = NULL;
        assert_int_equal(pretokenizer_new(str_of(names[i]), &p, NULL), PHID_OK);
        bool llama3 = strncmp(names[i], "llama", 5) == 0 && strcmp(names[i], "llama4") != 0;
        assert_int_equal(pretokenizer_ignores_merges(p), llama3);
        assert_int_equal(pretokenizer_adds_bos(p), llama3);
        pretokenizer_free(p);
    }
}

static void test_unknown_name(void **state)
{
    (void)state;
    struct pretokenizer *p = NULL;
    struct phid_error err = {0};
    assert_int_equal(pretokenizer_new(STR("no-such"), &p, &err), PHID_ERR_UNSUPPORTED);
    assert_null(p);
    assert_non_null(strstr(err.message, "no-such"));
    assert_non_null(strstr(err.message, "smollm"));
    assert_int_equal(pretokenizer_new(STR("\xFF\xFF"), &p, &err), PHID_ERR_UNSUPPORTED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cuts),
        cmocka_unit_test(test_names_for_the_same),
        cmocka_unit_test(test_unknown_name),
    };
    return cmocka_run_group_tests_name("pretoken", tests, NULL, NULL);
}

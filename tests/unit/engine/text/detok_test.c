/* The streaming detokenizer: whole characters only, whatever the tokens cut. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/base/utf8.h"
#include "engine/text/detok.h"
#include "tests/unit/engine/text/vocab_file.h"

static struct vocab_file spm_file;
static struct vocab_file bpe_file;
static struct gguf_file *spm_gguf;
static struct gguf_file *bpe_gguf;
static struct tokenizer *spm;
static struct tokenizer *bpe;
static int32_t hello;  /* "▁Hello" */
static int32_t spaces; /* "▁▁" */
static int32_t end;    /* `<|end|>` */

static int open_vocabs(void **state)
{
    (void)state;
    static struct vocab_list l;
    vocab_list_spm(&l);
    hello = vocab_list_add(&l, "\xE2\x96\x81Hello", TOKEN_NORMAL, -1);
    spaces = vocab_list_add(&l, "\xE2\x96\x81\xE2\x96\x81", TOKEN_NORMAL, -2);
    end = vocab_list_add(&l, "<|end|>", TOKEN_CONTROL, 0);
    vocab_list_add(&l, "[PAD]", TOKEN_UNUSED, 0);
    vocab_file_init(&spm_file);
    vocab_file_str(&spm_file, "tokenizer.ggml.model", STR("llama"));
    vocab_file_list(&spm_file, &l);
    spm_gguf = vocab_file_open(&spm_file);

    vocab_list_bytes(&l);
    vocab_list_add(&l, "\xC4\xA0hi", TOKEN_NORMAL, 0);
    vocab_file_init(&bpe_file);
    vocab_file_str(&bpe_file, "tokenizer.ggml.model", STR("gpt2"));
    vocab_file_str(&bpe_file, "tokenizer.ggml.pre", STR("gpt-2"));
    vocab_file_list(&bpe_file, &l);
    vocab_file_strs(&bpe_file, "tokenizer.ggml.merges", NULL, 0);
    bpe_gguf = vocab_file_open(&bpe_file);
    return tokenizer_new(spm_gguf, &spm, NULL) == PHID_OK &&
                   tokenizer_new(bpe_gguf, &bpe, NULL) == PHID_OK
               ? 0
               : -1;
}

static int close_vocabs(void **state)
{
    (void)state;
    tokenizer_free(spm);
    tokenizer_free(bpe);
    gguf_close(spm_gguf);
    gguf_close(bpe_gguf);
    vocab_file_fini(&spm_file);
    vocab_file_fini(&bpe_file);
    return 0;
}

/* Pushes bytes as the byte-level tokens they are; checks after each that only whole characters
 * came. */
static void decode_bytes(const char *bytes, size_t size, struct buf *out)
{
    struct detok d;
    detok_init(&d, bpe, true, false);
    for (size_t i = 0; i < size; i++) {
        detok_push(&d, (unsigned char)bytes[i], out);
        assert_true(utf8_valid(buf_view(out)));
    }
    detok_finish(&d, out);
    assert_true(utf8_valid(buf_view(out)));
}

static void check_bytes(const char *bytes, size_t size, const char *expected)
{
    struct buf out;
    buf_init(&out, 4096);
    decode_bytes(bytes, size, &out);
    assert_string_equal(out.data, expected);
    buf_fini(&out);
}

#define R "\xEF\xBF\xBD"

static void test_whole_characters(void **state)
{
    (void)state;
    static const char text[] = "a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x9A\x80z";
    check_bytes(text, sizeof(text) - 1, text);
    /* Stopped after any byte: what was whole, then one replacement for the rest. */
    static const size_t whole[] = {0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10, 11};
    for (size_t size = 1; size < sizeof(text); size++) {
        char expected[32];
        memcpy(expected, text, whole[size]);
        strncpy(expected + whole[size], whole[size] < size ? R : "", 4);
        check_bytes(text, size, expected);
    }
}

/* Examples of the Unicode Standard, tables 3-8 to 3-11, and of its edges. */
static void test_replacements(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        const char *expected;
    } cases[] = {
        {"\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41", R R R R R R R R "A"},
        {"\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41", R R R R R R R R "A"},
        {"\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42", R R R R R "A" R R "B"},
        {"\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41", R R R R "A"},
        {"\xF0\x9F\x9A"
         "a",
         R "a"},
        {"\xE2\x82\xF0\x9F\x9A\x80", R "\xF0\x9F\x9A\x80"},
        {"\xF4\x8F\xBF\xBF", "\xF4\x8F\xBF\xBF"},
        {"\x80", R},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        check_bytes(cases[i].bytes, strlen(cases[i].bytes), cases[i].expected);
    }
}

static void check_spm(const int32_t *ids, bool at_start, bool with_control, const char *expected)
{
    struct buf out;
    struct detok d;
    buf_init(&out, 4096);
    buf_append_c(&out, "");
    detok_init(&d, spm, at_start, with_control);
    for (size_t i = 0; ids[i] >= 0; i++) {
        detok_push(&d, ids[i], &out);
    }
    detok_finish(&d, &out);
    assert_string_equal(out.data == NULL ? "" : out.data, expected);
    buf_fini(&out);
}

static void test_first_space(void **state)
{
    (void)state;
    assert_true(tokenizer_strips_first_space(spm));
    assert_false(tokenizer_strips_first_space(bpe));
    check_spm(IDS(hello, hello), true, false, "Hello Hello");
    check_spm(IDS(hello, hello), false, false, " Hello Hello");
    check_spm(IDS(spaces, hello), true, false, "  Hello");
    check_spm(IDS(end, hello), true, false, "Hello");
    check_spm(IDS(3 + 'x', hello), true, false, "x Hello");
    struct buf out;
    struct detok d;
    buf_init(&out, 64);
    detok_init(&d, bpe, true, false);
    detok_push(&d, 256, &out);
    assert_string_equal(out.data, " hi");
    buf_fini(&out);
}

static void test_bytes_among_words(void **state)
{
    (void)state;
    check_spm(IDS(3 + 0xF0, 3 + 0x9F, 3 + 0x9A, 3 + 0x80, hello), true, false,
              "\xF0\x9F\x9A\x80 Hello");
    check_spm(IDS(3 + 0xF0, 3 + 0x9F, hello, 3 + 0x80), true, false, R " Hello" R);
    /* A control token in between writes nothing and does not cut. */
    check_spm(IDS(3 + 0xC3, end, 3 + 0xA9), true, false, "\xC3\xA9");
}

static void test_tokens_that_are_no_text(void **state)
{
    (void)state;
    check_spm(IDS(0, 1, 2, end, end + 1), true, false, "");
    check_spm(IDS(1, hello, end), true, true, "<s> Hello<|end|>");
    assert_int_equal(tokenizer_piece(spm, -1, true).size, 0);
    assert_int_equal(tokenizer_piece(spm, 100000, true).size, 0);
    check_spm(IDS(100000, hello), true, true, "Hello");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole_characters),
        cmocka_unit_test(test_replacements),
        cmocka_unit_test(test_first_space),
        cmocka_unit_test(test_bytes_among_words),
        cmocka_unit_test(test_tokens_that_are_no_text),
    };
    return cmocka_run_group_tests_name("detok", tests, open_vocabs, close_vocabs);
}

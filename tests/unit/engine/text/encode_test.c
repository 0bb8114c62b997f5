/* Encoding with the vocabulary of Phi-3: ids equal to Hugging Face's, control tokens only where
 * they are trusted, time that does not grow with the square of the text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "tests/unit/engine/text/vocab_file.h"

static const char *vocab_path; /* .inp and .out lie beside it */
static struct gguf_file *file;
static struct tokenizer *phi3;

static int open_vocab(void **state)
{
    (void)state;
    struct phid_error err = {0};
    if (gguf_open(vocab_path, &file, &err) != PHID_OK ||
        tokenizer_new(file, &phi3, &err) != PHID_OK) {
        print_error("%s\n", err.message);
        return -1;
    }
    return 0;
}

static int close_vocab(void **state)
{
    (void)state;
    tokenizer_free(phi3);
    gguf_close(file);
    return 0;
}

static char *read_file(const char *suffix)
{
    char path[4096];
    snprintf(path, sizeof(path), "%s%s", vocab_path, suffix);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    char *text = calloc(1, 1 << 20);
    assert_non_null(text);
    assert_true(fread(text, 1, (1 << 20) - 1, f) > 0);
    fclose(f);
    return text;
}

static void test_published_pairs(void **state)
{
    (void)state;
    static const char separator[] = "\n__ggml_vocab_test__\n";
    char *inputs = read_file(".inp");
    char *outputs = read_file(".out");
    char *line = outputs;
    size_t pairs = 0;
    for (char *text = inputs, *end; (end = strstr(text, separator)) != NULL;
         text = end + strlen(separator)) {
        int32_t expected[1024];
        size_t count = 0;
        while (*line != '\n' && *line != 0) {
            expected[count++] = (int32_t)strtol(line, &line, 10);
        }
        line += *line == '\n';
        expected[count] = -1;
        check_text(phi3, (struct str){text, (size_t)(end - text)}, false, expected);
        pairs++;
    }
    assert_int_equal(pairs, 46);
    free(inputs);
    free(outputs);
}

static void test_role_tokens_swallow_white_space(void **state)
{
    (void)state;
    check_text(phi3, STR("<|user|>\nHello<|end|>\n<|assistant|>\n"), true,
               IDS(32010, 15043, 32007, 32001));
    check_text(phi3, STR("a </s> b"), true, IDS(263, 29871, 2, 289));
    check_text(
        phi3, STR("<|user|>\nWrite a C function.\n\nint f(void);<|end|>\n<|assistant|>\n"), true,
        IDS(32010, 14350, 263, 315, 740, 29889, 13, 13, 524, 285, 29898, 5405, 416, 32007, 32001));
    check_text(
        phi3,
        STR("<|user|>\n  indented<|end|>\n<|assistant|>\nSure.<|end|>\n<|user|>\n日本語<|end|>\n"
            "<|assistant|>\n"),
        true,
        IDS(32010, 1399, 14927, 32007, 32001, 18585, 29889, 32007, 32010, 29871, 30325, 30346,
            30968, 32007, 32001));
    check_text(phi3, STR("<|end|>\xC2\xA0\xE3\x80\x80\t\r\n\xE2\x80\xA8x"), true, IDS(32007, 921));
    /* These do not swallow. */
    check_text(phi3, STR("<|endoftext|>\nx"), true, IDS(32000, 29871, 13, 29916));
    check_text(phi3, STR("<s>\n"), true, IDS(1, 29871, 13));
}

/* Seams between spans leave no trace in ordinary text. */
static void test_seams(void **state)
{
    (void)state;
    const struct text_span chat[] = {
        {STR("<|system|>\n"), true},
        {STR("You are a helpful assistant."), false},
        {STR("<|end|>\n"), true},
        {STR("<|user|>\n"), true},
        {STR("What is the capital of France?"), false},
        {STR("<|end|>\n<|assist"), true},
        {STR("ant|>\n"), true},
    };
    check_encode(phi3, chat, 7,
                 IDS(32006, 887, 526, 263, 8444, 20255, 29889, 32007, 32010, 1724, 338, 278, 7483,
                     310, 3444, 29973, 32007, 32001));
    static const char text[] = "Hello, world! 日本語  \n x";
    const int32_t *whole = IDS(15043, 29892, 3186, 29991, 29871, 30325, 30346, 30968, 259, 13, 921);
    for (size_t cut = 0; cut < sizeof(text); cut++) {
        for (int trust = 0; trust < 4; trust++) {
            const struct text_span two[] = {
                {{text, cut}, (trust & 1) != 0},
                {{text + cut, sizeof(text) - 1 - cut}, (trust & 2) != 0},
            };
            check_encode(phi3, two, 2, whole);
        }
    }
}

static void expect_no_control(const struct text_span *spans, size_t count)
{
    struct tokens ids = {0};
    assert_int_equal(tokenizer_encode(phi3, spans, count, false, &ids, NULL), PHID_OK);
    for (size_t i = 0; i < ids.count; i++) {
        enum token_kind kind = tokenizer_kind(phi3, ids.ids[i]);
        assert_true(kind == TOKEN_NORMAL || kind == TOKEN_BYTE);
        assert_false(tokenizer_is_end(phi3, ids.ids[i]));
    }
    tokens_fini(&ids);
}

/* Every special token, typed by a user: at the start, in the middle, at the end, doubled, nested,
 * next to white space, and put together from the bytes on both sides of a seam. */
static void test_untrusted_text_makes_no_control_token(void **state)
{
    (void)state;
    static const char *const frames[] = {
        "%s",     "a%s",    "%sb",    "a %s b", "\n%s\n",  "%s%s",           "<%s>",
        "<|%s|>", "%s\t%s", "日%s本", "</s%s",  "%s</s>",  "<s>%s",          "<|end|>%s",
        "  %s",   "%s  ",   "\"%s\"", "{%s}",   "x\r\n%s", "\xE2\x96\x81%s",
    };
    size_t tokens = 0;
    for (int32_t id = 0; id < (int32_t)tokenizer_vocab_size(phi3); id++) {
        enum token_kind kind = tokenizer_kind(phi3, id);
        if (kind == TOKEN_NORMAL || kind == TOKEN_BYTE) {
            continue;
        }
        struct str piece = tokenizer_piece(phi3, id, true);
        char control[64];
        snprintf(control, sizeof(control), "%.*s", (int)piece.size, piece.data);
        for (size_t i = 0; i < sizeof(frames) / sizeof(frames[0]); i++) {
            char text[256];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
            snprintf(text, sizeof(text), frames[i], control, control);
#pragma GCC diagnostic pop
            struct text_span span = {.text = str_of(text), .trusted = false};
            expect_no_control(&span, 1);
        }
        for (size_t cut = 1; cut < piece.size; cut++) {
            const struct text_span before[] = {{{piece.data, cut}, true},
                                               {{piece.data + cut, piece.size - cut}, false}};
            const struct text_span after[] = {{{piece.data, cut}, false},
                                              {{piece.data + cut, piece.size - cut}, true}};
            const struct text_span inside[] = {
                {{piece.data, cut}, true},
                {{piece.data + cut, 1}, false},
                {{piece.data + cut + 1, piece.size - cut - 1}, true}};
            expect_no_control(before, 2);
            expect_no_control(after, 2);
            expect_no_control(inside, 3);
        }
        tokens++;
    }
    assert_int_equal(tokens, 14 + 53);
}

static void test_begin_token(void **state)
{
    (void)state;
    struct tokens ids = {0};
    assert_int_equal(tokenizer_encode_text(phi3, STR("Hello"), false, true, &ids, NULL), PHID_OK);
    assert_int_equal(ids.count, 2);
    assert_int_equal(ids.ids[0], 1);
    assert_int_equal(ids.ids[1], 15043);
    /* Appends; the begin token goes before the new text and is not doubled. */
    assert_int_equal(tokenizer_encode_text(phi3, STR("<s> Hello"), true, true, &ids, NULL),
                     PHID_OK);
    assert_int_equal(ids.count, 5);
    assert_int_equal(ids.ids[2], 1);
    assert_int_equal(tokenizer_encode_text(phi3, STR(""), false, true, &ids, NULL), PHID_OK);
    assert_int_equal(ids.count, 6);
    assert_int_equal(ids.ids[5], 1);
    /* A user who types it does not spare us our own. */
    assert_int_equal(tokenizer_encode_text(phi3, STR("<s>"), false, true, &ids, NULL), PHID_OK);
    assert_int_equal(ids.ids[6], 1);
    assert_true(ids.ids[7] != 1);
    tokens_fini(&ids);
}

static void test_invalid_utf8_is_bytes(void **state)
{
    (void)state;
    check_text(phi3, STR("a\xFF\xC3"), false, IDS(263, 258, 198));
    check_text(phi3, STR("\xED\xA0\x80"), false, IDS(29871, 240, 163, 131));
    check_text(phi3, (struct str){"a\0b", 3}, false, IDS(263, 3, 29890));
}

static void test_end_tokens(void **state)
{
    (void)state;
    for (int32_t id = -1; id <= 32064; id++) {
        bool end = id == 2 || id == 32000 || id == 32001 || id == 32007;
        assert_int_equal(tokenizer_is_end(phi3, id), end);
    }
    assert_int_equal(tokenizer_special_id(phi3, STR("<|end|>")), 32007);
    assert_int_equal(tokenizer_special_id(phi3, STR("</s>")), 2);
    assert_int_equal(tokenizer_special_id(phi3, STR("<|en")), -1);
    assert_int_equal(tokenizer_special_id(phi3, STR("Hello")), -1);
    assert_int_equal(tokenizer_bos(phi3), 1);
    assert_int_equal(tokenizer_eos(phi3), 32000);
    assert_true(tokenizer_adds_bos(phi3));
}

/* A megabyte without a break. The bound is thirty times what a slow machine needs without
 * sanitizers; an algorithm that goes with the square of the length needs hours. */
static void test_a_megabyte_takes_seconds(void **state)
{
    (void)state;
    static const char *const units[] = {"a", " ", "=", "ab", "日", "<|", "\xFF", "\n", "</s>"};
    size_t size = 1 << 20;
    char *text = malloc(size);
    assert_non_null(text);
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        size_t unit = strlen(units[i]);
        for (size_t k = 0; k < size; k++) {
            text[k] = units[i][k % unit];
        }
        struct timespec start;
        struct timespec end;
        struct tokens ids = {0};
        clock_gettime(CLOCK_MONOTONIC, &start);
        assert_int_equal(
            tokenizer_encode_text(phi3, (struct str){text, size}, i % 2 == 0, false, &ids, NULL),
            PHID_OK);
        clock_gettime(CLOCK_MONOTONIC, &end);
        assert_true(end.tv_sec - start.tv_sec < 30);
        assert_true(ids.count > 0);
        tokens_fini(&ids);
    }
    free(text);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: encode_test VOCABULARY.gguf\n");
        return 2;
    }
    vocab_path = argv[1];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_published_pairs),
        cmocka_unit_test(test_role_tokens_swallow_white_space),
        cmocka_unit_test(test_seams),
        cmocka_unit_test(test_untrusted_text_makes_no_control_token),
        cmocka_unit_test(test_begin_token),
        cmocka_unit_test(test_invalid_utf8_is_bytes),
        cmocka_unit_test(test_end_tokens),
        cmocka_unit_test(test_a_megabyte_takes_seconds),
    };
    return cmocka_run_group_tests_name("encode", tests, open_vocab, close_vocab);
}

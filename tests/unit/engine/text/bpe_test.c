/* Byte-level BPE: a part of SmolLM2's vocabulary against the `tokenizers` package, whole words,
 * special tokens, bytes that are missing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/engine/text/smollm2_part.h"
#include "tests/unit/engine/text/vocab_file.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

struct model {
    struct vocab_file f;
    struct gguf_file *file;
    struct tokenizer *tokenizer;
};

static void model_open(struct model *m, const char *pre, const struct vocab_list *l,
                       const char *const *merges, size_t merge_count)
{
    static struct str views[1024];
    vocab_file_str(&m->f, "tokenizer.ggml.model", STR("gpt2"));
    vocab_file_str(&m->f, "tokenizer.ggml.pre", str_of(pre));
    vocab_file_list(&m->f, l);
    for (size_t i = 0; i < merge_count; i++) {
        views[i] = str_of(merges[i]);
    }
    vocab_file_strs(&m->f, "tokenizer.ggml.merges", views, merge_count);
    m->file = vocab_file_open(&m->f);
    struct phid_error err = {0};
    if (tokenizer_new(m->file, &m->tokenizer, &err) != PHID_OK) {
        fail_msg("%s", err.message);
    }
}

static void model_close(struct model *m)
{
    tokenizer_free(m->tokenizer);
    gguf_close(m->file);
    vocab_file_fini(&m->f);
}

static void open_smollm2(struct model *m)
{
    static struct vocab_list l;
    l.count = 0;
    for (size_t i = 0; i < COUNT(smollm2_tokens); i++) {
        vocab_list_add(&l, smollm2_tokens[i], smollm2_ids[i] < 3 ? TOKEN_CONTROL : TOKEN_NORMAL, 0);
    }
    vocab_file_init(&m->f);
    vocab_file_u32(&m->f, "tokenizer.ggml.bos_token_id", 1);
    vocab_file_u32(&m->f, "tokenizer.ggml.eos_token_id", 2);
    vocab_file_u32(&m->f, "tokenizer.ggml.unknown_token_id", 0);
    model_open(m, "smollm", &l, smollm2_merges, COUNT(smollm2_merges));
}

/* A place in smollm2_tokens by the id in the whole vocabulary. */
static int32_t place(int32_t id)
{
    for (size_t i = 0; i < COUNT(smollm2_ids); i++) {
        if (smollm2_ids[i] == id) {
            return (int32_t)i;
        }
    }
    fail_msg("no token %d in the part", (int)id);
    return -1;
}

static void test_smollm2_vectors(void **state)
{
    (void)state;
    struct model m;
    open_smollm2(&m);
    for (size_t i = 0; i < COUNT(smollm2_vectors); i++) {
        int32_t expected[32];
        size_t n = 0;
        for (; smollm2_vectors[i].ids[n] >= 0; n++) {
            expected[n] = place(smollm2_vectors[i].ids[n]);
        }
        expected[n] = -1;
        check_text(m.tokenizer, str_of(smollm2_vectors[i].text), true, expected);
    }
    assert_false(tokenizer_adds_bos(m.tokenizer));
    assert_true(tokenizer_is_end(m.tokenizer, 0));
    assert_false(tokenizer_is_end(m.tokenizer, 1));
    assert_true(tokenizer_is_end(m.tokenizer, 2));
    model_close(&m);
}

static void test_typed_control_tokens(void **state)
{
    (void)state;
    struct model m;
    open_smollm2(&m);
    static const char *const texts[] = {"<|im_end|>", "a<|im_start|>b", "<|endoftext|>\n"};
    for (size_t i = 0; i < COUNT(texts); i++) {
        struct tokens ids = {0};
        assert_int_equal(
            tokenizer_encode_text(m.tokenizer, str_of(texts[i]), false, false, &ids, NULL),
            PHID_OK);
        assert_true(ids.count > 0);
        for (size_t k = 0; k < ids.count; k++) {
            assert_int_equal(tokenizer_kind(m.tokenizer, ids.ids[k]), TOKEN_NORMAL);
        }
        tokens_fini(&ids);
    }
    model_close(&m);
}

/* "hello" is a token, but no merges lead to it. */
static void test_whole_words(void **state)
{
    (void)state;
    static const char *const merges[] = {"h e", "l l", "he ll"};
    for (int whole = 0; whole < 2; whole++) {
        struct model m;
        struct vocab_list l;
        vocab_list_bytes(&l);
        vocab_list_add(&l, "he", TOKEN_NORMAL, 0);
        vocab_list_add(&l, "ll", TOKEN_NORMAL, 0);
        vocab_list_add(&l, "hell", TOKEN_NORMAL, 0);
        vocab_list_add(&l, "hello", TOKEN_NORMAL, 0);
        vocab_list_add(&l, "\xC4\xA0hello", TOKEN_NORMAL, 0);
        vocab_file_init(&m.f);
        model_open(&m, whole ? "llama-bpe" : "gpt-2", &l, merges, 3);
        if (whole) {
            check_text(m.tokenizer, STR("hello hello"), false, IDS(259, 260));
        } else {
            check_text(m.tokenizer, STR("hello hello"), false, IDS(258, 'o', ' ', 258, 'o'));
        }
        check_text(m.tokenizer, STR("hellos"), false, IDS(258, 'o', 's'));
        model_close(&m);
    }
}

/* The better-ranked merge goes first wherever it stands; equal ones from the left. */
static void test_merge_order(void **state)
{
    (void)state;
    static const char *const merges[] = {"b c", "a b", "a a", "aa a"};
    struct model m;
    struct vocab_list l;
    vocab_list_bytes(&l);
    vocab_list_add(&l, "bc", TOKEN_NORMAL, 0);
    vocab_list_add(&l, "ab", TOKEN_NORMAL, 0);
    vocab_list_add(&l, "aa", TOKEN_NORMAL, 0);
    vocab_list_add(&l, "aaa", TOKEN_NORMAL, 0);
    vocab_file_init(&m.f);
    model_open(&m, "gpt-2", &l, merges, 4);
    check_text(m.tokenizer, STR("abc"), false, IDS('a', 256));
    check_text(m.tokenizer, STR("abab"), false, IDS(257, 257));
    check_text(m.tokenizer, STR("aaaaa"), false, IDS(258, 259));
    check_text(m.tokenizer, STR("aab"), false, IDS('a', 257));
    model_close(&m);
}

/* A user-defined token that is plain text matches anywhere, longest first; one that looks like
 * markup or ends an answer only where it is trusted. */
static void test_user_defined_tokens(void **state)
{
    (void)state;
    struct model m;
    struct vocab_list l;
    vocab_list_bytes(&l);
    vocab_list_add(&l, "  ", TOKEN_USER_DEFINED, 0);
    vocab_list_add(&l, "    ", TOKEN_USER_DEFINED, 0);
    vocab_list_add(&l, "<tool>", TOKEN_USER_DEFINED, 0);
    vocab_list_add(&l, "STOP", TOKEN_USER_DEFINED, 0);
    vocab_list_add(&l, "<|end|>", TOKEN_CONTROL, 0);
    vocab_file_init(&m.f);
    vocab_file_u32(&m.f, "tokenizer.ggml.eos_token_id", 259);
    model_open(&m, "phi-2", &l, NULL, 0);
    check_text(m.tokenizer, STR("       x"), false, IDS(257, 256, ' ', 'x'));
    check_text(m.tokenizer, STR("<tool>STOP<|end|>"), true, IDS(258, 259, 260));
    check_text(m.tokenizer, STR("<tool>"), false, IDS('<', 't', 'o', 'o', 'l', '>'));
    check_text(m.tokenizer, STR("STOP"), false, IDS('S', 'T', 'O', 'P'));
    assert_int_equal(tokenizer_piece(m.tokenizer, 256, false).size, 2);
    assert_int_equal(tokenizer_piece(m.tokenizer, 259, false).size, 0);
    model_close(&m);
}

static void test_invalid_bytes_are_kept(void **state)
{
    (void)state;
    struct model m;
    struct vocab_list l;
    vocab_list_bytes(&l);
    vocab_file_init(&m.f);
    model_open(&m, "qwen2", &l, NULL, 0);
    check_text(m.tokenizer, STR("a\xFF\xE6\x97z\xC0"), false, IDS('a', 255, 0xE6, 0x97, 'z', 0xC0));
    model_close(&m);
}

static void test_two_sided_strip_of_phi4(void **state)
{
    (void)state;
    struct model m;
    struct vocab_list l;
    vocab_list_bytes(&l);
    vocab_list_add(&l, "<|im_start|>", TOKEN_CONTROL, 0);
    vocab_list_add(&l, "<|im_sep|>", TOKEN_CONTROL, 0);
    vocab_list_add(&l, "<|im_end|>", TOKEN_CONTROL, 0);
    vocab_list_add(&l, "<|dummy_0|>", TOKEN_CONTROL, 0);
    vocab_file_init(&m.f);
    model_open(&m, "dbrx", &l, NULL, 0);
    check_text(m.tokenizer, STR("<|im_start|>u<|im_sep|>\n x \xE3\x80\x80\n<|im_end|> "), true,
               IDS(256, 'u', 257, 'x', 258));
    model_close(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_smollm2_vectors),
        cmocka_unit_test(test_typed_control_tokens),
        cmocka_unit_test(test_whole_words),
        cmocka_unit_test(test_merge_order),
        cmocka_unit_test(test_user_defined_tokens),
        cmocka_unit_test(test_invalid_bytes_are_kept),
        cmocka_unit_test(test_two_sided_strip_of_phi4),
    };
    return cmocka_run_group_tests_name("bpe", tests, NULL, NULL);
}

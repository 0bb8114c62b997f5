/* SentencePiece BPE over a small vocabulary: the order of merges, the fallback to bytes and to the
 * unknown token, the space prefix. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/engine/text/vocab_file.h"

struct model {
    struct vocab_list l;
    struct vocab_file f;
    struct gguf_file *file;
    struct tokenizer *tokenizer;
};

static struct model m;

static void start(void)
{
    vocab_list_spm(&m.l);
    vocab_file_init(&m.f);
    vocab_file_str(&m.f, "tokenizer.ggml.model", STR("llama"));
}

static void make(void)
{
    vocab_file_list(&m.f, &m.l);
    m.file = vocab_file_open(&m.f);
    struct phid_error err = {0};
    if (tokenizer_new(m.file, &m.tokenizer, &err) != PHID_OK) {
        fail_msg("%s", err.message);
    }
}

static void finish(void)
{
    tokenizer_free(m.tokenizer);
    gguf_close(m.file);
    vocab_file_fini(&m.f);
}

/* The id of a printable character in vocab_list_spm. */
static int32_t c(char character)
{
    return 259 + (character - '!');
}

#define SPACE_ID (259 + 94)

static void test_best_score_first(void **state)
{
    (void)state;
    start();
    int32_t ab = vocab_list_add(&m.l, "ab", TOKEN_NORMAL, -2);
    int32_t bc = vocab_list_add(&m.l, "bc", TOKEN_NORMAL, -1);
    int32_t abc = vocab_list_add(&m.l, "abc", TOKEN_NORMAL, -3);
    int32_t aa = vocab_list_add(&m.l, "aa", TOKEN_NORMAL, -4);
    make();
    check_text(m.tokenizer, STR("abc"), false, IDS(SPACE_ID, abc));
    check_text(m.tokenizer, STR("bcabb"), false, IDS(SPACE_ID, bc, ab, c('b')));
    check_text(m.tokenizer, STR("aaa"), false, IDS(SPACE_ID, aa, c('a')));
    check_text(m.tokenizer, STR("aab"), false, IDS(SPACE_ID, c('a'), ab));
    finish();
}

static void test_space_prefix(void **state)
{
    (void)state;
    for (int prefix = 0; prefix < 2; prefix++) {
        start();
        vocab_file_bool(&m.f, "tokenizer.ggml.add_space_prefix", prefix != 0);
        make();
        assert_int_equal(tokenizer_strips_first_space(m.tokenizer), prefix);
        if (prefix) {
            check_text(
                m.tokenizer, STR("a</s>b</s></s> c"), true,
                IDS(SPACE_ID, c('a'), 2, SPACE_ID, c('b'), 2, 2, SPACE_ID, SPACE_ID, c('c')));
        } else {
            check_text(m.tokenizer, STR("a</s>b</s></s> c"), true,
                       IDS(c('a'), 2, c('b'), 2, 2, SPACE_ID, c('c')));
        }
        check_text(m.tokenizer, STR(""), true, IDS(-1));
        finish();
    }
}

/* The tokens of bytes and special ones are no ordinary text, however they are written. */
static void test_merges_make_ordinary_tokens_only(void **state)
{
    (void)state;
    start();
    vocab_list_add(&m.l, "<0", TOKEN_NORMAL, -1);
    vocab_list_add(&m.l, "<0x", TOKEN_NORMAL, -1);
    vocab_list_add(&m.l, "41>", TOKEN_NORMAL, -1);
    vocab_list_add(&m.l, "41", TOKEN_NORMAL, -1);
    vocab_list_add(&m.l, "</", TOKEN_NORMAL, -1);
    int32_t end = vocab_list_add(&m.l, "s>", TOKEN_NORMAL, -1);
    make();
    check_text(m.tokenizer, STR("</s>"), false, IDS(SPACE_ID, end - 1, end));
    check_text(m.tokenizer, STR("<0x41>"), false, IDS(SPACE_ID, end - 4, end - 3));
    finish();
}

static void test_unknown_characters(void **state)
{
    (void)state;
    start();
    check_text((make(), m.tokenizer), STR("\xC3\xA9"), false, IDS(SPACE_ID, 3 + 0xC3, 3 + 0xA9));
    finish();
    /* Without the byte tokens: one unknown token for a run of them. */
    start();
    for (size_t i = 3; i < 259; i++) {
        m.l.kinds[i] = TOKEN_UNUSED;
    }
    vocab_file_u32(&m.f, "tokenizer.ggml.unknown_token_id", 0);
    make();
    check_text(m.tokenizer,
               STR("a\xC3\xA9\xC3\xA9\xFF"
                   "b\xC3\xA9"),
               false, IDS(SPACE_ID, c('a'), 0, c('b'), 0));
    finish();
}

/* Without `<|user|>` and `<|end|>` nothing swallows white space. */
static void test_strip_is_decided_by_the_vocabulary(void **state)
{
    (void)state;
    for (int phi3 = 0; phi3 < 2; phi3++) {
        start();
        int32_t end = vocab_list_add(&m.l, "<|end|>", TOKEN_CONTROL, 0);
        if (phi3) {
            vocab_list_add(&m.l, "<|user|>", TOKEN_CONTROL, 0);
        }
        make();
        if (phi3) {
            check_text(m.tokenizer, STR("<|end|>  </s> a"), true, IDS(end, 2, SPACE_ID, c('a')));
        } else {
            check_text(m.tokenizer, STR("<|end|>  </s> a"), true,
                       IDS(end, SPACE_ID, SPACE_ID, SPACE_ID, 2, SPACE_ID, SPACE_ID, c('a')));
        }
        finish();
    }
}

static void test_old_files_mark_the_unknown_token(void **state)
{
    (void)state;
    start();
    make();
    check_text(m.tokenizer, STR("<unk>"), true, IDS(0));
    finish();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_best_score_first),
        cmocka_unit_test(test_space_prefix),
        cmocka_unit_test(test_merges_make_ordinary_tokens_only),
        cmocka_unit_test(test_unknown_characters),
        cmocka_unit_test(test_strip_is_decided_by_the_vocabulary),
        cmocka_unit_test(test_old_files_mark_the_unknown_token),
    };
    return cmocka_run_group_tests_name("spm", tests, NULL, NULL);
}

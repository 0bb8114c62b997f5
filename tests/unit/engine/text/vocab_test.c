/* Vocabularies that make no sense are refused with a message that says why; the odd but usable ones
 * are not. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/engine/text/vocab_file.h"

/* A sound vocabulary to be spoilt. `leave_out` is a key not to write. */
struct plan {
    struct vocab_list list;
    const char *model;
    const char *pre;
    const struct str *merges;
    size_t merge_count;
    const char *leave_out;
    size_t score_count;
    size_t kind_count;
    bool kinds_u8;
    bool scores_u8;
};

static struct plan plan;
static struct vocab_file f;

static void plan_spm(void)
{
    memset(&plan, 0, sizeof(plan));
    plan.model = "llama";
    vocab_list_spm(&plan.list);
}

static void plan_bpe(void)
{
    memset(&plan, 0, sizeof(plan));
    plan.model = "gpt2";
    plan.pre = "gpt-2";
    vocab_list_bytes(&plan.list);
    vocab_list_add(&plan.list, "ab", TOKEN_NORMAL, 0);
    static const struct str merges[] = {{"a b", 3}};
    plan.merges = merges;
    plan.merge_count = 1;
}

static bool wanted(const char *key)
{
    return plan.leave_out == NULL || strcmp(key, plan.leave_out) != 0;
}

static void write_arrays(void)
{
    const struct vocab_list *l = &plan.list;
    size_t kinds = plan.kind_count != 0 ? plan.kind_count : l->count;
    size_t scores = plan.score_count != 0 ? plan.score_count : l->count;
    unsigned char zeros[1024] = {0};
    if (wanted("tokenizer.ggml.tokens")) {
        vocab_file_strs(&f, "tokenizer.ggml.tokens", l->texts, l->count);
    }
    if (wanted("tokenizer.ggml.token_type")) {
        plan.kinds_u8 ? vocab_file_u8s(&f, "tokenizer.ggml.token_type", zeros, kinds)
                      : vocab_file_i32s(&f, "tokenizer.ggml.token_type", l->kinds, kinds);
    }
    if (wanted("tokenizer.ggml.scores")) {
        plan.scores_u8 ? vocab_file_u8s(&f, "tokenizer.ggml.scores", zeros, scores)
                       : vocab_file_f32s(&f, "tokenizer.ggml.scores", l->scores, scores);
    }
}

static enum phid_status try_plan(struct phid_error *err)
{
    if (plan.model != NULL) {
        vocab_file_str(&f, "tokenizer.ggml.model", str_of(plan.model));
    }
    if (plan.pre != NULL) {
        vocab_file_str(&f, "tokenizer.ggml.pre", str_of(plan.pre));
    }
    write_arrays();
    if (plan.merges != NULL) {
        vocab_file_strs(&f, "tokenizer.ggml.merges", plan.merges, plan.merge_count);
    }
    struct gguf_file *file = vocab_file_open(&f);
    struct tokenizer *t = NULL;
    enum phid_status status = tokenizer_new(file, &t, err);
    assert_true((status == PHID_OK) == (t != NULL));
    tokenizer_free(t);
    gguf_close(file);
    vocab_file_fini(&f);
    vocab_file_init(&f);
    return status;
}

static void refused(enum phid_status expected, const char *says)
{
    struct phid_error err = {0};
    enum phid_status status = try_plan(&err);
    if (status != expected || strstr(err.message, says) == NULL) {
        fail_msg("expected status %d and \"%s\", got %d \"%s\"", (int)expected, says, (int)status,
                 err.message);
    }
}

static void accepted(void)
{
    struct phid_error err = {0};
    if (try_plan(&err) != PHID_OK) {
        fail_msg("%s", err.message);
    }
}

static int set_up(void **state)
{
    (void)state;
    vocab_file_init(&f);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    vocab_file_fini(&f);
    return 0;
}

static void test_sound_ones(void **state)
{
    (void)state;
    plan_spm();
    accepted();
    plan_bpe();
    accepted();
    plan_bpe();
    plan.leave_out = "tokenizer.ggml.scores";
    accepted();
    plan_bpe();
    plan.pre = NULL;
    accepted();
}

static void test_missing_keys(void **state)
{
    (void)state;
    static const char *const keys[] = {"tokenizer.ggml.tokens", "tokenizer.ggml.token_type",
                                       "tokenizer.ggml.scores"};
    for (size_t i = 0; i < 3; i++) {
        plan_spm();
        plan.leave_out = keys[i];
        refused(PHID_ERR_FORMAT, keys[i]);
    }
    plan_spm();
    plan.model = NULL;
    refused(PHID_ERR_FORMAT, "tokenizer.ggml.model");
    plan_bpe();
    plan.merges = NULL;
    refused(PHID_ERR_FORMAT, "tokenizer.ggml.merges");
}

static void test_pre_is_a_name(void **state)
{
    (void)state;
    plan_spm();
    vocab_file_u32(&f, "tokenizer.ggml.pre", 1);
    refused(PHID_ERR_FORMAT, "tokenizer.ggml.pre");
    plan_spm();
    plan.pre = "any";
    accepted();
}

static void test_unknown_families(void **state)
{
    (void)state;
    plan_spm();
    plan.model = "bert";
    refused(PHID_ERR_UNSUPPORTED, "known are llama, gpt2");
    plan_bpe();
    plan.pre = "klingon";
    refused(PHID_ERR_UNSUPPORTED, "klingon");
}

static void test_ids_out_of_range(void **state)
{
    (void)state;
    static const char *const keys[] = {
        "tokenizer.ggml.bos_token_id",     "tokenizer.ggml.eos_token_id",
        "tokenizer.ggml.unknown_token_id", "tokenizer.ggml.padding_token_id",
        "tokenizer.ggml.eot_token_id",     "tokenizer.ggml.eom_token_id",
    };
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        plan_spm();
        uint32_t bad[] = {(uint32_t)plan.list.count, UINT32_MAX, 0x80000000U};
        for (size_t k = 0; k < 3; k++) {
            plan_spm();
            vocab_file_u32(&f, keys[i], bad[k]);
            refused(PHID_ERR_FORMAT, keys[i]);
        }
        plan_spm();
        vocab_file_str(&f, keys[i], STR("2"));
        refused(PHID_ERR_FORMAT, keys[i]);
    }
}

static void test_arrays_of_wrong_length_or_type(void **state)
{
    (void)state;
    for (int less = 0; less < 2; less++) {
        plan_spm();
        plan.score_count = less ? plan.list.count - 1 : plan.list.count + 1;
        refused(PHID_ERR_FORMAT, "tokenizer.ggml.scores");
        plan_spm();
        plan.kind_count = less ? plan.list.count - 1 : plan.list.count + 1;
        refused(PHID_ERR_FORMAT, "tokenizer.ggml.token_type");
        plan_bpe();
        plan.score_count = less ? plan.list.count - 1 : plan.list.count + 1;
        refused(PHID_ERR_FORMAT, "tokenizer.ggml.scores");
    }
    plan_spm();
    plan.scores_u8 = true;
    refused(PHID_ERR_FORMAT, "tokenizer.ggml.scores");
    plan_spm();
    plan.kinds_u8 = true;
    refused(PHID_ERR_FORMAT, "tokenizer.ggml.token_type");
    plan_spm();
    plan.leave_out = "tokenizer.ggml.tokens";
    vocab_file_str(&f, "tokenizer.ggml.tokens", STR("a"));
    refused(PHID_ERR_FORMAT, "tokenizer.ggml.tokens");
}

static void test_scores_and_kinds_without_sense(void **state)
{
    (void)state;
    static const float scores[] = {NAN, INFINITY, -INFINITY};
    for (size_t i = 0; i < 3; i++) {
        plan_spm();
        plan.list.scores[7] = scores[i];
        refused(PHID_ERR_FORMAT, "token 7");
    }
    static const int32_t kinds[] = {0, 7, 999, -1, INT32_MIN};
    for (size_t i = 0; i < 5; i++) {
        plan_spm();
        plan.list.kinds[9] = kinds[i];
        refused(PHID_ERR_FORMAT, "token 9");
    }
}

static void test_texts_without_sense(void **state)
{
    (void)state;
    plan_spm();
    plan.list.texts[300] = STR("\xC3\x28");
    refused(PHID_ERR_FORMAT, "token 300 is not UTF-8");

    static char long_text[4097];
    memset(long_text, 'x', sizeof(long_text));
    plan_spm();
    plan.list.texts[300] = (struct str){long_text, 4097};
    refused(PHID_ERR_FORMAT, "4097 bytes");
    plan_spm();
    plan.list.texts[300] = (struct str){long_text, 4096};
    accepted();

    plan_spm();
    plan.list.texts[300] = plan.list.texts[301];
    refused(PHID_ERR_FORMAT, "tokens 300 and 301");
    plan_spm();
    for (size_t i = 0; i < plan.list.count; i++) {
        plan.list.texts[i] = STR("");
        plan.list.kinds[i] = TOKEN_NORMAL;
    }
    refused(PHID_ERR_FORMAT, "no token is ordinary text");
    plan_spm();
    for (size_t i = 0; i < plan.list.count; i++) {
        plan.list.texts[i] = STR("same");
        plan.list.kinds[i] = TOKEN_NORMAL;
    }
    refused(PHID_ERR_FORMAT, "same text \"same\"");
    plan_spm();
    plan.list.count = 3;
    refused(PHID_ERR_FORMAT, "no token is ordinary text");
    plan_spm();
    plan.list.count = 0;
    refused(PHID_ERR_FORMAT, "0 elements");
}

static void test_byte_tokens(void **state)
{
    (void)state;
    static const char *const bad[] = {"<0x-1>", "<0xZZ>", "<0x1>", "<0x123>", "0x12", "<0x 1>", ""};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        plan_spm();
        plan.list.texts[3 + 16] = str_of(bad[i]);
        refused(PHID_ERR_FORMAT, "byte token 19");
    }
    plan_spm();
    plan.list.texts[3 + 16] = STR("<0x11>");
    refused(PHID_ERR_FORMAT, "byte 0x11");
    plan_spm();
    plan.list.texts[3 + 0xAB] = STR("<0xab>");
    accepted();

    /* A byte missing: the unknown token steps in if there is one that means just that. */
    plan_spm();
    plan.list.kinds[3 + 200] = TOKEN_UNUSED;
    refused(PHID_ERR_FORMAT, "byte 0xC8");
    plan_spm();
    plan.list.kinds[3 + 200] = TOKEN_UNUSED;
    vocab_file_u32(&f, "tokenizer.ggml.unknown_token_id", 0);
    accepted();
    plan_spm();
    plan.list.kinds[3 + 200] = TOKEN_UNUSED;
    vocab_file_u32(&f, "tokenizer.ggml.unknown_token_id", 2);
    vocab_file_u32(&f, "tokenizer.ggml.eos_token_id", 2);
    refused(PHID_ERR_FORMAT, "byte 0xC8");

    plan_bpe();
    plan.list.kinds[0xF5] = TOKEN_UNUSED;
    accepted();
    plan_bpe();
    plan.list.kinds['e'] = TOKEN_UNUSED;
    refused(PHID_ERR_FORMAT, "byte 0x65");
}

static void test_merges_without_sense(void **state)
{
    (void)state;
    static const struct {
        const char *merge;
        const char *says;
    } bad[] = {
        {"a zz", "not in the vocabulary"},
        {"zz a", "not in the vocabulary"},
        {"b a", "makes a token"},
        {"ab", "two tokens"},
        {"", "two tokens"},
        {" ", "two tokens"},
        {"a ", "two tokens"},
        {" a", "two tokens"},
        {"a  b", "not in the vocabulary"},
        {"\xFF b", "not in the vocabulary"},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        plan_bpe();
        struct str merge = str_of(bad[i].merge);
        plan.merges = &merge;
        refused(PHID_ERR_FORMAT, bad[i].says);
    }
    /* The same merge twice does no harm, nor one that would make a control token. */
    static const struct str twice[] = {{"a b", 3}, {"a b", 3}};
    plan_bpe();
    plan.merges = twice;
    plan.merge_count = 2;
    accepted();
    plan_bpe();
    plan.list.kinds[256] = TOKEN_CONTROL;
    accepted();
    static char long_merge[20000];
    memset(long_merge, 'a', sizeof(long_merge));
    long_merge[10000] = ' ';
    struct str merge = {long_merge, sizeof(long_merge)};
    plan_bpe();
    plan.merges = &merge;
    refused(PHID_ERR_FORMAT, "two tokens");
}

static void test_wrong_types_of_small_keys(void **state)
{
    (void)state;
    plan_spm();
    vocab_file_u32(&f, "tokenizer.ggml.add_bos_token", 7);
    refused(PHID_ERR_FORMAT, "tokenizer.ggml.add_bos_token");
    plan_spm();
    vocab_file_str(&f, "tokenizer.ggml.add_space_prefix", STR("yes"));
    refused(PHID_ERR_FORMAT, "tokenizer.ggml.add_space_prefix");
    plan_spm();
    plan.model = NULL;
    vocab_file_u32(&f, "tokenizer.ggml.model", 1);
    refused(PHID_ERR_FORMAT, "tokenizer.ggml.model");
}

/* Texts that share every prefix and suffix: the search for merges is linear in the bytes. */
static void test_many_splits(void **state)
{
    (void)state;
    static char runs[700];
    memset(runs, 'Q', sizeof(runs));
    plan_spm();
    for (size_t i = 2; i < 600; i++) {
        vocab_list_add(&plan.list, "", TOKEN_NORMAL, -(float)i);
        plan.list.texts[plan.list.count - 1] = (struct str){runs, i};
    }
    accepted();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sound_ones),
        cmocka_unit_test(test_missing_keys),
        cmocka_unit_test(test_pre_is_a_name),
        cmocka_unit_test(test_unknown_families),
        cmocka_unit_test(test_ids_out_of_range),
        cmocka_unit_test(test_arrays_of_wrong_length_or_type),
        cmocka_unit_test(test_scores_and_kinds_without_sense),
        cmocka_unit_test(test_texts_without_sense),
        cmocka_unit_test(test_byte_tokens),
        cmocka_unit_test(test_merges_without_sense),
        cmocka_unit_test(test_wrong_types_of_small_keys),
        cmocka_unit_test(test_many_splits),
    };
    return cmocka_run_group_tests_name("vocab", tests, set_up, tear_down);
}

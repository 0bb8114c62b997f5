/* Files that are whole GGUF but no model: each gets the stated error and a message that names the
 * place. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "engine/model/model.h"
#include "model_file.h"
#include "quant/format/format.h"

static const struct model_shape phi3_shape = {.arch = "phi3",
                                              .layers = 2,
                                              .embd = 32,
                                              .heads = 4,
                                              .kv_heads = 2,
                                              .ff = 64,
                                              .vocab = 40,
                                              .context = 256,
                                              .rope_dims = 6,
                                              .fused_qkv = true,
                                              .fused_gate_up = true,
                                              .factors = true,
                                              .original = 64,
                                              .freq_base = 10000,
                                              .attn_factor = 1.19f};
static const struct model_shape llama_shape = {.arch = "llama",
                                               .layers = 2,
                                               .embd = 32,
                                               .heads = 4,
                                               .kv_heads = 2,
                                               .ff = 64,
                                               .vocab = 40,
                                               .context = 256,
                                               .head_dim = 8,
                                               .tied = true,
                                               .biases = true,
                                               .rope_freqs = true,
                                               .freq_base = 10000};

enum change {
    KEY_U32,
    KEY_I32,
    KEY_F32,
    KEY_TEXT,
    KEY_BOOL,
    KEY_STRINGS,
    KEY_NUMBERS,
    KEY_GONE,
    TENSOR_GONE,
    TENSOR_SHAPE,
    TENSOR_ADDED,
    TENSOR_TYPE,
    TENSOR_VALUE
};

struct hostile {
    const struct model_shape *base;
    enum change change;
    const char *name;
    int64_t number, number2; /* a count; or ne0 and ne1 */
    float real;
    const char *text;
    enum phid_status status;
    const char *fragment; /* of the message */
};

#define P   &phi3_shape
#define L   &llama_shape
#define BAD PHID_ERR_FORMAT
#define NO  PHID_ERR_UNSUPPORTED

/* One case a line. */
/* clang-format off */
static const struct hostile cases[] = {
    /* what the file says it is */
    {P, KEY_GONE, "general.architecture", .status = BAD, .fragment = "general.architecture"},
    {P, KEY_TEXT, "general.architecture", .text = "", .status = NO, .fragment = "architecture \"\" is not supported (known: phi3, llama)"},
    {P, KEY_TEXT, "general.architecture", .text = "gemma2", .status = NO, .fragment = "architecture \"gemma2\" is not supported (known: phi3, llama)"},
    {P, KEY_TEXT, "general.architecture", .text = "PHI3", .status = NO, .fragment = "known: phi3, llama"},
    {P, KEY_TEXT, "general.architecture", .text = "llama", .status = BAD, .fragment = "key llama.context_length is missing"},
    {P, KEY_U32, "general.architecture", 3, .status = BAD, .fragment = "general.architecture"},
    {P, KEY_TEXT, "general.type", .text = "adapter", .status = NO, .fragment = "general.type is \"adapter\""},
    /* counts */
    {P, KEY_GONE, "phi3.context_length", .status = BAD, .fragment = "key phi3.context_length is missing"},
    {P, KEY_U32, "phi3.context_length", 0, .status = BAD, .fragment = "key phi3.context_length: expected 1 to 2147483647, found 0 (offset "},
    {P, KEY_U32, "phi3.context_length", 0xFFFFFFFF, .status = BAD, .fragment = "phi3.context_length: expected 1 to 2147483647, found 4294967295"},
    {P, KEY_I32, "phi3.context_length", -1, .status = BAD, .fragment = "phi3.context_length"},
    {P, KEY_TEXT, "phi3.context_length", .text = "4096", .status = BAD, .fragment = "phi3.context_length"},
    {P, KEY_F32, "phi3.context_length", .real = 4096, .status = BAD, .fragment = "phi3.context_length"},
    {P, KEY_GONE, "phi3.embedding_length", .status = BAD, .fragment = "key phi3.embedding_length is missing"},
    {P, KEY_U32, "phi3.embedding_length", 0, .status = BAD, .fragment = "phi3.embedding_length: expected 1 to"},
    {P, KEY_U32, "phi3.embedding_length", 0x80000000, .status = BAD, .fragment = "phi3.embedding_length: expected 1 to"},
    {P, KEY_U32, "phi3.embedding_length", 64, .status = BAD, .fragment = "tensor token_embd.weight: expected shape [64, 40], found [32, 40]"},
    {P, KEY_U32, "phi3.feed_forward_length", 0, .status = BAD, .fragment = "phi3.feed_forward_length"},
    {P, KEY_U32, "phi3.feed_forward_length", 63, .status = BAD, .fragment = "tensor blk.0.ffn_up.weight: expected shape [32, 126], found [32, 128]"},
    {P, KEY_NUMBERS, "phi3.feed_forward_length", 2, .status = BAD, .fragment = "phi3.feed_forward_length"},
    {P, KEY_U32, "phi3.block_count", 0, .status = BAD, .fragment = "phi3.block_count: expected 1 to 1024, found 0"},
    {P, KEY_U32, "phi3.block_count", 100000, .status = BAD, .fragment = "phi3.block_count: expected 1 to 1024, found 100000"},
    {P, KEY_U32, "phi3.block_count", 0x80000000, .status = BAD, .fragment = "phi3.block_count"},
    {P, KEY_U32, "phi3.block_count", 1024, .status = BAD, .fragment = "phi3.block_count: 1024 blocks in a file of 17 tensors"},
    {P, KEY_U32, "phi3.block_count", 3, .status = BAD, .fragment = "tensor blk.2.attn_norm.weight is missing (expected shape [32])"},
    {P, KEY_U32, "phi3.block_count", 1, .status = BAD, .fragment = "unexpected tensor blk.1.attn_norm.weight"},
    /* heads */
    {P, KEY_U32, "phi3.attention.head_count", 0, .status = BAD, .fragment = "phi3.attention.head_count"},
    {P, KEY_U32, "phi3.attention.head_count", 6, .status = BAD, .fragment = "6 heads do not divide the embedding length 32"},
    {P, KEY_U32, "phi3.attention.head_count", 0xFFFFFFFF, .status = BAD, .fragment = "phi3.attention.head_count"},
    {P, KEY_U32, "phi3.attention.head_count_kv", 0, .status = BAD, .fragment = "phi3.attention.head_count_kv: expected 1 to"},
    {P, KEY_U32, "phi3.attention.head_count_kv", 8, .status = BAD, .fragment = "phi3.attention.head_count_kv: expected a divisor of the 4 heads, found 8"},
    {P, KEY_U32, "phi3.attention.head_count_kv", 3, .status = BAD, .fragment = "phi3.attention.head_count_kv: expected a divisor"},
    {P, KEY_U32, "phi3.attention.head_count_kv", 4, .status = BAD, .fragment = "tensor blk.0.attn_qkv.weight: expected shape [32, 96], found [32, 64]"},
    {P, KEY_NUMBERS, "phi3.attention.head_count_kv", 2, .status = BAD, .fragment = "phi3.attention.head_count_kv"},
    {L, KEY_U32, "llama.attention.key_length", 0, .status = BAD, .fragment = "llama.attention.key_length"},
    {L, KEY_U32, "llama.attention.key_length", 16, .status = NO, .fragment = "llama.attention.key_length 16 and value_length 8 differ"},
    {L, KEY_U32, "llama.attention.value_length", 1 << 20, .status = BAD, .fragment = "llama.attention.value_length"},
    {P, KEY_U32, "phi3.attention.head_count", 32, .status = BAD, .fragment = "head size 1 of phi3 is odd"},
    /* rotary */
    {P, KEY_U32, "phi3.rope.dimension_count", 5, .status = BAD, .fragment = "phi3.rope.dimension_count: expected an even number up to the head size 8, found 5"},
    {P, KEY_U32, "phi3.rope.dimension_count", 0, .status = BAD, .fragment = "phi3.rope.dimension_count"},
    {P, KEY_U32, "phi3.rope.dimension_count", 10, .status = BAD, .fragment = "phi3.rope.dimension_count: expected an even number up to the head size 8, found 10"},
    {P, KEY_U32, "phi3.rope.dimension_count", 0x80000000, .status = BAD, .fragment = "phi3.rope.dimension_count"},
    {P, KEY_U32, "phi3.rope.dimension_count", 8, .status = BAD, .fragment = "tensor rope_factors_long.weight: expected shape [4], found [3]"},
    {P, KEY_F32, "phi3.rope.freq_base", .real = 0, .status = BAD, .fragment = "phi3.rope.freq_base"},
    {P, KEY_F32, "phi3.rope.freq_base", .real = -10000, .status = BAD, .fragment = "phi3.rope.freq_base: expected a number from 1 to 1e+12, found -10000"},
    {P, KEY_F32, "phi3.rope.freq_base", .real = NAN, .status = BAD, .fragment = "phi3.rope.freq_base"},
    {P, KEY_F32, "phi3.rope.freq_base", .real = INFINITY, .status = BAD, .fragment = "phi3.rope.freq_base"},
    {P, KEY_U32, "phi3.rope.freq_base", 10000, .status = BAD, .fragment = "phi3.rope.freq_base"},
    {P, KEY_F32, "phi3.rope.scaling.attn_factor", .real = NAN, .status = BAD, .fragment = "phi3.rope.scaling.attn_factor"},
    {P, KEY_F32, "phi3.rope.scaling.attn_factor", .real = 0, .status = BAD, .fragment = "phi3.rope.scaling.attn_factor"},
    {P, KEY_F32, "phi3.rope.scaling.attn_factor", .real = -1, .status = BAD, .fragment = "phi3.rope.scaling.attn_factor"},
    {P, KEY_U32, "phi3.rope.scaling.original_context_length", 0, .status = BAD, .fragment = "phi3.rope.scaling.original_context_length"},
    {P, KEY_U32, "phi3.rope.scaling.original_context_length", 257, .status = BAD, .fragment = "phi3.rope.scaling.original_context_length: expected at most the context length 256, found 257"},
    {P, KEY_TEXT, "phi3.rope.scaling.type", .text = "yarn", .status = NO, .fragment = "phi3.rope.scaling.type \"yarn\" is not supported"},
    {L, KEY_TEXT, "llama.rope.scaling.type", .text = "yarn", .status = NO, .fragment = "llama.rope.scaling.type \"yarn\" is not supported"},
    {L, KEY_U32, "llama.rope.scaling.type", 1, .status = BAD, .fragment = "llama.rope.scaling.type"},
    {L, KEY_F32, "llama.rope.scaling.factor", .real = -2, .status = BAD, .fragment = "llama.rope.scaling.factor"},
    {L, KEY_F32, "llama.rope.scaling.factor", .real = 1e-30F, .status = BAD, .fragment = "llama.rope.scaling.factor: expected a number from 0.001"},
    {L, KEY_F32, "llama.rope.scaling.factor", .real = NAN, .status = BAD, .fragment = "llama.rope.scaling.factor"},
    {P, TENSOR_GONE, "rope_factors_long.weight", .status = BAD, .fragment = "tensor rope_factors_long.weight is missing"},
    {P, TENSOR_GONE, "rope_factors_short.weight", .status = BAD, .fragment = "tensor rope_factors_short.weight is missing"},
    {P, TENSOR_VALUE, "rope_factors_long.weight", 1, .real = 0, .status = BAD, .fragment = "tensor rope_factors_long.weight: expected factors from"},
    {P, TENSOR_VALUE, "rope_factors_short.weight", 2, .real = -1, .status = BAD, .fragment = "found -1 at 2"},
    {P, TENSOR_VALUE, "rope_factors_short.weight", 0, .real = NAN, .status = BAD, .fragment = "tensor rope_factors_short.weight: value 0 is NaN"},
    {L, TENSOR_VALUE, "rope_freqs.weight", 0, .real = INFINITY, .status = BAD, .fragment = "tensor rope_freqs.weight: value 0 is infinite"},
    {L, TENSOR_SHAPE, "rope_freqs.weight", 8, 0, .status = BAD, .fragment = "tensor rope_freqs.weight: expected shape [4], found [8]"},
    /* norms, window, experts */
    {P, KEY_GONE, "phi3.attention.layer_norm_rms_epsilon", .status = BAD, .fragment = "phi3.attention.layer_norm_rms_epsilon is missing"},
    {P, KEY_F32, "phi3.attention.layer_norm_rms_epsilon", .real = NAN, .status = BAD, .fragment = "phi3.attention.layer_norm_rms_epsilon"},
    {P, KEY_F32, "phi3.attention.layer_norm_rms_epsilon", .real = -1e-5f, .status = BAD, .fragment = "phi3.attention.layer_norm_rms_epsilon"},
    {P, KEY_F32, "phi3.attention.layer_norm_rms_epsilon", .real = 0, .status = BAD, .fragment = "phi3.attention.layer_norm_rms_epsilon"},
    {P, KEY_F32, "phi3.attention.layer_norm_rms_epsilon", .real = INFINITY, .status = BAD, .fragment = "phi3.attention.layer_norm_rms_epsilon"},
    {P, KEY_I32, "phi3.attention.sliding_window", -1, .status = BAD, .fragment = "phi3.attention.sliding_window"},
    {P, KEY_U32, "phi3.attention.sliding_window", 0x80000000, .status = BAD, .fragment = "phi3.attention.sliding_window"},
    {P, KEY_BOOL, "phi3.attention.sliding_window", 1, .status = BAD, .fragment = "phi3.attention.sliding_window"},
    {L, KEY_U32, "llama.expert_count", 8, .status = NO, .fragment = "mixture of experts is not supported (llama.expert_count is 8)"},
    /* vocabulary */
    {P, KEY_GONE, "tokenizer.ggml.tokens", .status = BAD, .fragment = "tokenizer.ggml.tokens is missing"},
    {P, KEY_STRINGS, "tokenizer.ggml.tokens", 0, .status = BAD, .fragment = "tokenizer.ggml.tokens"},
    {P, KEY_STRINGS, "tokenizer.ggml.tokens", 39, .status = BAD, .fragment = "tensor token_embd.weight: expected shape [32, 39], found [32, 40]"},
    {P, KEY_NUMBERS, "tokenizer.ggml.tokens", 40, .status = BAD, .fragment = "tokenizer.ggml.tokens: expected an array of strings"},
    {P, KEY_TEXT, "tokenizer.ggml.tokens", .text = "x", .status = BAD, .fragment = "tokenizer.ggml.tokens: expected an array of strings"},
    {P, KEY_U32, "phi3.vocab_size", 41, .status = BAD, .fragment = "phi3.vocab_size: expected 40, the length of tokenizer.ggml.tokens, found 41"},
    {P, KEY_U32, "phi3.vocab_size", 0x80000000, .status = BAD, .fragment = "phi3.vocab_size"},
    {P, KEY_TEXT, "phi3.vocab_size", .text = "40", .status = BAD, .fragment = "phi3.vocab_size"},
    /* tensors */
    {P, TENSOR_GONE, "token_embd.weight", .status = BAD, .fragment = "tensor token_embd.weight is missing (expected shape [32, 40])"},
    {P, TENSOR_GONE, "output_norm.weight", .status = BAD, .fragment = "tensor output_norm.weight is missing (expected shape [32])"},
    {P, TENSOR_GONE, "blk.1.attn_qkv.weight", .status = BAD, .fragment = "tensor blk.1.attn_q.weight is missing (expected shape [32, 32])"},
    {P, TENSOR_GONE, "blk.1.ffn_down.weight", .status = BAD, .fragment = "tensor blk.1.ffn_down.weight is missing (expected shape [64, 32])"},
    {L, TENSOR_GONE, "blk.0.attn_k.weight", .status = BAD, .fragment = "tensor blk.0.attn_k.weight is missing (expected shape [32, 16])"},
    {L, TENSOR_GONE, "blk.0.ffn_gate.weight", .status = BAD, .fragment = "tensor blk.0.ffn_gate.weight is missing"},
    {L, TENSOR_SHAPE, "blk.0.attn_v.weight", 32, 32, .status = BAD, .fragment = "tensor blk.0.attn_v.weight: expected shape [32, 16], found [32, 32] (data at offset "},
    {L, TENSOR_SHAPE, "blk.1.attn_output.weight", 16, 32, .status = BAD, .fragment = "tensor blk.1.attn_output.weight: expected shape [32, 32], found [16, 32]"},
    {L, TENSOR_SHAPE, "blk.1.attn_q.bias", 16, 0, .status = BAD, .fragment = "tensor blk.1.attn_q.bias: expected shape [32], found [16]"},
    {P, TENSOR_SHAPE, "output.weight", 40, 32, .status = BAD, .fragment = "tensor output.weight: expected shape [32, 40], found [40, 32]"},
    {P, TENSOR_SHAPE, "output_norm.weight", 32, 2, .status = BAD, .fragment = "tensor output_norm.weight: expected shape [32], found [32, 2]"},
    {P, TENSOR_ADDED, "blk.0.attn_k.weight", 32, 16, .status = BAD, .fragment = "unexpected tensor blk.0.attn_k.weight"},
    {P, TENSOR_ADDED, "blk.0.attn_q.bias", 32, 0, .status = BAD, .fragment = "unexpected tensor blk.0.attn_q.bias"},
    {P, TENSOR_ADDED, "blk.2.attn_norm.weight", 32, 0, .status = BAD, .fragment = "unexpected tensor blk.2.attn_norm.weight"},
    {L, TENSOR_ADDED, "blk.0.ffn_gate_exps.weight", 32, 64, .status = BAD, .fragment = "unexpected tensor blk.0.ffn_gate_exps.weight"},
    {L, TENSOR_ADDED, "vision.patch", 8, 0, .status = BAD, .fragment = "unexpected tensor vision.patch"},
    {P, TENSOR_TYPE, "blk.0.attn_norm.weight", QUANT_Q8_0, .status = BAD, .fragment = "tensor blk.0.attn_norm.weight: expected F32, F16 or BF16, found Q8_0"},
    {P, TENSOR_VALUE, "blk.1.ffn_norm.weight", 31, .real = NAN, .status = BAD, .fragment = "tensor blk.1.ffn_norm.weight: value 31 is NaN"},
    {P, TENSOR_VALUE, "output_norm.weight", 0, .real = -INFINITY, .status = BAD, .fragment = "tensor output_norm.weight: value 0 is infinite"},
    {L, TENSOR_VALUE, "blk.0.attn_v.bias", 3, .real = NAN, .status = BAD, .fragment = "tensor blk.0.attn_v.bias: value 3 is NaN"},
};
/* clang-format on */

static void apply(struct model_file *f, const struct hostile *c)
{
    struct rng rng;
    rng_init(&rng, 2);
    switch (c->change) {
    case KEY_U32:
        model_file_u32(f, c->name, c->number);
        break;
    case KEY_I32:
        model_file_i32(f, c->name, c->number);
        break;
    case KEY_F32:
        model_file_f32(f, c->name, c->real);
        break;
    case KEY_TEXT:
        model_file_text(f, c->name, c->text);
        break;
    case KEY_BOOL:
        model_file_bool(f, c->name, c->number != 0);
        break;
    case KEY_STRINGS:
        model_file_array(f, c->name, GGUF_STRING, c->number);
        break;
    case KEY_NUMBERS:
        model_file_array(f, c->name, GGUF_U32, c->number);
        break;
    case KEY_GONE:
        model_file_remove_key(f, c->name);
        break;
    case TENSOR_GONE:
        model_file_remove_tensor(f, c->name);
        break;
    case TENSOR_SHAPE:
        assert_non_null(model_file_find(f, c->name));
        model_file_tensor(f, c->name, (uint64_t)c->number, (uint64_t)c->number2, QUANT_F32, 1, 0.1f,
                          &rng);
        break;
    case TENSOR_ADDED:
        assert_null(model_file_find(f, c->name));
        model_file_tensor(f, c->name, (uint64_t)c->number, (uint64_t)c->number2, QUANT_F32, 1, 0.1f,
                          &rng);
        break;
    case TENSOR_TYPE:
        model_file_find(f, c->name)->type = (uint32_t)c->number;
        break;
    case TENSOR_VALUE:
        model_file_find(f, c->name)->values[c->number] = c->real;
        break;
    }
}

static void test_model_load_refuses_hostile_files(void **state)
{
    (void)state;
    size_t failures = 0;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct hostile *c = &cases[i];
        struct model_file f;
        struct gguf_file *file = NULL;
        struct model *m = NULL;
        struct phid_error err = {0};
        model_file_init(&f);
        model_file_make(&f, c->base, 1);
        apply(&f, c);
        enum phid_status status = model_file_open(&f, &file, &err);
        if (status == PHID_OK) {
            status = model_load(file, &m, &err);
        }
        if (status != c->status || strstr(err.message, c->fragment) == NULL || m != NULL) {
            print_error("case %zu (%s): status %s, message \"%s\", expected %s, \"%s\"\n", i,
                        c->name, phid_status_name(status), err.message, phid_status_name(c->status),
                        c->fragment);
            failures++;
        }
        model_free(m);
        gguf_close(file);
        model_file_fini(&f);
    }
    assert_int_equal(failures, 0);
}

static void test_model_load_refuses_without_an_error_to_fill(void **state)
{
    (void)state;
    struct model_file f;
    struct gguf_file *file;
    struct model *m = NULL;
    model_file_init(&f);
    model_file_make(&f, &phi3_shape, 1);
    model_file_remove_tensor(&f, "blk.1.ffn_down.weight");
    assert_int_equal(model_file_open(&f, &file, NULL), PHID_OK);
    assert_int_equal(model_load(file, &m, NULL), PHID_ERR_FORMAT);
    assert_null(m);
    gguf_close(file);
    model_file_fini(&f);
}

/* A tensor of a third dimension above 1 has the right first two and is still wrong. */
static void test_model_load_refuses_a_third_dimension(void **state)
{
    (void)state;
    struct model_file f;
    struct gguf_file *file = NULL;
    struct model *m = NULL;
    struct phid_error err = {0};
    struct rng rng;
    rng_init(&rng, 3);
    model_file_init(&f);
    model_file_make(&f, &phi3_shape, 1);
    struct file_tensor *t = model_file_tensor(&f, "output.weight", 32, 80, QUANT_F32, 0, 1, &rng);
    t->n_dims = 3;
    t->ne[1] = 40;
    t->ne[2] = 2;
    assert_int_equal(model_file_open(&f, &file, &err), PHID_OK);
    assert_int_equal(model_load(file, &m, &err), PHID_ERR_FORMAT);
    assert_non_null(
        strstr(err.message, "tensor output.weight: expected shape [32, 40], found [32, 40, 2]"));
    gguf_close(file);
    model_file_fini(&f);
}

/* Only a vocabulary: no tensors at all. */
static void test_model_load_refuses_a_vocabulary_file(void **state)
{
    (void)state;
    struct model_file f;
    struct gguf_file *file = NULL;
    struct model *m = NULL;
    struct phid_error err = {0};
    model_file_init(&f);
    model_file_text(&f, "general.architecture", "llama");
    model_file_array(&f, "tokenizer.ggml.tokens", GGUF_STRING, 10);
    assert_int_equal(model_file_open(&f, &file, &err), PHID_OK);
    assert_int_equal(model_load(file, &m, &err), PHID_ERR_FORMAT);
    assert_non_null(strstr(err.message, "vocabulary only"));
    gguf_close(file);
    model_file_fini(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_model_load_refuses_hostile_files),
        cmocka_unit_test(test_model_load_refuses_without_an_error_to_fill),
        cmocka_unit_test(test_model_load_refuses_a_third_dimension),
        cmocka_unit_test(test_model_load_refuses_a_vocabulary_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

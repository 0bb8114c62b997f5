#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "engine/model/model.h"
#include "model_file.h"
#include "quant/format/format.h"

struct loaded {
    struct model_file f;
    struct gguf_file *file;
    struct model *m;
};

static void load(struct loaded *l)
{
    struct phid_error err = {0};
    if (model_file_open(&l->f, &l->file, &err) != PHID_OK) {
        fail_msg("gguf_open_memory: %s", err.message);
    }
    if (model_load(l->file, &l->m, &err) != PHID_OK) {
        fail_msg("model_load: %s", err.message);
    }
}

static void make(struct loaded *l, const struct model_shape *shape)
{
    memset(l, 0, sizeof(*l));
    model_file_init(&l->f);
    model_file_make(&l->f, shape, 5);
}

static void unload(struct loaded *l)
{
    model_free(l->m);
    gguf_close(l->file);
    model_file_fini(&l->f);
}

/* The matrix holds rows first .. of the named F32 tensor. */
static void check_matrix(struct loaded *l, const struct block_matrix *m, const char *tensor,
                         size_t first, size_t rows, size_t cols)
{
    const struct file_tensor *t = model_file_find(&l->f, tensor);
    assert_non_null(t);
    assert_string_equal(m->name, tensor);
    assert_int_equal(m->rows, rows);
    assert_int_equal(m->cols, cols);
    assert_int_equal(m->format->type, QUANT_F32);
    assert_memory_equal(m->data, t->values + first * cols, rows * cols * sizeof(float));
}

static void check_vector(struct loaded *l, const float *v, const char *tensor, size_t first,
                         size_t size)
{
    const struct file_tensor *t = model_file_find(&l->f, tensor);
    assert_non_null(t);
    assert_memory_equal(v, t->values + first, size * sizeof(float));
}

static const struct model_shape phi3_shape = {.arch = "phi3",
                                              .layers = 2,
                                              .embd = 48,
                                              .heads = 6,
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
                                              .attn_factor = 1.25f,
                                              .window = 262144};
static const struct model_shape llama_shape = {.arch = "llama",
                                               .layers = 2,
                                               .embd = 48,
                                               .heads = 6,
                                               .kv_heads = 2,
                                               .ff = 64,
                                               .vocab = 40,
                                               .context = 256,
                                               .freq_base = 500000};

static void test_model_phi3_fused(void **state)
{
    (void)state;
    struct loaded l;
    make(&l, &phi3_shape);
    load(&l);
    const struct block_model *b = &l.m->block;
    assert_string_equal(l.m->architecture, "phi3");
    assert_int_equal(l.m->context_length, 256);
    assert_int_equal(l.m->original_context, 64);
    assert_int_equal(b->n_layers, 2);
    assert_int_equal(b->n_embd, 48);
    assert_int_equal(b->n_heads, 6);
    assert_int_equal(b->n_kv_heads, 2);
    assert_int_equal(b->head_dim, 8);
    assert_int_equal(b->n_ff, 64);
    assert_int_equal(b->n_vocab, 40);
    assert_true(b->norm_eps == 1e-5f);
    assert_true(b->attention_scale == (float)(1 / sqrt(8.0)));
    assert_int_equal(b->sliding_window, 0);
    assert_int_equal(b->rope_pairs, BLOCK_ROPE_NEOX);
    assert_int_equal(b->rope_dims, 6);
    const struct block_layer *layer = &b->layers[1];
    check_matrix(&l, &layer->q, "blk.1.attn_qkv.weight", 0, 48, 48);
    check_matrix(&l, &layer->k, "blk.1.attn_qkv.weight", 48, 16, 48);
    check_matrix(&l, &layer->v, "blk.1.attn_qkv.weight", 64, 16, 48);
    check_matrix(&l, &layer->attn_out, "blk.1.attn_output.weight", 0, 48, 48);
    check_matrix(&l, &layer->gate, "blk.1.ffn_up.weight", 0, 64, 48);
    check_matrix(&l, &layer->up, "blk.1.ffn_up.weight", 64, 64, 48);
    check_matrix(&l, &layer->down, "blk.1.ffn_down.weight", 0, 48, 64);
    check_vector(&l, layer->attn_norm, "blk.1.attn_norm.weight", 0, 48);
    check_vector(&l, layer->ffn_norm, "blk.1.ffn_norm.weight", 0, 48);
    check_vector(&l, b->output_norm, "output_norm.weight", 0, 48);
    check_matrix(&l, &b->embedding, "token_embd.weight", 0, 40, 48);
    check_matrix(&l, &b->output, "output.weight", 0, 40, 48);
    assert_null(layer->q_bias);
    assert_null(layer->attn_out_bias);
    uint64_t per_layer = 48 + 48 * 80 + 48 * 48 + 48 + 48 * 128 + 64 * 48;
    assert_int_equal(l.m->parameter_count, 2 * per_layer + 2 * 40 * 48 + 48);
    unload(&l);
}

static void test_model_phi3_two_rope_sets(void **state)
{
    (void)state;
    struct loaded l;
    make(&l, &phi3_shape);
    load(&l);
    const float *factors[BLOCK_ROPE_SETS] = {
        model_file_find(&l.f, "rope_factors_short.weight")->values,
        model_file_find(&l.f, "rope_factors_long.weight")->values};
    for (int set = 0; set < BLOCK_ROPE_SETS; set++) {
        for (size_t i = 0; i < 3; i++) {
            double expected = 1 / ((double)factors[set][i] * pow(10000, 2.0 * (double)i / 6));
            double found = l.m->block.rope_inverse_frequency[set][i];
            assert_true(fabs(found - expected) <= 1e-15 * expected);
        }
        assert_true(l.m->block.rope_magnitude[set] == 1.25f);
    }
    unload(&l);
}

static void test_model_phi3_derives_the_attention_factor(void **state)
{
    (void)state;
    struct model_shape shape = phi3_shape;
    shape.attn_factor = 0;
    shape.context = 131072;
    shape.original = 4096;
    struct loaded l;
    make(&l, &shape);
    load(&l);
    assert_true(fabsf(l.m->block.rope_magnitude[0] - 1.1902380714238083f) < 1e-6f);
    assert_true(fabsf(l.m->block.rope_magnitude[1] - 1.1902380714238083f) < 1e-6f);
    unload(&l);
    shape.context = 4096;
    make(&l, &shape);
    load(&l);
    assert_true(l.m->block.rope_magnitude[1] == 1);
    unload(&l);
    shape.factors = false;
    shape.context = 131072;
    make(&l, &shape);
    load(&l);
    assert_true(l.m->block.rope_magnitude[0] == 1);
    assert_int_equal(l.m->original_context, 0);
    unload(&l);
}

static void test_model_phi3_equal_sets_have_no_border(void **state)
{
    (void)state;
    struct loaded l;
    make(&l, &phi3_shape);
    struct file_tensor *s = model_file_find(&l.f, "rope_factors_short.weight");
    memcpy(s->values, model_file_find(&l.f, "rope_factors_long.weight")->values, 3 * sizeof(float));
    load(&l);
    assert_int_equal(l.m->original_context, 0);
    unload(&l);
}

static void test_model_phi3_split_and_tied(void **state)
{
    (void)state;
    struct model_shape shape = phi3_shape;
    shape.fused_qkv = shape.fused_gate_up = false;
    shape.tied = true;
    shape.factors = false;
    shape.rope_dims = 0;
    shape.freq_base = 0;
    struct loaded l;
    make(&l, &shape);
    load(&l);
    const struct block_layer *layer = &l.m->block.layers[0];
    check_matrix(&l, &layer->q, "blk.0.attn_q.weight", 0, 48, 48);
    check_matrix(&l, &layer->k, "blk.0.attn_k.weight", 0, 16, 48);
    check_matrix(&l, &layer->v, "blk.0.attn_v.weight", 0, 16, 48);
    check_matrix(&l, &layer->gate, "blk.0.ffn_gate.weight", 0, 64, 48);
    check_matrix(&l, &layer->up, "blk.0.ffn_up.weight", 0, 64, 48);
    assert_ptr_equal(l.m->block.output.data, l.m->block.embedding.data);
    assert_int_equal(l.m->block.rope_dims, 8);
    assert_ptr_equal(l.m->block.rope_inverse_frequency[0], l.m->block.rope_inverse_frequency[1]);
    assert_true(fabs(l.m->block.rope_inverse_frequency[0][1] - 0.1) <
                1e-15); /* the base when absent: 10000 */
    unload(&l);
}

static void test_model_phi3_sliding_window(void **state)
{
    (void)state;
    static const struct {
        uint32_t context, window, layers;
        int32_t expected;
        bool off; /* the key is there and 0 */
    } cases[] = {
        {256, 0, 2, 0, false},      {256, 0, 2, 0, true},          {256, 262144, 2, 0, false},
        {256, 256, 2, 0, false},    {256, 255, 2, 255, false},     {256, 1, 2, 1, false},
        {4096, 0, 2, 0, false},     {4096, 0, 32, 2047, false},    {4096, 0, 32, 0, true},
        {4096, 0, 40, 2047, false}, {4096, 2048, 32, 2048, false}, {4096, 262144, 32, 0, false},
        {8192, 0, 32, 0, false},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct model_shape shape = {.arch = "phi3",
                                    .layers = cases[i].layers,
                                    .embd = 4,
                                    .heads = 1,
                                    .kv_heads = 1,
                                    .ff = 4,
                                    .vocab = 3,
                                    .context = cases[i].context,
                                    .window = cases[i].window,
                                    .fused_qkv = true,
                                    .fused_gate_up = true};
        struct loaded l;
        make(&l, &shape);
        if (cases[i].off) {
            model_file_u32(&l.f, "phi3.attention.sliding_window", 0);
        }
        load(&l);
        assert_int_equal(l.m->block.sliding_window, cases[i].expected);
        unload(&l);
    }
}

static void test_model_llama(void **state)
{
    (void)state;
    struct loaded l;
    make(&l, &llama_shape);
    load(&l);
    assert_string_equal(l.m->architecture, "llama");
    assert_int_equal(l.m->block.rope_pairs, BLOCK_ROPE_INTERLEAVED);
    assert_int_equal(l.m->block.rope_dims, 8);
    assert_int_equal(l.m->original_context, 0);
    assert_true(l.m->block.rope_magnitude[0] == 1 && l.m->block.rope_magnitude[1] == 1);
    for (size_t i = 0; i < 4; i++) {
        double expected = pow(500000, -2.0 * (double)i / 8);
        assert_true(fabs(l.m->block.rope_inverse_frequency[0][i] - expected) <= 1e-15 * expected);
    }
    check_matrix(&l, &l.m->block.layers[1].v, "blk.1.attn_v.weight", 0, 16, 48);
    assert_null(l.m->block.layers[0].q_bias);
    unload(&l);
}

static void test_model_llama_biases_split_and_fused(void **state)
{
    (void)state;
    struct model_shape shape = llama_shape;
    shape.biases = true;
    struct loaded l;
    make(&l, &shape);
    load(&l);
    check_vector(&l, l.m->block.layers[1].q_bias, "blk.1.attn_q.bias", 0, 48);
    check_vector(&l, l.m->block.layers[1].k_bias, "blk.1.attn_k.bias", 0, 16);
    check_vector(&l, l.m->block.layers[1].v_bias, "blk.1.attn_v.bias", 0, 16);
    check_vector(&l, l.m->block.layers[1].attn_out_bias, "blk.1.attn_output.bias", 0, 48);
    unload(&l);
    shape.fused_qkv = true;
    make(&l, &shape);
    load(&l);
    check_matrix(&l, &l.m->block.layers[0].k, "blk.0.attn_qkv.weight", 48, 16, 48);
    check_vector(&l, l.m->block.layers[0].q_bias, "blk.0.attn_qkv.bias", 0, 48);
    check_vector(&l, l.m->block.layers[0].k_bias, "blk.0.attn_qkv.bias", 48, 16);
    check_vector(&l, l.m->block.layers[0].v_bias, "blk.0.attn_qkv.bias", 64, 16);
    unload(&l);
}

static void test_model_llama_rope_freqs_and_linear_scaling(void **state)
{
    (void)state;
    struct model_shape shape = llama_shape;
    shape.rope_freqs = true;
    shape.linear = 4;
    struct loaded l;
    make(&l, &shape);
    load(&l);
    const float *factors = model_file_find(&l.f, "rope_freqs.weight")->values;
    for (size_t i = 0; i < 4; i++) {
        double expected = 1 / (4 * (double)factors[i] * pow(500000, 2.0 * (double)i / 8));
        assert_true(fabs(l.m->block.rope_inverse_frequency[1][i] - expected) <= 1e-15 * expected);
    }
    uint64_t per_layer = 48 + 48 * 80 + 48 * 48 + 48 + 48 * 128 + 64 * 48;
    assert_int_equal(l.m->parameter_count,
                     2 * per_layer + 2 * 40 * 48 + 48); /* without the factors */
    unload(&l);

    /* The older spelling, a factor without a type, and types that switch it off. */
    static const struct {
        const char *key, *type;
        float factor, expected;
    } cases[] = {
        {"llama.rope.scale_linear", NULL, 2, 0.5f},
        {"llama.rope.scaling.factor", NULL, 2, 0.5f},
        {"llama.rope.scaling.factor", "none", 2, 1},
        {"llama.rope.scaling.factor", NULL, 0, 1},
        {"llama.rope.scaling.factor", "linear", 8, 0.125f},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        make(&l, &llama_shape);
        model_file_f32(&l.f, cases[i].key, cases[i].factor);
        if (cases[i].type != NULL) {
            model_file_text(&l.f, "llama.rope.scaling.type", cases[i].type);
        }
        load(&l);
        assert_true(l.m->block.rope_inverse_frequency[0][0] == (double)cases[i].expected);
        unload(&l);
    }
}

static void test_model_llama_head_size_apart_from_embedding(void **state)
{
    (void)state;
    struct model_shape shape = llama_shape;
    shape.embd = 40; /* 6 heads of 16 */
    shape.head_dim = 16;
    shape.rope_dims = 8;
    struct loaded l;
    make(&l, &shape);
    load(&l);
    assert_int_equal(l.m->block.head_dim, 16);
    assert_int_equal(l.m->block.rope_dims, 8);
    assert_true(l.m->block.attention_scale == 0.25f);
    check_matrix(&l, &l.m->block.layers[0].q, "blk.0.attn_q.weight", 0, 96, 40);
    check_matrix(&l, &l.m->block.layers[0].attn_out, "blk.0.attn_output.weight", 0, 40, 96);
    unload(&l);
}

static void test_model_vectors_may_be_half_precision(void **state)
{
    (void)state;
    struct loaded l;
    make(&l, &llama_shape);
    model_file_find(&l.f, "output_norm.weight")->type = QUANT_F16;
    model_file_find(&l.f, "blk.0.attn_norm.weight")->type = QUANT_BF16;
    load(&l);
    const float *norm = model_file_find(&l.f, "output_norm.weight")->values;
    const float *other = model_file_find(&l.f, "blk.0.attn_norm.weight")->values;
    for (size_t i = 0; i < 48; i++) {
        assert_true(l.m->block.output_norm[i] == quant_f16_to_f32(quant_f32_to_f16(norm[i])));
        assert_true(l.m->block.layers[0].attn_norm[i] ==
                    quant_bf16_to_f32(quant_f32_to_bf16(other[i])));
    }
    unload(&l);
}

static void test_model_quantized_fused_rows(void **state)
{
    (void)state;
    struct model_shape shape = phi3_shape;
    shape.embd = 96;
    shape.head_dim = 0;
    shape.rope_dims = 0;
    shape.factors = false;
    shape.type = QUANT_Q4_0;
    struct loaded l;
    make(&l, &shape);
    load(&l);
    const struct block_layer *layer = &l.m->block.layers[0];
    const char *start = layer->q.data;
    size_t row_bytes = 96 / 32 * 18;
    assert_ptr_equal(layer->k.data, start + 96 * row_bytes);
    assert_ptr_equal(layer->v.data, start + (96 + 32) * row_bytes);
    assert_int_equal(layer->q.format->type, QUANT_Q4_0);
    unload(&l);
}

static void test_model_absent_kv_heads_are_all_heads(void **state)
{
    (void)state;
    struct model_shape shape = llama_shape;
    shape.kv_heads = shape.heads;
    struct loaded l;
    make(&l, &shape);
    model_file_remove_key(&l.f, "llama.attention.head_count_kv");
    model_file_u32(&l.f, "llama.vocab_size", 40);
    model_file_text(&l.f, "general.type", "model");
    load(&l);
    assert_int_equal(l.m->block.n_kv_heads, 6);
    unload(&l);
}

static void test_model_free_of_nothing(void **state)
{
    (void)state;
    model_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_model_phi3_fused),
        cmocka_unit_test(test_model_phi3_two_rope_sets),
        cmocka_unit_test(test_model_phi3_derives_the_attention_factor),
        cmocka_unit_test(test_model_phi3_equal_sets_have_no_border),
        cmocka_unit_test(test_model_phi3_split_and_tied),
        cmocka_unit_test(test_model_phi3_sliding_window),
        cmocka_unit_test(test_model_llama),
        cmocka_unit_test(test_model_llama_biases_split_and_fused),
        cmocka_unit_test(test_model_llama_rope_freqs_and_linear_scaling),
        cmocka_unit_test(test_model_llama_head_size_apart_from_embedding),
        cmocka_unit_test(test_model_vectors_may_be_half_precision),
        cmocka_unit_test(test_model_quantized_fused_rows),
        cmocka_unit_test(test_model_absent_kv_heads_are_all_heads),
        cmocka_unit_test(test_model_free_of_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

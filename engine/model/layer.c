#include "engine/model/layer.h"

#include <stdio.h>

static void block_name(size_t index, const char *suffix, char ret[BINDER_NAME_MAX])
{
    snprintf(ret, BINDER_NAME_MAX, "blk.%zu.%s", index, suffix);
}

static enum phid_status bind_matrix(struct binder *b, size_t index, const char *suffix, size_t rows,
                                    size_t cols, struct block_matrix *ret, struct phid_error *err)
{
    char name[BINDER_NAME_MAX];
    block_name(index, suffix, name);
    return binder_matrix(b, name, rows, cols, ret, err);
}

static enum phid_status bind_vector(struct binder *b, size_t index, const char *suffix, size_t size,
                                    const float **ret, struct phid_error *err)
{
    char name[BINDER_NAME_MAX];
    block_name(index, suffix, name);
    return binder_vector(b, name, size, ret, err);
}

static bool has(const struct binder *b, size_t index, const char *suffix)
{
    char name[BINDER_NAME_MAX];
    block_name(index, suffix, name);
    return binder_has(b, name);
}

static enum phid_status bind_optional_vector(struct binder *b, size_t index, const char *suffix,
                                             size_t size, const float **ret, struct phid_error *err)
{
    return has(b, index, suffix) ? bind_vector(b, index, suffix, size, ret, err) : PHID_OK;
}

static enum phid_status bind_qkv(const struct block_model *m, size_t index, struct binder *b,
                                 struct block_layer *l, struct phid_error *err)
{
    size_t q_rows = m->n_heads * m->head_dim, kv_rows = m->n_kv_heads * m->head_dim;
    if (has(b, index, "attn_qkv.weight")) {
        struct block_matrix fused;
        enum phid_status status =
            bind_matrix(b, index, "attn_qkv.weight", q_rows + 2 * kv_rows, m->n_embd, &fused, err);
        if (status == PHID_OK) {
            l->q = binder_rows(&fused, 0, q_rows);
            l->k = binder_rows(&fused, q_rows, kv_rows);
            l->v = binder_rows(&fused, q_rows + kv_rows, kv_rows);
        }
        return status;
    }
    enum phid_status status = bind_matrix(b, index, "attn_q.weight", q_rows, m->n_embd, &l->q, err);
    if (status == PHID_OK) {
        status = bind_matrix(b, index, "attn_k.weight", kv_rows, m->n_embd, &l->k, err);
    }
    if (status == PHID_OK) {
        status = bind_matrix(b, index, "attn_v.weight", kv_rows, m->n_embd, &l->v, err);
    }
    return status;
}

static enum phid_status bind_biases(const struct block_model *m, size_t index, struct binder *b,
                                    struct block_layer *l, struct phid_error *err)
{
    size_t q_rows = m->n_heads * m->head_dim, kv_rows = m->n_kv_heads * m->head_dim;
    enum phid_status status =
        bind_optional_vector(b, index, "attn_output.bias", m->n_embd, &l->attn_out_bias, err);
    if (status == PHID_OK && has(b, index, "attn_qkv.bias")) {
        const float *fused;
        status = bind_vector(b, index, "attn_qkv.bias", q_rows + 2 * kv_rows, &fused, err);
        if (status == PHID_OK) {
            l->q_bias = fused;
            l->k_bias = fused + q_rows;
            l->v_bias = fused + q_rows + kv_rows;
        }
        return status;
    }
    if (status == PHID_OK) {
        status = bind_optional_vector(b, index, "attn_q.bias", q_rows, &l->q_bias, err);
    }
    if (status == PHID_OK) {
        status = bind_optional_vector(b, index, "attn_k.bias", kv_rows, &l->k_bias, err);
    }
    if (status == PHID_OK) {
        status = bind_optional_vector(b, index, "attn_v.bias", kv_rows, &l->v_bias, err);
    }
    return status;
}

static enum phid_status bind_ffn(const struct block_model *m, bool fused_gate_up, size_t index,
                                 struct binder *b, struct block_layer *l, struct phid_error *err)
{
    enum phid_status status;
    if (fused_gate_up && !has(b, index, "ffn_gate.weight")) {
        struct block_matrix fused;
        status = bind_matrix(b, index, "ffn_up.weight", 2 * m->n_ff, m->n_embd, &fused, err);
        if (status == PHID_OK) {
            l->gate = binder_rows(&fused, 0, m->n_ff);
            l->up = binder_rows(&fused, m->n_ff, m->n_ff);
        }
    } else {
        status = bind_matrix(b, index, "ffn_gate.weight", m->n_ff, m->n_embd, &l->gate, err);
        if (status == PHID_OK) {
            status = bind_matrix(b, index, "ffn_up.weight", m->n_ff, m->n_embd, &l->up, err);
        }
    }
    if (status == PHID_OK) {
        status = bind_matrix(b, index, "ffn_down.weight", m->n_embd, m->n_ff, &l->down, err);
    }
    return status;
}

static enum phid_status bind_layer(const struct block_model *m, const struct layer_forms *forms,
                                   size_t index, struct binder *b, struct block_layer *l,
                                   struct phid_error *err)
{
    enum phid_status status =
        bind_vector(b, index, "attn_norm.weight", m->n_embd, &l->attn_norm, err);
    if (status == PHID_OK) {
        status = bind_qkv(m, index, b, l, err);
    }
    if (status == PHID_OK && forms->biases) {
        status = bind_biases(m, index, b, l, err);
    }
    if (status == PHID_OK) {
        status = bind_matrix(b, index, "attn_output.weight", m->n_embd, m->n_heads * m->head_dim,
                             &l->attn_out, err);
    }
    if (status == PHID_OK) {
        status = bind_vector(b, index, "ffn_norm.weight", m->n_embd, &l->ffn_norm, err);
    }
    if (status == PHID_OK) {
        status = bind_ffn(m, forms->fused_gate_up, index, b, l, err);
    }
    return status;
}

enum phid_status layer_bind_all(struct model *m, const struct layer_forms *forms, struct binder *b,
                                struct phid_error *err)
{
    struct block_layer *layers = model_alloc(m, m->block.n_layers, sizeof(*layers));
    if (layers == NULL) {
        return phid_fail(err, PHID_ERR_MEMORY, "no memory for %zu layers", m->block.n_layers);
    }
    m->block.layers = layers;
    for (size_t i = 0; i < m->block.n_layers; i++) {
        enum phid_status status = bind_layer(&m->block, forms, i, b, &layers[i], err);
        if (status != PHID_OK) {
            return status;
        }
    }
    return PHID_OK;
}

enum phid_status layer_bind_ends(struct model *m, struct binder *b, struct phid_error *err)
{
    struct block_model *block = &m->block;
    enum phid_status status = binder_matrix(b, "token_embd.weight", block->n_vocab, block->n_embd,
                                            &block->embedding, err);
    if (status == PHID_OK) {
        status = binder_vector(b, "output_norm.weight", block->n_embd, &block->output_norm, err);
    }
    if (status != PHID_OK) {
        return status;
    }
    if (!binder_has(b, "output.weight")) {
        block->output = block->embedding;
        return PHID_OK;
    }
    return binder_matrix(b, "output.weight", block->n_vocab, block->n_embd, &block->output, err);
}

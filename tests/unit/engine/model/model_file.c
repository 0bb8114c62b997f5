#include "model_file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "quant/format/format.h"

void model_file_init(struct model_file *f)
{
    memset(f, 0, sizeof(*f));
    buf_init(&f->bytes, (size_t)64 << 20);
}

void model_file_fini(struct model_file *f)
{
    for (size_t i = 0; i < f->tensor_count; i++) {
        free(f->tensors[i].values);
    }
    buf_fini(&f->bytes);
    memset(f, 0, sizeof(*f));
}

static struct file_key *key_slot(struct model_file *f, const char *name)
{
    size_t i = 0;
    while (i < f->key_count && strcmp(f->keys[i].name, name) != 0) {
        i++;
    }
    if (i == f->key_count) {
        assert_true(f->key_count < FILE_KEYS);
        f->key_count++;
    }
    memset(&f->keys[i], 0, sizeof(f->keys[i]));
    snprintf(f->keys[i].name, sizeof(f->keys[i].name), "%s", name);
    return &f->keys[i];
}

void model_file_u32(struct model_file *f, const char *key, int64_t value)
{
    struct file_key *k = key_slot(f, key);
    k->type = GGUF_U32;
    k->number = value;
}

void model_file_i32(struct model_file *f, const char *key, int64_t value)
{
    struct file_key *k = key_slot(f, key);
    k->type = GGUF_I32;
    k->number = value;
}

void model_file_f32(struct model_file *f, const char *key, float value)
{
    struct file_key *k = key_slot(f, key);
    k->type = GGUF_F32;
    k->real = value;
}

void model_file_bool(struct model_file *f, const char *key, bool value)
{
    struct file_key *k = key_slot(f, key);
    k->type = GGUF_BOOL;
    k->number = value;
}

void model_file_text(struct model_file *f, const char *key, const char *value)
{
    struct file_key *k = key_slot(f, key);
    k->type = GGUF_STRING;
    k->text = value;
}

void model_file_array(struct model_file *f, const char *key, enum gguf_type element, int64_t count)
{
    struct file_key *k = key_slot(f, key);
    k->type = GGUF_ARRAY;
    k->element = element;
    k->number = count;
}

void model_file_remove_key(struct model_file *f, const char *key)
{
    for (size_t i = 0; i < f->key_count; i++) {
        if (strcmp(f->keys[i].name, key) == 0) {
            f->keys[i] = f->keys[--f->key_count];
            return;
        }
    }
    fail_msg("no key %s to remove", key);
}

struct file_tensor *model_file_find(struct model_file *f, const char *name)
{
    for (size_t i = 0; i < f->tensor_count; i++) {
        if (strcmp(f->tensors[i].name, name) == 0) {
            return &f->tensors[i];
        }
    }
    return NULL;
}

void model_file_remove_tensor(struct model_file *f, const char *name)
{
    struct file_tensor *t = model_file_find(f, name);
    assert_non_null(t);
    free(t->values);
    f->tensor_count--;
    memmove(t, t + 1, (size_t)(f->tensors + f->tensor_count - t) * sizeof(*t));
}

struct file_tensor *model_file_tensor(struct model_file *f, const char *name, uint64_t ne0,
                                      uint64_t ne1, uint32_t type, float centre, float spread,
                                      struct rng *rng)
{
    struct file_tensor *t = model_file_find(f, name);
    if (t == NULL) {
        assert_true(f->tensor_count < FILE_TENSORS);
        t = &f->tensors[f->tensor_count++];
    }
    free(t->values);
    *t = (struct file_tensor){
        .type = type, .n_dims = ne1 == 0 ? 1 : 2, .ne = {ne0, ne1 == 0 ? 1 : ne1, 1, 1}};
    snprintf(t->name, sizeof(t->name), "%s", name);
    t->count = (size_t)(ne0 * t->ne[1]);
    t->values = calloc(t->count, sizeof(*t->values));
    assert_non_null(t->values);
    for (size_t i = 0; i < t->count; i++) {
        t->values[i] = centre + spread * (2 * rng_unit(rng) - 1);
    }
    return t;
}

static void put_u32(struct buf *b, uint32_t v)
{
    buf_append(b, &v, sizeof(v));
}

static void put_u64(struct buf *b, uint64_t v)
{
    buf_append(b, &v, sizeof(v));
}

static void put_text(struct buf *b, const char *text)
{
    put_u64(b, strlen(text));
    buf_append_c(b, text);
}

static void put_key(struct buf *b, const struct file_key *k)
{
    put_text(b, k->name);
    put_u32(b, (uint32_t)k->type);
    switch (k->type) {
    case GGUF_STRING:
        put_text(b, k->text);
        break;
    case GGUF_F32:
        buf_append(b, &k->real, sizeof(k->real));
        break;
    case GGUF_BOOL:
        buf_append_byte(b, (char)k->number);
        break;
    case GGUF_ARRAY:
        put_u32(b, (uint32_t)k->element);
        put_u64(b, (uint64_t)k->number);
        for (int64_t i = 0; i < k->number; i++) {
            if (k->element == GGUF_STRING) {
                char text[24];
                snprintf(text, sizeof(text), "t%lld", (long long)i);
                put_text(b, text);
            } else {
                put_u32(b, 1);
            }
        }
        break;
    default:
        put_u32(b, (uint32_t)k->number);
        break;
    }
}

static void pad(struct buf *b)
{
    while (b->size % 32 != 0) {
        buf_append_byte(b, 0);
    }
}

static size_t tensor_bytes(const struct file_tensor *t)
{
    const struct quant_format *format = quant_format_find(t->type);
    assert_non_null(format);
    return t->count / format->block_weights * format->block_bytes;
}

enum phid_status model_file_open(struct model_file *f, struct gguf_file **ret,
                                 struct phid_error *err)
{
    struct buf *b = &f->bytes;
    buf_clear(b);
    buf_append_c(b, "GGUF");
    put_u32(b, 3);
    put_u64(b, f->tensor_count);
    put_u64(b, f->key_count);
    for (size_t i = 0; i < f->key_count; i++) {
        put_key(b, &f->keys[i]);
    }
    uint64_t offset = 0;
    for (size_t i = 0; i < f->tensor_count; i++) {
        const struct file_tensor *t = &f->tensors[i];
        put_text(b, t->name);
        put_u32(b, t->n_dims);
        for (uint32_t d = 0; d < t->n_dims; d++) {
            put_u64(b, t->ne[d]);
        }
        put_u32(b, t->type);
        put_u64(b, offset);
        offset += (tensor_bytes(t) + 31) / 32 * 32;
    }
    for (size_t i = 0; i < f->tensor_count; i++) {
        pad(b);
        const struct file_tensor *t = &f->tensors[i];
        void *to = buf_extend(b, tensor_bytes(t));
        assert_non_null(to);
        quant_format_find(t->type)->encode(t->values, to, t->count);
    }
    pad(b);
    assert_false(b->failed);
    return gguf_open_memory(b->data, b->size, ret, err);
}

static void make_keys(struct model_file *f, const struct model_shape *s)
{
    char key[64];
#define KEY(suffix) (snprintf(key, sizeof(key), "%s.%s", s->arch, suffix), key)
    model_file_text(f, "general.architecture", s->arch);
    model_file_array(f, "tokenizer.ggml.tokens", GGUF_STRING, s->vocab);
    model_file_u32(f, KEY("context_length"), s->context);
    model_file_u32(f, KEY("embedding_length"), s->embd);
    model_file_u32(f, KEY("feed_forward_length"), s->ff);
    model_file_u32(f, KEY("block_count"), s->layers);
    model_file_u32(f, KEY("attention.head_count"), s->heads);
    model_file_u32(f, KEY("attention.head_count_kv"), s->kv_heads);
    model_file_f32(f, KEY("attention.layer_norm_rms_epsilon"), 1e-5f);
    if (s->head_dim != 0) {
        model_file_u32(f, KEY("attention.key_length"), s->head_dim);
        model_file_u32(f, KEY("attention.value_length"), s->head_dim);
    }
    if (s->rope_dims != 0) {
        model_file_u32(f, KEY("rope.dimension_count"), s->rope_dims);
    }
    if (s->freq_base > 0) {
        model_file_f32(f, KEY("rope.freq_base"), s->freq_base);
    }
    if (s->window != 0) {
        model_file_u32(f, KEY("attention.sliding_window"), s->window);
    }
    if (s->attn_factor > 0) {
        model_file_f32(f, KEY("rope.scaling.attn_factor"), s->attn_factor);
    }
    if (s->factors) {
        model_file_u32(f, KEY("rope.scaling.original_context_length"), s->original);
    }
    if (s->linear > 0) {
        model_file_text(f, KEY("rope.scaling.type"), "linear");
        model_file_f32(f, KEY("rope.scaling.factor"), s->linear);
    }
#undef KEY
}

static void make_layer(struct model_file *f, const struct model_shape *s, uint32_t layer,
                       struct rng *rng)
{
    uint32_t head_dim = s->head_dim != 0 ? s->head_dim : s->embd / s->heads;
    uint32_t q = s->heads * head_dim, kv = s->kv_heads * head_dim;
    char name[64];
#define BLK(suffix) (snprintf(name, sizeof(name), "blk.%u.%s", (unsigned)layer, suffix), name)
    model_file_tensor(f, BLK("attn_norm.weight"), s->embd, 0, 0, 1, 0.3f, rng);
    if (s->fused_qkv) {
        model_file_tensor(f, BLK("attn_qkv.weight"), s->embd, q + 2 * kv, s->type, 0, 0.3f, rng);
    } else {
        model_file_tensor(f, BLK("attn_q.weight"), s->embd, q, s->type, 0, 0.3f, rng);
        model_file_tensor(f, BLK("attn_k.weight"), s->embd, kv, s->type, 0, 0.3f, rng);
        model_file_tensor(f, BLK("attn_v.weight"), s->embd, kv, s->type, 0, 0.3f, rng);
    }
    if (s->biases && s->fused_qkv) {
        model_file_tensor(f, BLK("attn_qkv.bias"), q + 2 * kv, 0, 0, 0, 0.5f, rng);
    } else if (s->biases) {
        model_file_tensor(f, BLK("attn_q.bias"), q, 0, 0, 0, 0.5f, rng);
        model_file_tensor(f, BLK("attn_k.bias"), kv, 0, 0, 0, 0.5f, rng);
        model_file_tensor(f, BLK("attn_v.bias"), kv, 0, 0, 0, 0.5f, rng);
    }
    if (s->biases) {
        model_file_tensor(f, BLK("attn_output.bias"), s->embd, 0, 0, 0, 0.5f, rng);
    }
    model_file_tensor(f, BLK("attn_output.weight"), q, s->embd, s->type, 0, 0.3f, rng);
    model_file_tensor(f, BLK("ffn_norm.weight"), s->embd, 0, 0, 1, 0.3f, rng);
    if (s->fused_gate_up) {
        model_file_tensor(f, BLK("ffn_up.weight"), s->embd, 2 * s->ff, s->type, 0, 0.3f, rng);
    } else {
        model_file_tensor(f, BLK("ffn_gate.weight"), s->embd, s->ff, s->type, 0, 0.3f, rng);
        model_file_tensor(f, BLK("ffn_up.weight"), s->embd, s->ff, s->type, 0, 0.3f, rng);
    }
    model_file_tensor(f, BLK("ffn_down.weight"), s->ff, s->embd, s->type, 0, 0.3f, rng);
#undef BLK
}

void model_file_make(struct model_file *f, const struct model_shape *s, uint64_t seed)
{
    struct rng rng;
    rng_init(&rng, seed);
    make_keys(f, s);
    model_file_tensor(f, "token_embd.weight", s->embd, s->vocab, s->type, 0, 1, &rng);
    model_file_tensor(f, "output_norm.weight", s->embd, 0, 0, 1, 0.3f, &rng);
    if (!s->tied) {
        model_file_tensor(f, "output.weight", s->embd, s->vocab, s->type, 0, 0.3f, &rng);
    }
    uint32_t head_dim = s->head_dim != 0 ? s->head_dim : s->embd / s->heads;
    uint32_t pairs = (s->rope_dims != 0 ? s->rope_dims : head_dim) / 2;
    if (s->factors) {
        model_file_tensor(f, "rope_factors_long.weight", pairs, 0, 0, 20, 18, &rng);
        model_file_tensor(f, "rope_factors_short.weight", pairs, 0, 0, 1.5f, 0.5f, &rng);
    }
    if (s->rope_freqs) {
        model_file_tensor(f, "rope_freqs.weight", pairs, 0, 0, 4, 3, &rng);
    }
    for (uint32_t i = 0; i < s->layers; i++) {
        make_layer(f, s, i, &rng);
    }
}

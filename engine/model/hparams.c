#include "engine/model/hparams.h"

#include <math.h>
#include <stdio.h>

#define KEY_MAX 96

enum key_kind { KEY_COUNT, KEY_NUMBER };

struct key {
    const char *suffix;
    size_t offset; /* of the field in struct hparams */
    enum key_kind kind;
    bool required;
    double min; /* inclusive */
    double max;
    double absent; /* the value when the key is absent */
};

#define FIELD(name) offsetof(struct hparams, name)

/* The upper bounds are far beyond any model; they keep products of a few of them inside 64 bits. */
/* clang-format off */
static const struct key keys[] = {
    {"context_length", FIELD(context_length), KEY_COUNT, true, 1, INT32_MAX, 0},
    {"embedding_length", FIELD(embedding_length), KEY_COUNT, true, 1, 1 << 20, 0},
    {"feed_forward_length", FIELD(feed_forward_length), KEY_COUNT, true, 1, 1 << 24, 0},
    {"block_count", FIELD(block_count), KEY_COUNT, true, 1, 1024, 0},
    {"attention.head_count", FIELD(head_count), KEY_COUNT, true, 1, 1 << 16, 0},
    {"attention.head_count_kv", FIELD(head_count_kv), KEY_COUNT, false, 1, 1 << 16, 0},
    {"attention.key_length", FIELD(key_length), KEY_COUNT, false, 1, 1 << 16, 0},
    {"attention.value_length", FIELD(value_length), KEY_COUNT, false, 1, 1 << 16, 0},
    {"attention.layer_norm_rms_epsilon", FIELD(norm_eps), KEY_NUMBER, true, 1e-30, 1, 0},
    {"attention.sliding_window", FIELD(sliding_window), KEY_COUNT, false, 0, INT32_MAX, 0},
    {"rope.dimension_count", FIELD(rope_dims), KEY_COUNT, false, 2, 1 << 16, 0},
    {"rope.freq_base", FIELD(rope_base), KEY_NUMBER, false, 1, 1e12, 10000},
    {"rope.scaling.attn_factor", FIELD(rope_attn_factor), KEY_NUMBER, false, 1e-3, 1e3, 0},
    {"rope.scaling.original_context_length", FIELD(original_context), KEY_COUNT, false, 2, INT32_MAX, 0},
    {"expert_count", FIELD(expert_count), KEY_COUNT, false, 0, UINT32_MAX, 0},
};
/* clang-format on */

static void key_name(const struct hparams *h, const char *suffix, char ret[KEY_MAX])
{
    snprintf(ret, KEY_MAX, "%s.%s", h->architecture, suffix);
}

/* The offset of a key for messages; 0 when it is absent. */
static unsigned long long key_offset(const struct gguf_file *file, const char *name)
{
    const struct gguf_entry *entry = gguf_find(file, str_of(name));
    return entry != NULL ? (unsigned long long)entry->offset : 0;
}

static enum phid_status read_number(const struct gguf_file *file, const char *name, double min,
                                    double max, double *ret, struct phid_error *err)
{
    float value;
    enum phid_status status = gguf_get_f32(file, name, &value, err);
    if (status != PHID_OK) {
        return status;
    }
    /* Not (value < min || ...): NaN has to fail. */
    if (!((double)value >= min && (double)value <= max)) {
        return phid_fail(err, PHID_ERR_FORMAT,
                         "key %s: expected a number from %g to %g, found %g (offset %llu)", name,
                         min, max, (double)value, key_offset(file, name));
    }
    *ret = (double)value;
    return PHID_OK;
}

static enum phid_status read_count(const struct gguf_file *file, const char *name, double min,
                                   double max, uint64_t *ret, struct phid_error *err)
{
    uint64_t value;
    enum phid_status status = gguf_get_u64(file, name, &value, err);
    if (status != PHID_OK) {
        return status;
    }
    if (value < (uint64_t)min || value > (uint64_t)max) {
        return phid_fail(err, PHID_ERR_FORMAT,
                         "key %s: expected %.0f to %.0f, found %llu (offset %llu)", name, min, max,
                         (unsigned long long)value, key_offset(file, name));
    }
    *ret = value;
    return PHID_OK;
}

static enum phid_status read_key(const struct gguf_file *file, const struct key *key,
                                 struct hparams *h, struct phid_error *err)
{
    char name[KEY_MAX];
    key_name(h, key->suffix, name);
    char *field = (char *)h + key->offset;
    bool present = gguf_find(file, str_of(name)) != NULL;
    if (!present && key->required) {
        return phid_fail(err, PHID_ERR_FORMAT, "key %s is missing", name);
    }
    if (key->kind == KEY_COUNT) {
        uint64_t *value = (uint64_t *)(void *)field;
        *value = (uint64_t)key->absent;
        return present ? read_count(file, name, key->min, key->max, value, err) : PHID_OK;
    }
    double *value = (double *)(void *)field;
    *value = key->absent;
    return present ? read_number(file, name, key->min, key->max, value, err) : PHID_OK;
}

/* Linear scaling as converters have written it over the years: rope.scaling.factor, with or without
 * a type, and before that rope.scale_linear. 0 stands for none. */
static enum phid_status read_scaling(const struct gguf_file *file, struct hparams *h,
                                     struct phid_error *err)
{
    char name[KEY_MAX];
    key_name(h, "rope.scaling.type", name);
    if (gguf_find(file, str_of(name)) != NULL) {
        enum phid_status status = gguf_get_str(file, name, &h->rope_scaling, err);
        if (status != PHID_OK) {
            return status;
        }
    }
    h->rope_linear_factor = 1;
    key_name(h, "rope.scaling.factor", name);
    if (gguf_find(file, str_of(name)) == NULL) {
        key_name(h, "rope.scale_linear", name);
    }
    if (gguf_find(file, str_of(name)) == NULL) {
        return PHID_OK;
    }
    double factor = 0;
    enum phid_status status = read_number(file, name, 0, 1e6, &factor, err);
    if (status == PHID_OK && factor > 0) {
        status = read_number(file, name, 1e-3, 1e6, &factor, err);
    }
    if (status != PHID_OK) {
        return status;
    }
    if (factor > 0 && (h->rope_scaling.size == 0 || str_equal(h->rope_scaling, STR("linear")))) {
        h->rope_linear_factor = factor;
    }
    return PHID_OK;
}

static enum phid_status read_vocab_size(const struct gguf_file *file, struct hparams *h,
                                        struct phid_error *err)
{
    const struct gguf_entry *tokens = gguf_find(file, STR("tokenizer.ggml.tokens"));
    if (tokens == NULL) {
        return phid_fail(err, PHID_ERR_FORMAT, "key tokenizer.ggml.tokens is missing");
    }
    if (tokens->type != GGUF_ARRAY || tokens->element_type != GGUF_STRING) {
        return phid_fail(err, PHID_ERR_FORMAT,
                         "key tokenizer.ggml.tokens: expected an array of strings (offset %llu)",
                         (unsigned long long)tokens->offset);
    }
    if (tokens->count == 0 || tokens->count > INT32_MAX) {
        return phid_fail(err, PHID_ERR_FORMAT,
                         "key tokenizer.ggml.tokens: %llu tokens make no vocabulary (offset %llu)",
                         (unsigned long long)tokens->count, (unsigned long long)tokens->offset);
    }
    h->vocab_size = tokens->count;
    char name[KEY_MAX];
    key_name(h, "vocab_size", name);
    if (gguf_find(file, str_of(name)) == NULL) {
        return PHID_OK;
    }
    uint64_t stated;
    enum phid_status status = gguf_get_u64(file, name, &stated, err);
    if (status != PHID_OK) {
        return status;
    }
    if (stated != h->vocab_size) {
        return phid_fail(
            err, PHID_ERR_FORMAT,
            "key %s: expected %llu, the length of tokenizer.ggml.tokens, found %llu (offset %llu)",
            name, (unsigned long long)h->vocab_size, (unsigned long long)stated,
            key_offset(file, name));
    }
    return PHID_OK;
}

static enum phid_status check_heads(struct hparams *h, struct phid_error *err)
{
    const char *a = h->architecture;
    unsigned long long heads = h->head_count;
    h->head_count_kv = h->head_count_kv != 0 ? h->head_count_kv : h->head_count;
    if (h->head_count_kv > h->head_count || h->head_count % h->head_count_kv != 0) {
        return phid_fail(
            err, PHID_ERR_FORMAT,
            "key %s.attention.head_count_kv: expected a divisor of the %llu heads, found %llu", a,
            heads, (unsigned long long)h->head_count_kv);
    }
    if (h->key_length == 0 && h->value_length == 0) {
        if (h->embedding_length % h->head_count != 0) {
            return phid_fail(
                err, PHID_ERR_FORMAT,
                "key %s.attention.head_count: %llu heads do not divide the embedding length %llu",
                a, heads, (unsigned long long)h->embedding_length);
        }
        h->key_length = h->embedding_length / h->head_count;
    }
    h->key_length = h->key_length != 0 ? h->key_length : h->value_length;
    h->value_length = h->value_length != 0 ? h->value_length : h->key_length;
    if (h->key_length != h->value_length) {
        return phid_fail(
            err, PHID_ERR_UNSUPPORTED,
            "%s.attention.key_length %llu and value_length %llu differ, which is not supported", a,
            (unsigned long long)h->key_length, (unsigned long long)h->value_length);
    }
    if (h->key_length % 2 != 0) {
        return phid_fail(err, PHID_ERR_FORMAT,
                         "the head size %llu of %s is odd, rotary positions need pairs",
                         (unsigned long long)h->key_length, a);
    }
    h->rope_dims = h->rope_dims != 0 ? h->rope_dims : h->key_length;
    if (h->rope_dims % 2 != 0 || h->rope_dims > h->key_length) {
        return phid_fail(err, PHID_ERR_FORMAT,
                         "key %s.rope.dimension_count: expected an even number up to the head size "
                         "%llu, found %llu",
                         a, (unsigned long long)h->key_length, (unsigned long long)h->rope_dims);
    }
    return PHID_OK;
}

enum phid_status hparams_read(const struct gguf_file *file, const char *architecture,
                              struct hparams *ret, struct phid_error *err)
{
    struct hparams h = {.architecture = architecture};
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        enum phid_status status = read_key(file, &keys[i], &h, err);
        if (status != PHID_OK) {
            return status;
        }
    }
    char name[KEY_MAX];
    key_name(&h, "attention.sliding_window", name);
    h.has_sliding_window = gguf_find(file, str_of(name)) != NULL;
    if (h.expert_count > 0) {
        return phid_fail(err, PHID_ERR_UNSUPPORTED,
                         "mixture of experts is not supported (%s.expert_count is %llu)",
                         architecture, (unsigned long long)h.expert_count);
    }
    enum phid_status status = read_scaling(file, &h, err);
    if (status == PHID_OK) {
        status = check_heads(&h, err);
    }
    if (status == PHID_OK) {
        status = read_vocab_size(file, &h, err);
    }
    /* Every block has tensors, so a count beyond theirs is known to be wrong before anything is
     * allocated for it. */
    if (status == PHID_OK && h.block_count > gguf_tensor_count(file)) {
        status = phid_fail(err, PHID_ERR_FORMAT,
                           "key %s.block_count: %llu blocks in a file of %zu tensors", architecture,
                           (unsigned long long)h.block_count, gguf_tensor_count(file));
    }
    if (status == PHID_OK) {
        *ret = h;
    }
    return status;
}

enum phid_status hparams_check_scaling(const struct hparams *h, const char *const *known,
                                       struct phid_error *err)
{
    if (h->rope_scaling.size == 0) {
        return PHID_OK;
    }
    for (; *known != NULL; known++) {
        if (str_equal_c(h->rope_scaling, *known)) {
            return PHID_OK;
        }
    }
    int shown = h->rope_scaling.size < 40 ? (int)h->rope_scaling.size : 40;
    return phid_fail(err, PHID_ERR_UNSUPPORTED, "%s.rope.scaling.type \"%.*s\" is not supported",
                     h->architecture, shown, h->rope_scaling.data);
}

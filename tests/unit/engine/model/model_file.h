/* A GGUF file being made up in memory: keys and tensors that a test adds, changes and removes, then
 * opens. The bytes are put together here and not by engine/gguf's writer, so that what no writer
 * would write can be had.
 *
 * Fails the test on its own errors. The tensors' values stay readable for a reference computation.
 */
#ifndef PHID_TESTS_MODEL_FILE_H
#define PHID_TESTS_MODEL_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/buf.h"
#include "engine/base/rng.h"
#include "engine/gguf/gguf.h"

struct file_key {
    char name[64];
    enum gguf_type type; /* GGUF_U32, GGUF_I32, GGUF_F32, GGUF_BOOL, GGUF_STRING, or GGUF_ARRAY of
                            `number` strings or of u32 */
    enum gguf_type element;
    int64_t number;
    float real;
    const char *text;
};

struct file_tensor {
    char name[64];
    uint32_t type; /* ggml number */
    uint32_t n_dims;
    uint64_t ne[4];
    float *values; /* heap; what is encoded */
    size_t count;
};

enum { FILE_KEYS = 48, FILE_TENSORS = 320 };

struct model_file {
    struct file_key keys[FILE_KEYS];
    size_t key_count;
    struct file_tensor tensors[FILE_TENSORS];
    size_t tensor_count;
    struct buf bytes;
};

/* What a whole tiny model looks like; every tensor gets seeded noise. */
struct model_shape {
    const char *arch;
    uint32_t layers, embd, heads, kv_heads, ff, vocab, context;
    uint32_t head_dim;  /* 0: embd / heads, and no key_length key */
    uint32_t rope_dims; /* 0: no key */
    bool fused_qkv, fused_gate_up, tied, biases;
    bool factors; /* rope_factors_{long,short}, with `original` as the border */
    bool rope_freqs;
    uint32_t original;
    uint32_t window;   /* 0: no key */
    float freq_base;   /* 0: no key */
    float attn_factor; /* 0: no key */
    float linear;      /* 0: no key */
    uint32_t type;     /* of the matrices: ggml number */
};

void model_file_init(struct model_file *f);
void model_file_fini(struct model_file *f);

void model_file_make(struct model_file *f, const struct model_shape *shape, uint64_t seed);

/* Each sets or replaces. */
void model_file_u32(struct model_file *f, const char *key, int64_t value);
void model_file_i32(struct model_file *f, const char *key, int64_t value);
void model_file_f32(struct model_file *f, const char *key, float value);
void model_file_bool(struct model_file *f, const char *key, bool value);
void model_file_text(struct model_file *f, const char *key, const char *value);
void model_file_array(struct model_file *f, const char *key, enum gguf_type element, int64_t count);
void model_file_remove_key(struct model_file *f, const char *key);

/* ne1 0: one dimension. Noise of the given spread around `centre`. */
struct file_tensor *model_file_tensor(struct model_file *f, const char *name, uint64_t ne0,
                                      uint64_t ne1, uint32_t type, float centre, float spread,
                                      struct rng *rng);
struct file_tensor *model_file_find(struct model_file *f, const char *name); /* NULL: none */
void model_file_remove_tensor(struct model_file *f, const char *name);

/* Opens what the file is now; the bytes live until the next call. */
enum phid_status model_file_open(struct model_file *f, struct gguf_file **ret,
                                 struct phid_error *err);

#endif

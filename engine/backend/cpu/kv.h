/* Keys and values of past tokens: pages of BACKEND_PAGE_TOKENS tokens of all loaded layers.
 *
 * A page holds for every layer and key/value head one block: first the keys, then the values.
 * Elements are f16 or f32:
 *   keys    [page tokens / 16][head_dim][16 tokens]  a vector is the same dimension of 16 keys, so
 *                                                    that a query's 16 scores need no sum across
 *                                                    lanes, whatever the head size
 *   values  [page tokens][head_dim to 16]            a vector is 16 dimensions of one token
 * or int8, two of them for each 16-bit element of a dot product:
 *   keys    [page tokens / 16][head_dim / 2, rounded up][16 tokens][2 dimensions]
 *   values  [page tokens / 2][head_dim to 16][2 tokens]
 *   scales  [page tokens] f32 of the keys, then as many of the values: for each token and head
 *
 * "head_dim to 16" is rounded up to a multiple of 16; padding, and an odd dimension's partner, is
 * zero. Keys and values of int8 are stored turned, see cpu_kv_turn. Owned by the backend; step
 * thread and its pool. */
#ifndef PHID_BACKEND_CPU_KV_H
#define PHID_BACKEND_CPU_KV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/backend/backend.h"
#include "engine/backend/cpu/kernels.h"
#include "engine/backend/cpu/memory.h"
#include "engine/base/pool.h"

#define KV_LANES 16

struct cpu_kv {
    enum backend_kv_type type;
    size_t head_dim;
    size_t value_stride; /* elements: head_dim rounded up to KV_LANES */
    size_t key_bytes;    /* of one block's keys */
    size_t value_bytes;
    size_t block_bytes; /* keys, values and scales of one (page, layer, head) */
    size_t layer_bytes;
    size_t page_bytes;
    size_t pages;
    size_t warm; /* pieces of the memory below this one were brought in; SIZE_MAX: the system does
                    not */
    struct cpu_memory memory;
};

/* Sizes only; false when they do not fit a size_t. */
bool cpu_kv_shape(struct cpu_kv *kv, enum backend_kv_type type, size_t head_dim, size_t kv_heads,
                  size_t layers);

enum phid_status cpu_kv_open(struct cpu_kv *kv, size_t pages, struct cpu_memory_policy policy,
                             struct phid_error *err); /* after cpu_kv_shape */
void cpu_kv_close(struct cpu_kv *kv);

/* As kv_warm of struct backend_api, with all threads of the pool. */
bool cpu_kv_warm(struct cpu_kv *kv, struct pool *pool, size_t first, size_t last, size_t tokens);

void cpu_kv_copy(const struct cpu_kv *kv, uint32_t from, uint32_t to); /* a whole page */

/* layer: counted from the first one loaded. */
static inline void *cpu_kv_keys(const struct cpu_kv *kv, uint32_t page, size_t layer, size_t head)
{
    return kv->memory.data + page * kv->page_bytes + layer * kv->layer_bytes +
           head * kv->block_bytes;
}

static inline void *cpu_kv_values(const struct cpu_kv *kv, uint32_t page, size_t layer, size_t head)
{
    return (unsigned char *)cpu_kv_keys(kv, page, layer, head) + kv->key_bytes;
}

/* Where dimension d of the key in `slot` of a page of f16 or f32 lies, counted in elements. */
static inline size_t cpu_kv_key_index(const struct cpu_kv *kv, size_t slot, size_t d)
{
    return (slot / KV_LANES * kv->head_dim + d) * KV_LANES + slot % KV_LANES;
}

/* What is done to a key or value before it is stored as int8, in place: a Walsh-Hadamard transform
 * of each block of 2^k dimensions, 2^k being the largest that divides dims. It spreads a large
 * dimension over its block, so that the one scale of a head fits all of them, and changes no dot
 * product but by the factor it returns, 2^k: turned twice, a vector is itself times that. Every sum
 * is one f32 addition, so the result is the same everywhere. */
float cpu_kv_turn(float *x, size_t dims);

/* The same as the kernels take it; of int8 pages. */
struct attention_page_s8 cpu_kv_page_s8(const struct cpu_kv *kv, uint32_t page, size_t layer,
                                        size_t head);

/* Where a token's key and value of one head lie; slot: in its page. */
struct cpu_kv_place {
    uint32_t page;
    size_t layer, head, slot;
};

/* Store head_dim f32. f16 and int8 saturate at f16's largest number: an infinity would turn
 * everything that looks at it into NaN. scratch: 5 * head_dim bytes. */
void cpu_kv_store_key(const struct cpu_kv *kv, const struct cpu_kernels *kernels,
                      const struct cpu_kv_place *place, const float *key, void *scratch);
void cpu_kv_store_value(const struct cpu_kv *kv, const struct cpu_kernels *kernels,
                        const struct cpu_kv_place *place, const float *value, void *scratch);

#endif

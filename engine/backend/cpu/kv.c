#include "engine/backend/cpu/kv.h"

#include <stdatomic.h>
#include <string.h>

#include "engine/base/checked.h"

bool cpu_kv_shape(struct cpu_kv *kv, enum backend_kv_type type, size_t head_dim, size_t kv_heads,
                  size_t layers)
{
    static const size_t element_bytes[] = {[BACKEND_KV_F16] = sizeof(uint16_t),
                                           [BACKEND_KV_F32] = sizeof(float),
                                           [BACKEND_KV_INT8] = sizeof(int8_t)};
    *kv = (struct cpu_kv){
        .type = type, .head_dim = head_dim, .value_stride = cpu_round_up(head_dim, KV_LANES)};
    size_t row = BACKEND_PAGE_TOKENS * element_bytes[type];
    size_t key_dims = type == BACKEND_KV_INT8 ? cpu_round_up(head_dim, 2) : head_dim;
    size_t scales = type == BACKEND_KV_INT8 ? 2 * BACKEND_PAGE_TOKENS * sizeof(float) : 0;
    size_t codes;
    return head_dim <= SIZE_MAX / 4 && checked_mul(key_dims, row, &kv->key_bytes) &&
           checked_mul(kv->value_stride, row, &kv->value_bytes) &&
           checked_add(kv->key_bytes, kv->value_bytes, &codes) &&
           checked_add(codes, scales, &kv->block_bytes) &&
           checked_mul(kv->block_bytes, kv_heads, &kv->layer_bytes) &&
           checked_mul(kv->layer_bytes, layers, &kv->page_bytes);
}

enum phid_status cpu_kv_open(struct cpu_kv *kv, size_t pages, struct cpu_memory_policy policy,
                             struct phid_error *err)
{
    size_t bytes;
    if (pages > UINT32_MAX || !checked_mul(kv->page_bytes, pages, &bytes)) {
        return phid_fail(err, PHID_ERR_MEMORY, "%zu KV pages of %zu bytes are more than fits",
                         pages, kv->page_bytes);
    }
    enum phid_status status = cpu_memory_open(bytes, "KV pages", policy, &kv->memory, err);
    if (status == PHID_OK) {
        kv->pages = pages;
    }
    return status;
}

void cpu_kv_close(struct cpu_kv *kv)
{
    cpu_memory_close(&kv->memory);
    kv->pages = 0;
}

struct warming {
    struct cpu_memory memory;
    size_t first; /* piece */
    atomic_bool failed;
};

static void warm_task(void *context, size_t task, size_t thread)
{
    (void)thread;
    struct warming *w = context;
    if (!cpu_memory_warm(&w->memory, w->first + task)) {
        atomic_store_explicit(&w->failed, true, memory_order_relaxed);
    }
}

bool cpu_kv_warm(struct cpu_kv *kv, struct pool *pool, size_t first, size_t last, size_t tokens)
{
    last = last < kv->pages ? last : kv->pages;
    if (first >= last) {
        return false;
    }
    size_t next = cpu_memory_piece(&kv->memory, first * kv->page_bytes);
    size_t end = cpu_memory_piece(&kv->memory, last * kv->page_bytes - 1) + 1;
    next = next > kv->warm ? next : kv->warm;
    if (next >= end) {
        return false;
    }
    size_t count = tokens * (kv->page_bytes / BACKEND_PAGE_TOKENS) / CPU_MEMORY_PIECE + 1;
    count = count < end - next ? count : end - next;
    struct warming w = {.memory = kv->memory, .first = next};
    pool_run(pool, warm_task, &w, count);
    kv->warm = atomic_load_explicit(&w.failed, memory_order_relaxed) ? SIZE_MAX : next + count;
    return kv->warm < end;
}

void cpu_kv_copy(const struct cpu_kv *kv, uint32_t from, uint32_t to)
{
    if (from != to) {
        memcpy(kv->memory.data + to * kv->page_bytes, kv->memory.data + from * kv->page_bytes,
               kv->page_bytes);
    }
}

float cpu_kv_turn(float *x, size_t dims)
{
    size_t block = dims & (~dims + 1);
    for (size_t apart = 1; apart < block; apart *= 2) {
        for (size_t i = 0; i < dims; i += 2 * apart) {
            for (size_t j = i; j < i + apart; j++) {
                float a = x[j];
                float b = x[j + apart];
                x[j] = a + b;
                x[j + apart] = a - b;
            }
        }
    }
    return (float)block;
}

static float *scales_of(const struct cpu_kv *kv, const void *keys)
{
    return (float *)((uintptr_t)keys + kv->key_bytes + kv->value_bytes);
}

struct attention_page_s8 cpu_kv_page_s8(const struct cpu_kv *kv, uint32_t page, size_t layer,
                                        size_t head)
{
    const void *keys = cpu_kv_keys(kv, page, layer, head);
    const float *scales = scales_of(kv, keys);
    return (struct attention_page_s8){
        .keys = keys,
        .values = cpu_kv_values(kv, page, layer, head),
        .key_scale = scales,
        .value_scale = scales + BACKEND_PAGE_TOKENS,
    };
}

static float turn_to_s8(const struct cpu_kv *kv, const struct cpu_kernels *kernels, const float *x,
                        float *turned, int8_t *codes)
{
    memcpy(turned, x, kv->head_dim * sizeof(*turned));
    (void)cpu_kv_turn(turned, kv->head_dim);
    return kernels->to_s8(turned, codes, kv->head_dim, 127.0f);
}

static void store_key_s8(const struct cpu_kv *kv, const struct cpu_kernels *kernels, void *keys,
                         size_t slot, const float *key, float *scratch)
{
    size_t pairs = (kv->head_dim + 1) / 2;
    int8_t *codes = (int8_t *)(scratch + kv->head_dim);
    int8_t *to = (int8_t *)keys + (slot / KV_LANES * pairs * KV_LANES + slot % KV_LANES) * 2;
    scales_of(kv, keys)[slot] = turn_to_s8(kv, kernels, key, scratch, codes);
    for (size_t d = 0; d < kv->head_dim; d++) {
        to[d / 2 * 2 * KV_LANES + d % 2] = codes[d];
    }
}

static void store_value_s8(const struct cpu_kv *kv, const struct cpu_kernels *kernels, void *keys,
                           size_t slot, const float *value, float *scratch)
{
    int8_t *codes = (int8_t *)(scratch + kv->head_dim);
    int8_t *to = (int8_t *)keys + kv->key_bytes + slot / 2 * 2 * kv->value_stride + slot % 2;
    scales_of(kv, keys)[BACKEND_PAGE_TOKENS + slot] =
        turn_to_s8(kv, kernels, value, scratch, codes);
    for (size_t d = 0; d < kv->head_dim; d++) {
        to[2 * d] = codes[d];
    }
}

void cpu_kv_store_key(const struct cpu_kv *kv, const struct cpu_kernels *kernels,
                      const struct cpu_kv_place *place, const float *key, void *scratch)
{
    void *keys = cpu_kv_keys(kv, place->page, place->layer, place->head);
    if (kv->type == BACKEND_KV_INT8) {
        store_key_s8(kv, kernels, keys, place->slot, key, scratch);
        return;
    }
    size_t first = cpu_kv_key_index(kv, place->slot, 0);
    if (kv->type == BACKEND_KV_F32) {
        for (size_t d = 0; d < kv->head_dim; d++) {
            ((float *)keys)[first + d * KV_LANES] = key[d];
        }
        return;
    }
    const uint16_t *halves = scratch;
    kernels->to_f16(key, scratch, kv->head_dim);
    for (size_t d = 0; d < kv->head_dim; d++) {
        ((uint16_t *)keys)[first + d * KV_LANES] = halves[d];
    }
}

void cpu_kv_store_value(const struct cpu_kv *kv, const struct cpu_kernels *kernels,
                        const struct cpu_kv_place *place, const float *value, void *scratch)
{
    void *values = cpu_kv_values(kv, place->page, place->layer, place->head);
    size_t first = place->slot * kv->value_stride;
    switch (kv->type) {
    case BACKEND_KV_INT8:
        store_value_s8(kv, kernels, cpu_kv_keys(kv, place->page, place->layer, place->head),
                       place->slot, value, scratch);
        break;
    case BACKEND_KV_F32:
        memcpy((float *)values + first, value, kv->head_dim * sizeof(*value));
        break;
    case BACKEND_KV_F16:
        kernels->to_f16(value, (uint16_t *)values + first, kv->head_dim);
        break;
    }
}

#include "engine/backend/cpu/kv.h"

#include <string.h>

#include "engine/base/checked.h"

bool cpu_kv_shape(struct cpu_kv *kv, enum backend_kv_type type, size_t head_dim, size_t kv_heads, size_t layers)
{
    size_t element = type == BACKEND_KV_F16 ? sizeof(uint16_t) : sizeof(float);
    *kv = (struct cpu_kv){ .type = type, .head_dim = head_dim, .value_stride = cpu_round_up(head_dim, KV_LANES) };
    size_t token;
    return head_dim <= SIZE_MAX / 4 && checked_mul(head_dim, BACKEND_PAGE_TOKENS * element, &kv->key_bytes) &&
           checked_mul(kv->value_stride, BACKEND_PAGE_TOKENS * element, &token) &&
           checked_add(kv->key_bytes, token, &kv->block_bytes) &&
           checked_mul(kv->block_bytes, kv_heads, &kv->layer_bytes) &&
           checked_mul(kv->layer_bytes, layers, &kv->page_bytes);
}

enum phid_status cpu_kv_open(struct cpu_kv *kv, size_t pages, struct phid_error *err)
{
    size_t bytes;
    if (pages > UINT32_MAX || !checked_mul(kv->page_bytes, pages, &bytes)) {
        return phid_fail(err, PHID_ERR_MEMORY, "%zu KV pages of %zu bytes are more than fits", pages, kv->page_bytes);
    }
    enum phid_status status = cpu_memory_open(bytes, "KV pages", &kv->memory, err);
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

void cpu_kv_copy(const struct cpu_kv *kv, uint32_t from, uint32_t to)
{
    if (from != to) {
        memcpy(kv->memory.data + to * kv->page_bytes, kv->memory.data + from * kv->page_bytes, kv->page_bytes);
    }
}

void cpu_kv_store(const struct cpu_kv *kv, const struct cpu_kernels *kernels, uint32_t page, size_t layer, size_t head,
                  size_t slot, const float *key, const float *value, uint16_t *scratch)
{
    void *keys = cpu_kv_keys(kv, page, layer, head);
    void *values = cpu_kv_values(kv, page, layer, head);
    size_t first = cpu_kv_key_index(kv, slot, 0);
    if (kv->type == BACKEND_KV_F32) {
        for (size_t d = 0; d < kv->head_dim; d++) {
            ((float *)keys)[first + d * KV_LANES] = key[d];
        }
        memcpy((float *)values + slot * kv->value_stride, value, kv->head_dim * sizeof(*value));
        return;
    }
    kernels->to_f16(key, scratch, kv->head_dim);
    for (size_t d = 0; d < kv->head_dim; d++) {
        ((uint16_t *)keys)[first + d * KV_LANES] = scratch[d];
    }
    kernels->to_f16(value, (uint16_t *)values + slot * kv->value_stride, kv->head_dim);
}

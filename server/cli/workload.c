#include "server/cli/workload.h"

#include <stdio.h>

#include "config/config.h"

/* "phi3.KEY". */
static uint64_t number(const struct gguf_file *file, struct str architecture, const char *key)
{
    char name[192];
    uint64_t value = 0;
    struct phid_error ignored;
    snprintf(name, sizeof(name), "%.*s.%s", architecture.size < 64 ? (int)architecture.size : 64,
             architecture.data, key);
    return gguf_get_u64(file, name, &value, &ignored) == PHID_OK ? value : 0;
}

uint64_t workload_kv_head_bytes(int kv_type, uint64_t head_size)
{
    uint64_t element = kv_type == CONFIG_KV_F32 ? 4 : kv_type == CONFIG_KV_INT8 ? 1 : 2;
    uint64_t scale = kv_type == CONFIG_KV_INT8 ? sizeof(float) : 0;
    return 2 * (head_size * element + scale);
}

enum phid_status workload_of(const struct gguf_file *file, int kv_type, struct workload *ret,
                             struct phid_error *err)
{
    struct workload w = {0};
    struct str architecture;
    enum phid_status status = gguf_get_str(file, "general.architecture", &architecture, err);
    if (status != PHID_OK) {
        return status;
    }
    w.layers = number(file, architecture, "block_count");
    w.heads = number(file, architecture, "attention.head_count");
    w.kv_heads = number(file, architecture, "attention.head_count_kv");
    w.kv_heads = w.kv_heads > 0 ? w.kv_heads : w.heads;
    w.head_size = number(file, architecture, "attention.key_length");
    if (w.head_size == 0 && w.heads > 0) {
        w.head_size = number(file, architecture, "embedding_length") / w.heads;
    }
    if (w.layers == 0 || w.head_size == 0) {
        return phid_fail(err, PHID_ERR_FORMAT, "the file does not say its layers and heads");
    }
    bool tied = gguf_tensor_find(file, STR("output.weight")) == NULL;
    for (size_t i = 0; i < gguf_tensor_count(file); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(file, i);
        uint64_t macs = t->n_dims >= 2 ? t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3] : 0;
        bool embedding = str_equal(t->name, STR("token_embd.weight"));
        bool head = str_equal(t->name, STR("output.weight")) || (embedding && tied);
        w.step_bytes += embedding && !tied ? 0 : t->size_bytes;
        w.head_macs += head ? macs : 0;
        w.body_macs += head || embedding ? 0 : macs;
    }
    w.kv_token_bytes = w.layers * w.kv_heads * workload_kv_head_bytes(kv_type, w.head_size);
    *ret = w;
    return PHID_OK;
}

double workload_prefill_macs(const struct workload *w, size_t tokens)
{
    /* Token t attends to t + 1 keys and as many values. */
    double attention =
        (double)(w->layers * w->heads * w->head_size) * (double)tokens * (double)(tokens + 1);
    return (double)w->body_macs * (double)tokens + (double)w->head_macs + attention;
}

double workload_step_bytes(const struct workload *w, size_t sequences, double context)
{
    return (double)w->step_bytes + (double)sequences * context * (double)w->kv_token_bytes;
}

#include "engine/model/model.h"

#include <math.h>
#include <stdalign.h>
#include <stdlib.h>

#include "engine/base/checked.h"
#include "engine/model/arch.h"

static const struct model_arch *const archs[] = {&model_arch_phi3, &model_arch_llama};
#define KNOWN_ARCHS "phi3, llama"

/* One allocation, in front of its bytes. */
struct model_memory {
    struct model_memory *next;
    alignas(max_align_t) unsigned char bytes[];
};

void *model_alloc(struct model *m, size_t count, size_t size)
{
    size_t bytes;
    if (!checked_mul(count, size, &bytes) ||
        !checked_add(bytes, sizeof(struct model_memory), &bytes)) {
        return NULL;
    }
    struct model_memory *memory = calloc(1, bytes);
    if (memory == NULL) {
        return NULL;
    }
    memory->next = m->memory;
    m->memory = memory;
    return memory->bytes;
}

void model_free(struct model *m)
{
    if (m == NULL) {
        return;
    }
    for (struct model_memory *memory = m->memory; memory != NULL;) {
        struct model_memory *next = memory->next;
        free(memory);
        memory = next;
    }
    free(m);
}

static enum phid_status find_arch(const struct gguf_file *file, const struct model_arch **ret,
                                  struct phid_error *err)
{
    struct str type, name;
    if (gguf_find(file, STR("general.type")) != NULL) {
        enum phid_status status = gguf_get_str(file, "general.type", &type, err);
        if (status != PHID_OK) {
            return status;
        }
        if (!str_equal(type, STR("model"))) {
            int shown = type.size < 40 ? (int)type.size : 40;
            return phid_fail(err, PHID_ERR_UNSUPPORTED,
                             "general.type is \"%.*s\", only \"model\" can be run", shown,
                             type.data);
        }
    }
    if (gguf_find(file, STR("general.architecture")) == NULL) {
        return phid_fail(err, PHID_ERR_FORMAT, "key general.architecture is missing");
    }
    enum phid_status status = gguf_get_str(file, "general.architecture", &name, err);
    if (status != PHID_OK) {
        return status;
    }
    for (size_t i = 0; i < sizeof(archs) / sizeof(archs[0]); i++) {
        if (str_equal_c(name, archs[i]->name)) {
            *ret = archs[i];
            return PHID_OK;
        }
    }
    int shown = name.size < 40 ? (int)name.size : 40;
    return phid_fail(err, PHID_ERR_UNSUPPORTED,
                     "architecture \"%.*s\" is not supported (known: " KNOWN_ARCHS ")", shown,
                     name.data);
}

static void fill_sizes(struct model *m, const struct model_arch *arch, const struct hparams *h)
{
    m->architecture = arch->name;
    m->context_length = (size_t)h->context_length;
    m->block = (struct block_model){
        .n_layers = (size_t)h->block_count,
        .n_embd = (size_t)h->embedding_length,
        .n_heads = (size_t)h->head_count,
        .n_kv_heads = (size_t)h->head_count_kv,
        .head_dim = (size_t)h->key_length,
        .n_ff = (size_t)h->feed_forward_length,
        .n_vocab = (size_t)h->vocab_size,
        .norm_eps = (float)h->norm_eps,
        .attention_scale = (float)(1.0 / sqrt((double)h->key_length)),
        .rope_dims = (size_t)h->rope_dims,
    };
}

/* Factors of rotary frequencies are not counted: they are configuration, not learned. */
static uint64_t count_parameters(const struct gguf_file *file)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < gguf_tensor_count(file); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(file, i);
        if (!str_starts_with(t->name, STR("rope_"))) {
            sum += t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3];
        }
    }
    return sum;
}

enum phid_status model_load(const struct gguf_file *file, struct model **ret_model,
                            struct phid_error *err)
{
    const struct model_arch *arch = NULL;
    struct hparams h;
    struct binder binder = {0};
    struct model *m = NULL;
    enum phid_status status = find_arch(file, &arch, err);
    if (status != PHID_OK) {
        return status;
    }
    if (gguf_tensor_count(file) == 0) {
        return phid_fail(err, PHID_ERR_FORMAT, "the file holds a vocabulary only, no tensors");
    }
    status = hparams_read(file, arch->name, &h, err);
    if (status != PHID_OK) {
        return status;
    }
    m = calloc(1, sizeof(*m));
    if (m == NULL) {
        return phid_fail(err, PHID_ERR_MEMORY, "no memory for a model");
    }
    fill_sizes(m, arch, &h);
    status = binder_init(&binder, file, m, err);
    if (status == PHID_OK) {
        status = arch->bind(m, &h, &binder, err);
    }
    if (status == PHID_OK) {
        status = binder_finish(&binder, err);
    }
    binder_fini(&binder);
    if (status != PHID_OK) {
        model_free(m);
        return status;
    }
    m->parameter_count = count_parameters(file);
    *ret_model = m;
    return PHID_OK;
}

#include "engine/backend/cpu/backend.h"

#include <stdio.h>
#include <stdlib.h>

#include "engine/backend/cpu/choose.h"
#include "engine/backend/cpu/step.h"

#define MAX_ROWS (1 << 20)

/* Models up to this width take two terms by default. Their answers hang on small differences of
 * logits (SmolLM2-135M's first word about France's capital leads by 0.08, and one int8 term errs by
 * 4 % of the logits' spread after its 30 layers), and they are so small that twice the arithmetic
 * is still quick. */
#define TWO_TERMS_EMBD_MAX 1024

static size_t choose_terms(const struct backend *b, const struct block_model *model)
{
    switch (b->activations) {
    case BACKEND_ACTIVATIONS_INT8:
    case BACKEND_ACTIVATIONS_BF16:
        return 1;
    case BACKEND_ACTIVATIONS_INT8X2:
        return 2;
    default:
        return model->n_embd <= TWO_TERMS_EMBD_MAX ? 2 : 1;
    }
}

/* Where tiles multiply bf16, that, even when W8A8 was asked for: it errs less. Small models' second
 * term is more exact than either. */
static enum q8_prompts choose_prompts(const struct backend *b)
{
    if (b->activations == BACKEND_ACTIVATIONS_W8A8 && b->kernels->w8_multiply != NULL) {
        return Q8_PROMPTS_W8;
    }
    bool bf16 = b->terms == 1 && b->activations != BACKEND_ACTIVATIONS_INT8 &&
                b->kernels->bf16_multiply != NULL;
    return bf16 ? Q8_PROMPTS_BF16 : Q8_PROMPTS_INT8;
}

static bool probe(const char **ret_description)
{
    const struct cpu_kernels *kernels = &cpu_kernels_scalar;
    (void)cpu_choose_kernels(NULL, &kernels, NULL);
    *ret_description = kernels->name;
    return true;
}

static void cpu_close(struct backend *b)
{
    if (b == NULL) {
        return;
    }
    cpu_scratch_close(&b->scratch);
    cpu_kv_close(&b->kv);
    cpu_weights_close(&b->weights);
    pool_free(b->pool);
    free(b);
}

static enum phid_status cpu_open(const struct backend_options *options, struct backend **ret,
                                 struct phid_error *err)
{
    if (options->max_rows == 0 || options->max_rows > MAX_ROWS) {
        return phid_fail(err, PHID_ERR_ARGUMENT, "batches of %zu rows; 1 to %d are possible",
                         options->max_rows, MAX_ROWS);
    }
    const struct cpu_kernels *kernels = NULL;
    enum phid_status status = cpu_choose_kernels(options->isa, &kernels, err);
    if (status != PHID_OK) {
        return status;
    }
    struct backend *b = calloc(1, sizeof(*b));
    if (b == NULL) {
        return phid_fail(err, PHID_ERR_MEMORY, "no memory for the CPU backend");
    }
    b->exact = options->exact;
    b->kernels = b->exact ? &cpu_kernels_scalar : kernels;
    b->max_rows = options->max_rows;
    b->activations = options->activations;
    b->read = options->read;
    b->read_user = options->read_user;
    b->lazy = options->lazy;
    b->policy = (struct cpu_memory_policy){.huge_pages = !options->small_pages,
                                           .interleave = !options->local_memory};
    status = pool_new(options->threads, &b->pool, err);
    if (status != PHID_OK) {
        cpu_close(b);
        return status;
    }
    if (options->pin_threads) {
        pool_pin(b->pool);
    }
    if (options->profile) {
        cpu_profile_open(&b->profile, b->pool);
    }
    size_t threads = pool_threads(b->pool);
    snprintf(b->description, sizeof(b->description), "CPU, %s, %zu thread%s",
             b->exact ? "exact" : kernels->name, threads, threads == 1 ? "" : "s");
    *ret = b;
    return PHID_OK;
}

static enum phid_status weight_bytes(const struct block_model *model, size_t *ret_bytes,
                                     struct phid_error *err)
{
    const struct cpu_load load = {
        .model = model, .last = model->n_layers, .embedding = true, .head = true};
    return cpu_weights_bytes(&load, ret_bytes, err);
}

static enum phid_status cpu_load(struct backend *b, const struct block_model *model, size_t first,
                                 size_t last, bool embedding, bool head,
                                 void (*release)(void *user, const struct block_matrix *matrix),
                                 void *user, struct phid_error *err)
{
    if (b->model != NULL) {
        return phid_fail(err, PHID_ERR_ARGUMENT, "the backend has a model already");
    }
    if (first > last || last > model->n_layers || model->n_heads == 0 || model->n_kv_heads == 0 ||
        model->n_heads % model->n_kv_heads != 0 || model->head_dim == 0 ||
        model->rope_dims > model->head_dim || model->rope_dims % 2 != 0) {
        return phid_fail(err, PHID_ERR_ARGUMENT,
                         "layers %zu to %zu of %zu, %zu heads, %zu key/value heads of %zu", first,
                         last, model->n_layers, model->n_heads, model->n_kv_heads, model->head_dim);
    }
    struct cpu_load load = {
        .model = model,
        .first = first,
        .last = last,
        .embedding = embedding,
        .head = head,
        .exact = b->exact,
        .release = release,
        .user = user,
        .read = b->read,
        .read_user = b->read_user,
        .lazy = b->lazy,
        .policy = b->policy,
    };
    enum phid_status status = cpu_weights_open(&b->weights, &load, b->pool, err);
    if (status != PHID_OK) {
        return status;
    }
    b->model = model;
    b->first = first;
    b->last = last;
    b->terms = choose_terms(b, model);
    b->prompts = choose_prompts(b);
    status = cpu_scratch_open(b, err);
    if (status != PHID_OK) {
        cpu_weights_close(&b->weights);
        b->model = NULL;
    }
    return status;
}

static enum phid_status load_more(struct backend *b, bool *ret_done, struct phid_error *err)
{
    return cpu_weights_next(&b->weights, b->pool, ret_done, err);
}

static bool kv_shape(const struct backend *b, enum backend_kv_type type, struct cpu_kv *ret)
{
    return b->model != NULL &&
           cpu_kv_shape(ret, type, b->model->head_dim, b->model->n_kv_heads, b->last - b->first);
}

static enum phid_status kv_create(struct backend *b, enum backend_kv_type type, size_t n_pages,
                                  struct phid_error *err)
{
    if (b->model == NULL || b->kv.pages != 0) {
        return phid_fail(err, PHID_ERR_ARGUMENT, "KV pages are created once, after the load");
    }
    if (b->exact && type == BACKEND_KV_INT8) {
        return phid_fail(err, PHID_ERR_ARGUMENT, "the exact path keeps no int8 keys and values");
    }
    struct cpu_kv kv;
    if (!kv_shape(b, type, &kv)) {
        return phid_fail(err, PHID_ERR_MEMORY, "a KV page of this model is more than fits");
    }
    enum phid_status status = cpu_kv_open(&kv, n_pages, b->policy, err);
    if (status == PHID_OK) {
        b->kv = kv;
    }
    return status;
}

static size_t kv_page_bytes(const struct backend *b, enum backend_kv_type type)
{
    struct cpu_kv kv;
    return kv_shape(b, type, &kv) ? kv.page_bytes : 0;
}

static enum phid_status kv_copy(struct backend *b, uint32_t from, uint32_t to,
                                struct phid_error *err)
{
    if (from >= b->kv.pages || to >= b->kv.pages) {
        return phid_fail(err, PHID_ERR_ARGUMENT, "copy of page %u to %u of %zu", (unsigned)from,
                         (unsigned)to, b->kv.pages);
    }
    cpu_kv_copy(&b->kv, from, to);
    return PHID_OK;
}

static bool kv_warm(struct backend *b, size_t first, size_t last, size_t tokens)
{
    cpu_profile_begin(&b->profile);
    bool more = cpu_kv_warm(&b->kv, b->pool, first, last, tokens);
    cpu_profile_end(&b->profile, CPU_OP_WARM, 0, 0);
    return more;
}

static enum phid_status fence(struct backend *b, uint64_t *ret_fence, struct phid_error *err)
{
    (void)b;
    (void)err;
    *ret_fence = 0;
    return PHID_OK;
}

static enum phid_status wait_fence(struct backend *b, uint64_t fence_reached,
                                   struct phid_error *err)
{
    (void)b;
    (void)fence_reached;
    (void)err;
    return PHID_OK;
}

static const char *describe(const struct backend *b)
{
    return b->description;
}

static size_t memory_bytes(const struct backend *b)
{
    return b->weights.memory.bytes + b->kv.memory.bytes + b->scratch.memory.bytes;
}

static void add_matrix(const struct cpu_matrix *matrix, uint64_t *bytes, uint64_t *macs)
{
    *bytes += matrix->bytes;
    *macs += (uint64_t)matrix->rows * matrix->cols;
}

static void costs(const struct backend *b, struct backend_costs *ret)
{
    *ret = (struct backend_costs){0};
    for (size_t i = 0; i < b->weights.layer_count; i++) {
        const struct cpu_layer *layer = &b->weights.layers[i];
        const struct cpu_matrix *const matrices[] = {&layer->q,        &layer->k,    &layer->v,
                                                     &layer->attn_out, &layer->gate, &layer->up,
                                                     &layer->down};
        for (size_t j = 0; j < sizeof(matrices) / sizeof(matrices[0]); j++) {
            add_matrix(matrices[j], &ret->layer_weight_bytes, &ret->layer_macs);
        }
    }
    add_matrix(&b->weights.output, &ret->head_weight_bytes, &ret->head_macs);
    ret->kv_token_bytes = b->kv.page_bytes / BACKEND_PAGE_TOKENS;
}

static size_t profile(const struct backend *b, struct backend_operation *ret)
{
    return cpu_profile_read(&b->profile, ret);
}

const struct backend_api *backend_cpu(void)
{
    static const struct backend_api api = {
        .name = "cpu",
        .probe = probe,
        .open = cpu_open,
        .close = cpu_close,
        .weight_bytes = weight_bytes,
        .load = cpu_load,
        .load_more = load_more,
        .kv_create = kv_create,
        .kv_page_bytes = kv_page_bytes,
        .kv_copy = kv_copy,
        .kv_warm = kv_warm,
        .embed = cpu_embed,
        .step = cpu_step,
        .head = cpu_head,
        .fence = fence,
        .wait = wait_fence,
        .describe = describe,
        .memory_bytes = memory_bytes,
        .costs = costs,
        .profile = profile,
    };
    return &api;
}

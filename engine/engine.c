/* The public engine handle: a backend with the model's weights, KV pages and a step loop. */
#include "engine/engine.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/clock.h"
#include "engine/base/cpuid.h"
#include "engine/commit.h"
#include "engine/kv/budget.h"
#include "engine/kv/page_table.h"

#define DEFAULT_CONTEXT     ((size_t)4096)
#define DEFAULT_MAX_RUNNING ((size_t)32)
#define DEFAULT_STEP_TOKENS ((size_t)512)
#define DEFAULT_QUEUE       ((size_t)256)

#define DEFAULT_MAX_OVERTAKE_MS ((uint32_t)10000)

/* Far beyond any use; keeps sizes computed from them small. */
#define STEP_TOKENS_MAX ((size_t)65536)
#define QUEUE_MAX       ((size_t)1 << 24)

const char *phid_version(void)
{
    return PHID_VERSION;
}

const char *phid_commit(void)
{
    return PHID_COMMIT;
}

static size_t count_cores(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof(set), &set) != 0) {
        return 1;
    }
    int count = CPU_COUNT(&set);
    return count > 0 ? (size_t)count : 1;
}

/* The options with defaults filled in. */
static enum phid_status resolve_options(const struct phid_engine_options *options,
                                        const struct model *model, struct phid_engine_options *ret,
                                        struct phid_error *err)
{
    struct phid_engine_options o = options != NULL ? *options : (struct phid_engine_options){0};
    if (o.context == 0) {
        o.context =
            model->context_length < DEFAULT_CONTEXT ? model->context_length : DEFAULT_CONTEXT;
    }
    if (o.longrope == PHID_LONGROPE_SHORT && model->original_context > 0 &&
        o.context > model->original_context) {
        if (options->context > 0) {
            return phid_fail_at(err, PHID_ERR_ARGUMENT, "context",
                                "a context of %zu tokens is more than the %zu that the short "
                                "rotary factors are for",
                                o.context, model->original_context);
        }
        o.context = model->original_context;
    }
    if (o.context > model->context_length) {
        return phid_fail_at(err, PHID_ERR_ARGUMENT, "context",
                            "a context of %zu tokens is more than the %zu the model was made for",
                            o.context, model->context_length);
    }
    o.step_tokens = o.step_tokens > 0 ? o.step_tokens : DEFAULT_STEP_TOKENS;
    o.max_running = o.max_running > 0 ? o.max_running : DEFAULT_MAX_RUNNING;
    o.queue = o.queue > 0 ? o.queue : DEFAULT_QUEUE;
    o.max_overtake_ms = o.max_overtake_ms > 0 ? o.max_overtake_ms : DEFAULT_MAX_OVERTAKE_MS;
    if (o.step_tokens > STEP_TOKENS_MAX) {
        return phid_fail_at(err, PHID_ERR_ARGUMENT, "step_tokens",
                            "step_tokens is %zu, at most %zu can be", o.step_tokens,
                            STEP_TOKENS_MAX);
    }
    if (o.queue > QUEUE_MAX) {
        return phid_fail_at(err, PHID_ERR_ARGUMENT, "queue", "queue is %zu, at most %zu can be",
                            o.queue, QUEUE_MAX);
    }
    /* Each running sequence needs a row of every step. */
    o.max_running = o.max_running < o.step_tokens ? o.max_running : o.step_tokens;
    o.threads = o.threads > 0 ? o.threads : count_cores();
    o.isa = o.isa != NULL ? o.isa : "auto";
    *ret = o;
    return PHID_OK;
}

static void release_matrix(void *user, const struct block_matrix *matrix)
{
    const struct phid_model *model = user;
    if (model->file == NULL || matrix->name == NULL) {
        return;
    }
    const struct gguf_tensor *tensor = gguf_tensor_find(model->file, str_of(matrix->name));
    if (tensor != NULL) {
        gguf_tensor_release(model->file, tensor);
    }
}

static bool read_matrix(void *user, const void *data, size_t bytes, void *to)
{
    const struct phid_model *model = user;
    return gguf_read(model->file, data, bytes, to);
}

static enum phid_status open_backend(struct phid_engine *e, struct phid_model *model,
                                     const struct model *description,
                                     const struct phid_engine_options *o, struct phid_error *err)
{
    struct backend_options options = {.threads = o->threads,
                                      .isa = o->isa,
                                      .exact = o->exact,
                                      .max_rows = o->step_tokens,
                                      .pin_threads = o->pin_threads,
                                      .small_pages = o->small_pages,
                                      .local_memory = o->local_memory,
                                      .profile = o->profile};
    options.read = model->file != NULL ? read_matrix : NULL;
    options.read_user = model;
    options.lazy = o->lazy_load;
    options.activations = o->activations == PHID_ACTIVATIONS_INT8     ? BACKEND_ACTIVATIONS_INT8
                          : o->activations == PHID_ACTIVATIONS_INT8X2 ? BACKEND_ACTIVATIONS_INT8X2
                          : o->activations == PHID_ACTIVATIONS_BF16   ? BACKEND_ACTIVATIONS_BF16
                          : o->activations == PHID_ACTIVATIONS_W8A8   ? BACKEND_ACTIVATIONS_W8A8
                                                                      : BACKEND_ACTIVATIONS_AUTO;
    enum phid_status status = e->api->open(&options, &e->backend, err);
    if (status != PHID_OK) {
        return status;
    }
    return e->api->load(e->backend, &description->block, 0, description->block.n_layers, true, true,
                        release_matrix, model, err);
}

static enum backend_kv_type kv_type(const struct phid_engine_options *o)
{
    return o->exact || o->kv_type == PHID_KV_F32 ? BACKEND_KV_F32
           : o->kv_type == PHID_KV_INT8          ? BACKEND_KV_INT8
                                                 : BACKEND_KV_F16;
}

static enum phid_status create_kv(struct phid_engine *e, const struct phid_engine_options *o,
                                  size_t *ret_pages, struct phid_error *err)
{
    enum backend_kv_type type = kv_type(o);
    struct kv_budget budget = {
        .context = o->context,
        .max_running = o->max_running,
        .page_bytes = e->api->kv_page_bytes(e->backend, type),
        .memory_bytes = o->kv_memory_bytes,
        .free_bytes = kv_budget_free_bytes(),
    };
    if (o->lazy_load) {
        /* Weights that are not there yet will take what is free now. */
        uint64_t coming = e->api->memory_bytes(e->backend);
        budget.free_bytes = budget.free_bytes > coming ? budget.free_bytes - coming : 1;
    }
    size_t pages = 0;
    enum phid_status status = kv_budget_pages(&budget, &pages, err);
    if (status != PHID_OK) {
        return status;
    }
    size_t context_pages = page_table_pages(o->context);
    status = e->api->kv_create(e->backend, type, pages, err);
    /* What looks free may still be refused to a single process. */
    while (status == PHID_ERR_MEMORY && o->kv_memory_bytes == 0 && pages > context_pages) {
        pages = pages / 2 > context_pages ? pages / 2 : context_pages;
        status = e->api->kv_create(e->backend, type, pages, err);
    }
    *ret_pages = pages;
    return status;
}

static void fill_info(struct phid_engine *e, const struct phid_engine_options *o, size_t pages)
{
    const char *isa = o->isa;
    if (strcmp(isa, "auto") == 0) {
        isa = o->exact ? cpuid_isa_name(CPUID_SCALAR) : cpuid_isa_name(cpuid_detect().isa);
    }
    enum cpuid_isa known;
    struct backend_costs costs;
    e->api->costs(e->backend, &costs);
    e->info = (struct phid_engine_info){
        .isa = cpuid_isa_find(str_of(isa), &known) ? cpuid_isa_name(known) : "unknown",
        .devices = e->api->describe(e->backend),
        .threads = o->threads,
        .context = o->context,
        .max_running = o->max_running,
        .queue = o->queue,
        .kv_tokens = pages * BACKEND_PAGE_TOKENS,
        .memory_bytes = e->api->memory_bytes(e->backend) + loop_memory_bytes(e->loop),
        .step_bytes = costs.layer_weight_bytes + costs.head_weight_bytes,
    };
}

enum phid_status engine_new_with_backend(struct phid_model *model, const struct model *description,
                                         const struct backend_api *api,
                                         const struct phid_engine_options *options,
                                         struct phid_engine **ret_engine, struct phid_error *err)
{
    struct phid_engine_options o = {0};
    enum phid_status status = resolve_options(options, description, &o, err);
    if (status != PHID_OK) {
        return status;
    }
    struct phid_engine *e = calloc(1, sizeof(*e));
    if (e == NULL) {
        return phid_fail(err, PHID_ERR_MEMORY, "no memory for an engine");
    }
    e->api = api;
    e->terms = (struct sequence_terms){
        .tokenizer = model->tokenizer,
        .end_ids = model->end_ids,
        .end_count = model->end_count,
        .n_vocab = description->block.n_vocab,
        .context = o.context,
        .drafts = o.speculation != PHID_SPECULATION_OFF,
        .original_context = description->original_context,
        .longrope = o.longrope,
        .prefix_secret = o.prefix_cache_off ? NULL : &e->prefix_secret,
    };
    size_t pages = 0;
    status = prefix_secret_draw(&e->prefix_secret, err);
    if (status != PHID_OK) {
        goto fail;
    }
    status = open_backend(e, model, description, &o, err);
    if (status != PHID_OK) {
        goto fail;
    }
    status = create_kv(e, &o, &pages, err);
    if (status != PHID_OK) {
        goto fail;
    }
    struct loop_options loop = {
        .api = api,
        .backend = e->backend,
        .block = &description->block,
        .terms = &e->terms,
        .page_bytes = api->kv_page_bytes(e->backend, kv_type(&o)),
        .max_running = o.max_running,
        .step_tokens = o.step_tokens,
        .itl_target_ns = (uint64_t)o.itl_target_ms * CLOCK_NS_PER_MS,
        .speculation = o.speculation,
        .queue = o.queue,
        .queue_tokens = o.queue_tokens,
        .max_wait_ns = (uint64_t)o.max_wait_ms * CLOCK_NS_PER_MS,
        .max_overtake_ns = (uint64_t)o.max_overtake_ms * CLOCK_NS_PER_MS,
        .pages = pages,
        .log = o.log,
        .log_user = o.log_user,
    };
    status = loop_new(&loop, &e->loop, err);
    if (status != PHID_OK) {
        goto fail;
    }
    fill_info(e, &o, pages);
    *ret_engine = e;
    return PHID_OK;
fail:
    phid_engine_free(e);
    return status;
}

enum phid_status phid_engine_new(struct phid_model *model,
                                 const struct phid_engine_options *options,
                                 struct phid_engine **ret_engine, struct phid_error *err)
{
    if (model->model == NULL) {
        return phid_fail(err, PHID_ERR_ARGUMENT, "the model was opened for its vocabulary only");
    }
    return engine_new_with_backend(model, model->model, backend_cpu(), options, ret_engine, err);
}

enum phid_status phid_engine_loaded(struct phid_engine *engine, uint32_t timeout_ms,
                                    bool *ret_loaded, struct phid_error *err)
{
    return loop_loaded(engine->loop, timeout_ms, ret_loaded, err);
}

void phid_engine_free(struct phid_engine *engine)
{
    if (engine == NULL) {
        return;
    }
    loop_free(engine->loop);
    if (engine->backend != NULL) {
        engine->api->close(engine->backend);
    }
    free(engine);
}

const struct phid_engine_info *phid_engine_info(const struct phid_engine *engine)
{
    return &engine->info;
}

void phid_engine_stats(struct phid_engine *engine, struct phid_engine_stats *ret)
{
    loop_stats(engine->loop, ret);
}

void phid_engine_histogram(struct phid_engine *engine, enum phid_histogram_id id,
                           struct phid_histogram *ret)
{
    loop_histogram(engine->loop, id, ret);
}

void phid_engine_load(const struct phid_engine *engine, struct phid_engine_load *ret)
{
    loop_load(engine->loop, ret);
}

_Static_assert((int)PHID_OPERATIONS_MAX == (int)BACKEND_OPERATIONS_MAX, "one array for both");

size_t phid_engine_profile(const struct phid_engine *engine, struct phid_operation *ret)
{
    struct backend_operation operations[BACKEND_OPERATIONS_MAX];
    size_t count =
        engine->api->profile == NULL ? 0 : engine->api->profile(engine->backend, operations);
    for (size_t i = 0; i < count; i++) {
        ret[i] = (struct phid_operation){.name = operations[i].name,
                                         .runs = operations[i].runs,
                                         .ns = operations[i].ns,
                                         .wait_ns = operations[i].wait_ns,
                                         .bytes = operations[i].bytes,
                                         .macs = operations[i].macs};
    }
    return count;
}

void phid_engine_drain(struct phid_engine *engine)
{
    loop_drain(engine->loop);
}

enum phid_status phid_engine_logits(struct phid_engine *engine, const int32_t *ids, size_t count,
                                    bool all, float *logits, struct phid_error *err)
{
    if (count == 0) {
        return phid_fail_at(err, PHID_ERR_ARGUMENT, "tokens", "there are no tokens");
    }
    if (count > engine->info.context) {
        return phid_fail_at(err, PHID_ERR_CONTEXT, "tokens",
                            "the maximum context length is %zu tokens, but there are %zu",
                            engine->info.context, count);
    }
    for (size_t i = 0; i < count; i++) {
        if (ids[i] < 0 || (size_t)ids[i] >= engine->terms.n_vocab) {
            return phid_fail_at(err, PHID_ERR_ARGUMENT, "tokens",
                                "token %d is not in the vocabulary of %zu tokens", (int)ids[i],
                                engine->terms.n_vocab);
        }
    }
    struct evaluation evaluation = {.ids = ids, .count = count, .all = all, .logits = logits};
    return loop_evaluate(engine->loop, &evaluation, err);
}

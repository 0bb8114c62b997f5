#include "engine/backend/cpu/attention.h"

#include <math.h>
#include <string.h>

#include "engine/backend/cpu/exact.h"

_Static_assert(CPU_PAGE_TOKENS == BACKEND_PAGE_TOKENS && CPU_LANES == KV_LANES, "kernels and pages agree");

struct attention {
    struct backend *b;
    const struct backend_batch *batch;
    size_t layer;
    size_t block_queries; /* queries of a task */
};

void cpu_attention_start(struct backend *b, const struct backend_batch *batch)
{
    b->scratch.active_count = 0;
    for (size_t i = 0; i < batch->sequence_count; i++) {
        if (batch->sequences[i].rows != 0) {
            b->scratch.active[b->scratch.active_count++].sequence = &batch->sequences[i];
        }
    }
}

/* Tasks when a task has at most `block_queries` queries; fills in where each sequence's tasks end. */
static size_t count_tasks(struct backend *b, size_t block_queries)
{
    size_t group = b->model->n_heads / b->model->n_kv_heads;
    size_t tasks = 0;
    for (size_t i = 0; i < b->scratch.active_count; i++) {
        struct cpu_active *active = &b->scratch.active[i];
        size_t queries = active->sequence->rows * group;
        tasks += b->model->n_kv_heads * ((queries + block_queries - 1) / block_queries);
        active->task_end = tasks;
    }
    return tasks;
}

static const struct cpu_active *find_active(const struct backend *b, size_t task)
{
    size_t low = 0;
    size_t high = b->scratch.active_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (b->scratch.active[middle].task_end <= task) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return &b->scratch.active[low];
}

/* The queries of a block in the order row, head: `count` of them from `first`, all of one key/value head. */
struct queries {
    size_t head; /* the first query head of the group */
    size_t group;
    size_t first_row; /* of the sequence */
    size_t first, count;
};

static float *row_of(const struct backend *b, float *rows, const struct queries *q, size_t i)
{
    size_t index = q->first + i;
    size_t row = q->first_row + index / q->group;
    size_t head = q->head + index % q->group;
    return rows + (row * b->model->n_heads + head) * b->model->head_dim;
}

size_t cpu_attention_thread_bytes(const struct block_model *model)
{
    size_t stride = cpu_round_up(model->head_dim, CPU_LANES);
    size_t floats = stride * 2 + CPU_LANES + CPU_PAGE_TOKENS;
    return CPU_QUERIES_MAX * (floats * sizeof(float) + (stride + CPU_PAGE_TOKENS) * sizeof(int16_t));
}

/* The queries, turned as the keys are, as whole numbers; for pages of int8. */
static void quantize_queries(const struct backend *b, struct attention_block *block, float *scaled, int16_t *codes)
{
    size_t dims = block->head_dim;
    size_t padded = cpu_round_up(dims, 2);
    for (size_t i = 0; i < block->queries; i++) {
        int16_t *to = codes + i * padded;
        to[padded - 1] = 0;
        float factor = cpu_kv_turn(scaled + i * dims, dims);
        block->q_scale[i] = b->kernels->to_s16(scaled + i * dims, to, dims, attention_q_limit(dims)) / factor;
    }
    block->q_codes = codes;
}

static void prepare(const struct backend *b, const struct queries *q, size_t thread, struct attention_block *block)
{
    size_t dims = b->model->head_dim;
    size_t stride = cpu_round_up(dims, CPU_LANES);
    float *scratch = cpu_thread_scratch(b, thread);
    float *scaled = scratch;
    *block = (struct attention_block){ .queries = q->count, .head_dim = dims, .value_stride = stride };
    block->q = scaled;
    block->sums = scratch + CPU_QUERIES_MAX * stride;
    block->total = block->sums + CPU_QUERIES_MAX * stride;
    block->scores = block->total + CPU_QUERIES_MAX * CPU_LANES;
    memset(block->sums, 0, q->count * stride * sizeof(float));
    memset(block->total, 0, q->count * CPU_LANES * sizeof(float));
    int32_t window = b->model->sliding_window;
    for (size_t i = 0; i < q->count; i++) {
        const float *source = row_of(b, b->scratch.q, q, i);
        for (size_t d = 0; d < dims; d++) {
            scaled[i * dims + d] = source[d] * b->model->attention_scale;
        }
        int32_t position = b->scratch.position[q->first_row + (q->first + i) / q->group];
        block->maximum[i] = -INFINITY;
        block->begin[i] = window > 0 && position >= window ? position - window + 1 : 0;
        block->end[i] = position + 1;
    }
    if (b->kv.type == BACKEND_KV_INT8) {
        block->weights = (int16_t *)(void *)(block->scores + CPU_QUERIES_MAX * CPU_PAGE_TOKENS);
        quantize_queries(b, block, scaled, block->weights + CPU_QUERIES_MAX * CPU_PAGE_TOKENS);
    }
}

static void finish(const struct backend *b, const struct queries *q, const struct attention_block *block)
{
    for (size_t i = 0; i < q->count; i++) {
        float *lanes = block->total + i * CPU_LANES;
        for (size_t apart = CPU_LANES / 2; apart > 0; apart /= 2) {
            for (size_t j = 0; j < apart; j++) {
                lanes[j] += lanes[j + apart];
            }
        }
        float scale = 1.0f / lanes[0];
        float *out = row_of(b, b->scratch.attended, q, i);
        for (size_t d = 0; d < block->head_dim; d++) {
            out[d] = block->sums[i * block->value_stride + d] * scale;
        }
        if (b->kv.type == BACKEND_KV_INT8) {
            float factor = cpu_kv_turn(out, block->head_dim);
            for (size_t d = 0; d < block->head_dim; d++) {
                out[d] /= factor;
            }
        }
    }
}

static void attend_page(const struct attention *a, struct attention_block *block, uint32_t page, size_t kv_head,
                        int32_t first_key)
{
    const struct backend *b = a->b;
    const void *keys = cpu_kv_keys(&b->kv, page, a->layer, kv_head);
    const void *values = cpu_kv_values(&b->kv, page, a->layer, kv_head);
    struct attention_page_s8 codes;
    switch (b->kv.type) {
    case BACKEND_KV_F16:
        b->kernels->attend_page_f16(block, keys, values, first_key);
        break;
    case BACKEND_KV_F32:
        b->kernels->attend_page_f32(block, keys, values, first_key);
        break;
    case BACKEND_KV_INT8:
        codes = cpu_kv_page_s8(&b->kv, page, a->layer, kv_head);
        b->kernels->attend_page_s8(block, &codes, first_key);
        break;
    }
}

static void attention_task(void *context, size_t task, size_t thread)
{
    const struct attention *a = context;
    const struct backend *b = a->b;
    const struct cpu_active *active = find_active(b, task);
    const struct backend_sequence *sequence = active->sequence;
    struct queries q = { .group = b->model->n_heads / b->model->n_kv_heads, .first_row = sequence->first_row };
    size_t queries = sequence->rows * q.group;
    size_t blocks = (queries + a->block_queries - 1) / a->block_queries;
    /* Counted from the sequence's last task, because only the ends are stored. */
    size_t index = blocks * b->model->n_kv_heads - (active->task_end - task);
    size_t kv_head = index / blocks;
    q.head = kv_head * q.group;
    q.first = index % blocks * a->block_queries;
    q.count = queries - q.first < a->block_queries ? queries - q.first : a->block_queries;

    struct attention_block block;
    prepare(b, &q, thread, &block);
    /* Positions ascend with the queries: the first begins first, the last ends last. */
    for (int32_t key = block.begin[0] / CPU_PAGE_TOKENS * CPU_PAGE_TOKENS; key < block.end[q.count - 1];
         key += CPU_PAGE_TOKENS) {
        attend_page(a, &block, sequence->pages[key / CPU_PAGE_TOKENS], kv_head, key);
    }
    finish(b, &q, &block);
}

void cpu_attention(struct backend *b, const struct backend_batch *batch, size_t layer)
{
    if (b->exact) {
        exact_attention(b, batch, layer);
        return;
    }
    struct attention a = { .b = b, .batch = batch, .layer = layer, .block_queries = CPU_QUERIES_MAX };
    size_t tasks = count_tasks(b, a.block_queries);
    while (tasks < 2 * pool_threads(b->pool) && a.block_queries > 1) {
        a.block_queries /= 2;
        tasks = count_tasks(b, a.block_queries);
    }
    pool_run(b->pool, attention_task, &a, tasks);
}

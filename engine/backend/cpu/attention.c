#include "engine/backend/cpu/attention.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "engine/backend/cpu/attention_plan.h"
#include "engine/backend/cpu/exact.h"
#include "engine/backend/cpu/input.h"

_Static_assert(CPU_PAGE_TOKENS == BACKEND_PAGE_TOKENS && CPU_LANES == KV_LANES,
               "kernels and pages agree");

struct attention {
    struct backend *b;
    size_t layer;
    struct q8 *mixed; /* the results are quantized here too; NULL: they are not */
};

void cpu_attention_start(struct backend *b, const struct backend_batch *batch)
{
    if (!b->exact) {
        attention_plan_make(b, batch);
    }
}

/* Queries in the order row, head: `count` of them from `first`, all of one key/value head. */
struct queries {
    const struct attention_row *rows;
    size_t head; /* the first query head of the group */
    size_t group;
    size_t first, count;
};

static const struct attention_row *row_of(const struct queries *q, size_t i)
{
    return &q->rows[(q->first + i) / q->group];
}

static size_t head_of(const struct queries *q, size_t i)
{
    return q->head + (q->first + i) % q->group;
}

static const float *query_of(const struct backend *b, const struct queries *q, size_t i)
{
    return b->scratch.q +
           (row_of(q, i)->row * b->model->n_heads + head_of(q, i)) * b->model->head_dim;
}

/* What a thread works with, in its scratch memory. */
struct desk {
    struct attention_block block;
    float *scaled;
    float merged_maximum[CPU_QUERIES_MAX];
    float *merged_total, *merged_sums; /* as the block's */
};

size_t cpu_attention_thread_bytes(const struct block_model *model)
{
    size_t stride = cpu_round_up(model->head_dim, CPU_LANES);
    size_t floats = stride * 3 + CPU_LANES * 2 + CPU_PAGE_TOKENS;
    return CPU_QUERIES_MAX *
           (floats * sizeof(float) + (stride + CPU_PAGE_TOKENS) * sizeof(int16_t));
}

static void desk_init(const struct backend *b, size_t thread, struct desk *desk)
{
    size_t dims = b->model->head_dim;
    size_t stride = cpu_round_up(dims, CPU_LANES);
    struct attention_block *block = &desk->block;
    desk->scaled = cpu_thread_scratch(b, thread);
    *block = (struct attention_block){.head_dim = dims, .value_stride = stride, .q = desk->scaled};
    block->sums = desk->scaled + CPU_QUERIES_MAX * stride;
    desk->merged_sums = block->sums + CPU_QUERIES_MAX * stride;
    block->total = desk->merged_sums + CPU_QUERIES_MAX * stride;
    desk->merged_total = block->total + CPU_QUERIES_MAX * CPU_LANES;
    block->scores = desk->merged_total + CPU_QUERIES_MAX * CPU_LANES;
    block->weights = (int16_t *)(void *)(block->scores + CPU_QUERIES_MAX * CPU_PAGE_TOKENS);
    block->q_codes = block->weights + CPU_QUERIES_MAX * CPU_PAGE_TOKENS;
}

/* The queries, turned as the keys are, as whole numbers; for pages of int8. */
static void quantize_queries(const struct backend *b, struct desk *desk)
{
    struct attention_block *block = &desk->block;
    size_t dims = block->head_dim;
    size_t padded = cpu_round_up(dims, 2);
    int16_t *codes = block->weights + CPU_QUERIES_MAX * CPU_PAGE_TOKENS;
    for (size_t i = 0; i < block->queries; i++) {
        float *q = desk->scaled + i * dims;
        float factor = cpu_kv_turn(q, dims);
        codes[i * padded + padded - 1] = 0;
        block->q_scale[i] =
            b->kernels->to_s16(q, codes + i * padded, dims, attention_q_limit(dims)) / factor;
    }
}

static void begin_range(struct attention_block *block)
{
    memset(block->sums, 0, block->queries * block->value_stride * sizeof(float));
    memset(block->total, 0, block->queries * CPU_LANES * sizeof(float));
    for (size_t i = 0; i < block->queries; i++) {
        block->maximum[i] = -INFINITY;
    }
}

static void take_queries(const struct backend *b, const struct queries *q, struct desk *desk)
{
    struct attention_block *block = &desk->block;
    size_t dims = block->head_dim;
    block->queries = q->count;
    for (size_t i = 0; i < q->count; i++) {
        const float *source = query_of(b, q, i);
        for (size_t d = 0; d < dims; d++) {
            desk->scaled[i * dims + d] = source[d] * b->model->attention_scale;
        }
        block->begin[i] = row_of(q, i)->begin;
        block->end[i] = row_of(q, i)->end;
    }
    if (b->kv.type == BACKEND_KV_INT8) {
        quantize_queries(b, desk);
    }
}

static void attend_page(const struct attention *a, struct attention_block *block, uint32_t page,
                        size_t kv_head, int32_t first_key)
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

/* The block's softmax over keys from .. to - 1, which lie in one range. `last` is the last key the
 * task will read. */
static void attend_range(const struct attention *a, struct attention_block *block,
                         const struct backend_sequence *sequence, size_t kv_head, int32_t from,
                         int32_t to, int32_t last)
{
    const struct cpu_kv *kv = &a->b->kv;
    begin_range(block);
    for (int32_t key = from / CPU_PAGE_TOKENS * CPU_PAGE_TOKENS; key < to; key += CPU_PAGE_TOKENS) {
        bool more = key + CPU_PAGE_TOKENS <= last;
        uint32_t next = sequence->pages[key / CPU_PAGE_TOKENS + (more ? 1 : 0)];
        block->next_keys = more ? cpu_kv_keys(kv, next, a->layer, kv_head) : NULL;
        block->next_values = more ? cpu_kv_values(kv, next, a->layer, kv_head) : NULL;
        attend_page(a, block, sequence->pages[key / CPU_PAGE_TOKENS], kv_head, key);
    }
}

/* The keys that any of the block's queries sees. */
static void seen_keys(const struct attention_block *block, int32_t *from, int32_t *to)
{
    *from = block->begin[0];
    *to = block->end[0];
    for (size_t i = 1; i < block->queries; i++) {
        *from = block->begin[i] < *from ? block->begin[i] : *from;
        *to = block->end[i] > *to ? block->end[i] : *to;
    }
}

/* From the softmax's totals and sums to the result of a row's head; both are worked on. */
static void finish(const struct attention *a, float *total, float *sums, size_t row, size_t head)
{
    const struct backend *b = a->b;
    size_t dims = b->model->head_dim;
    float *out =
        a->mixed != NULL ? sums : b->scratch.attended + (row * b->model->n_heads + head) * dims;
    for (size_t apart = CPU_LANES / 2; apart > 0; apart /= 2) {
        for (size_t j = 0; j < apart; j++) {
            total[j] += total[j + apart];
        }
    }
    float scale = 1.0f / total[0];
    if (b->kv.type == BACKEND_KV_INT8) {
        scale /= cpu_kv_turn(sums, dims);
    }
    for (size_t d = 0; d < dims; d++) {
        out[d] = sums[d] * scale;
    }
    if (a->mixed != NULL) {
        size_t blocks = dims / R16_BLOCK;
        q8_put(a->mixed, b->kernels, row, head * blocks, blocks, out);
    }
}

/* A block of queries over all its keys, range after range. */
static void attend_whole(const struct attention *a, const struct attention_part *part,
                         struct queries *q, size_t kv_head, struct desk *desk)
{
    const struct backend *b = a->b;
    struct attention_block *block = &desk->block;
    size_t stride = block->value_stride;
    size_t left = part->rows * q->group - q->first;
    q->count = left < part->task_ranges ? left : part->task_ranges;
    take_queries(b, q, desk);
    for (size_t i = 0; i < q->count; i++) {
        desk->merged_maximum[i] = -INFINITY;
    }
    int32_t from;
    int32_t to;
    seen_keys(block, &from, &to);
    while (from < to) {
        int32_t end = (from / ATTENTION_RANGE + 1) * ATTENTION_RANGE;
        attend_range(a, block, q->rows->sequence, kv_head, from, end < to ? end : to, to - 1);
        for (size_t i = 0; i < q->count; i++) {
            b->kernels->attend_merge(&desk->merged_maximum[i], desk->merged_total + i * CPU_LANES,
                                     desk->merged_sums + i * stride, block->maximum[i],
                                     block->total + i * CPU_LANES, block->sums + i * stride,
                                     stride);
        }
        from = end;
    }
    for (size_t i = 0; i < q->count; i++) {
        finish(a, desk->merged_total + i * CPU_LANES, desk->merged_sums + i * stride,
               row_of(q, i)->row, head_of(q, i));
    }
}

static float *slot_of(const struct backend *b, const struct attention_row *row, size_t head,
                      size_t range)
{
    return b->scratch.plan.slots + (row->slot + head * row->slot_ranges + range) *
                                       attention_slot_floats(b->model->head_dim);
}

static void store_slots(const struct backend *b, const struct queries *q,
                        const struct attention_block *block, size_t range)
{
    size_t stride = block->value_stride;
    for (size_t i = 0; i < q->count; i++) {
        float *slot = slot_of(b, row_of(q, i), head_of(q, i), range);
        memcpy(slot, block->sums + i * stride, stride * sizeof(*slot));
        memcpy(slot + stride, block->total + i * CPU_LANES, CPU_LANES * sizeof(*slot));
        slot[stride + CPU_LANES] = block->maximum[i];
    }
}

/* Some ranges of a part for all its queries, into slots. */
static void attend_ranges(const struct attention *a, const struct attention_part *part,
                          struct queries *q, size_t chunk, size_t kv_head, struct desk *desk)
{
    size_t queries = part->rows * q->group;
    size_t first = part->range + chunk * part->task_ranges;
    size_t end =
        first + part->task_ranges < part->range_end ? first + part->task_ranges : part->range_end;
    for (size_t range = first; range < end; range++) {
        for (q->first = 0; q->first < queries; q->first += CPU_QUERIES_MAX) {
            q->count = queries - q->first < CPU_QUERIES_MAX ? queries - q->first : CPU_QUERIES_MAX;
            take_queries(a->b, q, desk);
            int32_t from;
            int32_t to;
            seen_keys(&desk->block, &from, &to);
            int32_t begins = (int32_t)(range * ATTENTION_RANGE);
            int32_t ends = begins + ATTENTION_RANGE;
            int32_t last =
                (to < (int32_t)(end * ATTENTION_RANGE) ? to : (int32_t)(end * ATTENTION_RANGE)) - 1;
            from = from > begins ? from : begins;
            to = to < ends ? to : ends;
            if (from < to) {
                attend_range(a, &desk->block, q->rows->sequence, kv_head, from, to, last);
                store_slots(a->b, q, &desk->block, range);
            }
        }
    }
}

/* One row and one query head, from its slots. */
static void merge_head(const struct attention *a, const struct attention_row *row, size_t head,
                       size_t thread)
{
    const struct backend *b = a->b;
    size_t stride = cpu_round_up(b->model->head_dim, CPU_LANES);
    float *sums = cpu_thread_scratch(b, thread);
    float *total = sums + stride;
    float maximum = -INFINITY;
    for (int32_t key = row->begin; key < row->end;
         key = (key / ATTENTION_RANGE + 1) * ATTENTION_RANGE) {
        const float *slot = slot_of(b, row, head, (size_t)key / ATTENTION_RANGE);
        b->kernels->attend_merge(&maximum, total, sums, slot[stride + CPU_LANES], slot + stride,
                                 slot, stride);
    }
    finish(a, total, sums, row->row, head);
}

/* A task of the part has filled slots: the last one of a row merges them, and makes the count ready
 * for the next layer. */
static void count_down(const struct attention *a, const struct attention_part *part, size_t kv_head,
                       size_t group, size_t thread)
{
    const struct attention_plan *plan = &a->b->scratch.plan;
    for (size_t i = part->first; i < part->first + part->rows; i++) {
        const struct attention_row *row = &plan->rows[i];
        _Atomic uint32_t *left = &plan->left[i * a->b->model->n_kv_heads + kv_head];
        /* Release what this task put into slots; the last one acquires what all did. */
        if (atomic_fetch_sub_explicit(left, 1, memory_order_acq_rel) == 1) {
            atomic_store_explicit(left, row->tasks, memory_order_relaxed);
            for (size_t head = kv_head * group; head < (kv_head + 1) * group; head++) {
                merge_head(a, row, head, thread);
            }
        }
    }
}

static void attention_task(void *context, size_t task, size_t thread)
{
    const struct attention *a = context;
    const struct backend *b = a->b;
    const struct attention_plan *plan = &b->scratch.plan;
    const struct attention_part *part = attention_plan_find(plan, task);
    size_t units =
        (part->task_end - (part == plan->parts ? 0 : part[-1].task_end)) / b->model->n_kv_heads;
    size_t index = task - (part == plan->parts ? 0 : part[-1].task_end);
    size_t kv_head = index / units;
    size_t group = b->model->n_heads / b->model->n_kv_heads;
    struct queries q = {.rows = plan->rows + part->first, .head = kv_head * group, .group = group};
    struct desk desk;
    desk_init(b, thread, &desk);
    if (part->whole) {
        /* The last queries see the most keys: they come first, so that the last tasks are short. */
        q.first = (units - 1 - index % units) * part->task_ranges;
        attend_whole(a, part, &q, kv_head, &desk);
    } else {
        attend_ranges(a, part, &q, index % units, kv_head, &desk);
        count_down(a, part, kv_head, group, thread);
    }
}

bool cpu_attention(struct backend *b, const struct backend_batch *batch, size_t layer,
                   const struct cpu_matrix *out)
{
    if (b->exact) {
        exact_attention(b, batch, layer);
        return false;
    }
    struct attention a = {.b = b, .layer = layer};
    if (out->order == CPU_ORDER_R16) {
        struct q8 *mixed = &b->scratch.mixed;
        q8_start(mixed, b->kernels, batch->rows, b->scratch.prompt_rows, out->cols,
                 q8_parts_of(out->r16.kind));
        bool whole = b->model->head_dim % (q8_put_blocks(mixed) * R16_BLOCK) == 0;
        a.mixed = whole ? mixed : NULL;
    }
    pool_run(b->pool, attention_task, &a, attention_plan_tasks(&b->scratch.plan));
    if (a.mixed != NULL) {
        cpu_input_take(b, a.mixed);
    }
    return a.mixed != NULL;
}

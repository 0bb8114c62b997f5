#include "engine/backend/cpu/attention_plan.h"

#include <stdatomic.h>

#define NARROW_ROWS       16 /* of a sequence, at most: drafts to be verified come with a few rows */
#define SLOT_BYTES        ((size_t)8 << 20)
#define SLOT_THREAD_BYTES ((size_t)256 << 10)
#define THREAD_TASKS      8 /* wanted for each thread, so that the last ones are short */

void attention_plan_place(struct attention_plan *plan, struct cpu_layout *layout, size_t rows,
                          const struct block_model *model, size_t threads)
{
    size_t slot_bytes = attention_slot_floats(model->head_dim) * sizeof(float);
    plan->slot_max = (SLOT_BYTES + threads * SLOT_THREAD_BYTES) / slot_bytes;
    plan->rows = cpu_layout_part(layout, rows, sizeof(*plan->rows));
    plan->left = cpu_layout_part(layout, rows, model->n_kv_heads * sizeof(*plan->left));
    plan->parts = cpu_layout_part(layout, rows, 2 * sizeof(*plan->parts));
    plan->open = cpu_layout_part(layout, rows + 1, sizeof(*plan->open));
    plan->order = cpu_layout_part(layout, rows, sizeof(*plan->order));
    plan->shared = cpu_layout_part(layout, rows + 1, sizeof(*plan->shared));
    plan->slots = cpu_layout_part(layout, plan->slot_max, slot_bytes);
}

static size_t tokens_of(const struct backend_sequence *s)
{
    return (size_t)s->start + s->rows;
}

static size_t ranges_of(const struct backend_sequence *s)
{
    return (tokens_of(s) + ATTENTION_RANGE - 1) / ATTENTION_RANGE;
}

static bool is_narrow(const struct backend *b, const struct backend_sequence *s)
{
    return s->rows <= NARROW_ROWS &&
           s->rows * (b->model->n_heads / b->model->n_kv_heads) <= CPU_QUERIES_MAX;
}

/* Whole pages that both have; fewer than `limit` when they differ. */
static size_t common_pages(const struct backend_sequence *a, const struct backend_sequence *b)
{
    size_t tokens = tokens_of(a) < tokens_of(b) ? tokens_of(a) : tokens_of(b);
    size_t limit = tokens / BACKEND_PAGE_TOKENS;
    size_t i = 0;
    while (i < limit && a->pages[i] == b->pages[i]) {
        i++;
    }
    return i;
}

/* By the first page that differs; a sequence before those it is the beginning of. */
static bool comes_before(const struct backend_sequence *a, const struct backend_sequence *b)
{
    size_t i = common_pages(a, b);
    size_t pages_a = (tokens_of(a) + BACKEND_PAGE_TOKENS - 1) / BACKEND_PAGE_TOKENS;
    size_t pages_b = (tokens_of(b) + BACKEND_PAGE_TOKENS - 1) / BACKEND_PAGE_TOKENS;
    if (i < pages_a && i < pages_b) {
        return a->pages[i] < b->pages[i];
    }
    return pages_a < pages_b;
}

/* Shell's sort (1959): in place, and quick for the few that there are. */
static void sort(const struct backend_sequence **order, size_t count)
{
    size_t gap = 1;
    while (gap < count / 3) {
        gap = 3 * gap + 1;
    }
    for (; gap > 0; gap /= 3) {
        for (size_t i = gap; i < count; i++) {
            const struct backend_sequence *s = order[i];
            size_t j = i;
            for (; j >= gap && comes_before(s, order[j - gap]); j -= gap) {
                order[j] = order[j - gap];
            }
            order[j] = s;
        }
    }
}

static void add_rows(struct backend *b, const struct backend_sequence *s, size_t slot,
                     size_t slot_ranges)
{
    struct attention_plan *plan = &b->scratch.plan;
    int32_t window = b->model->sliding_window;
    for (size_t i = 0; i < s->rows; i++) {
        int32_t position = s->start + (int32_t)i;
        plan->rows[plan->row_count++] = (struct attention_row){
            .sequence = s,
            .row = s->first_row + i,
            .slot = slot + i * b->model->n_heads * slot_ranges,
            .slot_ranges = slot_ranges,
            .begin = window > 0 && position >= window ? position - window + 1 : 0,
            .end = position + 1,
        };
    }
}

static void add_part(struct attention_plan *plan, size_t first, size_t end, size_t range,
                     size_t range_end)
{
    if (range < range_end) {
        plan->parts[plan->part_count++] = (struct attention_part){
            .first = first, .rows = end - first, .range = range, .range_end = range_end};
    }
}

static void add_whole(struct backend *b, const struct backend_sequence *s)
{
    struct attention_plan *plan = &b->scratch.plan;
    size_t first = plan->row_count;
    add_rows(b, s, 0, 0);
    plan->parts[plan->part_count++] =
        (struct attention_part){.first = first, .rows = s->rows, .whole = true};
}

/* Slots for the sequences that share ranges with a neighbour or are long, as long as there are any
 * left. Those with slots move to the front of `order`, in their order; returns how many they are.
 */
static size_t choose_slots(struct backend *b, size_t count, size_t task_ranges)
{
    struct attention_plan *plan = &b->scratch.plan;
    size_t kept = 0;
    size_t used = 0;
    size_t before =
        0; /* ranges in common with the last one kept, as far as the ones between have them */
    for (size_t i = 0; i < count; i++) {
        const struct backend_sequence *s = plan->order[i];
        size_t after = i + 1 < count ? plan->shared[i + 1] : 0;
        size_t ranges = ranges_of(s);
        size_t need = s->rows * b->model->n_heads * ranges;
        before = before < plan->shared[i] ? before : plan->shared[i];
        if ((before > 0 || after > 0 || ranges > 2 * task_ranges) &&
            need <= plan->slot_max - used) {
            plan->order[i] = plan->order[kept];
            plan->order[kept] = s;
            plan->shared[kept] = before;
            plan->open[kept].depth = used; /* until add_rows below */
            kept++;
            used += need;
            before = SIZE_MAX;
        }
    }
    for (size_t i = 0; i < kept; i++) {
        add_rows(b, plan->order[i], plan->open[i].depth, ranges_of(plan->order[i]));
    }
    return kept;
}

/* The parts of the first `count` sequences of the order: an interval of the order stays open as
 * long as its ranges are common to it, and becomes a part when it closes. */
static void share_ranges(struct attention_plan *plan, size_t count)
{
    size_t opened = 0;
    size_t row = 0;
    for (size_t i = 0; i <= count; i++) {
        size_t common = i == 0 || i == count ? 0 : plan->shared[i];
        size_t first = row;
        while (opened > 0 && plan->open[opened - 1].depth > common) {
            struct attention_open closed = plan->open[--opened];
            size_t below = opened > 0 ? plan->open[opened - 1].depth : 0;
            add_part(plan, closed.first, row, below > common ? below : common, closed.depth);
            first = closed.first;
        }
        if (i == count) {
            break;
        }
        if (common > 0 && (opened == 0 || plan->open[opened - 1].depth < common)) {
            plan->open[opened++] = (struct attention_open){.first = first, .depth = common};
        }
        plan->open[opened++] =
            (struct attention_open){.first = row, .depth = ranges_of(plan->order[i])};
        row += plan->order[i]->rows;
    }
}

static void count_tasks(struct backend *b, size_t block_queries, size_t task_ranges)
{
    struct attention_plan *plan = &b->scratch.plan;
    size_t group = b->model->n_heads / b->model->n_kv_heads;
    size_t tasks = 0;
    for (size_t i = 0; i < plan->part_count; i++) {
        struct attention_part *part = &plan->parts[i];
        size_t units = part->whole ? part->rows * group : part->range_end - part->range;
        part->task_ranges = part->whole ? block_queries : task_ranges;
        tasks += b->model->n_kv_heads * ((units - 1) / part->task_ranges + 1);
        part->task_end = tasks;
    }
}

/* How many tasks fill the slots of each row. */
static void count_left(struct backend *b)
{
    struct attention_plan *plan = &b->scratch.plan;
    size_t kv_heads = b->model->n_kv_heads;
    for (size_t i = 0; i < plan->part_count; i++) {
        const struct attention_part *part = &plan->parts[i];
        size_t before = i == 0 ? 0 : part[-1].task_end;
        for (size_t row = part->first; !part->whole && row < part->first + part->rows; row++) {
            plan->rows[row].tasks += (uint32_t)((part->task_end - before) / kv_heads);
        }
    }
    for (size_t row = 0; row < plan->row_count; row++) {
        for (size_t head = 0; plan->rows[row].tasks > 0 && head < kv_heads; head++) {
            atomic_init(&plan->left[row * kv_heads + head], plan->rows[row].tasks);
        }
    }
}

/* Narrow sequences in order of their pages, and how many ranges each shares with the one before. */
static size_t order_narrow(struct backend *b, const struct backend_batch *batch, size_t *ret_ranges)
{
    struct attention_plan *plan = &b->scratch.plan;
    size_t count = 0;
    *ret_ranges = 0;
    for (size_t i = 0; i < batch->sequence_count; i++) {
        if (batch->sequences[i].rows > 0 && is_narrow(b, &batch->sequences[i])) {
            plan->order[count++] = &batch->sequences[i];
            *ret_ranges += ranges_of(&batch->sequences[i]);
        }
    }
    sort(plan->order, count);
    for (size_t i = 0; i < count; i++) {
        size_t pages = i == 0 ? 0 : common_pages(plan->order[i - 1], plan->order[i]);
        plan->shared[i] = pages / ATTENTION_RANGE_PAGES;
    }
    return count;
}

void attention_plan_make(struct backend *b, const struct backend_batch *batch)
{
    struct attention_plan *plan = &b->scratch.plan;
    size_t wanted = THREAD_TASKS * pool_threads(b->pool);
    size_t ranges;
    plan->row_count = plan->part_count = 0;
    size_t narrow = order_narrow(b, batch, &ranges);
    size_t task_ranges = ranges * b->model->n_kv_heads / wanted + 1;
    size_t kept = choose_slots(b, narrow, task_ranges);
    share_ranges(plan, kept);
    for (size_t i = kept; i < narrow; i++) {
        add_whole(b, plan->order[i]);
    }
    for (size_t i = 0; i < batch->sequence_count; i++) {
        if (batch->sequences[i].rows > 0 && !is_narrow(b, &batch->sequences[i])) {
            add_whole(b, &batch->sequences[i]);
        }
    }
    size_t block_queries = CPU_QUERIES_MAX;
    count_tasks(b, block_queries, task_ranges);
    while (attention_plan_tasks(plan) < wanted / 2 && block_queries > 4) {
        block_queries /= 2;
        count_tasks(b, block_queries, task_ranges);
    }
    count_left(b);
}

const struct attention_part *attention_plan_find(const struct attention_plan *plan, size_t task)
{
    size_t low = 0;
    size_t high = plan->part_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (plan->parts[middle].task_end <= task) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return &plan->parts[low];
}

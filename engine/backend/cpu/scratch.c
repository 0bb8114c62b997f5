#include "engine/backend/cpu/step.h"

#include "engine/backend/cpu/attention.h"
#include "engine/backend/cpu/attention_plan.h"
#include "engine/backend/cpu/exact.h"
#include "engine/backend/cpu/matmul.h"

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static void place(struct backend *b, struct cpu_layout *layout)
{
    const struct block_model *model = b->model;
    struct cpu_scratch *s = &b->scratch;
    size_t rows = b->max_rows;
    size_t q =
        model->n_heads * model->head_dim; /* both bounded by the query matrix, which fits memory */
    size_t kv = model->n_kv_heads * model->head_dim;
    size_t f = sizeof(float);
    s->normed = cpu_layout_part(layout, rows, model->n_embd * f);
    s->q = cpu_layout_part(layout, rows, q * f);
    s->k = cpu_layout_part(layout, rows, kv * f);
    s->v = cpu_layout_part(layout, rows, kv * f);
    s->attended = cpu_layout_part(layout, rows, q * f);
    s->gate = cpu_layout_part(layout, rows, model->n_ff * f);
    s->up = cpu_layout_part(layout, rows, model->n_ff * f);
    s->out = cpu_layout_part(layout, rows, model->n_embd * f);
    s->rope = cpu_layout_part(layout, rows, model->rope_dims * f);
    s->position = cpu_layout_part(layout, rows, sizeof(*s->position));
    s->page = cpu_layout_part(layout, rows, sizeof(*s->page));
    s->roots.squares = cpu_layout_part(layout, rows, model->n_embd / R16_BLOCK * f);
    s->roots.inverse = cpu_layout_part(layout, rows, pool_threads(b->pool) * f);
    s->roots.run =
        cpu_layout_part(layout, pool_threads(b->pool), ROOTS_STRIDE * sizeof(*s->roots.run));
    attention_plan_place(&s->plan, layout, rows, model, pool_threads(b->pool));
    q8_place(&s->q8, layout, b->terms, b->prompts, rows, b->weights.max_r16_cols);
    q8_place(&s->mixed, layout, b->terms, b->prompts, rows, b->weights.max_r16_cols);
    q8_place(&s->gated, layout, b->terms, b->prompts, rows,
             b->weights.max_r16_cols == 0 ? 0 : model->n_ff);
    size_t bytes = larger(exact_thread_bytes(b->weights.max_cols, model->head_dim),
                          cpu_attention_thread_bytes(model));
    bytes = larger(bytes, cpu_matmul_thread_bytes(b));
    bytes = larger(bytes, model->head_dim * (sizeof(float) + 1)); /* cpu_kv_store */
    s->thread_bytes = cpu_round_up(bytes, CPU_ALIGN);
    s->threads = cpu_layout_part(layout, pool_threads(b->pool), s->thread_bytes);
}

enum phid_status cpu_scratch_open(struct backend *b, struct phid_error *err)
{
    struct cpu_layout layout = {0};
    place(b, &layout);
    if (layout.failed) {
        return phid_fail(err, PHID_ERR_MEMORY,
                         "scratch memory for batches of %zu rows is more than fits", b->max_rows);
    }
    enum phid_status status = cpu_memory_open(
        layout.used, "scratch of a step",
        (struct cpu_memory_policy){.huge_pages = b->policy.huge_pages}, &b->scratch.memory, err);
    if (status == PHID_OK) {
        layout = (struct cpu_layout){.data = b->scratch.memory.data};
        place(b, &layout);
    }
    return status;
}

void cpu_scratch_close(struct cpu_scratch *s)
{
    cpu_memory_close(&s->memory);
    *s = (struct cpu_scratch){0};
}

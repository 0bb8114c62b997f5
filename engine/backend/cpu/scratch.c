#include "engine/backend/cpu/step.h"

#include "engine/backend/cpu/exact.h"

static void place(struct backend *b, struct cpu_layout *layout)
{
    const struct block_model *model = b->model;
    struct cpu_scratch *s = &b->scratch;
    size_t rows = b->max_rows;
    size_t q = model->n_heads * model->head_dim; /* both bounded by the query matrix, which fits memory */
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
    s->thread_floats = cpu_round_up(exact_thread_floats(b->weights.max_cols, model->head_dim), CPU_ALIGN);
    s->threads = cpu_layout_part(layout, pool_threads(b->pool), s->thread_floats * f);
}

enum phid_status cpu_scratch_open(struct backend *b, struct phid_error *err)
{
    struct cpu_layout layout = { 0 };
    place(b, &layout);
    if (layout.failed) {
        return phid_fail(err, PHID_ERR_MEMORY, "scratch memory for batches of %zu rows is more than fits", b->max_rows);
    }
    enum phid_status status = cpu_memory_open(layout.used, "scratch of a step", &b->scratch.memory, err);
    if (status == PHID_OK) {
        layout = (struct cpu_layout){ .data = b->scratch.memory.data };
        place(b, &layout);
    }
    return status;
}

void cpu_scratch_close(struct cpu_scratch *s)
{
    cpu_memory_close(&s->memory);
    *s = (struct cpu_scratch){ 0 };
}

#include "engine/backend/cpu/weights.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "engine/backend/cpu/lanes.h"
#include "engine/base/checked.h"

/* One matrix to move: where it comes from and where it goes. */
struct move {
    const struct block_matrix *from;
    struct cpu_matrix *to;
    atomic_bool not_finite; /* set by any task; read when pool_run has returned, which orders it */
};

/* The load in progress: the same walk over the model first counts bytes, then hands out memory and collects moves. */
struct plan {
    struct cpu_layout layout;
    const struct cpu_load *load;
    struct move *moves;
    size_t move_count;
    size_t max_cols;
    size_t max_r16_cols;
};

/* The order of a matrix and how many parts of what size it has; 0 parts when that does not fit. */
static size_t plan_order(struct cpu_matrix *m, bool exact, size_t row_bytes)
{
    if (exact) {
        m->order = CPU_ORDER_FILE;
        m->part_bytes = row_bytes;
        return m->rows;
    }
    size_t groups = r16_groups(m->rows);
    if (lanes_kind_of(m->format->type, &m->lanes.kind)) {
        m->order = CPU_ORDER_LANES;
        m->part_bytes = lanes_group_bytes(m->lanes.kind, m->cols);
    } else if (m->cols % R16_BLOCK == 0 && r16_kind_of(m->format->type, &m->r16.kind)) {
        m->order = CPU_ORDER_R16;
        m->part_bytes = r16_group_bytes(m->r16.kind, m->cols);
    }
    return m->part_bytes == 0 ? 0 : groups;
}

static enum phid_status plan_matrix(struct plan *p, const struct block_matrix *from, struct cpu_matrix *to,
                                    struct phid_error *err)
{
    size_t row_bytes = quant_row_bytes(from->format, from->cols);
    if (from->data == NULL || from->rows == 0 || row_bytes == 0) {
        return phid_fail(err, PHID_ERR_ARGUMENT, "%s: no matrix of [%zu, %zu]", from->name, from->rows, from->cols);
    }
    *to = (struct cpu_matrix){ .format = from->format, .name = from->name, .rows = from->rows, .cols = from->cols };
    size_t parts = plan_order(to, p->load->exact, row_bytes);
    if (parts == 0 || !checked_mul(parts, to->part_bytes, &to->bytes)) {
        return phid_fail(err, PHID_ERR_UNSUPPORTED, "%s: no kernel for %s [%zu, %zu]", from->name, from->format->name,
                         from->rows, from->cols);
    }
    to->data = cpu_layout_part(&p->layout, to->bytes, 1);
    to->r16.rows = to->lanes.rows = to->rows;
    to->r16.cols = to->lanes.cols = to->cols;
    to->r16.group_bytes = to->lanes.group_bytes = to->part_bytes;
    to->r16.data = to->lanes.data = to->data;
    if (to->order == CPU_ORDER_R16 && to->cols > p->max_r16_cols) {
        p->max_r16_cols = to->cols;
    }
    p->max_cols = from->cols > p->max_cols ? from->cols : p->max_cols;
    if (to->data != NULL) {
        p->moves[p->move_count].from = from;
        p->moves[p->move_count].to = to;
    }
    p->move_count++;
    return PHID_OK;
}

/* NULL stays NULL. */
static const float *plan_vector(struct plan *p, const float *from, size_t count)
{
    if (from == NULL) {
        return NULL;
    }
    float *to = cpu_layout_part(&p->layout, count, sizeof(*to));
    if (to != NULL) {
        memcpy(to, from, count * sizeof(*to));
    }
    return to;
}

static enum phid_status plan_layer(struct plan *p, const struct block_layer *from, struct cpu_layer *to,
                                   struct phid_error *err)
{
    const struct block_model *model = p->load->model;
    const struct block_matrix *const matrices[] = { &from->q,    &from->k,  &from->v,   &from->attn_out,
                                                    &from->gate, &from->up, &from->down };
    struct cpu_matrix *const places[] = { &to->q, &to->k, &to->v, &to->attn_out, &to->gate, &to->up, &to->down };
    for (size_t i = 0; i < sizeof(matrices) / sizeof(matrices[0]); i++) {
        enum phid_status status = plan_matrix(p, matrices[i], places[i], err);
        if (status != PHID_OK) {
            return status;
        }
    }
    to->attn_norm = plan_vector(p, from->attn_norm, model->n_embd);
    to->ffn_norm = plan_vector(p, from->ffn_norm, model->n_embd);
    to->q_bias = plan_vector(p, from->q_bias, from->q.rows);
    to->k_bias = plan_vector(p, from->k_bias, from->k.rows);
    to->v_bias = plan_vector(p, from->v_bias, from->v.rows);
    to->attn_out_bias = plan_vector(p, from->attn_out_bias, from->attn_out.rows);
    return PHID_OK;
}

static enum phid_status plan_all(struct plan *p, struct cpu_weights *w, struct phid_error *err)
{
    const struct cpu_load *load = p->load;
    const struct block_model *model = load->model;
    enum phid_status status = PHID_OK;
    for (size_t i = load->first; i < load->last && status == PHID_OK; i++) {
        status = plan_layer(p, &model->layers[i], &w->layers[i - load->first], err);
    }
    if (status == PHID_OK && load->embedding) {
        status = plan_matrix(p, &model->embedding, &w->embedding, err);
    }
    if (status == PHID_OK && load->head) {
        w->output_norm = plan_vector(p, model->output_norm, model->n_embd);
        if (load->embedding && model->output.data == model->embedding.data) {
            w->output = w->embedding;
        } else {
            status = plan_matrix(p, &model->output, &w->output, err);
        }
    }
    if (status == PHID_OK && p->layout.failed) {
        status = phid_fail(err, PHID_ERR_MEMORY, "the model's weights are more than fits");
    }
    return status;
}

#define TASK_PARTS 16

static void move_task(void *context, size_t task, size_t thread)
{
    (void)thread;
    struct move *move = context;
    struct cpu_matrix *to = move->to;
    size_t part_rows = to->order == CPU_ORDER_FILE ? 1 : R16_ROWS;
    size_t row_bytes = quant_row_bytes(to->format, to->cols);
    for (size_t i = task * TASK_PARTS; i < (task + 1) * TASK_PARTS && i * part_rows < to->rows; i++) {
        const unsigned char *src = (const unsigned char *)move->from->data + i * part_rows * row_bytes;
        size_t left = to->rows - i * part_rows;
        size_t rows = left < part_rows ? left : part_rows;
        unsigned char *dst = to->data + i * to->part_bytes;
        /* The int8 path would make ordinary numbers of NaN and infinite weights. */
        if (!quant_weights_finite(to->format, src, rows * to->cols)) {
            atomic_store_explicit(&move->not_finite, true, memory_order_relaxed);
        }
        switch (to->order) {
        case CPU_ORDER_FILE:
            memcpy(dst, src, row_bytes);
            break;
        case CPU_ORDER_R16:
            r16_pack_group(to->r16.kind, src, row_bytes, rows, to->cols, dst);
            break;
        case CPU_ORDER_LANES:
            lanes_pack_group(to->lanes.kind, src, rows, to->cols, dst);
            break;
        }
    }
}

static enum phid_status move_all(const struct plan *p, struct pool *pool, struct phid_error *err)
{
    for (size_t i = 0; i < p->move_count; i++) {
        struct move *move = &p->moves[i];
        pool_run(pool, move_task, move, move->to->bytes / move->to->part_bytes / TASK_PARTS + 1);
        if (p->load->release != NULL) {
            p->load->release(p->load->user, move->from);
        }
        if (move->not_finite) {
            return phid_fail(err, PHID_ERR_FORMAT, "tensor %s: a weight is not a finite number", move->from->name);
        }
    }
    return PHID_OK;
}

enum phid_status cpu_weights_open(struct cpu_weights *w, const struct cpu_load *load, struct pool *pool,
                                  struct phid_error *err)
{
    *w = (struct cpu_weights){ .layer_count = load->last - load->first };
    struct plan plan = { .load = load };
    if (w->layer_count != 0) {
        w->layers = calloc(w->layer_count, sizeof(*w->layers));
        if (w->layers == NULL) {
            return phid_fail(err, PHID_ERR_MEMORY, "no memory for %zu layers", w->layer_count);
        }
    }
    enum phid_status status = plan_all(&plan, w, err);
    if (status == PHID_OK) {
        status = cpu_memory_open(plan.layout.used, "weights", &w->memory, err);
    }
    if (status != PHID_OK) {
        goto fail;
    }
    plan.moves = calloc(plan.move_count, sizeof(*plan.moves));
    if (plan.moves == NULL && plan.move_count != 0) {
        status = phid_fail(err, PHID_ERR_MEMORY, "no memory for %zu matrices", plan.move_count);
        goto fail;
    }
    plan.layout = (struct cpu_layout){ .data = w->memory.data };
    plan.move_count = 0;
    status = plan_all(&plan, w, err);
    if (status != PHID_OK) {
        goto fail;
    }
    status = move_all(&plan, pool, err);
    if (status != PHID_OK) {
        goto fail;
    }
    w->max_cols = plan.max_cols;
    w->max_r16_cols = plan.max_r16_cols;
    free(plan.moves);
    return PHID_OK;

fail:
    free(plan.moves);
    cpu_weights_close(w);
    return status;
}

void cpu_weights_close(struct cpu_weights *w)
{
    free(w->layers);
    cpu_memory_close(&w->memory);
    *w = (struct cpu_weights){ 0 };
}

void cpu_matrix_row(const struct cpu_matrix *matrix, size_t row, float *dst)
{
    switch (matrix->order) {
    case CPU_ORDER_FILE:
        matrix->format->decode(matrix->data + row * matrix->part_bytes, dst, matrix->cols);
        break;
    case CPU_ORDER_R16:
        r16_row(&matrix->r16, row, dst);
        break;
    case CPU_ORDER_LANES:
        lanes_row(&matrix->lanes, row, dst);
        break;
    }
}

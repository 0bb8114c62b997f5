#include "engine/backend/cpu/weights.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "engine/backend/cpu/lanes.h"
#include "engine/base/checked.h"

/* One matrix to move: where it comes from and where it goes. The flags are set by any task and read
 * when pool_run has returned, which orders it. */
struct move {
    const struct block_matrix *from;
    struct cpu_matrix *to;
    atomic_bool not_usable, not_there;
    bool done;
};

/* What is left of a load. */
struct cpu_loading {
    struct cpu_load load;
    struct move *moves;
    size_t move_count;
    size_t next;    /* all before it are done */
    size_t pending; /* not done */
    unsigned char
        *desk; /* for each thread the rows of a part; NULL when they are read where they lie */
    size_t desk_bytes;
};

/* The load in progress: the same walk over the model first counts bytes, then hands out memory and
 * collects moves. */
struct plan {
    struct cpu_layout layout;
    const struct cpu_load *load;
    struct move *moves;
    size_t move_count;
    size_t max_cols;
    size_t max_r16_cols;
    size_t max_row_bytes;
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

static enum phid_status plan_matrix(struct plan *p, const struct block_matrix *from,
                                    struct cpu_matrix *to, struct phid_error *err)
{
    size_t row_bytes = quant_row_bytes(from->format, from->cols);
    if (from->data == NULL || from->rows == 0 || row_bytes == 0) {
        return phid_fail(err, PHID_ERR_ARGUMENT, "%s: no matrix of [%zu, %zu]", from->name,
                         from->rows, from->cols);
    }
    *to = (struct cpu_matrix){
        .format = from->format, .name = from->name, .rows = from->rows, .cols = from->cols};
    size_t parts = plan_order(to, p->load->exact, row_bytes);
    if (parts == 0 || !checked_mul(parts, to->part_bytes, &to->bytes)) {
        return phid_fail(err, PHID_ERR_UNSUPPORTED, "%s: no kernel for %s [%zu, %zu]", from->name,
                         from->format->name, from->rows, from->cols);
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
    p->max_row_bytes = row_bytes > p->max_row_bytes ? row_bytes : p->max_row_bytes;
    to->move = p->move_count;
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

static enum phid_status plan_layer(struct plan *p, const struct block_layer *from,
                                   struct cpu_layer *to, struct phid_error *err)
{
    const struct block_model *model = p->load->model;
    const struct block_matrix *const matrices[] = {
        &from->q, &from->k, &from->v, &from->attn_out, &from->gate, &from->up, &from->down};
    struct cpu_matrix *const places[] = {&to->q,    &to->k,  &to->v,   &to->attn_out,
                                         &to->gate, &to->up, &to->down};
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

struct moving {
    const struct cpu_loading *loading;
    struct move *move;
};

/* The rows of a part, in place or copied to the thread's desk; NULL when the file does not have
 * them any more. */
static const unsigned char *fetch(const struct moving *m, size_t first_row, size_t bytes,
                                  size_t row_bytes, size_t thread)
{
    const struct cpu_loading *l = m->loading;
    const unsigned char *src = (const unsigned char *)m->move->from->data + first_row * row_bytes;
    if (l->desk == NULL) {
        return src;
    }
    unsigned char *desk = l->desk + thread * l->desk_bytes;
    return l->load.read(l->load.read_user, src, bytes, desk) ? desk : NULL;
}

static void move_task(void *context, size_t task, size_t thread)
{
    const struct moving *m = context;
    struct move *move = m->move;
    struct cpu_matrix *to = move->to;
    size_t part_rows = to->order == CPU_ORDER_FILE ? 1 : R16_ROWS;
    size_t row_bytes = quant_row_bytes(to->format, to->cols);
    for (size_t i = task * TASK_PARTS; i < (task + 1) * TASK_PARTS && i * part_rows < to->rows;
         i++) {
        size_t left = to->rows - i * part_rows;
        size_t rows = left < part_rows ? left : part_rows;
        const unsigned char *src = fetch(m, i * part_rows, rows * row_bytes, row_bytes, thread);
        unsigned char *dst = to->data + i * to->part_bytes;
        if (src == NULL) {
            atomic_store_explicit(&move->not_there, true, memory_order_relaxed);
            return;
        }
        /* The int8 path would make ordinary numbers of NaN and infinite weights. */
        if (!quant_weights_finite(to->format, src, rows * to->cols) ||
            (to->order == CPU_ORDER_R16 && !r16_fits(to->format->type, src, rows * to->cols))) {
            atomic_store_explicit(&move->not_usable, true, memory_order_relaxed);
        }
        switch (to->order) {
        case CPU_ORDER_FILE:
            memcpy(dst, src, row_bytes);
            break;
        case CPU_ORDER_R16:
            r16_pack_group(to->format->type, src, row_bytes, rows, to->cols, dst);
            break;
        case CPU_ORDER_LANES:
            lanes_pack_group(to->lanes.kind, src, rows, to->cols, dst);
            break;
        }
    }
}

static void loading_free(struct cpu_loading *l)
{
    if (l != NULL) {
        free(l->moves);
        free(l->desk);
        free(l);
    }
}

static enum phid_status move_one(struct cpu_loading *l, size_t index, struct pool *pool,
                                 struct phid_error *err)
{
    struct move *move = &l->moves[index];
    struct moving m = {.loading = l, .move = move};
    pool_run(pool, move_task, &m, move->to->bytes / move->to->part_bytes / TASK_PARTS + 1);
    if (l->load.release != NULL) {
        l->load.release(l->load.user, move->from);
    }
    if (move->not_there) {
        return phid_fail(err, PHID_ERR_IO,
                         "tensor %s: the file has changed or was cut off since it was opened",
                         move->from->name);
    }
    if (move->not_usable) {
        return phid_fail(err, PHID_ERR_FORMAT,
                         "tensor %s: a weight is not a finite number, or its scale is above 2^104",
                         move->from->name);
    }
    move->done = true;
    l->pending--;
    return PHID_OK;
}

static void forget_when_done(struct cpu_weights *w)
{
    if (w->loading->pending == 0) {
        loading_free(w->loading);
        w->loading = NULL;
    }
}

enum phid_status cpu_weights_need(struct cpu_weights *w, struct pool *pool,
                                  const struct cpu_matrix *const *matrices, size_t count,
                                  struct phid_error *err)
{
    for (size_t i = 0; i < count && w->loading != NULL; i++) {
        if (w->loading->moves[matrices[i]->move].done) {
            continue;
        }
        enum phid_status status = move_one(w->loading, matrices[i]->move, pool, err);
        if (status != PHID_OK) {
            return status;
        }
        forget_when_done(w);
    }
    return PHID_OK;
}

enum phid_status cpu_weights_need_layer(struct cpu_weights *w, struct pool *pool, size_t layer,
                                        struct phid_error *err)
{
    const struct cpu_layer *l = &w->layers[layer];
    const struct cpu_matrix *const all[] = {&l->q,    &l->k,  &l->v,   &l->attn_out,
                                            &l->gate, &l->up, &l->down};
    return w->loading == NULL ? PHID_OK
                              : cpu_weights_need(w, pool, all, sizeof(all) / sizeof(all[0]), err);
}

enum phid_status cpu_weights_next(struct cpu_weights *w, struct pool *pool, bool *ret_done,
                                  struct phid_error *err)
{
    struct cpu_loading *l = w->loading;
    if (l != NULL) {
        while (l->next < l->move_count && l->moves[l->next].done) {
            l->next++;
        }
        enum phid_status status = l->pending == 0 ? PHID_OK : move_one(l, l->next, pool, err);
        if (status != PHID_OK) {
            return status;
        }
        forget_when_done(w);
    }
    *ret_done = w->loading == NULL;
    return PHID_OK;
}

/* The load's own memory, for a plan whose moves are counted. */
static struct cpu_loading *loading_new(const struct plan *plan, const struct cpu_load *load,
                                       size_t threads)
{
    struct cpu_loading *l = calloc(1, sizeof(*l));
    size_t desk;
    if (l == NULL) {
        return NULL;
    }
    *l = (struct cpu_loading){
        .load = *load, .move_count = plan->move_count, .pending = plan->move_count};
    l->moves = calloc(plan->move_count + 1, sizeof(*l->moves));
    l->desk_bytes = plan->max_row_bytes;
    if (load->read != NULL && checked_mul(l->desk_bytes, R16_ROWS, &l->desk_bytes) &&
        checked_mul(l->desk_bytes, threads, &desk)) {
        l->desk = malloc(desk + 1);
    }
    if (l->moves == NULL || (load->read != NULL && l->desk == NULL)) {
        loading_free(l);
        return NULL;
    }
    return l;
}

/* Counts what the load will take; *w has its layers afterwards, also after an error. */
static enum phid_status count_all(struct plan *p, struct cpu_weights *w, struct phid_error *err)
{
    *w = (struct cpu_weights){.layer_count = p->load->last - p->load->first};
    w->layers = calloc(w->layer_count + 1, sizeof(*w->layers));
    if (w->layers == NULL) {
        return phid_fail(err, PHID_ERR_MEMORY, "no memory for %zu layers", w->layer_count);
    }
    return plan_all(p, w, err);
}

enum phid_status cpu_weights_bytes(const struct cpu_load *load, size_t *ret_bytes,
                                   struct phid_error *err)
{
    struct cpu_weights w;
    struct plan plan = {.load = load};
    enum phid_status status = count_all(&plan, &w, err);
    if (status == PHID_OK) {
        *ret_bytes = plan.layout.used;
    }
    cpu_weights_close(&w);
    return status;
}

enum phid_status cpu_weights_open(struct cpu_weights *w, const struct cpu_load *load,
                                  struct pool *pool, struct phid_error *err)
{
    struct plan plan = {.load = load};
    enum phid_status status = count_all(&plan, w, err);
    if (status == PHID_OK) {
        status = cpu_memory_open(plan.layout.used, "weights", load->policy, &w->memory, err);
    }
    if (status != PHID_OK) {
        goto fail;
    }
    w->loading = loading_new(&plan, load, pool_threads(pool));
    if (w->loading == NULL) {
        status = phid_fail(err, PHID_ERR_MEMORY, "no memory to load %zu matrices", plan.move_count);
        goto fail;
    }
    plan.layout = (struct cpu_layout){.data = w->memory.data};
    plan.moves = w->loading->moves;
    plan.move_count = 0;
    status = plan_all(&plan, w, err);
    if (status != PHID_OK) {
        goto fail;
    }
    w->max_cols = plan.max_cols;
    w->max_r16_cols = plan.max_r16_cols;
    for (bool done = load->lazy; !done;) {
        status = cpu_weights_next(w, pool, &done, err);
        if (status != PHID_OK) {
            goto fail;
        }
    }
    return PHID_OK;

fail:
    cpu_weights_close(w);
    return status;
}

void cpu_weights_close(struct cpu_weights *w)
{
    loading_free(w->loading);
    free(w->layers);
    cpu_memory_close(&w->memory);
    *w = (struct cpu_weights){0};
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

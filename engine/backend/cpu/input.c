#include "engine/backend/cpu/input.h"

#include <math.h>

#include "engine/backend/cpu/exact.h"

#define NORM_BLOCKS 8 /* at once */

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* What the products need of int8 activations; 0: nothing. *ret_all: none needs anything else. */
static unsigned parts_needed(const struct cpu_product *products, size_t count, bool *ret_all)
{
    unsigned parts = 0;
    *ret_all = true;
    for (size_t i = 0; i < count; i++) {
        const struct cpu_matrix *matrix = products[i].matrix;
        bool quantized = matrix->order == CPU_ORDER_R16;
        parts |= quantized ? q8_parts_of(matrix->r16.kind) : 0;
        *ret_all = *ret_all && quantized;
    }
    return parts;
}

/* In an order that vectors of 4 and 8 keep. */
static float sum_of_squares(const float *x)
{
    float lanes[8] = {0};
    for (size_t i = 0; i < R16_BLOCK; i += 8) {
        for (size_t j = 0; j < 8; j++) {
            lanes[j] += x[i + j] * x[i + j];
        }
    }
    for (size_t apart = 4; apart > 0; apart /= 2) {
        for (size_t j = 0; j < apart; j++) {
            lanes[j] += lanes[j + apart];
        }
    }
    return lanes[0];
}

/* Blocks of one row; x and weight: their elements. */
static void weigh(const struct cpu_norm *n, size_t row, size_t first, size_t blocks, const float *x,
                  const float *weight)
{
    const struct cpu_roots *roots = &n->b->scratch.roots;
    float weighted[NORM_BLOCKS * R16_BLOCK];
    while (blocks > 0) {
        size_t here = smaller(blocks, NORM_BLOCKS);
        for (size_t i = 0; i < here; i++) {
            roots->squares[(first + i) * n->rows + row] = sum_of_squares(x + i * R16_BLOCK);
        }
        for (size_t i = 0; i < here * R16_BLOCK; i++) {
            weighted[i] = x[i] * weight[i];
        }
        q8_put(&n->b->scratch.q8, n->b->kernels, row, first, here, weighted);
        first += here;
        blocks -= here;
        x += here * R16_BLOCK;
        weight += here * R16_BLOCK;
    }
}

bool cpu_norm_begin(struct backend *b, const struct cpu_input *in, size_t rows,
                    const struct cpu_product *products, size_t count, struct cpu_norm *ret)
{
    bool all;
    unsigned parts = parts_needed(products, count, &all);
    if (!all || b->exact) {
        return false;
    }
    *ret =
        (struct cpu_norm){.b = b, .x = in->x, .weight = in->weight, .rows = rows, .cols = in->cols};
    q8_start(&b->scratch.q8, b->kernels, rows, b->scratch.prompt_rows, in->cols, parts);
    return true;
}

void cpu_norm_then(void *norm, size_t first, size_t count, size_t thread)
{
    (void)thread;
    const struct cpu_norm *n = norm;
    for (size_t row = 0; row < n->rows; row++) {
        weigh(n, row, first / R16_BLOCK, count / R16_BLOCK, n->x + row * n->cols + first,
              n->weight + first);
    }
}

void cpu_norm_end(struct backend *b)
{
    struct cpu_roots *roots = &b->scratch.roots;
    b->scratch.ready = &b->scratch.q8;
    roots->pending = true;
    roots->rows = b->scratch.q8.tokens + b->scratch.q8.prompt_rows;
    roots->runs++;
}

void cpu_input_take(struct backend *b, struct q8 *q8)
{
    b->scratch.ready = q8;
    b->scratch.roots.pending = false;
}

/* Row by row, blocks in ascending order. A row that is not finite has no root: zero times what is
 * left of it would look like an answer. */
const float *cpu_input_roots(struct backend *b, size_t thread)
{
    struct cpu_roots *roots = &b->scratch.roots;
    if (!roots->pending) {
        return NULL;
    }
    float *inverse = roots->inverse + thread * b->max_rows;
    uint64_t *run = &roots->run[thread * ROOTS_STRIDE];
    if (*run == roots->runs) {
        return inverse;
    }
    size_t blocks = b->scratch.q8.blocks;
    for (size_t row = 0; row < roots->rows; row++) {
        inverse[row] = 0;
    }
    for (size_t i = 0; i < blocks; i++) {
        const float *squares = roots->squares + i * roots->rows;
        for (size_t row = 0; row < roots->rows; row++) {
            inverse[row] += squares[row];
        }
    }
    float cols = (float)(blocks * R16_BLOCK);
    for (size_t row = 0; row < roots->rows; row++) {
        float root = sqrtf(inverse[row] / cols + b->model->norm_eps);
        inverse[row] = isfinite(root) ? 1.0f / root : NAN;
    }
    *run = roots->runs;
    return inverse;
}

struct preparing {
    struct backend *b;
    const struct cpu_input *in;
    const struct cpu_norm *norm; /* NULL: whole rows are normed, or none */
    struct q8 *q8;               /* NULL: not needed */
    size_t rows, task_rows;
};

static void prepare_row(const struct preparing *p, size_t row)
{
    const struct cpu_input *in = p->in;
    struct backend *b = p->b;
    const float *x = in->x + (in->rows == NULL ? row : in->rows[row]) * in->cols;
    if (p->norm != NULL) {
        weigh(p->norm, row, 0, in->cols / R16_BLOCK, x, in->weight);
        return;
    }
    if (in->weight != NULL) {
        float *normed = in->normed + row * in->cols;
        if (b->exact) {
            exact_norm(x, in->weight, in->cols, b->model->norm_eps, normed);
        } else {
            b->kernels->norm(x, in->weight, in->cols, b->model->norm_eps, normed);
        }
        x = normed;
    }
    if (p->q8 != NULL) {
        q8_put(p->q8, b->kernels, row, 0, in->cols / R16_BLOCK, x);
    }
}

static void prepare_task(void *context, size_t task, size_t thread)
{
    (void)thread;
    const struct preparing *p = context;
    size_t first = task * p->task_rows;
    size_t end = smaller(first + p->task_rows, p->rows);
    for (size_t row = first; row < end; row++) {
        prepare_row(p, row);
    }
}

void cpu_input_prepare(struct backend *b, const struct cpu_input *in, size_t rows,
                       const struct cpu_product *products, size_t count)
{
    struct preparing p = {.b = b, .in = in, .rows = rows, .task_rows = 1};
    struct cpu_norm norm;
    bool all;
    unsigned parts = parts_needed(products, count, &all);
    if (in->weight != NULL && cpu_norm_begin(b, in, rows, products, count, &norm)) {
        p.norm = &norm;
    } else if (parts != 0) {
        p.q8 = in->weight != NULL ? &b->scratch.q8 : &b->scratch.mixed;
        q8_start(p.q8, b->kernels, rows, b->scratch.prompt_rows, in->cols, parts);
    }
    if (rows >= b->kernels->tile_tokens * pool_threads(b->pool)) {
        p.task_rows = b->kernels->tile_tokens; /* which share cache lines */
    }
    if (p.q8 != NULL || in->weight != NULL) {
        pool_run(b->pool, prepare_task, &p, (rows - 1) / p.task_rows + 1);
    }
    if (p.norm != NULL) {
        cpu_norm_end(b);
    } else {
        cpu_input_take(b, p.q8);
    }
    cpu_profile_end(&b->profile, in->weight != NULL ? CPU_OP_NORM : CPU_OP_QUANTIZE, 0, 0);
}

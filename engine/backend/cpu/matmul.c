#include "engine/backend/cpu/matmul.h"

#include <string.h>

#include "engine/backend/cpu/exact.h"
#include "engine/backend/cpu/q8.h"

/* With so few tiles the time to read the weights counts: short panels, long tasks, and the next
 * panel's weights are fetched while the tiles use this one. With more of them panels are as long as
 * the kernel likes. */
#define FEW_TILES_MAX 8

/* Weights a task reads, roughly: long enough a stream, short enough to share out evenly. */
#define DIRECT_TASK_BYTES ((size_t)128 << 10)

struct matmul {
    struct backend *b;
    const float *x;
    size_t rows;
    const struct cpu_product *products;
    size_t count;
    size_t task_groups[MATMUL_PRODUCTS_MAX]; /* row groups of a task */
    size_t task_end[MATMUL_PRODUCTS_MAX];    /* tasks of the products up to this one */
};

/* Scratch of a thread: panels, then the sums of all rows. */
static struct r16_panel *thread_panels(const struct backend *b, size_t thread)
{
    return (struct r16_panel *)(void *)cpu_thread_scratch(b, thread);
}

size_t cpu_matmul_thread_bytes(const struct backend *b)
{
    size_t rows = b->max_rows * b->terms;
    size_t multiply =
        b->kernels->panel_groups * (sizeof(struct r16_panel) + rows * R16_ROWS * sizeof(float));
    size_t put = q8_put_bytes(b->weights.max_r16_cols);
    return multiply > put ? multiply : put;
}

static void add_bias(const struct matmul *m, const struct cpu_product *p, size_t first,
                     size_t groups)
{
    if (p->bias == NULL) {
        return;
    }
    size_t end = (first + groups) * R16_ROWS < p->matrix->rows ? (first + groups) * R16_ROWS
                                                               : p->matrix->rows;
    for (size_t row = 0; row < m->rows; row++) {
        for (size_t i = first * R16_ROWS; i < end; i++) {
            p->y[row * p->matrix->rows + i] += p->bias[i];
        }
    }
}

/* y of `width` rows of the matrix from `row` on, from sums: [terms * tokens, width]. */
static void add_terms(const struct matmul *m, const struct cpu_product *p, size_t row, size_t width,
                      const float *sums)
{
    const struct q8 *q8 = &m->b->scratch.q8;
    size_t rows = p->matrix->rows;
    size_t valid = rows - row < width ? rows - row : width;
    for (size_t token = 0; token < q8->tokens; token++) {
        float *y = p->y + token * rows + row;
        const float *first = sums + token * width;
        if (q8->terms == 1) {
            memcpy(y, first, valid * sizeof(*y));
            continue;
        }
        const float *second = first + q8->tokens * width;
        for (size_t i = 0; i < valid; i++) {
            y[i] = first[i] + second[i];
        }
    }
}

/* The same as multiply_direct below by way of the thread's sums, because a token's terms are rows
 * of their own. */
static void multiply_direct_terms(const struct matmul *m, const struct cpu_product *p, size_t first,
                                  size_t groups, size_t thread)
{
    const struct q8 *q8 = &m->b->scratch.q8;
    float *sums = (float *)(void *)cpu_thread_scratch(m->b, thread);
    for (size_t group = first; group < first + groups; group++) {
        const struct r16_matrix *matrix = &p->matrix->r16;
        struct r16_matrix one = {
            .kind = matrix->kind,
            .rows = matrix->rows - group * R16_ROWS,
            .cols = matrix->cols,
            .group_bytes = matrix->group_bytes,
            .data = matrix->data + group * matrix->group_bytes,
        };
        for (size_t t = 0; t < q8_tiles(q8); t++) {
            struct q8_tile tile = q8_tile_view(q8, t);
            m->b->kernels->multiply(&one, 0, 1, &tile, sums + t * q8->tile_tokens * R16_ROWS,
                                    R16_ROWS);
        }
        add_terms(m, p, group * R16_ROWS, R16_ROWS, sums);
    }
}

/* Every tile reads the packed weights; the tiles of one group follow each other, so only the first
 * reads memory. */
static void multiply_direct(const struct matmul *m, const struct cpu_product *p, size_t first,
                            size_t groups, size_t thread)
{
    const struct q8 *q8 = &m->b->scratch.q8;
    const struct r16_matrix *matrix = &p->matrix->r16;
    if (q8->terms > 1) {
        multiply_direct_terms(m, p, first, groups, thread);
        return;
    }
    size_t tiles = q8_tiles(q8);
    size_t at_once = tiles == 1 ? groups : 1;
    for (size_t group = first; group < first + groups; group += at_once) {
        for (size_t t = 0; t < tiles; t++) {
            struct q8_tile tile = q8_tile_view(q8, t);
            m->b->kernels->multiply(matrix, group, at_once, &tile,
                                    p->y + t * q8->tile_tokens * matrix->rows, matrix->rows);
        }
    }
}

/* A part of the packed weights that will be opened soon. */
struct ahead {
    const unsigned char *next, *end;
    size_t bytes; /* for each tile */
};

static void fetch_ahead(struct ahead *a)
{
    const unsigned char *end = (size_t)(a->end - a->next) < a->bytes ? a->end : a->next + a->bytes;
    for (; a->next < end; a->next += CPU_ALIGN) {
        __builtin_prefetch(
            a->next, 0, 2); /* not into the first-level cache, which panel and activations fill */
    }
}

static bool has_few_tiles(const struct matmul *m)
{
    return q8_tiles(&m->b->scratch.q8) <= FEW_TILES_MAX;
}

/* Up to panel_groups row groups: their weights are opened once, panel by panel along the columns.
 */
static void multiply_panel_groups(const struct matmul *m, const struct cpu_product *p, size_t first,
                                  size_t groups, size_t thread, struct ahead *ahead)
{
    const struct cpu_kernels *kernels = m->b->kernels;
    const struct q8 *q8 = &m->b->scratch.q8;
    const struct r16_matrix *matrix = &p->matrix->r16;
    struct r16_panel *panels = thread_panels(m->b, thread);
    float *sums = (float *)(void *)(panels + kernels->panel_groups);
    size_t width = groups * R16_ROWS;
    size_t blocks = matrix->cols / R16_BLOCK;
    size_t at_once = has_few_tiles(m) ? R16_UNIT_BLOCKS : kernels->panel_blocks;
    for (size_t done = 0; done < blocks; done += at_once) {
        size_t here = blocks - done < at_once ? blocks - done : at_once;
        for (size_t i = 0; i < groups; i++) {
            kernels->open_panel(matrix, first + i, done, here, &panels[i]);
        }
        for (size_t t = 0; t < q8_tiles(q8); t++) {
            struct q8_tile tile = q8_tile_view(q8, t);
            fetch_ahead(ahead);
            kernels->multiply_panels(matrix->kind, panels, groups, here, &tile, done,
                                     sums + t * q8->tile_tokens * width, done == 0);
        }
    }
    add_terms(m, p, first * R16_ROWS, width, sums);
}

static void multiply_opened(const struct matmul *m, const struct cpu_product *p, size_t first,
                            size_t groups, size_t thread)
{
    const struct r16_matrix *matrix = &p->matrix->r16;
    size_t at_once = m->b->kernels->panel_groups;
    size_t panel = at_once * r16_unit_bytes(matrix->kind, R16_UNIT_BLOCKS);
    const unsigned char *start = matrix->data + first * matrix->group_bytes;
    struct ahead ahead = {.next = start, .end = start};
    if (has_few_tiles(m)) {
        ahead.end = start + groups * matrix->group_bytes;
        ahead.bytes = panel;
        fetch_ahead(&ahead);
        ahead.bytes = cpu_round_up(panel / q8_tiles(&m->b->scratch.q8), CPU_ALIGN);
    }
    for (size_t done = 0; done < groups; done += at_once) {
        size_t here = groups - done < at_once ? groups - done : at_once;
        multiply_panel_groups(m, p, first + done, here, thread, &ahead);
    }
}

static bool is_direct(const struct matmul *m)
{
    return q8_tiles(&m->b->scratch.q8) <= m->b->kernels->direct_tiles;
}

static void matmul_task(void *context, size_t task, size_t thread)
{
    const struct matmul *m = context;
    size_t i = 0;
    while (task >= m->task_end[i]) {
        i++;
    }
    const struct cpu_product *p = &m->products[i];
    size_t first = (task - (i == 0 ? 0 : m->task_end[i - 1])) * m->task_groups[i];
    size_t left = r16_groups(p->matrix->rows) - first;
    size_t groups = left < m->task_groups[i] ? left : m->task_groups[i];
    if (p->matrix->order == CPU_ORDER_LANES) {
        m->b->kernels->multiply_lanes(&p->matrix->lanes, first, groups, m->x, p->matrix->cols,
                                      m->rows, p->y, p->matrix->rows);
    } else if (is_direct(m)) {
        multiply_direct(m, p, first, groups, thread);
    } else {
        multiply_opened(m, p, first, groups, thread);
    }
    add_bias(m, p, first, groups);
}

static void quantize_task(void *context, size_t task, size_t thread)
{
    const struct matmul *m = context;
    size_t cols = m->products[0].matrix->cols;
    q8_put(&m->b->scratch.q8, m->b->kernels, task, m->x + task * cols,
           cpu_thread_scratch(m->b, thread));
}

static void plan_tasks(struct matmul *m)
{
    size_t tasks = 0;
    for (size_t i = 0; i < m->count; i++) {
        const struct cpu_matrix *matrix = m->products[i].matrix;
        size_t groups = r16_groups(matrix->rows);
        size_t each = DIRECT_TASK_BYTES / matrix->part_bytes;
        size_t shared = groups / (4 * pool_threads(m->b->pool)); /* a few tasks for each thread */
        each = each < shared ? each : shared;
        size_t at_once = m->b->kernels->panel_groups;
        if (matrix->order == CPU_ORDER_R16 && !is_direct(m)) {
            each = has_few_tiles(m) && each > at_once ? each / at_once * at_once : at_once;
        }
        m->task_groups[i] = each == 0 ? 1 : each;
        tasks += (groups - 1) / m->task_groups[i] + 1;
        m->task_end[i] = tasks;
    }
}

static void multiply_all(struct backend *b, const float *x, size_t rows,
                         const struct cpu_product *products, size_t count)
{
    struct matmul m = {.b = b, .x = x, .rows = rows, .products = products, .count = count};
    q8_start(&b->scratch.q8, b->kernels, rows, products[0].matrix->cols);
    for (size_t i = 0; i < count; i++) {
        if (products[i].matrix->order == CPU_ORDER_R16) {
            pool_run(b->pool, quantize_task, &m, rows);
            cpu_profile_end(&b->profile, CPU_OP_QUANTIZE, 0, 0);
            break;
        }
    }
    plan_tasks(&m);
    pool_run(b->pool, matmul_task, &m, m.task_end[count - 1]);
}

void cpu_matmul(struct backend *b, const float *x, size_t rows, const struct cpu_product *products,
                size_t count, enum cpu_operation operation)
{
    if (b->exact) {
        exact_matmul(b, x, rows, products, count);
    } else {
        multiply_all(b, x, rows, products, count);
    }
    uint64_t bytes = 0;
    uint64_t macs = 0;
    for (size_t i = 0; i < count; i++) {
        bytes += products[i].matrix->bytes;
        macs += (uint64_t)products[i].matrix->rows * products[i].matrix->cols * rows;
    }
    cpu_profile_end(&b->profile, operation, bytes, macs);
}

#include "engine/backend/cpu/matmul.h"

#include <string.h>

#include "engine/backend/cpu/exact.h"
#include "engine/backend/cpu/input.h"
#include "engine/backend/cpu/q8.h"

/* With so few tiles the time to read the weights counts: short panels, long tasks, and the next
 * panel's weights are fetched while the tiles use this one. With more of them panels are as long as
 * the kernel likes. */
#define FEW_TILES_MAX 8

/* Weights a task reads, roughly: long enough a stream, short enough to share out evenly. */
#define DIRECT_TASK_BYTES ((size_t)512 << 10)

/* Shorter tasks stay as they are: what each begins with counts more than an even end. */
#define EVEN_TASK_BYTES ((size_t)128 << 10)

/* Row groups whose sums a task holds before it hands them on: 256 bytes of a row of results at a
 * time. Rows are far apart, often by a power of two, and a line alone costs a miss of every cache
 * and of the TLB. */
#define TASK_GROUPS 4

/* Few rows: row groups, times rows and terms, that there is room for whatever the batch's size. */
#define DIRECT_GROUPS 256

/* Row groups that one tile after the other multiplies: as many as a kernel reads side by side. */
#define TILED_GROUPS 4

/* And of rows kept as those of prompts. In bf16 what a task reads of the activations for some
 * columns, which do not fit the second-level cache as a whole, serves all these. With W8A8 half of
 * them of gate and half of up make a span of the next product's input. */
#define PROMPT_GROUPS 16

/* Of bf16 so many are opened at once, a unit's columns of each: 32 KiB. */
#define BF16_PANELS 4
#define BF16_PANEL  (R16_UNIT_BLOCKS * BF16_TILE)

_Static_assert(2 * W8_COLS / R16_ROWS <= PROMPT_GROUPS, "a span of gate and up");

/* silu(gate) * up makes blocks of the next product's input. */
#define GATED_GROUPS (R16_BLOCK / R16_ROWS)

struct matmul {
    struct backend *b;
    const struct q8 *q8; /* NULL: no product takes it */
    const float *x;
    size_t rows;
    const struct cpu_product *products;
    size_t count;
    struct q8 *gated; /* NULL: products are handed on one by one; else they are gate and up */
    size_t part_groups[MATMUL_PRODUCTS_MAX]; /* row groups that are handed on at once */
    size_t task_groups[MATMUL_PRODUCTS_MAX]; /* and of a task */
    size_t task_end[MATMUL_PRODUCTS_MAX];    /* tasks of the products up to this one */
};

/* Some row groups of a product and the sums of the rows, of prompts or the others, with them: for
 * each `at_once` groups (the last ones may be fewer) [sum_rows][those groups][R16_ROWS]. */
struct part {
    const struct cpu_product *product;
    size_t first, groups;
    size_t at_once; /* all, or a power of two */
    float *sums;
    size_t first_row, rows, terms; /* of the batch; int8 rows have terms, see q8.h */
    size_t sum_rows;               /* of the sums: at least terms * rows */
    bool w8;                       /* the rows are kept so, see w8.h */
    const float *roots;            /* what a row's sums are multiplied by; NULL: nothing */
};

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* Scratch of a thread: opened weights, then sums. */
static size_t opened_bytes(const struct backend *b)
{
    size_t panels = b->kernels->panel_groups * sizeof(struct r16_panel);
    return b->prompts == Q8_PROMPTS_BF16
               ? larger(panels, BF16_PANELS * BF16_PANEL * sizeof(uint16_t))
               : panels;
}

static struct r16_panel *thread_panels(const struct backend *b, size_t thread)
{
    return (struct r16_panel *)(void *)cpu_thread_scratch(b, thread);
}

static float *thread_sums(const struct backend *b, size_t thread)
{
    return (float *)(void *)((unsigned char *)cpu_thread_scratch(b, thread) + opened_bytes(b));
}

/* Row groups times rows that a thread has room for. */
static size_t sums_room(const struct backend *b)
{
    size_t groups = b->prompts != Q8_PROMPTS_INT8 ? PROMPT_GROUPS : TASK_GROUPS;
    size_t room = groups * cpu_round_up(b->max_rows, BF16_TOKENS) * b->terms;
    return room > DIRECT_GROUPS ? room : DIRECT_GROUPS;
}

size_t cpu_matmul_thread_bytes(const struct backend *b)
{
    return opened_bytes(b) + sums_room(b) * R16_ROWS * sizeof(float);
}

/* The first group of the set that group i of the part belongs to. For every row of results, so
 * without a division. */
static size_t set_start(const struct part *p, size_t i)
{
    return p->at_once >= p->groups ? 0 : i & ~(p->at_once - 1);
}

static size_t set_groups(const struct part *p, size_t i)
{
    size_t left = p->groups - set_start(p, i);
    return left < p->at_once ? left : p->at_once;
}

static float *set_sums(const struct part *p, size_t i)
{
    return p->sums + set_start(p, i) * p->sum_rows * R16_ROWS;
}

/* Makes results of the sums: with two terms those of the second are added. */
static void complete(const struct matmul *m, const struct part *p)
{
    for (size_t i = 0; i < p->groups; i += p->at_once) {
        size_t width = set_groups(p, i) * R16_ROWS;
        float *sums = set_sums(p, i);
        if (p->terms > 1) {
            m->b->kernels->add(sums, sums + p->rows * width, p->rows * width);
        }
        for (size_t token = 0; p->roots != NULL && token < p->rows; token++) {
            float root = p->roots[p->first_row + token];
            for (size_t j = 0; j < width; j++) {
                sums[token * width + j] *= root;
            }
        }
    }
}

static void hand_on(const struct matmul *m, const struct part *p)
{
    const struct cpu_product *product = p->product;
    const struct cpu_kernels *kernels = m->b->kernels;
    size_t rows = product->matrix->rows;
    float *to = product->residual != NULL ? product->residual : product->y;
    for (size_t token = 0; token < p->rows; token++) {
        for (size_t i = 0; i < p->groups; i += p->at_once) {
            size_t row = (p->first + i) * R16_ROWS;
            size_t width = set_groups(p, i) * R16_ROWS;
            size_t valid = smaller(width, rows - row);
            float *sums = set_sums(p, i) + token * width;
            float *results = to + (p->first_row + token) * rows + row;
            if (product->bias != NULL) {
                kernels->add(sums, product->bias + row, valid);
            }
            if (product->residual != NULL) {
                kernels->add(results, sums, valid);
            } else {
                memcpy(results, sums, valid * sizeof(*results));
            }
        }
    }
}

/* Of a row, the sums of groups i to end - 1 of the part: where they lie side by side, or put
 * together in `together`. */
static const float *gated_sums(const struct part *gate, size_t i, size_t end, size_t token,
                               float *together)
{
    if (end - i <= set_groups(gate, i)) {
        return set_sums(gate, i) + token * set_groups(gate, i) * R16_ROWS;
    }
    for (size_t j = i; j < end; j += gate->at_once) {
        size_t width = set_groups(gate, j) * R16_ROWS;
        memcpy(together + (j - i) * R16_ROWS, set_sums(gate, j) + token * width,
               width * sizeof(*together));
    }
    return together;
}

static void hand_on_gated(const struct matmul *m, const struct part *gate, const struct part *up)
{
    const struct cpu_kernels *kernels = m->b->kernels;
    for (size_t i = 0; i < gate->groups; i += gate->at_once) {
        kernels->silu_mul(set_sums(gate, i), set_sums(up, i),
                          gate->rows * set_groups(gate, i) * R16_ROWS);
    }
    /* A tile's tokens share cache lines, so some blocks of all tokens after the other. */
    const size_t each = larger(gate->at_once, q8_put_blocks(m->gated) * GATED_GROUPS);
    for (size_t i = 0; i < gate->groups; i += each) {
        const size_t end = smaller(i + each, gate->groups);
        for (size_t token = 0; token < gate->rows; token++) {
            float together[W8_COLS];
            const float *x = gated_sums(gate, i, end, token, together);
            q8_put(m->gated, kernels, gate->first_row + token, (gate->first + i) / GATED_GROUPS,
                   (end - i) / GATED_GROUPS, x);
        }
    }
}

/* Every tile reads the packed weights: all groups follow each other for one tile, or the tiles of a
 * few groups, so that only the first reads memory. */
static void multiply_direct(const struct matmul *m, const struct part *p)
{
    const struct r16_matrix *matrix = &p->product->matrix->r16;
    size_t tiles = q8_tiles(m->q8);
    size_t at_once = tiles == 1 ? p->groups : TILED_GROUPS;
    size_t stride = p->groups * R16_ROWS;
    for (size_t i = 0; i < p->groups; i += at_once) {
        size_t group = p->first + i;
        struct r16_matrix some = {
            .kind = matrix->kind,
            .rows = matrix->rows - group * R16_ROWS,
            .cols = matrix->cols,
            .group_bytes = matrix->group_bytes,
            .data = matrix->data + group * matrix->group_bytes,
        };
        for (size_t t = 0; t < tiles; t++) {
            struct q8_tile tile = q8_tile_view(m->q8, t);
            m->b->kernels->multiply(&some, 0, smaller(at_once, p->groups - i), &tile,
                                    p->sums + t * m->q8->tile_tokens * stride + i * R16_ROWS,
                                    stride);
        }
    }
    if (m->b->kernels->release != NULL) {
        m->b->kernels->release();
    }
}

/* The packed weights that will be opened next: of each group of a set the rest from `next`. */
struct ahead {
    const unsigned char *next[BF16_PANELS];
    size_t groups;
    size_t left; /* bytes of each group */
    size_t each; /* for each tile */
};

/* `blocks` blocks from number `done` on (both whole units) of `groups` groups from number i of the
 * part, to be fetched in so many turns; none where the part ends. */
static struct ahead ahead_of(const struct part *p, size_t i, size_t groups, size_t done,
                             size_t blocks, size_t turns)
{
    const struct r16_matrix *matrix = &p->product->matrix->r16;
    const size_t unit = r16_unit_bytes(matrix->kind, R16_UNIT_BLOCKS);
    const size_t before = smaller(done / R16_UNIT_BLOCKS * unit, matrix->group_bytes);
    const size_t left = matrix->group_bytes - before;
    struct ahead a = {.left = smaller(blocks / R16_UNIT_BLOCKS * unit, left)};
    a.groups = i < p->groups ? smaller(groups, p->groups - i) : 0;
    a.each = cpu_round_up(a.left / turns, CPU_ALIGN);
    for (size_t j = 0; j < a.groups; j++) {
        a.next[j] = matrix->data + (p->first + i + j) * matrix->group_bytes + before;
    }
    return a;
}

static void fetch_ahead(struct ahead *a)
{
    size_t bytes = smaller(a->left, a->each);
    for (size_t j = 0; j < a->groups; j++) {
        for (size_t at = 0; at < bytes; at += CPU_ALIGN) {
            __builtin_prefetch(a->next[j] + at, 0, 2); /* not into the first-level cache, which
                                                          panel and activations fill */
        }
        a->next[j] += bytes;
    }
    a->left -= bytes;
}

static bool has_few_tiles(const struct matmul *m)
{
    return m->q8 == NULL || q8_tiles(m->q8) + q8_prompt_tiles(m->q8) <= FEW_TILES_MAX;
}

static size_t part_tiles(const struct matmul *m, const struct part *p)
{
    return p->w8 ? q8_prompt_tiles(m->q8) : q8_tiles(m->q8);
}

/* Continues the sums of a set of row groups with every tile. */
static void multiply_tiles(const struct matmul *m, const struct part *p,
                           const struct r16_panel *panels, size_t groups, size_t done,
                           size_t blocks, float *sums, struct ahead *ahead)
{
    const struct cpu_kernels *kernels = m->b->kernels;
    const size_t tiles = part_tiles(m, p);
    for (size_t t = 0; t < tiles; t++) {
        struct q8_tile tile = p->w8 ? q8_prompt_view(m->q8, t) : q8_tile_view(m->q8, t);
        fetch_ahead(ahead);
        if (p->w8) {
            kernels->w8_multiply(panels, groups, blocks, &tile, done, sums, done == 0);
        } else {
            kernels->multiply_panels(p->product->matrix->r16.kind, panels, groups, blocks, &tile,
                                     done, sums, done == 0);
        }
        sums += tile.tokens * groups * R16_ROWS;
    }
}

/* `blocks` blocks from number `done` of a set of row groups, from number i of the part: their
 * weights are opened once. */
static void multiply_set(const struct matmul *m, const struct part *p, size_t i, size_t done,
                         size_t blocks, struct r16_panel *panels, struct ahead *ahead)
{
    const struct cpu_kernels *kernels = m->b->kernels;
    const struct r16_matrix *matrix = &p->product->matrix->r16;
    size_t groups = set_groups(p, i);
    for (size_t j = 0; j < groups; j++) {
        (p->w8 ? kernels->w8_open : kernels->open_panel)(matrix, p->first + i + j, done, blocks,
                                                         &panels[j]);
    }
    multiply_tiles(m, p, panels, groups, done, blocks, set_sums(p, i), ahead);
}

/* A panel along the columns after the other, one set of row groups after the other. */
static void multiply_opened(const struct matmul *m, const struct part *p, size_t thread)
{
    struct r16_panel *panels = thread_panels(m->b, thread);
    const size_t blocks = p->product->matrix->r16.cols / R16_BLOCK;
    const size_t at_once = has_few_tiles(m) ? R16_UNIT_BLOCKS : m->b->kernels->panel_blocks;
    struct ahead ahead = ahead_of(p, 0, p->at_once, 0, at_once, 1);
    fetch_ahead(&ahead);
    for (size_t i = 0; i < p->groups; i += p->at_once) {
        for (size_t done = 0; done < blocks; done += at_once) {
            const bool last = blocks - done <= at_once;
            ahead = ahead_of(p, last ? i + p->at_once : i, p->at_once, last ? 0 : done + at_once,
                             at_once, part_tiles(m, p));
            multiply_set(m, p, i, done, smaller(blocks - done, at_once), panels, &ahead);
        }
    }
    if (m->b->kernels->release != NULL) {
        m->b->kernels->release();
    }
}

/* Asks for the first unit of some groups from number i of the part; opening a unit asks for the one
 * after it. */
static void fetch_first(const struct part *p, size_t i)
{
    struct ahead ahead = ahead_of(p, i, BF16_PANELS, 0, R16_UNIT_BLOCKS, 1);
    fetch_ahead(&ahead);
}

/* Some groups from number i of the part, `blocks` blocks from number `done` on: their weights are
 * opened once. */
static void multiply_bf16_set(const struct matmul *m, const struct part *p, size_t i, size_t done,
                              size_t blocks, uint16_t *weights)
{
    const struct cpu_kernels *kernels = m->b->kernels;
    const struct r16_matrix *matrix = &p->product->matrix->r16;
    const size_t all = matrix->cols / R16_BLOCK, end = smaller(i + BF16_PANELS, p->groups);
    struct bf16_product product = {.blocks = blocks,
                                   .group_stride = BF16_PANEL,
                                   .x_stride = all * BF16_TILE,
                                   .start = done == 0};
    for (size_t j = i; j < end; j++) {
        kernels->bf16_open(matrix, p->first + j, done, blocks,
                           weights + (j - i) * product.group_stride);
    }
    for (size_t tile = 0; tile < q8_prompt_tiles(m->q8); tile += 2) {
        product.tiles = smaller(q8_prompt_tiles(m->q8) - tile, 2);
        product.x = m->q8->bf16 + (tile * all + done) * BF16_TILE;
        for (size_t j = i; j < end; j += product.groups) {
            product.groups = set_groups(p, j);
            product.weights = weights + (j - i) * product.group_stride;
            product.sums_stride = product.groups * R16_ROWS;
            product.sums = set_sums(p, j) + tile * BF16_TOKENS * product.sums_stride;
            kernels->bf16_multiply(&product);
        }
    }
}

/* Some columns of all groups after the other. */
static void multiply_bf16(const struct matmul *m, const struct part *p, size_t thread)
{
    uint16_t *weights = (uint16_t *)(void *)thread_panels(m->b, thread);
    const size_t all = p->product->matrix->r16.cols / R16_BLOCK;
    fetch_first(p, 0);
    for (size_t done = 0; done < all; done += R16_UNIT_BLOCKS) {
        for (size_t i = 0; i < p->groups; i += BF16_PANELS) {
            if (done == 0) {
                fetch_first(p, i + BF16_PANELS);
            }
            multiply_bf16_set(m, p, i, done, smaller(all - done, R16_UNIT_BLOCKS), weights);
        }
    }
    if (m->b->kernels->release != NULL) {
        m->b->kernels->release();
    }
}

static bool is_direct(const struct matmul *m)
{
    const struct cpu_kernels *kernels = m->b->kernels;
    return m->q8->tile_tokens <= kernels->direct_tokens && q8_tiles(m->q8) <= kernels->direct_tiles;
}

/* Of the rows that are kept as those of prompts, or of the others. */
static struct part multiply_part(const struct matmul *m, bool prompt,
                                 const struct cpu_product *product, size_t first, size_t groups,
                                 size_t thread, float *sums)
{
    const bool direct = is_direct(m);
    const bool bf16 = prompt && m->q8->prompts == Q8_PROMPTS_BF16;
    struct part p = {
        .product = product,
        .first = first,
        .groups = groups,
        .at_once = direct && !prompt ? groups : m->b->kernels->panel_groups,
        .sums = sums,
        .first_row = prompt ? m->q8->tokens : 0,
        .rows = prompt ? m->q8->prompt_rows : m->q8->tokens,
        .terms = prompt ? 1 : m->q8->terms,
        .sum_rows = prompt ? m->q8->prompt_rows : m->q8->rows,
        .w8 = prompt && !bf16,
        .roots = cpu_input_roots(m->b, thread),
    };
    if (bf16) {
        p.sum_rows = q8_prompt_tiles(m->q8) * BF16_TOKENS;
        multiply_bf16(m, &p, thread);
    } else if (direct && !prompt) {
        multiply_direct(m, &p);
    } else {
        multiply_opened(m, &p, thread);
    }
    complete(m, &p);
    return p;
}

static bool has_rows(const struct matmul *m, bool prompt)
{
    return (prompt ? m->q8->prompt_rows : m->q8->tokens) > 0;
}

static void multiply_gated(const struct matmul *m, bool prompt, size_t first, size_t groups,
                           size_t thread)
{
    float *sums = thread_sums(m->b, thread);
    struct part gate = multiply_part(m, prompt, &m->products[0], first, groups, thread, sums);
    sums += groups * gate.sum_rows * R16_ROWS;
    struct part up = multiply_part(m, prompt, &m->products[1], first, groups, thread, sums);
    hand_on_gated(m, &gate, &up);
}

static void multiply_lanes(const struct matmul *m, const struct cpu_product *p, size_t first,
                           size_t groups)
{
    const struct cpu_matrix *matrix = p->matrix;
    const struct cpu_kernels *kernels = m->b->kernels;
    kernels->multiply_lanes(&matrix->lanes, first, groups, m->x, matrix->cols, m->rows, p->y,
                            matrix->rows);
    size_t left = matrix->rows - first * R16_ROWS;
    size_t width = left < groups * R16_ROWS ? left : groups * R16_ROWS;
    for (size_t row = 0; row < m->rows; row++) {
        size_t at = row * matrix->rows + first * R16_ROWS;
        if (p->bias != NULL) {
            kernels->add(p->y + at, p->bias + first * R16_ROWS, width);
        }
        if (p->residual != NULL) {
            kernels->add(p->residual + at, p->y + at, width);
        }
    }
}

/* The part of a matrix that a task has multiplied goes on its way. */
static void go_on(const struct cpu_product *p, size_t first, size_t groups, size_t thread)
{
    if (p->then != NULL) {
        size_t row = first * R16_ROWS;
        p->then(p->then_context, row, smaller(groups * R16_ROWS, p->matrix->rows - row), thread);
    }
}

static void multiply_quantized(const struct matmul *m, const struct cpu_product *p, size_t first,
                               size_t groups, size_t at_once, size_t thread)
{
    float *sums = thread_sums(m->b, thread);
    for (size_t i = 0; i < groups; i += at_once) {
        for (int prompt = 0; prompt < 2; prompt++) {
            if (has_rows(m, prompt)) {
                struct part part = multiply_part(m, prompt, p, first + i,
                                                 smaller(at_once, groups - i), thread, sums);
                hand_on(m, &part);
            }
        }
    }
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
    if (m->gated != NULL) {
        for (int prompt = 0; prompt < 2; prompt++) {
            if (has_rows(m, prompt)) {
                multiply_gated(m, prompt, first, groups, thread);
            }
        }
        return;
    }
    if (p->matrix->order == CPU_ORDER_LANES) {
        multiply_lanes(m, p, first, groups);
    } else {
        multiply_quantized(m, p, first, groups, m->part_groups[i], thread);
    }
    go_on(p, first, groups, thread);
}

/* At most `most`, at least half of that, a multiple of `each`: so that the threads have nearly the
 * same to do. 36 groups by four are nine tasks, of which one of two threads does five. */
static size_t even_groups(size_t all, size_t most, size_t each, size_t threads)
{
    size_t best = most;
    size_t least = SIZE_MAX;
    for (size_t groups = most; groups >= each && 2 * groups >= most; groups -= each) {
        size_t tasks = (all - 1) / groups + 1;
        size_t longest = ((tasks - 1) / threads + 1) * groups;
        best = longest < least ? groups : best;
        least = smaller(longest, least);
    }
    return best;
}

static bool packed_only(const struct matmul *m)
{
    return is_direct(m) && m->q8->prompt_rows == 0;
}

/* Row groups that a thread multiplies before it hands them on: `each` at least, a multiple of it.
 */
static size_t part_groups(const struct matmul *m, const struct cpu_matrix *matrix, size_t each)
{
    size_t groups = r16_groups(matrix->rows) / (4 * pool_threads(m->b->pool)); /* of a few tasks */
    size_t products = m->gated != NULL ? 2 : 1;
    if (matrix->order == CPU_ORDER_R16) {
        size_t room = sums_room(m->b) / (m->rows * m->b->terms);
        size_t most = m->q8->prompt_rows > 0 ? PROMPT_GROUPS : is_direct(m) ? room : TASK_GROUPS;
        groups = smaller(groups, most / products);
    }
    if (matrix->order != CPU_ORDER_R16 || has_few_tiles(m)) {
        groups = smaller(groups, DIRECT_TASK_BYTES / matrix->part_bytes);
    }
    return groups < each ? each : groups / each * each;
}

/* The fewest row groups that hold whole units of what comes then. */
static size_t then_groups(const struct cpu_product *p)
{
    size_t cols = p->then == NULL ? R16_ROWS : p->then_cols;
    size_t groups = 1;
    while (groups * R16_ROWS % cols != 0) {
        groups++;
    }
    return groups;
}

static void plan_tasks(struct matmul *m)
{
    size_t tasks = 0;
    for (size_t i = 0; i < m->count; i++) {
        const struct cpu_matrix *matrix = m->products[i].matrix;
        size_t each = 1;
        if (matrix->order == CPU_ORDER_R16 && !packed_only(m)) {
            each = m->b->kernels->panel_groups;
        }
        if (m->gated != NULL) {
            each = q8_put_blocks(m->gated) * GATED_GROUPS;
        }
        size_t all = r16_groups(matrix->rows);
        m->part_groups[i] = part_groups(m, matrix, each);
        each = larger(each, then_groups(&m->products[i]));
        size_t most = (m->part_groups[i] + each - 1) / each * each;
        m->task_groups[i] = has_few_tiles(m) && most * matrix->part_bytes < EVEN_TASK_BYTES
                                ? most
                                : even_groups(all, most, each, pool_threads(m->b->pool));
        tasks += (all - 1) / m->task_groups[i] + 1;
        m->task_end[i] = tasks;
    }
}

static void end_operation(struct backend *b, size_t rows, const struct cpu_product *products,
                          size_t count, enum cpu_operation operation)
{
    uint64_t bytes = 0;
    uint64_t macs = 0;
    for (size_t i = 0; i < count; i++) {
        bytes += products[i].matrix->bytes;
        macs += (uint64_t)products[i].matrix->rows * products[i].matrix->cols * rows;
    }
    cpu_profile_end(&b->profile, operation, bytes, macs);
}

static void exact_then_task(void *context, size_t task, size_t thread)
{
    const struct cpu_product *p = context;
    size_t first = task * p->then_cols;
    p->then(p->then_context, first, smaller(p->then_cols, p->matrix->rows - first), thread);
}

static void multiply_exactly(struct backend *b, const float *x, size_t rows,
                             const struct cpu_product *products, size_t count)
{
    exact_matmul(b, x, rows, products, count);
    for (size_t i = 0; i < count; i++) {
        if (products[i].residual != NULL) {
            b->kernels->add(products[i].residual, products[i].y, rows * products[i].matrix->rows);
        }
        if (products[i].then != NULL) {
            struct cpu_product product = products[i];
            pool_run(b->pool, exact_then_task, &product,
                     (product.matrix->rows - 1) / product.then_cols + 1);
        }
    }
}

void cpu_matmul(struct backend *b, const float *x, size_t rows, const struct cpu_product *products,
                size_t count, enum cpu_operation operation)
{
    if (b->exact) {
        multiply_exactly(b, x, rows, products, count);
    } else {
        struct matmul m = {.b = b,
                           .q8 = b->scratch.ready,
                           .x = x,
                           .rows = rows,
                           .products = products,
                           .count = count};
        plan_tasks(&m);
        pool_run(b->pool, matmul_task, &m, m.task_end[count - 1]);
    }
    end_operation(b, rows, products, count, operation);
}

bool cpu_matmul_can_gate(const struct backend *b, const struct cpu_layer *layer)
{
    return !b->exact && layer->gate.order == CPU_ORDER_R16 && layer->up.order == CPU_ORDER_R16 &&
           layer->down.order == CPU_ORDER_R16;
}

void cpu_matmul_gated(struct backend *b, size_t rows, const struct cpu_layer *layer)
{
    const struct cpu_product products[] = {{.matrix = &layer->gate}, {.matrix = &layer->up}};
    struct matmul m = {.b = b,
                       .q8 = b->scratch.ready,
                       .rows = rows,
                       .products = products,
                       .count = 2,
                       .gated = &b->scratch.gated};
    q8_start(m.gated, b->kernels, rows, b->scratch.prompt_rows, layer->down.cols,
             q8_parts_of(layer->down.r16.kind));
    plan_tasks(&m);
    pool_run(b->pool, matmul_task, &m, m.task_end[0]);
    cpu_input_take(b, m.gated);
    end_operation(b, rows, products, 2, CPU_OP_GATE_UP);
}

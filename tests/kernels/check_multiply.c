#include "tests/kernels/harness.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/backend/cpu/lanes.h"
#include "quant/format/block.h"
#include "quant/format/format.h"

/* Random bytes are blocks of any type once the half floats in them are finite. */
static void make_finite(uint32_t type, unsigned char *blocks, size_t count, size_t block_bytes)
{
    size_t first = 0;
    size_t halves = 1;
    switch (type) {
    case QUANT_MXFP4:
        for (size_t i = 0; i < count; i++) {
            uint8_t *e = &blocks[i * block_bytes];
            *e = *e > 252 ? 252 : *e;
        }
        return;
    case QUANT_IQ1_M: /* the upper bits of its half */
        first = block_bytes - 2;
        break;
    case QUANT_TQ1_0:
        first = offsetof(struct block_tq1_0, d);
        break;
    case QUANT_TQ2_0:
        first = offsetof(struct block_tq2_0, d);
        break;
    case QUANT_Q4_1:
    case QUANT_Q5_1:
    case QUANT_Q4_K:
    case QUANT_Q5_K:
        halves = 2;
        break;
    case QUANT_Q2_K:
        first = offsetof(struct block_q2_k, d);
        halves = 2;
        break;
    case QUANT_Q3_K:
        first = offsetof(struct block_q3_k, d);
        break;
    case QUANT_Q6_K:
        first = offsetof(struct block_q6_k, d);
        break;
    default:
        break;
    }
    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < halves; j++) {
            blocks[i * block_bytes + first + 2 * j + 1] &= 0xbf;
        }
    }
}

static void check_pack_one(struct harness *h, const struct quant_format *format, size_t rows)
{
    struct r16_matrix m = {.rows = rows};
    size_t step = format->block_weights;
    size_t cols = step * (1 + rng_below(&h->rng, step == 32 ? 20 : 3));
    size_t row_bytes = quant_row_bytes(format, cols);
    unsigned char *file = guarded_new(rows * row_bytes);
    for (size_t i = 0; i < rows * row_bytes; i++) {
        file[i] = (unsigned char)rng_next(&h->rng);
    }
    make_finite((uint32_t)format->type, file, rows * cols / step, format->block_bytes);
    r16_kind_of((uint32_t)format->type, &m.kind);
    m.cols = cols;
    m.group_bytes = r16_group_bytes(m.kind, cols);
    unsigned char *packed = guarded_new(m.group_bytes);
    m.data = packed;
    r16_pack_group((uint32_t)format->type, file, row_bytes, rows, cols, packed);
    float *expected = guarded_new(cols * sizeof(float));
    float *got = guarded_new(cols * sizeof(float));
    bool same = true;
    for (size_t row = 0; row < rows; row++) {
        format->decode(file + row * row_bytes, expected, cols);
        r16_row(&m, row, got);
        same = same && same_floats(got, expected, cols);
    }
    bool clean = guarded_free(got);
    clean = guarded_free(expected) && clean;
    clean = guarded_free(packed) && clean;
    clean = guarded_free(file) && clean;
    check(h, same && clean, "pack %s rows=%zu cols=%zu", format->name, rows, cols);
}

void check_pack(struct harness *h)
{
    for (size_t i = 0; quant_format_at(i) != NULL; i++) {
        enum r16_kind kind;
        for (size_t rows = 1; rows <= 16; rows += 5) {
            if (r16_kind_of((uint32_t)quant_format_at(i)->type, &kind)) {
                check_pack_one(h, quant_format_at(i), rows);
            }
        }
    }
}

static void check_multiply_one(struct harness *h, enum r16_kind kind, size_t rows, size_t cols,
                               size_t tokens, enum extreme extreme)
{
    struct r16_matrix m = random_matrix(h, kind, rows, cols, extreme);
    struct tile_memory t;
    tile_init(h, &t, kind, tokens, cols, extreme != EXTREME_NONE);
    size_t stride = rows + 3;
    size_t bytes = tokens * stride * sizeof(float);
    float *expected = guarded_new(bytes);
    float *got = guarded_new(bytes);
    size_t groups = r16_groups(rows);
    cpu_kernels_scalar.multiply(&m, 0, groups, &t.tile, expected, stride);
    size_t first = groups < 4 ? groups / 2 : groups / 4;
    h->kernels->multiply(&m, 0, first, &t.tile, got, stride);
    h->kernels->multiply(&m, first, groups - first, &t.tile, got, stride);
    bool same = same_floats(got, expected, tokens * stride); /* the gaps hold the same poison */
    bool clean = guarded_free(got);
    clean = guarded_free(expected) && clean;
    check(h, same && clean, "multiply %s rows=%zu cols=%zu tokens=%zu extreme=%d%s",
          kind_names[kind], rows, cols, tokens, (int)extreme, clean ? "" : ", guard overwritten");
    tile_fini(&t);
    random_matrix_free(&m);
}

/* So many rows that a kernel reads as many streams as it can. */
static void check_multiply_streams(struct harness *h, enum r16_kind kind)
{
    size_t bytes = strstr(h->kernels->name, "emulated") != NULL ? 12 << 10 : 350 << 10;
    size_t cols = kind_columns(kind) * (kind_columns(kind) == 32 ? 19 : 3);
    size_t rows = (bytes / r16_group_bytes(kind, cols) + 1) * R16_ROWS - 3;
    size_t most = h->kernels->direct_tokens < 8 ? h->kernels->direct_tokens : 8;
    check_multiply_one(h, kind, rows, cols, 1 + rng_below(&h->rng, most), EXTREME_NONE);
}

void check_multiply(struct harness *h)
{
    for (int kind = 0; kind < R16_KINDS; kind++) {
        size_t step = kind_columns((enum r16_kind)kind);
        check_multiply_streams(h, (enum r16_kind)kind);
        for (size_t tokens = 1; tokens <= h->kernels->direct_tokens; tokens++) {
            for (int extreme = 0; extreme < EXTREME_COUNT; extreme++) {
                size_t cols = step * (1 + rng_below(&h->rng, step == 32 ? 20 : 3));
                size_t rows = 1 + rng_below(&h->rng, 40);
                check_multiply_one(h, (enum r16_kind)kind, rows, cols, tokens,
                                   (enum extreme)extreme);
            }
        }
    }
}

/* Two panels' worth of columns, the second one shorter. */
static void check_panels_one(struct harness *h, enum r16_kind kind, size_t groups, size_t tokens,
                             enum extreme extreme)
{
    const struct cpu_kernels *k = h->kernels;
    size_t step = kind_columns(kind);
    size_t cols = k->panel_blocks * R16_BLOCK + step * (1 + rng_below(&h->rng, step == 32 ? 9 : 2));
    size_t rows = groups * R16_ROWS;
    struct r16_matrix m = random_matrix(h, kind, rows, cols, extreme);
    struct tile_memory t;
    tile_init(h, &t, kind, tokens, cols, extreme != EXTREME_NONE);
    struct r16_panel *panels = guarded_new(groups * sizeof(*panels));
    float *expected = guarded_new(tokens * rows * sizeof(float));
    float *got = guarded_new(tokens * rows * sizeof(float));
    cpu_kernels_scalar.multiply(&m, 0, groups, &t.tile, expected, rows);
    size_t all = cols / R16_BLOCK;
    for (size_t done = 0; done < all; done += k->panel_blocks) {
        size_t blocks = all - done < k->panel_blocks ? all - done : k->panel_blocks;
        for (size_t i = 0; i < groups; i++) {
            k->open_panel(&m, i, done, blocks, &panels[i]);
        }
        k->multiply_panels(kind, panels, groups, blocks, &t.tile, done, got, done == 0);
    }
    if (k->release != NULL && rng_below(&h->rng, 2) == 0) {
        k->release();
    }
    bool same = same_floats(got, expected, tokens * rows); /* both are [tokens][rows] here */
    bool clean = guarded_free(got);
    clean = guarded_free(expected) && clean;
    clean = guarded_free(panels) && clean;
    check(h, same && clean, "panels %s groups=%zu cols=%zu tokens=%zu extreme=%d%s",
          kind_names[kind], groups, cols, tokens, (int)extreme, clean ? "" : ", guard overwritten");
    tile_fini(&t);
    random_matrix_free(&m);
}

void check_panels(struct harness *h)
{
    for (int kind = 0; kind < R16_KINDS; kind++) {
        for (size_t tokens = 1; tokens <= h->kernels->tile_tokens; tokens++) {
            for (size_t groups = 1; groups <= h->kernels->panel_groups; groups++) {
                enum extreme extreme = (enum extreme)rng_below(&h->rng, EXTREME_COUNT);
                check_panels_one(h, (enum r16_kind)kind, groups, tokens, EXTREME_NONE);
                check_panels_one(h, (enum r16_kind)kind, groups, tokens, extreme);
            }
        }
    }
}

/* The kernels of a tier, but for those of w8.h. */
static struct cpu_kernels specified_w8(const struct cpu_kernels *tier)
{
    struct cpu_kernels k = *tier;
    k.w8_open = w8_open;
    k.w8_quantize = w8_quantize;
    k.w8_multiply = w8_multiply;
    return k;
}

/* Activations quantized, and the sums of all columns: in two parts, the second one shorter. */
static void multiply_w8(const struct cpu_kernels *k, const struct r16_matrix *m, size_t tokens,
                        const float *x, float *sums)
{
    const size_t blocks = m->cols / R16_BLOCK, groups = r16_groups(m->rows);
    struct q8 q8;
    struct cpu_layout layout = {0};
    q8_place(&q8, &layout, 1, Q8_PROMPTS_W8, tokens, m->cols);
    layout = (struct cpu_layout){.data = guarded_new(layout.used)};
    unsigned char *memory = layout.data;
    q8_place(&q8, &layout, 1, Q8_PROMPTS_W8, tokens, m->cols);
    q8_start(&q8, k, tokens, tokens, m->cols, Q8_ALL);
    for (size_t token = 0; token < tokens; token++) {
        const size_t half = blocks / 2 / W8_BLOCKS * W8_BLOCKS;
        q8_put(&q8, k, token, 0, half, x + token * m->cols);
        q8_put(&q8, k, token, half, blocks - half, x + token * m->cols + half * R16_BLOCK);
    }
    struct r16_panel *panels = guarded_new(groups * sizeof(*panels));
    const struct q8_tile tile = q8_prompt_view(&q8, 0);
    for (size_t done = 0; done < blocks; done += k->panel_blocks) {
        const size_t here = blocks - done < k->panel_blocks ? blocks - done : k->panel_blocks;
        for (size_t i = 0; i < groups; i++) {
            k->w8_open(m, i, done, here, &panels[i]);
        }
        k->w8_multiply(panels, groups, here, &tile, done, sums, done == 0);
    }
    guarded_free(panels);
    guarded_free(memory);
}

static void check_w8_one(struct harness *h, enum r16_kind kind, size_t groups, size_t tokens,
                         enum extreme extreme)
{
    const size_t step = kind_columns(kind);
    const size_t cols =
        h->kernels->panel_blocks * R16_BLOCK + step * (1 + rng_below(&h->rng, step == 32 ? 9 : 2));
    const size_t rows = groups * R16_ROWS;
    struct r16_matrix m = random_matrix(h, kind, rows, cols, extreme);
    const struct cpu_kernels specified = specified_w8(h->kernels);
    float *x = guarded_new(tokens * cols * sizeof(*x)), *sums[2];
    random_floats(h, x, tokens * cols, extreme == EXTREME_NONE ? 1.0f : 1e4f);
    for (size_t i = 0; i < cols && extreme != EXTREME_NONE; i++) {
        x[i] = 1.0f; /* all at the end of the range */
    }
    bool clean = true;
    for (size_t way = 0; way < 2; way++) {
        sums[way] = guarded_new(tokens * rows * sizeof(*sums[way]));
        multiply_w8(way == 0 ? &specified : h->kernels, &m, tokens, x, sums[way]);
    }
    bool same = same_floats(sums[0], sums[1], tokens * rows);
    for (size_t way = 0; way < 2; way++) {
        clean = guarded_free(sums[way]) && clean;
    }
    check(h, same && clean, "w8 %s groups=%zu cols=%zu tokens=%zu extreme=%d%s", kind_names[kind],
          groups, cols, tokens, (int)extreme, clean ? "" : ", guard overwritten");
    guarded_free(x);
    random_matrix_free(&m);
}

/* A row whose scale is no number gives none, and the next row does not notice. */
static void check_w8_no_number(struct harness *h, enum r16_kind kind)
{
    struct r16_matrix m = random_matrix(h, kind, R16_ROWS, 256, EXTREME_NONE);
    const uint16_t no_number = 0x7e00;
    const struct cpu_kernels specified = specified_w8(h->kernels);
    float x[256], sums[2][R16_ROWS];
    random_floats(h, x, 256, 1.0f);
    memcpy((void *)(uintptr_t)m.data, &no_number, sizeof(no_number));
    for (size_t way = 0; way < 2; way++) {
        multiply_w8(way == 0 ? &specified : h->kernels, &m, 1, x, sums[way]);
        check(h, isnan(sums[way][0]) && isfinite(sums[way][1]), "w8 %s of no number, way %zu",
              kind_names[kind], way);
    }
    random_matrix_free(&m);
}

void check_w8(struct harness *h)
{
    static const enum r16_kind halves_first[] = {R16_Q8_0, R16_Q4_1, R16_Q4_K, R16_Q6_K,
                                                 R16_IQ4_XS};
    for (size_t i = 0; i < sizeof(halves_first) / sizeof(halves_first[0]); i++) {
        if (h->kernels->w8_open != NULL) {
            check_w8_no_number(h, halves_first[i]);
        }
    }
    for (int kind = 0; kind < R16_KINDS && h->kernels->w8_open != NULL; kind++) {
        for (size_t tokens = 1; tokens <= h->kernels->tile_tokens; tokens++) {
            for (size_t groups = 1; groups <= h->kernels->panel_groups; groups++) {
                enum extreme extreme = (enum extreme)rng_below(&h->rng, EXTREME_COUNT);
                check_w8_one(h, (enum r16_kind)kind, groups, tokens, EXTREME_NONE);
                check_w8_one(h, (enum r16_kind)kind, groups, tokens, extreme);
            }
        }
    }
}

static void check_lanes_one(struct harness *h, enum lanes_kind kind, size_t rows, size_t cols,
                            size_t tokens)
{
    size_t element = lanes_element_bytes(kind);
    struct lanes_matrix m = {
        .kind = kind, .rows = rows, .cols = cols, .group_bytes = lanes_group_bytes(kind, cols)};
    size_t groups = r16_groups(rows);
    unsigned char *data = guarded_new(groups * m.group_bytes);
    unsigned char *file = guarded_new(rows * cols * element);
    m.data = data;
    for (size_t i = 0; i < rows * cols; i++) {
        float w = rng_normal(&h->rng);
        uint16_t bits = kind == LANES_F16 ? quant_f32_to_f16(w) : quant_f32_to_bf16(w);
        memcpy(file + i * element, kind == LANES_F32 ? (void *)&w : (void *)&bits, element);
    }
    for (size_t group = 0; group < groups; group++) {
        size_t left = rows - group * R16_ROWS;
        lanes_pack_group(kind, file + group * R16_ROWS * cols * element,
                         left < R16_ROWS ? left : R16_ROWS, cols, data + group * m.group_bytes);
    }
    size_t stride = rows + 1;
    float *x = guarded_new(tokens * cols * sizeof(*x));
    float *expected = guarded_new(tokens * stride * sizeof(float));
    float *got = guarded_new(tokens * stride * sizeof(float));
    random_floats(h, x, tokens * cols, 1.0f);
    cpu_kernels_scalar.multiply_lanes(&m, 0, groups, x, cols, tokens, expected, stride);
    h->kernels->multiply_lanes(&m, 0, groups, x, cols, tokens, got, stride);
    bool same = same_floats(got, expected, tokens * stride);
    bool clean = guarded_free(got);
    clean = guarded_free(expected) && clean;
    check(h, same && clean, "lanes kind=%d rows=%zu cols=%zu tokens=%zu%s", (int)kind, rows, cols,
          tokens, clean ? "" : ", guard overwritten");
    guarded_free(x);
    guarded_free(file);
    guarded_free(data);
}

void check_lanes(struct harness *h)
{
    for (int kind = LANES_F32; kind <= LANES_BF16; kind++) {
        for (size_t tokens = 1; tokens <= 20; tokens++) {
            check_lanes_one(h, (enum lanes_kind)kind, 1 + rng_below(&h->rng, 150),
                            1 + rng_below(&h->rng, 70), tokens);
        }
    }
}

/* Columns in two parts, the second one shorter; what is not a whole unit at the end. */
static void check_bf16_one(struct harness *h, enum r16_kind kind, size_t groups, size_t tiles,
                           enum extreme extreme)
{
    const struct cpu_kernels *k = h->kernels;
    size_t step = kind_columns(kind);
    size_t cols = 256 + step * (1 + rng_below(&h->rng, step == 32 ? 9 : 2));
    size_t blocks = cols / R16_BLOCK, tokens = tiles * BF16_TOKENS, rows = groups * R16_ROWS;
    struct r16_matrix m = random_matrix(h, kind, rows - rng_below(&h->rng, 16), cols, extreme);
    uint16_t *x = guarded_new(tokens * cols * sizeof(*x));
    uint16_t *weights[2];
    float *numbers = guarded_new(cols * sizeof(*numbers)), *sums[2];
    for (size_t i = 0; i < tokens; i++) {
        random_floats(h, numbers, cols, 1.0f);
        k->bf16_of(numbers, x + i * cols, cols);
        check(h, bf16_round(numbers[i % cols]) == x[i * cols + i % cols], "bf16_of");
    }
    for (size_t way = 0; way < 2; way++) {
        weights[way] = guarded_new(groups * 8 * BF16_TILE * sizeof(*weights[way]));
        sums[way] = guarded_new(tokens * rows * sizeof(*sums[way]));
        for (size_t done = 0; done < blocks; done += 8) {
            size_t here = blocks - done < 8 ? blocks - done : 8;
            for (size_t i = 0; i < groups; i++) {
                (way == 0 ? bf16_open : k->bf16_open)(&m, i, done, here,
                                                      weights[way] + i * 8 * BF16_TILE);
            }
            (way == 0 ? bf16_multiply : k->bf16_multiply)(&(struct bf16_product){
                .weights = weights[way],
                .groups = groups,
                .group_stride = 8 * BF16_TILE,
                .blocks = here,
                .x = x + done * BF16_TILE,
                .tiles = tiles,
                .x_stride = blocks * BF16_TILE,
                .sums = sums[way],
                .sums_stride = rows,
                .start = done == 0,
            });
        }
    }
    k->release();
    bool same = memcmp(weights[0], weights[1], groups * 8 * BF16_TILE * sizeof(*weights[0])) == 0;
    check(h, same, "bf16 weights %s extreme=%d", kind_names[kind], (int)extreme);
    same = same_floats(sums[0], sums[1], tokens * rows);
    bool clean = guarded_free(x) & guarded_free(numbers);
    for (size_t way = 0; way < 2; way++) {
        clean = guarded_free(weights[way]) & guarded_free(sums[way]) & clean;
    }
    check(h, same && clean, "bf16 %s groups=%zu tiles=%zu cols=%zu extreme=%d%s", kind_names[kind],
          groups, tiles, cols, (int)extreme, clean ? "" : ", guard overwritten");
    random_matrix_free(&m);
}

void check_bf16(struct harness *h)
{
    for (int kind = 0; kind < R16_KINDS && h->kernels->bf16_open != NULL; kind++) {
        for (int extreme = 0; extreme < EXTREME_COUNT; extreme++) {
            for (size_t i = 0; i < 4; i++) {
                check_bf16_one(h, (enum r16_kind)kind, 1 + i % 2, 1 + i / 2, (enum extreme)extreme);
            }
        }
    }
}

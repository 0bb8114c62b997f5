/* Times of the kernels: from the caches (the same small data again and again) and from memory (data
 * too large for any cache, read once a pass). One thread. GB/s counts the packed weights, or keys
 * and values; GMAC/s multiply-adds. */
#include "tests/kernels/harness.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/backend/cpu/lanes.h"
#include "engine/backend/cpu/q8.h"
#include "engine/base/clock.h"

/* Wall time, the best of many: a thread's own clock is corrected for time stolen by other virtual
 * machines, and then runs too slow. */
#define BENCH_NS 60000000u
#define RUNS_NS  200000u /* between two looks at the clock, at least */

struct timed {
    void (*run)(void *context);
    void *context;
    double bytes, macs; /* of one run */
};

static bool is_wanted(const char *filter, const char *name)
{
    return filter == NULL || strstr(name, filter) != NULL;
}

static void bench(const char *filter, const char *name, const struct timed *t)
{
    if (!is_wanted(filter, name)) {
        return;
    }
    uint64_t begin = clock_now_ns();
    t->run(t->context);
    uint64_t once = clock_now_ns() - begin;
    size_t runs = once >= RUNS_NS ? 1 : RUNS_NS / (once + 1);
    double best = 1e30;
    do {
        uint64_t start = clock_now_ns();
        for (size_t i = 0; i < runs; i++) {
            t->run(t->context);
        }
        double each = (double)(clock_now_ns() - start) / (double)runs;
        best = each < best ? each : best;
    } while (clock_now_ns() - begin < BENCH_NS);
    printf("%-36s %10.2f us", name, best * 1e-3);
    if (t->bytes > 0) {
        printf(" %8.2f GB/s", t->bytes / best);
    }
    if (t->macs > 0) {
        printf(" %8.2f GMAC/s", t->macs / best);
    }
    printf("\n");
}

struct multiply_bench {
    const struct cpu_kernels *k;
    struct r16_matrix m;
    struct q8_tile tile;
    struct r16_panel *panels;
    float *y;
    bool w8; /* see w8.h */
};

static void run_multiply(void *context)
{
    struct multiply_bench *b = context;
    b->k->multiply(&b->m, 0, r16_groups(b->m.rows), &b->tile, b->y, b->m.rows);
}

static void run_open(void *context)
{
    struct multiply_bench *b = context;
    (b->w8 ? b->k->w8_open : b->k->open_panel)(&b->m, 0, 0, b->k->panel_blocks, b->panels);
}

static void run_panels(void *context)
{
    struct multiply_bench *b = context;
    if (b->w8) {
        b->k->w8_multiply(b->panels, b->k->panel_groups, b->k->panel_blocks, &b->tile, 0, b->y,
                          true);
    } else {
        b->k->multiply_panels(b->m.kind, b->panels, b->k->panel_groups, b->k->panel_blocks,
                              &b->tile, 0, b->y, true);
    }
}

static void bench_multiply(struct harness *h, const char *filter, enum r16_kind kind, size_t rows,
                           size_t tokens, const char *from)
{
    const size_t cols = 1024;
    char name[64];
    snprintf(name, sizeof(name), "multiply %s tokens=%zu %s", kind_names[kind], tokens, from);
    if (!is_wanted(filter, name)) {
        return;
    }
    struct multiply_bench b = {.k = h->kernels,
                               .m = random_matrix(h, kind, rows, cols, EXTREME_NONE)};
    struct tile_memory t;
    tile_init(h, &t, kind, tokens, cols, false);
    b.tile = t.tile;
    b.y = guarded_new(rows * tokens * sizeof(float));
    struct timed timed = {run_multiply, &b, (double)(b.m.group_bytes * r16_groups(rows)),
                          (double)rows * (double)cols * (double)tokens};
    bench(filter, name, &timed);
    guarded_free(b.y);
    tile_fini(&t);
    random_matrix_free(&b.m);
}

/* An opened panel of each row group and a tile, all in the first-level cache. What w8_multiply
 * takes is the same for every kind. */
static void bench_panels(struct harness *h, const char *filter, enum r16_kind kind, bool w8)
{
    const struct cpu_kernels *k = h->kernels;
    const size_t cols = k->panel_blocks * R16_BLOCK;
    const size_t rows = k->panel_groups * R16_ROWS;
    char name[64];
    if (w8 && k->w8_open == NULL) {
        return;
    }
    struct multiply_bench b = {
        .k = k, .m = random_matrix(h, kind, rows, cols, EXTREME_NONE), .w8 = w8};
    struct tile_memory t; /* more scales than w8_multiply needs */
    tile_init(h, &t, w8 ? R16_Q8_0 : kind, k->tile_tokens, cols, false);
    b.tile = t.tile;
    b.panels = guarded_new(k->panel_groups * sizeof(*b.panels));
    b.y = guarded_new(rows * k->tile_tokens * sizeof(float));
    for (size_t i = 0; i < k->panel_groups; i++) {
        (w8 ? k->w8_open : k->open_panel)(&b.m, i, 0, k->panel_blocks, &b.panels[i]);
    }
    struct timed open = {run_open, &b, (double)b.m.group_bytes, 0};
    snprintf(name, sizeof(name), "%s %s", w8 ? "w8_open" : "open_panel", kind_names[kind]);
    bench(filter, name, &open);
    struct timed timed = {run_panels, &b, 0, (double)rows * (double)cols * (double)k->tile_tokens};
    snprintf(name, sizeof(name), "%s %s tokens=%zu", w8 ? "w8_multiply" : "multiply_panels",
             kind_names[kind], k->tile_tokens);
    bench(filter, name, &timed);
    guarded_free(b.y);
    guarded_free(b.panels);
    tile_fini(&t);
    random_matrix_free(&b.m);
}

/* A prompt's share of a matmul, as matmul.c does it: activations beyond the caches of a core,
 * panels opened once. */
struct prompt_bench {
    const struct cpu_kernels *k;
    struct r16_matrix m;
    struct q8 q8;
    struct r16_panel *panels;
    float *sums;
    bool w8; /* see w8.h */
};

static void run_prompt(void *context)
{
    struct prompt_bench *b = context;
    const size_t width = b->k->panel_groups * R16_ROWS;
    const size_t blocks = b->m.cols / R16_BLOCK;
    for (size_t first = 0; first < r16_groups(b->m.rows); first += b->k->panel_groups) {
        for (size_t done = 0; done < blocks; done += b->k->panel_blocks) {
            for (size_t i = 0; i < b->k->panel_groups; i++) {
                (b->w8 ? b->k->w8_open : b->k->open_panel)(&b->m, first + i, done,
                                                           b->k->panel_blocks, &b->panels[i]);
            }
            float *sums = b->sums;
            for (size_t t = 0; t < (b->w8 ? q8_prompt_tiles : q8_tiles)(&b->q8); t++) {
                struct q8_tile tile = (b->w8 ? q8_prompt_view : q8_tile_view)(&b->q8, t);
                if (b->w8) {
                    b->k->w8_multiply(b->panels, b->k->panel_groups, b->k->panel_blocks, &tile,
                                      done, sums, done == 0);
                } else {
                    b->k->multiply_panels(b->m.kind, b->panels, b->k->panel_groups,
                                          b->k->panel_blocks, &tile, done, sums, done == 0);
                }
                sums += tile.tokens * width;
            }
        }
    }
}

static void bench_prompt(struct harness *h, const char *filter, enum r16_kind kind, size_t cols,
                         bool w8)
{
    const struct cpu_kernels *k = h->kernels;
    const size_t rows = 128;
    const size_t tokens = 512;
    char name[64];
    snprintf(name, sizeof(name), "prompt %s%s tokens=%zu cols=%zu", w8 ? "w8 " : "",
             kind_names[kind], tokens, cols);
    if ((w8 && k->w8_open == NULL) || !is_wanted(filter, name)) {
        return;
    }
    struct prompt_bench b = {
        .k = k, .m = random_matrix(h, kind, rows, cols, EXTREME_NONE), .w8 = w8};
    const enum q8_prompts form = w8 ? Q8_PROMPTS_W8 : Q8_PROMPTS_INT8;
    struct cpu_layout layout = {0};
    q8_place(&b.q8, &layout, 1, form, tokens, cols);
    layout = (struct cpu_layout){.data = guarded_new(layout.used)};
    unsigned char *memory = layout.data;
    q8_place(&b.q8, &layout, 1, form, tokens, cols);
    q8_start(&b.q8, k, tokens, w8 ? tokens : 0, cols, Q8_ALL);
    float *x = guarded_new(cols * sizeof(float));
    random_floats(h, x, cols, 1.0f);
    for (size_t token = 0; token < tokens; token++) {
        q8_put(&b.q8, k, token, 0, cols / R16_BLOCK, x);
    }
    b.panels = guarded_new(k->panel_groups * sizeof(*b.panels));
    b.sums = guarded_new(k->panel_groups * R16_ROWS * tokens * sizeof(float));
    struct timed timed = {run_prompt, &b, 0, (double)rows * (double)cols * (double)tokens};
    bench(filter, name, &timed);
    guarded_free(b.sums);
    guarded_free(b.panels);
    guarded_free(x);
    guarded_free(memory);
    random_matrix_free(&b.m);
}

struct bf16_bench {
    const struct cpu_kernels *k;
    struct r16_matrix m;
    uint16_t *weights, *x;
    float *sums;
    size_t tokens;
};

static void run_open_bf16(void *context)
{
    struct bf16_bench *b = context;
    b->k->bf16_open(&b->m, 0, 0, R16_UNIT_BLOCKS, b->weights);
}

static void run_bf16(void *context)
{
    struct bf16_bench *b = context;
    const size_t all = b->m.cols / R16_BLOCK, tiles = b->tokens / BF16_TOKENS;
    for (size_t i = 0; i < r16_groups(b->m.rows); i += 2) {
        for (size_t done = 0; done < all; done += R16_UNIT_BLOCKS) {
            struct bf16_product product = {.weights = b->weights,
                                           .groups = 2,
                                           .group_stride = R16_UNIT_BLOCKS * BF16_TILE,
                                           .blocks = R16_UNIT_BLOCKS,
                                           .tiles = 2,
                                           .x_stride = all * BF16_TILE,
                                           .sums_stride = 2 * R16_ROWS,
                                           .start = done == 0};
            for (size_t j = 0; j < 2; j++) {
                b->k->bf16_open(&b->m, i + j, done, R16_UNIT_BLOCKS,
                                b->weights + j * product.group_stride);
            }
            for (size_t tile = 0; tile < tiles; tile += 2) {
                product.x = b->x + (tile * all + done) * BF16_TILE;
                product.sums = b->sums + tile * BF16_TOKENS * product.sums_stride;
                b->k->bf16_multiply(&product);
            }
        }
    }
    b->k->release();
}

static void bench_bf16(struct harness *h, const char *filter, enum r16_kind kind, size_t cols)
{
    char open[64], prompt[64];
    snprintf(open, sizeof(open), "bf16_open %s", kind_names[kind]);
    struct bf16_bench b = {.k = h->kernels, .tokens = 512};
    snprintf(prompt, sizeof(prompt), "prompt bf16 %s tokens=%zu cols=%zu", kind_names[kind],
             b.tokens, cols);
    if (b.k->bf16_open == NULL || !(is_wanted(filter, open) || is_wanted(filter, prompt))) {
        return;
    }
    b.m = random_matrix(h, kind, 128, cols, EXTREME_NONE);
    b.weights = guarded_new(2 * R16_UNIT_BLOCKS * BF16_TILE * sizeof(*b.weights));
    b.x = guarded_new(b.tokens * cols * sizeof(*b.x));
    memset(b.x, 0x3f, b.tokens * cols * sizeof(*b.x));
    b.sums = guarded_new(2 * R16_ROWS * b.tokens * sizeof(float));
    struct timed opening = {run_open_bf16, &b, (double)r16_unit_bytes(kind, R16_UNIT_BLOCKS), 0};
    bench(filter, open, &opening);
    struct timed all = {run_bf16, &b, 0, 128.0 * (double)cols * (double)b.tokens};
    bench(filter, prompt, &all);
    guarded_free(b.sums);
    guarded_free(b.x);
    guarded_free(b.weights);
    random_matrix_free(&b.m);
}

struct lanes_bench {
    const struct cpu_kernels *k;
    struct lanes_matrix m;
    float *x, *y;
    size_t tokens;
};

static void run_lanes(void *context)
{
    struct lanes_bench *b = context;
    b->k->multiply_lanes(&b->m, 0, r16_groups(b->m.rows), b->x, b->m.cols, b->tokens, b->y,
                         b->m.rows);
}

static void bench_lanes(struct harness *h, const char *filter, size_t rows, size_t tokens,
                        const char *from)
{
    const size_t cols = 1024;
    char name[64];
    snprintf(name, sizeof(name), "multiply_lanes F16 tokens=%zu %s", tokens, from);
    if (!is_wanted(filter, name)) {
        return;
    }
    struct lanes_bench b = {.k = h->kernels, .tokens = tokens};
    b.m = (struct lanes_matrix){.kind = LANES_F16, .rows = rows, .cols = cols};
    b.m.group_bytes = lanes_group_bytes(LANES_F16, cols);
    size_t bytes = b.m.group_bytes * r16_groups(rows);
    unsigned char *data = guarded_new(bytes);
    memset(data, 0x11, bytes);
    b.m.data = data;
    b.x = guarded_new(tokens * cols * sizeof(float));
    random_floats(h, b.x, tokens * cols, 1.0f);
    b.y = guarded_new(tokens * rows * sizeof(float));
    struct timed timed = {run_lanes, &b, (double)bytes,
                          (double)rows * (double)cols * (double)tokens};
    bench(filter, name, &timed);
    guarded_free(b.y);
    guarded_free(b.x);
    guarded_free(data);
}

struct attention_bench {
    const struct cpu_kernels *k;
    struct attention_block block;
    unsigned char *kv;
    size_t page_bytes, key_bytes, pages;
    bool codes; /* int8 */
};

static void run_attention(void *context)
{
    struct attention_bench *b = context;
    for (size_t page = 0; page < b->pages; page++) {
        const unsigned char *keys = b->kv + page * b->page_bytes;
        b->block.next_keys = page + 1 < b->pages ? keys + b->page_bytes : NULL;
        b->block.next_values = page + 1 < b->pages ? keys + b->page_bytes + b->key_bytes : NULL;
        if (b->codes) {
            const float *scales = (const float *)(const void *)(keys + 2 * b->key_bytes);
            struct attention_page_s8 view = {(const int8_t *)keys,
                                             (const int8_t *)keys + b->key_bytes, scales,
                                             scales + CPU_PAGE_TOKENS};
            b->k->attend_page_s8(&b->block, &view, (int32_t)(page * CPU_PAGE_TOKENS));
            continue;
        }
        b->k->attend_page_f16(&b->block, keys, keys + b->key_bytes,
                              (int32_t)(page * CPU_PAGE_TOKENS));
    }
}

static void bench_attention(struct harness *h, const char *filter, bool codes, size_t queries,
                            size_t pages, const char *from)
{
    const size_t dims = 96;
    char name[64];
    snprintf(name, sizeof(name), "attend %s dims=%zu queries=%zu %s", codes ? "s8" : "f16", dims,
             queries, from);
    if (!is_wanted(filter, name)) {
        return;
    }
    struct attention_bench b = {.k = h->kernels, .pages = pages, .codes = codes};
    b.key_bytes = CPU_PAGE_TOKENS * dims * (codes ? 1 : 2);
    b.page_bytes = 2 * b.key_bytes + (codes ? 2 * CPU_PAGE_TOKENS * sizeof(float) : 0);
    b.kv = guarded_new(pages * b.page_bytes);
    memset(b.kv, 0x11, pages * b.page_bytes);
    const size_t bytes =
        CPU_QUERIES_MAX * (3 * dims + CPU_LANES + 2 * CPU_PAGE_TOKENS) * sizeof(float);
    float *floats = guarded_new(bytes);
    memset(floats, 0, bytes);
    b.block = (struct attention_block){
        .queries = queries, .head_dim = dims, .value_stride = dims, .q = floats};
    b.block.sums = floats + CPU_QUERIES_MAX * dims;
    b.block.total = b.block.sums + CPU_QUERIES_MAX * dims;
    b.block.scores = b.block.total + CPU_QUERIES_MAX * CPU_LANES;
    b.block.weights = (int16_t *)(void *)(b.block.scores + CPU_QUERIES_MAX * CPU_PAGE_TOKENS);
    b.block.q_codes = b.block.weights + CPU_QUERIES_MAX * CPU_PAGE_TOKENS;
    for (size_t i = 0; i < queries; i++) {
        b.block.end[i] = (int32_t)(pages * CPU_PAGE_TOKENS);
    }
    struct timed timed = {run_attention, &b, (double)(pages * b.page_bytes),
                          2.0 * (double)dims * (double)queries * (double)(pages * CPU_PAGE_TOKENS)};
    bench(filter, name, &timed);
    guarded_free(floats);
    guarded_free(b.kv);
}

struct row_bench {
    const struct cpu_kernels *k;
    float *x, *y;
    int8_t *codes;
    float *scale;
    int32_t *sums;
};

#define ROW 3072

static void run_quantize(void *context)
{
    struct row_bench *b = context;
    b->k->quantize(b->x, ROW, b->codes, b->scale, b->sums, NULL);
}

static void run_norm(void *context)
{
    struct row_bench *b = context;
    b->k->norm(b->x, b->x, ROW, 1e-5f, b->y);
}

static void run_silu(void *context)
{
    struct row_bench *b = context;
    memcpy(b->y, b->x, ROW * sizeof(float));
    b->k->silu_mul(b->y, b->x, ROW);
}

static void bench_rows(struct harness *h, const char *filter)
{
    struct row_bench b = {.k = h->kernels};
    b.x = guarded_new(ROW * sizeof(float));
    b.y = guarded_new(ROW * sizeof(float));
    b.codes = guarded_new(ROW);
    b.scale = guarded_new(ROW / 32 * sizeof(float));
    b.sums = guarded_new(ROW / 16 * sizeof(int32_t));
    random_floats(h, b.x, ROW, 1.0f);
    struct timed quantize = {run_quantize, &b, ROW * 4.0, 0};
    struct timed norm = {run_norm, &b, ROW * 4.0, 0};
    struct timed silu = {run_silu, &b, ROW * 8.0, 0};
    bench(filter, "quantize 3072", &quantize);
    bench(filter, "norm 3072", &norm);
    bench(filter, "silu_mul 3072", &silu);
    guarded_free(b.x);
    guarded_free(b.y);
    guarded_free(b.codes);
    guarded_free(b.scale);
    guarded_free(b.sums);
}

struct peak_bench {
    double (*run)(size_t rounds);
};

static void run_peak(void *context)
{
    (void)((struct peak_bench *)context)->run(1000);
}

/* A first-level cache holds 16 rows of 1,024 columns, a second-level cache 256 of them, none
 * 131,072. */
void bench_tier(struct harness *h, const char *filter)
{
    struct peak_bench int8 = {h->kernels->spin_int8};
    struct peak_bench f32 = {h->kernels->spin_f32};
    bench(filter, "peak int8", &(struct timed){run_peak, &int8, 0, h->kernels->spin_int8(1000)});
    bench(filter, "peak f32", &(struct timed){run_peak, &f32, 0, h->kernels->spin_f32(1000)});
    for (int kind = 0; kind < R16_KINDS; kind++) {
        bench_panels(h, filter, (enum r16_kind)kind, false);
        bench_panels(h, filter, (enum r16_kind)kind, true);
        bench_prompt(h, filter, (enum r16_kind)kind, 3072, false);
        bench_prompt(h, filter, (enum r16_kind)kind, 8192, false);
        bench_prompt(h, filter, (enum r16_kind)kind, 3072, true);
        bench_prompt(h, filter, (enum r16_kind)kind, 8192, true);
        bench_bf16(h, filter, (enum r16_kind)kind, 3072);
        bench_multiply(h, filter, (enum r16_kind)kind, 16, 1, "from L1");
        bench_multiply(h, filter, (enum r16_kind)kind, 256, 1, "from L2");
        bench_multiply(h, filter, (enum r16_kind)kind, 131072, 1, "from memory");
        bench_multiply(h, filter, (enum r16_kind)kind, 131072, h->kernels->direct_tokens,
                       "from memory");
    }
    bench_lanes(h, filter, 64, 1, "from L2");
    bench_lanes(h, filter, 65536, 1, "from memory");
    bench_lanes(h, filter, 64, 64, "from L2");
    for (size_t queries = 1; queries <= 16; queries *= 4) {
        for (int codes = 0; codes < 2; codes++) {
            bench_attention(h, filter, codes == 1, queries, 4, "from L2");
            bench_attention(h, filter, codes == 1, queries, 4096, "from memory");
        }
    }
    bench_rows(h, filter);
}

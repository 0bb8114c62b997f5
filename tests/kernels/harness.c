#include "tests/kernels/harness.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "quant/format/format.h"

#define GUARD  256
#define POISON 0xd7

const char *const kind_names[R16_KINDS] = {
    [R16_Q4_0] = "Q4_0",       [R16_Q4_1] = "Q4_1",     [R16_Q5_0] = "Q5_0",
    [R16_Q5_1] = "Q5_1",       [R16_Q8_0] = "Q8_0",     [R16_Q2_K] = "Q2_K",
    [R16_Q3_K] = "Q3_K",       [R16_Q4_K] = "Q4_K",     [R16_Q5_K] = "Q5_K",
    [R16_Q6_K] = "Q6_K",       [R16_IQ4_NL] = "IQ4_NL", [R16_IQ4_XS] = "IQ4_XS",
    [R16_TQ2_0] = "TQ2_0",     [R16_IQ1_S] = "IQ1_S",   [R16_IQ1_M] = "IQ1_M",
    [R16_IQ2_XXS] = "IQ2_XXS", [R16_IQ2_S] = "IQ2_S",   [R16_IQ3_XXS] = "IQ3_XXS",
    [R16_IQ3_S] = "IQ3_S",     [R16_MXFP4] = "MXFP4",
};

size_t kind_columns(enum r16_kind kind)
{
    for (size_t i = 0;; i++) {
        enum r16_kind other;
        if (r16_kind_of((uint32_t)quant_format_at(i)->type, &other) && other == kind) {
            return quant_format_at(i)->block_weights;
        }
    }
}

void *guarded_new(size_t bytes)
{
    size_t whole = (bytes + 63) & ~(size_t)63;
    unsigned char *p = aligned_alloc(64, GUARD + whole + GUARD);
    if (p == NULL) {
        fprintf(stderr, "no memory\n");
        exit(99);
    }
    memset(p, POISON, GUARD + whole + GUARD);
    memcpy(p, &bytes, sizeof(bytes));
    return p + GUARD;
}

bool guarded_free(void *p)
{
    unsigned char *start = (unsigned char *)p - GUARD;
    size_t bytes;
    memcpy(&bytes, start, sizeof(bytes));
    size_t whole = (bytes + 63) & ~(size_t)63;
    bool clean = true;
    for (size_t i = sizeof(bytes); i < GUARD; i++) {
        clean = clean && start[i] == POISON;
    }
    for (size_t i = GUARD + bytes; i < GUARD + whole + GUARD; i++) {
        clean = clean && start[i] == POISON;
    }
    free(start);
    return clean;
}

bool check(struct harness *h, bool ok, const char *format, ...)
{
    h->checks++;
    if (!ok) {
        h->failures++;
        char what[256];
        va_list args;
        va_start(args, format);
        vsnprintf(what, sizeof(what), format, args);
        va_end(args);
        printf("FAILED %s: %s (seed %llu)\n", h->kernels->name, what, (unsigned long long)h->seed);
    }
    return ok;
}

bool same_floats(const float *a, const float *b, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (memcmp(&a[i], &b[i], sizeof(a[i])) != 0 && !(a[i] == 0.0f && b[i] == 0.0f)) {
            return false;
        }
    }
    return true;
}

void random_floats(struct harness *h, float *x, size_t n, float spread)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t kind = rng_below(&h->rng, 16);
        x[i] = kind == 0 ? 0.0f : rng_normal(&h->rng) * spread * (kind == 1 ? 20.0f : 1.0f);
    }
}

/* Of a unit, as f16; now and then a zero or a number that is not normal, with either sign. */
static uint16_t random_d(struct harness *h)
{
    static const uint16_t rare[] = {0x0000, 0x8000, 0x0001, 0x83ff};
    if (rng_below(&h->rng, 8) == 0) {
        return rare[rng_below(&h->rng, sizeof(rare) / sizeof(rare[0]))];
    }
    return quant_f32_to_f16(rng_normal(&h->rng) * 0.02f);
}

struct r16_matrix random_matrix(struct harness *h, enum r16_kind kind, size_t rows, size_t cols,
                                enum extreme extreme)
{
    static const unsigned char fills[EXTREME_COUNT] = {0, 0xff, 0x00, 0x80};
    size_t group_bytes = r16_group_bytes(kind, cols);
    size_t groups = r16_groups(rows);
    unsigned char *data = guarded_new(groups * group_bytes);
    bool many = r16_types[kind].scales == R16_SCALES_D || r16_types[kind].scales == R16_SCALES_DM;
    for (size_t group = 0; group < groups; group++) {
        unsigned char *unit = data + group * group_bytes;
        for (size_t left = cols / R16_BLOCK; left > 0;) {
            size_t blocks = left < R16_UNIT_BLOCKS ? left : R16_UNIT_BLOCKS;
            size_t bytes = r16_unit_bytes(kind, blocks);
            size_t header = r16_header_bytes(kind, blocks);
            for (size_t i = 0; i < bytes; i++) {
                unit[i] = (unsigned char)rng_next(&h->rng);
            }
            if (extreme != EXTREME_NONE) {
                memset(unit + header, fills[extreme], bytes - header);
            }
            if (r16_types[kind].scales == R16_SCALES_E) {
                for (size_t i = 0; i < header; i++) {
                    unit[i] = (unsigned char)(115 + unit[i] % 10);
                }
                unit[rng_below(&h->rng, R16_ROWS)] = (unsigned char)rng_below(&h->rng, 3);
                unit[rng_below(&h->rng, R16_ROWS)] = R16_E_MAX;
            }
            size_t halves = many ? header / 2 : 2 * R16_ROWS;
            halves = r16_types[kind].scales == R16_SCALES_E ? 0 : halves;
            for (size_t i = 0; i < halves; i++) {
                bool second = !many && i >= R16_ROWS;
                if (second && r16_types[kind].scales != R16_SCALES_DSM &&
                    r16_types[kind].scales != R16_SCALES_DHM) {
                    break;
                }
                uint16_t d = random_d(h);
                memcpy(unit + 2 * i, &d, sizeof(d));
            }
            unit += bytes;
            left -= blocks;
        }
    }
    return (struct r16_matrix){
        .kind = kind, .rows = rows, .cols = cols, .group_bytes = group_bytes, .data = data};
}

void random_matrix_free(struct r16_matrix *m)
{
    guarded_free((void *)(uintptr_t)m->data);
}

void tile_init(struct harness *h, struct tile_memory *t, enum r16_kind kind, size_t tokens,
               size_t cols, bool extreme)
{
    struct cpu_kernels kernels = cpu_kernels_scalar;
    kernels.tile_tokens = tokens;
    kernels.direct_tokens = tokens;
    kernels.row_codes = h->kernels->row_codes;
    kernels.sum_base = h->kernels->sum_base;
    kernels.sum_step = h->kernels->sum_step;
    kernels.sum_pairs = h->kernels->sum_pairs;
    struct cpu_layout layout = {0};
    q8_place(&t->q8, &layout, 1, Q8_PROMPTS_INT8, tokens, cols);
    t->memory = guarded_new(layout.used);
    layout = (struct cpu_layout){.data = t->memory};
    q8_place(&t->q8, &layout, 1, Q8_PROMPTS_INT8, tokens, cols);
    q8_start(&t->q8, &kernels, tokens, 0, cols, q8_parts_of(kind));
    float *x = guarded_new(cols * sizeof(*x));
    for (size_t token = 0; token < tokens; token++) {
        random_floats(h, x, cols, 1.0f);
        for (size_t i = 0; extreme && i < cols; i++) {
            x[i] = token % 2 == 0 ? 3.0f : -3.0f;
        }
        q8_put(&t->q8, &kernels, token, 0, cols / R16_BLOCK, x);
    }
    guarded_free(x);
    t->tile = q8_tile_view(&t->q8, 0);
}

void tile_fini(struct tile_memory *t)
{
    guarded_free(t->memory);
}

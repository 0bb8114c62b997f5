#include "engine/backend/cpu/w8.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "engine/backend/cpu/kernels.h"

#define TINY 0x1p-100f

/* A span of an opened panel: weights as R16 orders codes, and the rows' scales. */
struct opened {
    int8_t weights[W8_COLS * R16_ROWS];
    float scale[R16_ROWS];
};

_Static_assert(sizeof(struct opened) <= W8_BLOCKS * CPU_PANEL_BLOCK_BYTES, "fits a panel");

/* Blocks of one unit that make a span of a row. */
struct row_span {
    enum r16_kind kind;
    const unsigned char *unit;
    size_t unit_blocks, first, blocks, lane;
};

static float scale_of(const struct row_span *s, size_t b, size_t half)
{
    return r16_scale(s->kind, s->unit, s->unit_blocks, s->first + b, s->lane, half);
}

static float middle_of(const struct row_span *s, size_t b, size_t half)
{
    float bias = r16_has_bias(s->kind)
                     ? r16_bias(s->kind, s->unit, s->unit_blocks, s->first + b, s->lane, half)
                     : 0.0f;
    return fmaf(scale_of(s, b, half), (float)w8_center(s->kind), bias);
}

static float largest_of(const struct row_span *s)
{
    const float range = (float)w8_half(s->kind);
    float largest = 0.0f;
    for (size_t i = 0; i < 2 * s->blocks; i++) {
        float scale = scale_of(s, i / 2, i % 2);
        float middle = middle_of(s, i / 2, i % 2);
        largest = fmaxf(largest, fabsf(fmaf(scale, -range, middle)));
        largest = fmaxf(largest, fabsf(fmaf(scale, range - 1.0f, middle)));
        largest = fmaxf(largest, fabsf(scale * range));
    }
    return largest;
}

/* 0; or no number, where a scale or bias is none. */
static float poison_of(const struct row_span *s)
{
    float poison = 0.0f;
    for (size_t i = 0; i < 2 * s->blocks; i++) {
        poison = fmaf(middle_of(s, i / 2, i % 2), 0.0f, poison);
    }
    return poison;
}

static float coarse(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof(bits));
    bits &= ~(uint32_t)0xff;
    memcpy(&x, &bits, sizeof(bits));
    return x;
}

static int32_t shifted(int32_t x, int bits)
{
    return x >= 0 ? x >> bits : ~(~x >> bits);
}

static void open_row(const struct row_span *s, struct opened *to)
{
    const int half_range = w8_half(s->kind);
    const float poison = poison_of(s);
    const float largest = poison == 0.0f ? largest_of(s) : 0.0f;
    const float scale = largest < TINY ? 0.0f : coarse(largest / 127.0f);
    const float inverse = largest < TINY ? 0.0f : 1.0f / scale;
    to->scale[s->lane] = scale + poison;
    for (size_t b = 0; poison == 0.0f && b < s->blocks; b++) {
        for (size_t k = 0; k < R16_BLOCK; k++) {
            const size_t half = k / (R16_BLOCK / 2);
            const int32_t factor =
                (int32_t)rintf(scale_of(s, b, half) * inverse * (float)(half_range * 256));
            const int32_t added = (int32_t)rintf(middle_of(s, b, half) * inverse * 256.0f);
            const int32_t code =
                r16_value(s->kind, s->unit, s->unit_blocks, s->first + b, s->lane, k) -
                w8_center(s->kind);
            const int32_t product = shifted(code * (32768 / half_range) * factor + 16384, 15);
            to->weights[b * R16_BLOCK * R16_ROWS + k / 4 * R16_VECTOR + 4 * s->lane + k % 4] =
                (int8_t)shifted(product + added + 128, 8);
        }
    }
}

void w8_open(const struct r16_matrix *m, size_t group, size_t first_block, size_t blocks,
             struct r16_panel *panel)
{
    const size_t all = m->cols / R16_BLOCK;
    const unsigned char *data = m->data + group * m->group_bytes;
    struct opened *opened = (struct opened *)(void *)panel->data;
    for (size_t done = 0; done < blocks; done += W8_BLOCKS, opened++) {
        const size_t block = first_block + done, in_unit = block % R16_UNIT_BLOCKS;
        const size_t left = all - (block - in_unit);
        struct row_span s = {
            .kind = m->kind,
            .unit = data + block / R16_UNIT_BLOCKS * r16_unit_bytes(m->kind, R16_UNIT_BLOCKS),
            .unit_blocks = left < R16_UNIT_BLOCKS ? left : R16_UNIT_BLOCKS,
            .first = in_unit,
            .blocks = blocks - done < W8_BLOCKS ? blocks - done : W8_BLOCKS,
        };
        for (s.lane = 0; s.lane < R16_ROWS; s.lane++) {
            open_row(&s, opened);
        }
    }
}

void w8_quantize(const float *x, size_t n, int8_t *codes, float *scale, int32_t *sums)
{
    for (size_t span = 0; span * W8_COLS < n; span++) {
        const float *from = x + span * W8_COLS;
        const size_t cols = n - span * W8_COLS < W8_COLS ? n - span * W8_COLS : W8_COLS;
        float m = 0.0f;
        for (size_t i = 0; i < cols; i++) {
            m = fabsf(from[i]) > m ? fabsf(from[i]) : m;
        }
        const float inverse = m < TINY ? 0.0f : 127.0f / m;
        scale[span] = m < TINY ? 0.0f : m / 127.0f;
        sums[span] = 0;
        for (size_t i = 0; i < cols; i++) {
            float code = rintf(from[i] * inverse);
            codes[span * W8_COLS + i] = code != code ? 0 : (int8_t)code;
            sums[span] += codes[span * W8_COLS + i];
        }
    }
}

static float continue_sum(const struct opened *opened, size_t blocks, size_t lane,
                          const struct q8_tile *x, size_t first_block, size_t token, float sum)
{
    for (size_t done = 0; done < blocks; done += W8_BLOCKS, opened++) {
        const size_t here = blocks - done < W8_BLOCKS ? blocks - done : W8_BLOCKS;
        int32_t dot = 0;
        for (size_t k = 0; k < here * R16_BLOCK; k++) {
            const int8_t *codes = x->codes + (first_block + done) * x->tokens * R16_BLOCK;
            dot += opened->weights[k / 4 * R16_VECTOR + 4 * lane + k % 4] *
                   codes[(k / 4 * x->tokens + token) * 4 + k % 4];
        }
        sum = fmaf((float)dot * opened->scale[lane],
                   x->scale[(first_block + done) / W8_BLOCKS * x->tokens + token], sum);
    }
    return sum;
}

void w8_multiply(const struct r16_panel *panels, size_t groups, size_t blocks,
                 const struct q8_tile *x, size_t first_block, float *sums, bool start)
{
    for (size_t token = 0; token < x->tokens; token++) {
        for (size_t row = 0; row < groups * R16_ROWS; row++) {
            float *sum = &sums[token * groups * R16_ROWS + row];
            *sum = continue_sum((const struct opened *)(const void *)panels[row / R16_ROWS].data,
                                blocks, row % R16_ROWS, x, first_block, token, start ? 0.0f : *sum);
        }
    }
}

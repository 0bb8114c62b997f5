/* The specification: see kernels.h. */
#include "engine/backend/cpu/kernels.h"

#include <math.h>
#include <string.h>

#include "quant/format/format.h"

#define QUANT_TINY 0x1p-100f

static void quantize(const float *x, size_t n, int8_t *codes, float *scale, int32_t *half_sums,
                     float *left)
{
    for (size_t b = 0; b < n / R16_BLOCK; b++) {
        const float *block = x + b * R16_BLOCK;
        float m = 0.0f;
        for (size_t i = 0; i < R16_BLOCK; i++) {
            m = fabsf(block[i]) > m ? fabsf(block[i]) : m;
        }
        bool tiny = m < QUANT_TINY;
        float inverse = tiny ? 0.0f : 127.0f / m;
        scale[b] = tiny ? 0.0f : m / 127.0f;
        half_sums[2 * b] = 0;
        half_sums[2 * b + 1] = 0;
        for (size_t i = 0; i < R16_BLOCK; i++) {
            float code = rintf(block[i] * inverse);
            codes[b * R16_BLOCK + i] = code != code ? 0 : (int8_t)code;
            half_sums[2 * b + i / 16] += codes[b * R16_BLOCK + i];
            if (left != NULL) {
                left[b * R16_BLOCK + i] = block[i] - scale[b] * code;
            }
        }
    }
}

static int32_t code_at(const struct q8_tile *x, size_t token, size_t block, size_t k)
{
    const int8_t *codes = x->codes + block * x->tokens * R16_BLOCK;
    return codes[q8_four(x->row_codes, x->tokens, token, k / 4) * 4 + k % 4];
}

/* What a block, or a half of one, adds to the sum of a row and a token. */
struct term {
    int32_t dot;
    float scale;
    float bias;
};

static float add_term(enum r16_kind kind, const struct term *t, const struct q8_tile *x,
                      size_t token, size_t block, size_t half, float sum)
{
    sum = fmaf((float)t->dot * t->scale, x->scale[block * x->tokens + token], sum);
    if (r16_has_bias(kind)) {
        const float *sums =
            r16_has_halves(kind) ? x->scaled_half_sum + 2 * block * x->tokens : NULL;
        float codes = sums != NULL ? sums[half * x->tokens + token]
                                   : x->scaled_sum[block * x->tokens + token];
        sum = fmaf(t->bias, codes, sum);
    }
    return sum;
}

static float multiply_one(const struct r16_matrix *m, const unsigned char *group, size_t lane,
                          const struct q8_tile *x, size_t token)
{
    float sum = 0.0f;
    size_t all = m->cols / R16_BLOCK;
    size_t halves = r16_has_halves(m->kind) ? 2 : 1;
    size_t columns = R16_BLOCK / halves;
    const unsigned char *unit = group;
    for (size_t done = 0; done < all; done += R16_UNIT_BLOCKS) {
        size_t blocks = all - done < R16_UNIT_BLOCKS ? all - done : R16_UNIT_BLOCKS;
        for (size_t b = 0; b < blocks; b++) {
            for (size_t half = 0; half < halves; half++) {
                struct term t = {
                    .scale = r16_scale(m->kind, unit, blocks, b, lane, half),
                    .bias = r16_bias(m->kind, unit, blocks, b, lane, half),
                };
                for (size_t k = half * columns; k < (half + 1) * columns; k++) {
                    t.dot += r16_value(m->kind, unit, blocks, b, lane, k) *
                             code_at(x, token, done + b, k);
                }
                sum = add_term(m->kind, &t, x, token, done + b, half, sum);
            }
        }
        unit += r16_unit_bytes(m->kind, blocks);
    }
    return sum;
}

static void multiply(const struct r16_matrix *m, size_t first, size_t groups,
                     const struct q8_tile *x, float *y, size_t y_stride)
{
    for (size_t row = first * R16_ROWS; row < (first + groups) * R16_ROWS && row < m->rows; row++) {
        const unsigned char *group = m->data + row / R16_ROWS * m->group_bytes;
        for (size_t token = 0; token < x->tokens; token++) {
            y[token * y_stride + row] = multiply_one(m, group, row % R16_ROWS, x, token);
        }
    }
}

/* A block of an opened panel: its values (signed bytes) as R16 orders codes, then scales and biases
 * of its halves. */
struct opened {
    int8_t values[R16_BLOCK * R16_ROWS];
    float scale[2 * R16_ROWS];
    float bias[2 * R16_ROWS];
};

static void open_panel(const struct r16_matrix *m, size_t group, size_t first_block, size_t blocks,
                       struct r16_panel *panel)
{
    size_t halves = r16_has_halves(m->kind) ? 2 : 1;
    const unsigned char *unit =
        m->data + group * m->group_bytes +
        first_block / R16_UNIT_BLOCKS * r16_unit_bytes(m->kind, R16_UNIT_BLOCKS);
    for (size_t done = 0; done < blocks; done += R16_UNIT_BLOCKS) {
        size_t here = blocks - done < R16_UNIT_BLOCKS ? blocks - done : R16_UNIT_BLOCKS;
        for (size_t b = 0; b < here; b++) {
            for (size_t lane = 0; lane < R16_ROWS; lane++) {
                struct opened *opened = (struct opened *)(void *)panel->data + done + b;
                for (size_t k = 0; k < R16_BLOCK; k++) {
                    opened->values[k / 4 * R16_VECTOR + 4 * lane + k % 4] =
                        (int8_t)r16_value(m->kind, unit, here, b, lane, k);
                }
                for (size_t half = 0; half < halves; half++) {
                    size_t at = half * R16_ROWS + lane;
                    opened->scale[at] = r16_scale(m->kind, unit, here, b, lane, half);
                    opened->bias[at] = r16_bias(m->kind, unit, here, b, lane, half);
                }
            }
        }
        unit += r16_unit_bytes(m->kind, here);
    }
}

static float continue_sum(enum r16_kind kind, const struct r16_panel *panel, size_t blocks,
                          size_t lane, const struct q8_tile *x, size_t first_block, size_t token,
                          float sum)
{
    size_t halves = r16_has_halves(kind) ? 2 : 1;
    size_t columns = R16_BLOCK / halves;
    for (size_t b = 0; b < blocks; b++) {
        const struct opened *opened = (const struct opened *)(const void *)panel->data + b;
        for (size_t half = 0; half < halves; half++) {
            size_t at = half * R16_ROWS + lane;
            struct term t = {.scale = opened->scale[at], .bias = opened->bias[at]};
            for (size_t k = half * columns; k < (half + 1) * columns; k++) {
                int32_t value = opened->values[k / 4 * R16_VECTOR + 4 * lane + k % 4];
                t.dot += value * code_at(x, token, first_block + b, k);
            }
            sum = add_term(kind, &t, x, token, first_block + b, half, sum);
        }
    }
    return sum;
}

static void multiply_panels(enum r16_kind kind, const struct r16_panel *panels, size_t groups,
                            size_t blocks, const struct q8_tile *x, size_t first_block, float *sums,
                            bool start)
{
    for (size_t token = 0; token < x->tokens; token++) {
        for (size_t row = 0; row < groups * R16_ROWS; row++) {
            float *sum = &sums[token * groups * R16_ROWS + row];
            *sum = continue_sum(kind, &panels[row / R16_ROWS], blocks, row % R16_ROWS, x,
                                first_block, token, start ? 0.0f : *sum);
        }
    }
}

static float lanes_weight(const struct lanes_matrix *m, size_t row, size_t col)
{
    const unsigned char *group = m->data + row / R16_ROWS * m->group_bytes;
    size_t index = col * R16_ROWS + row % R16_ROWS;
    if (m->kind == LANES_F32) {
        return ((const float *)(const void *)group)[index];
    }
    uint16_t bits = ((const uint16_t *)(const void *)group)[index];
    return m->kind == LANES_F16 ? quant_f16_to_f32(bits) : quant_bf16_to_f32(bits);
}

static void multiply_lanes(const struct lanes_matrix *m, size_t first, size_t groups,
                           const float *x, size_t x_stride, size_t tokens, float *y,
                           size_t y_stride)
{
    for (size_t row = first * R16_ROWS; row < (first + groups) * R16_ROWS && row < m->rows; row++) {
        for (size_t token = 0; token < tokens; token++) {
            float sum = 0.0f;
            for (size_t col = 0; col < m->cols; col++) {
                sum = fmaf(lanes_weight(m, row, col), x[token * x_stride + col], sum);
            }
            y[token * y_stride + row] = sum;
        }
    }
}

static float exponential(float x)
{
    if (x != x) {
        return x;
    }
    if (x < CPU_EXP_MIN) {
        return 0.0f;
    }
    x = x > CPU_EXP_MAX ? CPU_EXP_MAX : x;
    float n = rintf(x * CPU_EXP_LOG2E);
    float r = fmaf(n, -CPU_EXP_LN2_HI, x);
    r = fmaf(n, -CPU_EXP_LN2_LO, r);
    float p = cpu_exp_terms[0];
    for (int i = 1; i < CPU_EXP_TERMS; i++) {
        p = fmaf(p, r, cpu_exp_terms[i]);
    }
    uint32_t bits;
    memcpy(&bits, &p, sizeof(bits));
    bits += (uint32_t)(int32_t)n << 23;
    memcpy(&p, &bits, sizeof(p));
    return p;
}

static float add_lanes(float lanes[CPU_LANES])
{
    for (size_t apart = CPU_LANES / 2; apart > 0; apart /= 2) {
        for (size_t i = 0; i < apart; i++) {
            lanes[i] += lanes[i + apart];
        }
    }
    return lanes[0];
}

typedef float (*element)(const void *base, size_t index);

static float element_f16(const void *base, size_t index)
{
    return quant_f16_to_f32(((const uint16_t *)base)[index]);
}

static float element_f32(const void *base, size_t index)
{
    return ((const float *)base)[index];
}

/* What each key counts, as p, from the scores; raises the query's maximum when one is higher. */
static void soften(struct attention_block *b, size_t query, float *scores, size_t from, size_t to)
{
    float *total = b->total + query * CPU_LANES;
    float *sums = b->sums + query * b->value_stride;
    float maximum = b->maximum[query];
    for (size_t key = from; key < to; key++) {
        maximum = scores[key] > maximum ? scores[key] : maximum;
    }
    if (maximum > b->maximum[query]) {
        float factor = exponential(b->maximum[query] - maximum);
        for (size_t i = 0; i < CPU_LANES; i++) {
            total[i] *= factor;
        }
        for (size_t d = 0; d < b->head_dim; d++) {
            sums[d] *= factor;
        }
        b->maximum[query] = maximum;
    }
    for (size_t key = from; key < to; key++) {
        scores[key] = exponential(scores[key] - maximum);
        total[key % CPU_LANES] += scores[key];
    }
}

static void attend_query(struct attention_block *b, size_t query, const void *keys,
                         const void *values, size_t from, size_t to, element at)
{
    const float *q = b->q + query * b->head_dim;
    float *scores = b->scores + query * CPU_PAGE_TOKENS;
    float *sums = b->sums + query * b->value_stride;
    for (size_t key = from; key < to; key++) {
        float score = 0.0f;
        for (size_t d = 0; d < b->head_dim; d++) {
            size_t index = (key / CPU_LANES * b->head_dim + d) * CPU_LANES + key % CPU_LANES;
            score = fmaf(q[d], at(keys, index), score);
        }
        scores[key] = score;
    }
    soften(b, query, scores, from, to);
    for (size_t key = from; key < to; key++) {
        for (size_t d = 0; d < b->head_dim; d++) {
            sums[d] = fmaf(scores[key], at(values, key * b->value_stride + d), sums[d]);
        }
    }
}

static void attend_page(struct attention_block *b, const void *keys, const void *values,
                        int32_t first_key, element at)
{
    for (size_t query = 0; query < b->queries; query++) {
        int32_t from = b->begin[query] > first_key ? b->begin[query] - first_key : 0;
        int32_t to = b->end[query] - first_key < CPU_PAGE_TOKENS ? b->end[query] - first_key
                                                                 : CPU_PAGE_TOKENS;
        if (from < to) {
            attend_query(b, query, keys, values, (size_t)from, (size_t)to, at);
        }
    }
}

static void attend_page_f16(struct attention_block *b, const void *keys, const void *values,
                            int32_t first_key)
{
    attend_page(b, keys, values, first_key, element_f16);
}

static void attend_page_f32(struct attention_block *b, const void *keys, const void *values,
                            int32_t first_key)
{
    attend_page(b, keys, values, first_key, element_f32);
}

/* Sum of products of 16-bit and 8-bit codes that lie in pairs, `stride` pairs apart. */
static int32_t dot_pairs(const int16_t *a, const int8_t *b, size_t pairs, size_t stride)
{
    int32_t sum = 0;
    for (size_t i = 0; i < pairs; i++) {
        sum += a[2 * i] * b[2 * i * stride] + a[2 * i + 1] * b[2 * i * stride + 1];
    }
    return sum;
}

static void attend_query_s8(struct attention_block *b, size_t query,
                            const struct attention_page_s8 *page, size_t from, size_t to)
{
    const size_t pairs = (b->head_dim + 1) / 2;
    const int16_t *q = b->q_codes + query * 2 * pairs;
    float *scores = b->scores + query * CPU_PAGE_TOKENS;
    int16_t *weights = b->weights + query * CPU_PAGE_TOKENS;
    for (size_t key = from; key < to; key++) {
        const int8_t *k = page->keys + (key / CPU_LANES * pairs * CPU_LANES + key % CPU_LANES) * 2;
        int32_t sum = dot_pairs(q, k, pairs, CPU_LANES);
        scores[key] = (float)sum * (b->q_scale[query] * page->key_scale[key]);
    }
    soften(b, query, scores, from, to);
    float largest = 0.0f;
    for (size_t key = from; key < to; key++) {
        scores[key] *= page->value_scale[key];
        largest = scores[key] > largest ? scores[key] : largest;
    }
    const bool tiny = largest < 0x1p-100f;
    const float inverse = tiny ? 0.0f : 32767.0f / largest;
    memset(weights, 0, CPU_PAGE_TOKENS * sizeof(*weights));
    for (size_t key = from; key < to; key++) {
        weights[key] = (int16_t)lrintf(scores[key] * inverse);
    }
    const float scale = tiny ? 0.0f : largest / 32767.0f;
    float *sums = b->sums + query * b->value_stride;
    for (size_t d = 0; d < b->head_dim; d++) {
        int32_t sum =
            dot_pairs(weights, page->values + 2 * d, CPU_PAGE_TOKENS / 2, b->value_stride);
        sums[d] = fmaf((float)sum, scale, sums[d]);
    }
}

static void attend_page_s8(struct attention_block *b, const struct attention_page_s8 *page,
                           int32_t first_key)
{
    for (size_t query = 0; query < b->queries; query++) {
        int32_t from = b->begin[query] > first_key ? b->begin[query] - first_key : 0;
        int32_t to = b->end[query] - first_key < CPU_PAGE_TOKENS ? b->end[query] - first_key
                                                                 : CPU_PAGE_TOKENS;
        if (from < to) {
            attend_query_s8(b, query, page, (size_t)from, (size_t)to);
        }
    }
}

static void merge_row(float *x, const float *next, size_t n, float f, float g)
{
    for (size_t i = 0; i < n; i++) {
        x[i] = fmaf(next[i], g, x[i] * f);
    }
}

static void attend_merge(float *maximum, float *total, float *sums, float next_maximum,
                         const float *next_total, const float *next_sums, size_t stride)
{
    if (next_maximum == -INFINITY) {
        return;
    }
    if (*maximum == -INFINITY) {
        memcpy(total, next_total, CPU_LANES * sizeof(*total));
        memcpy(sums, next_sums, stride * sizeof(*sums));
        *maximum = next_maximum;
        return;
    }
    float m = next_maximum > *maximum ? next_maximum : *maximum;
    float f = exponential(*maximum - m);
    float g = exponential(next_maximum - m);
    merge_row(total, next_total, CPU_LANES, f, g);
    merge_row(sums, next_sums, stride, f, g);
    *maximum = m;
}

static float limit_f16(float x)
{
    const float limit = 65504.0f;
    return x > limit ? limit : x < -limit ? -limit : x;
}

static float largest_size(const float *x, size_t n)
{
    float largest = 0.0f;
    for (size_t i = 0; i < n; i++) {
        float size = fabsf(limit_f16(x[i]));
        largest = size > largest ? size : largest;
    }
    return largest;
}

static float to_s8(const float *x, int8_t *codes, size_t n, float limit)
{
    float m = largest_size(x, n);
    float inverse = m < 0x1p-100f ? 0.0f : limit / m;
    for (size_t i = 0; i < n; i++) {
        codes[i] = (int8_t)lrintf(limit_f16(x[i]) * inverse);
    }
    return m < 0x1p-100f ? 0.0f : m / limit;
}

static float to_s16(const float *x, int16_t *codes, size_t n, float limit)
{
    float m = largest_size(x, n);
    float inverse = m < 0x1p-100f ? 0.0f : limit / m;
    for (size_t i = 0; i < n; i++) {
        codes[i] = (int16_t)lrintf(limit_f16(x[i]) * inverse);
    }
    return m < 0x1p-100f ? 0.0f : m / limit;
}

static void norm(const float *x, const float *weight, size_t n, float eps, float *y)
{
    float lanes[CPU_LANES] = {0};
    for (size_t i = 0; i < n; i++) {
        lanes[i % CPU_LANES] = fmaf(x[i], x[i], lanes[i % CPU_LANES]);
    }
    float scale = cpu_norm_scale(add_lanes(lanes), n, eps);
    for (size_t i = 0; i < n; i++) {
        y[i] = x[i] * scale * weight[i];
    }
}

static void silu_mul(float *gate, const float *up, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        gate[i] = gate[i] / (1.0f + exponential(-gate[i])) * up[i];
    }
}

static void add(float *x, const float *y, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        x[i] += y[i];
    }
}

static void to_f16(const float *x, uint16_t *y, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        y[i] = quant_f32_to_f16(limit_f16(x[i]));
    }
}

static double spin_int8(size_t rounds)
{
    volatile int32_t sink;
    int32_t sum = 0;
    for (size_t round = 0; round < rounds; round++) {
        for (size_t i = 0; i < sizeof(cpu_peak_bytes); i++) {
            sum +=
                cpu_peak_bytes[i] * (int32_t)cpu_peak_bytes[(i + round) % sizeof(cpu_peak_bytes)] &
                0xffff;
        }
        sum &= 0xffff;
    }
    sink = sum;
    (void)sink;
    return (double)rounds * (double)sizeof(cpu_peak_bytes);
}

static double spin_f32(size_t rounds)
{
    volatile float sink;
    float sums[CPU_LANES] = {0};
    for (size_t round = 0; round < rounds; round++) {
        for (size_t i = 0; i < CPU_LANES; i++) {
            sums[i] = fmaf(sums[i], 0.5f, 0.25f);
        }
    }
    sink = sums[rounds % CPU_LANES];
    (void)sink;
    return (double)rounds * CPU_LANES;
}

static void read_all(const unsigned char *data, size_t bytes, size_t streams)
{
    (void)streams;
    volatile uint64_t sink;
    uint64_t seen = 0;
    for (size_t i = 0; i + sizeof(uint64_t) <= bytes; i += sizeof(uint64_t)) {
        uint64_t word;
        memcpy(&word, data + i, sizeof(word));
        seen |= word;
    }
    sink = seen;
    (void)sink;
}

const struct cpu_kernels cpu_kernels_scalar = {
    .name = "scalar",
    .tile_tokens = 4,
    .direct_tokens = 4,
    .direct_tiles = 1,
    .panel_groups = 1,
    .panel_blocks = CPU_PANEL_BLOCKS,
    CPU_KERNELS_FUNCTIONS,
};

/* Encoding IQ1, IQ2 and IQ3: for weights under one scale, several scales are tried, each weight
 * group takes the nearest point of the grid, all points being looked at, and least squares give the
 * scale that suits the points. The scales are then rounded to those of the block and the points
 * chosen again. */
#include "quant/format/grid.h"

#include <math.h>
#include <string.h>

#include "quant/format/codec.h"
#include "quant/format/search.h"

enum { POINTS_MAX = 2048, GROUP_MAX = 32 };

/* The grid as floats: level[i][k] is the level of weight i in point k, its sign positive; in IQ1
 * there are two grids, for the two signs. 144 KiB on the stack, made once a row. */
struct grid_floats {
    const struct grid_type *type;
    size_t grids;
    _Alignas(16) float level[2][8][POINTS_MAX];
    _Alignas(16) float square[2][POINTS_MAX];
};

/* What was chosen for the weights under one scale. For these points the best scale is xq / qq; what
 * they explain of the sum of squares under scale s is s (2 xq - s qq). */
struct choice {
    uint16_t points[GROUP_MAX / 4];
    uint8_t signs[GROUP_MAX / GRID_WEIGHTS];
    float xq, qq;
};

static void floats_init(struct grid_floats *f, const struct grid_type *type)
{
    f->type = type;
    f->grids = type->sign_weights == 1 ? 1 : 2;
    const int mask = (1 << type->bits) - 1;
    for (size_t sign = 0; sign < f->grids; sign++) {
        for (size_t k = 0; k < type->point_count; k++) {
            f->square[sign][k] = 0.0f;
            for (int i = 0; i < type->point_weights; i++) {
                int code = (type->points[k] >> type->bits * i & mask) | (int)sign << type->bits;
                float level = (float)type->levels[code];
                f->level[sign][i][k] = level;
                f->square[sign][k] += level * level;
            }
        }
    }
}

/* Four at a time, in whatever registers the processor has. */
typedef float lanes __attribute__((vector_size(16)));
typedef int32_t lanes_mask __attribute__((vector_size(16)));

/* The point nearest to x / scale: the one with the largest 2 x q / scale - q q, which is returned.
 */
static float find_point(const struct grid_floats *f, size_t sign, const float *x, float scale,
                        uint16_t *ret_point)
{
    const int weights = f->type->point_weights;
    lanes twice[8];
    for (int i = 0; i < weights; i++) {
        const float t = 2.0f * x[i] / scale;
        twice[i] = (lanes){t, t, t, t};
    }
    lanes best = {-INFINITY, -INFINITY, -INFINITY, -INFINITY};
    lanes_mask best_at = {0};
    for (size_t k = 0; k < f->type->point_count; k += 4) {
        lanes score = -*(const lanes *)&f->square[sign][k];
        for (int i = 0; i < weights; i++) {
            score += twice[i] * *(const lanes *)&f->level[sign][i][k];
        }
        const int32_t at = (int32_t)k;
        const lanes_mask better = score > best;
        best = (lanes)(((lanes_mask)score & better) | ((lanes_mask)best & ~better));
        best_at = ((lanes_mask){at, at, at, at} & better) | (best_at & ~better);
    }
    int lane = 0;
    for (int i = 1; i < 4; i++) {
        lane = best[i] > best[lane] ? i : lane;
    }
    *ret_point = (uint16_t)(best_at[lane] + lane);
    return best[lane];
}

static void add_point(const struct grid_floats *f, size_t sign, const float *x, uint16_t point,
                      struct choice *c)
{
    for (int i = 0; i < f->type->point_weights; i++) {
        c->xq += x[i] * f->level[sign][i][point];
    }
    c->qq += f->square[sign][point];
}

/* Where each weight has a sign: sizes of 8 weights, and their signs. An even number of signs is had
 * by turning that of the smallest weight. */
static uint8_t split_signs(const struct grid_type *type, const float *x, float sizes[GRID_WEIGHTS])
{
    int signs = 0;
    int smallest = 0;
    for (int i = 0; i < GRID_WEIGHTS; i++) {
        sizes[i] = fabsf(x[i]);
        signs |= (x[i] < 0.0f) << i;
        smallest = sizes[i] < sizes[smallest] ? i : smallest;
    }
    if (type->even_signs && __builtin_parity((unsigned)signs) != 0) {
        signs ^= 1 << smallest;
        sizes[smallest] = -sizes[smallest];
    }
    return (uint8_t)signs;
}

static void choose_signed(const struct grid_floats *f, const float *x, float scale,
                          struct choice *ret)
{
    const struct grid_type *type = f->type;
    const int points = GRID_WEIGHTS / type->point_weights;
    *ret = (struct choice){0};
    for (int g = 0; g < type->scale_weights / GRID_WEIGHTS; g++) {
        float sizes[GRID_WEIGHTS];
        ret->signs[g] = split_signs(type, x + GRID_WEIGHTS * g, sizes);
        for (int p = 0; p < points; p++) {
            uint16_t *point = &ret->points[points * g + p];
            find_point(f, 0, sizes + type->point_weights * p, scale, point);
            add_point(f, 0, sizes + type->point_weights * p, *point, ret);
        }
    }
}

/* IQ1: the sign of 8 or 32 weights is whichever grid comes nearer. */
static void choose_shifted(const struct grid_floats *f, const float *x, float scale,
                           struct choice *ret)
{
    const int groups = f->type->scale_weights / GRID_WEIGHTS;
    const int together = f->type->sign_weights / GRID_WEIGHTS;
    *ret = (struct choice){0};
    for (int g = 0; g < groups; g += together) {
        uint16_t points[2][GROUP_MAX / GRID_WEIGHTS];
        float score[2] = {0.0f, 0.0f};
        for (size_t sign = 0; sign < 2; sign++) {
            for (int i = 0; i < together; i++) {
                score[sign] +=
                    find_point(f, sign, x + GRID_WEIGHTS * (g + i), scale, &points[sign][i]);
            }
        }
        const size_t sign = score[1] > score[0];
        for (int i = 0; i < together; i++) {
            ret->points[g + i] = points[sign][i];
            ret->signs[g + i] = sign != 0 ? 255 : 0;
            add_point(f, sign, x + GRID_WEIGHTS * (g + i), points[sign][i], ret);
        }
    }
}

static void choose(const struct grid_floats *f, const float *x, float scale, struct choice *ret)
{
    if (f->grids == 1) {
        choose_signed(f, x, scale, ret);
    } else {
        choose_shifted(f, x, scale, ret);
    }
}

/* The best scale found for the weights of one group; 0 when they are nearly zero or too large. */
static float find_scale(const struct grid_floats *f, const float *x)
{
    /* Of the largest level at the largest weight; and the smaller levels there, for groups that the
     * large ones do not occur in. */
    static const float around[] = {1.0f, 0.7f, 0.8f, 0.9f, 1.1f, 1.25f};
    enum { AROUND = sizeof(around) / sizeof(around[0]) };
    const struct grid_type *type = f->type;
    float extreme = 0.0f;
    for (int i = 0; i < type->scale_weights; i++) {
        extreme = fmaxf(extreme, fabsf(x[i]));
    }
    int top = 0;
    for (int i = 0; i < 16; i++) {
        top = type->levels[i] > top ? type->levels[i] : top;
    }
    float best_scale = 0.0f;
    float best_gain = 0.0f;
    for (int i = 0; i < AROUND + 16 && extreme > 1e-15f; i++) {
        float level = i < AROUND ? (float)top / around[i] : (float)type->levels[i - AROUND];
        if (level <= 0.0f || (i >= AROUND && level >= (float)top)) {
            continue;
        }
        struct choice c;
        choose(f, x, extreme / level, &c);
        float gain = c.xq / c.qq * c.xq;
        if (c.xq > 0.0f && isfinite(gain) && gain > best_gain) {
            best_gain = gain;
            best_scale = c.xq / c.qq;
        }
    }
    return best_scale;
}

/* The points under the whole-numbered scale that leaves the smallest error. */
static uint8_t settle(const struct grid_floats *f, const float *x, float d, float wanted,
                      struct choice *ret)
{
    const int max = f->type->scale_max;
    const int nearest = 2 * search_code((wanted / d - 1.0f) / 2.0f, 0, max / 2) + 1;
    int scale = 0;
    float best = 0.0f;
    for (int try = nearest - 2; try <= nearest + 2; try += 2) {
        if (try < 1 || try > max) {
            continue;
        }
        struct choice c;
        const float s = d * (float)try;
        choose(f, x, s, &c);
        const float gain = s * (2.0f * c.xq - s * c.qq);
        if (scale == 0 || gain > best) {
            best = gain;
            scale = try;
            *ret = c;
        }
    }
    return (uint8_t)scale;
}

static void encode_block(const struct grid_floats *f, const float *src, struct grid_parts *ret)
{
    const struct grid_type *type = f->type;
    const int groups = SUPER_BLOCK_WEIGHTS / type->scale_weights;
    const int points = type->scale_weights / type->point_weights;
    const int signs = type->scale_weights / GRID_WEIGHTS;
    float x[SUPER_BLOCK_WEIGHTS];
    float scale[16];
    float largest = 0.0f;
    search_clean(src, x, SUPER_BLOCK_WEIGHTS);
    for (int g = 0; g < groups; g++) {
        scale[g] = find_scale(f, x + type->scale_weights * g);
        largest = fmaxf(largest, scale[g]);
    }
    *ret = (struct grid_parts){.d = search_half(largest / ((float)type->scale_max * type->factor))};
    memset(ret->scales, 1, sizeof(ret->scales));
    const float d = quant_f16_to_f32(ret->d) * type->factor;
    for (int g = 0; g < groups && d > 0.0f; g++) {
        struct choice c;
        uint8_t whole = settle(f, x + type->scale_weights * g, d, scale[g], &c);
        memset(ret->scales + type->scale_weights / 16 * g, whole, type->scale_weights / 16);
        memcpy(ret->points + points * g, c.points, (size_t)points * sizeof(c.points[0]));
        memcpy(ret->signs + signs * g, c.signs, (size_t)signs);
    }
}

static void encode(enum quant_type number, const float *src, void *dst, size_t n)
{
    const struct quant_format *format = quant_format_find(number);
    struct grid_floats floats;
    unsigned char *block = dst;
    floats_init(&floats, grid_type_find(number));
    for (size_t k = 0; k < n / SUPER_BLOCK_WEIGHTS; k++, block += format->block_bytes) {
        struct grid_parts parts;
        encode_block(&floats, src + k * SUPER_BLOCK_WEIGHTS, &parts);
        floats.type->close(&parts, block);
    }
}

#define DEFINE_ENCODE(name, number)                                                                \
    void name##_encode(const float *src, void *dst, size_t n)                                      \
    {                                                                                              \
        encode(number, src, dst, n);                                                               \
    }

DEFINE_ENCODE(iq1_s, QUANT_IQ1_S)
DEFINE_ENCODE(iq1_m, QUANT_IQ1_M)
DEFINE_ENCODE(iq2_xxs, QUANT_IQ2_XXS)
DEFINE_ENCODE(iq2_xs, QUANT_IQ2_XS)
DEFINE_ENCODE(iq2_s, QUANT_IQ2_S)
DEFINE_ENCODE(iq3_xxs, QUANT_IQ3_XXS)
DEFINE_ENCODE(iq3_s, QUANT_IQ3_S)

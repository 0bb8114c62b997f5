#include "engine/backend/cpu/r16.h"

#include <string.h>

#include "quant/format/block.h"
#include "quant/format/format.h"

/* The tables of quant/format, `a` above the values. Level 3 of IQ1 and IQ2 does not occur. */
#define V(value, a) (int8_t)((value) + (a))
#define IQ4(a)                                                                                     \
    {                                                                                              \
        V(-127, a), V(-104, a), V(-83, a), V(-65, a), V(-49, a), V(-35, a), V(-22, a), V(-10, a),  \
            V(1, a), V(13, a), V(25, a), V(38, a), V(53, a), V(69, a), V(89, a), V(113, a)         \
    }
#define IQ1(a)                                                                                     \
    {                                                                                              \
        V(-7, a), V(1, a), V(9, a), V(0, a), V(-9, a), V(-1, a), V(7, a), V(0, a)                  \
    }
#define IQ2(a)                                                                                     \
    {                                                                                              \
        V(8, a), V(25, a), V(43, a), V(0, a), V(-8, a), V(-25, a), V(-43, a), V(0, a)              \
    }
#define IQ3_XXS(a)                                                                                 \
    {                                                                                              \
        V(4, a), V(12, a), V(20, a), V(28, a), V(36, a), V(44, a), V(52, a), V(62, a), V(-4, a),   \
            V(-12, a), V(-20, a), V(-28, a), V(-36, a), V(-44, a), V(-52, a), V(-62, a)            \
    }
#define IQ3_S(a)                                                                                   \
    {                                                                                              \
        V(1, a), V(3, a), V(5, a), V(7, a), V(9, a), V(11, a), V(13, a), V(15, a), V(-1, a),       \
            V(-3, a), V(-5, a), V(-7, a), V(-9, a), V(-11, a), V(-13, a), V(-15, a)                \
    }
#define MXFP4(a)                                                                                   \
    {                                                                                              \
        V(0, a), V(1, a), V(2, a), V(3, a), V(4, a), V(6, a), V(8, a), V(12, a), V(0, a),          \
            V(-1, a), V(-2, a), V(-3, a), V(-4, a), V(-6, a), V(-8, a), V(-12, a)                  \
    }
#define TABLES(signed_above, above_16, above_64)                                                   \
    {                                                                                              \
        [R16_LEVELS_IQ4] = IQ4(signed_above), [R16_LEVELS_IQ1] = IQ1(above_16),                    \
        [R16_LEVELS_IQ2] = IQ2(above_64), [R16_LEVELS_IQ3_XXS] = IQ3_XXS(above_64),                \
        [R16_LEVELS_IQ3_S] = IQ3_S(above_16), [R16_LEVELS_MXFP4] = MXFP4(above_16),                \
    }

const int8_t r16_levels[R16_LEVELS_FORMS][R16_LEVELS_COUNT][16] = {
    [R16_LEVELS_VALUES] = TABLES(0, 0, 0),
    [R16_LEVELS_OFFSET] = TABLES(0, 16, 64),
    [R16_LEVELS_RAISED] = TABLES(128, 128, 128),
};

int r16_value(enum r16_kind kind, const unsigned char *unit, size_t blocks, size_t block,
              size_t lane, size_t k)
{
    const struct r16_type *type = &r16_types[kind];
    const unsigned char *low =
        unit + r16_header_bytes(kind, blocks) + block * r16_block_bytes(kind);
    const unsigned char *high = low + (size_t)R16_VECTOR * type->low_bits;
    size_t step = k / 4;
    size_t byte = 4 * lane + k % 4;
    int code = 0;
    switch (type->low_bits) {
    case 2:
        code = low[step / 4 * R16_VECTOR + byte] >> 2 * (step % 4) & 3;
        break;
    case 4:
        code = low[step % 4 * R16_VECTOR + byte] >> 4 * (step / 4) & 15;
        break;
    default:
        code = (int8_t)low[step * R16_VECTOR + byte];
        break;
    }
    if (type->high_bits == 1) {
        code |= (high[byte] >> step & 1) << type->low_bits;
    } else if (type->high_bits == 2) {
        code |= (high[step / 4 * R16_VECTOR + byte] >> 2 * (step % 4) & 3) << type->low_bits;
    }
    return type->levels != R16_LEVELS_NONE ? r16_levels[R16_LEVELS_VALUES][type->levels][code]
                                           : code - type->offset;
}

/* Element `index` of an array of f16 vectors at the start of the header. */
static float half_at(const unsigned char *header, size_t index)
{
    uint16_t bits;
    memcpy(&bits, header + index * sizeof(bits), sizeof(bits));
    return quant_f16_to_f32(bits);
}

float r16_scale(enum r16_kind kind, const unsigned char *unit, size_t blocks, size_t block,
                size_t lane, size_t half)
{
    (void)blocks;
    const unsigned char *after_d = unit + R16_ROWS * sizeof(uint16_t);
    const unsigned char *after_dmin = after_d + R16_ROWS * sizeof(uint16_t);
    float d = half_at(unit, lane) * r16_d_factor(kind);
    uint8_t pair = after_d[block * R16_ROWS + lane]; /* DO, DP */
    switch ((enum r16_scales)r16_types[kind].scales) {
    case R16_SCALES_D:
    case R16_SCALES_DM:
        return half_at(unit, block * R16_ROWS + lane);
    case R16_SCALES_DS:
        return d * (float)(int8_t)after_d[block * R16_ROWS + lane];
    case R16_SCALES_DSM:
        return d * (float)after_dmin[block * R16_ROWS + lane];
    case R16_SCALES_DH:
        return d * (float)(int8_t)after_d[(2 * block + half) * R16_ROWS + lane];
    case R16_SCALES_DHM:
        return d * (float)(after_dmin[(2 * block + half) * R16_ROWS + lane] & 15);
    case R16_SCALES_DO:
        return d * (float)(2 * (pair >> 4 * half & 15) + 1);
    case R16_SCALES_DP:
        return d * (float)(pair & 15);
    case R16_SCALES_U:
        return d;
    case R16_SCALES_E:
        return block_mxfp4_scale(unit[block * R16_ROWS + lane]);
    }
    return 0.0f;
}

float r16_bias(enum r16_kind kind, const unsigned char *unit, size_t blocks, size_t block,
               size_t lane, size_t half)
{
    const unsigned char *after_dmin = unit + 2 * R16_ROWS * sizeof(uint16_t);
    float dmin = half_at(unit, R16_ROWS + lane);
    uint8_t pair = unit[R16_ROWS * sizeof(uint16_t) + block * R16_ROWS + lane]; /* DP */
    switch ((enum r16_scales)r16_types[kind].scales) {
    case R16_SCALES_DM:
        return half_at(unit, (blocks + block) * R16_ROWS + lane);
    case R16_SCALES_DSM:
        return -(dmin * (float)after_dmin[(blocks + block) * R16_ROWS + lane]);
    case R16_SCALES_DHM:
        return -(dmin * (float)(after_dmin[(2 * block + half) * R16_ROWS + lane] >> 4));
    case R16_SCALES_DP:
        return -(half_at(unit, lane) * 0.125f * (float)(pair & 15) * (float)(pair >> 4));
    default:
        return 0.0f;
    }
}

void r16_row(const struct r16_matrix *matrix, size_t row, float *dst)
{
    enum r16_kind kind = matrix->kind;
    const unsigned char *unit = matrix->data + row / R16_ROWS * matrix->group_bytes;
    size_t lane = row % R16_ROWS;
    size_t left = matrix->cols / R16_BLOCK;
    while (left > 0) {
        size_t blocks = left < R16_UNIT_BLOCKS ? left : R16_UNIT_BLOCKS;
        for (size_t block = 0; block < blocks; block++) {
            for (size_t k = 0; k < R16_BLOCK; k++, dst++) {
                size_t half = k / (R16_BLOCK / 2);
                *dst = r16_scale(kind, unit, blocks, block, lane, half) *
                       (float)r16_value(kind, unit, blocks, block, lane, k);
                if (r16_has_bias(kind)) {
                    *dst += r16_bias(kind, unit, blocks, block, lane, half);
                }
            }
        }
        unit += r16_unit_bytes(kind, blocks);
        left -= blocks;
    }
}

#include "engine/backend/cpu/r16.h"

#include <string.h>

#include "quant/format/block.h"
#include "quant/format/format.h"

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
    return type->levels ? quant_iq4_values[code] : code - type->offset;
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
    float d = half_at(unit, lane);
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
    }
    return 0.0f;
}

float r16_bias(enum r16_kind kind, const unsigned char *unit, size_t blocks, size_t block,
               size_t lane, size_t half)
{
    const unsigned char *after_dmin = unit + 2 * R16_ROWS * sizeof(uint16_t);
    float dmin = half_at(unit, R16_ROWS + lane);
    switch ((enum r16_scales)r16_types[kind].scales) {
    case R16_SCALES_DM:
        return half_at(unit, (blocks + block) * R16_ROWS + lane);
    case R16_SCALES_DSM:
        return -(dmin * (float)after_dmin[(blocks + block) * R16_ROWS + lane]);
    case R16_SCALES_DHM:
        return -(dmin * (float)(after_dmin[(2 * block + half) * R16_ROWS + lane] >> 4));
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

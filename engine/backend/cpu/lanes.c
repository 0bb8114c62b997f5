#include "engine/backend/cpu/lanes.h"

#include <string.h>

#include "quant/format/format.h"

bool lanes_kind_of(uint32_t quant_type, enum lanes_kind *ret)
{
    switch (quant_type) {
    case QUANT_F32:
        *ret = LANES_F32;
        return true;
    case QUANT_F16:
        *ret = LANES_F16;
        return true;
    case QUANT_BF16:
        *ret = LANES_BF16;
        return true;
    default:
        return false;
    }
}

size_t lanes_group_bytes(enum lanes_kind kind, size_t cols)
{
    size_t column = lanes_element_bytes(kind) * R16_ROWS;
    return cols > SIZE_MAX / 2 / column ? 0 : (cols * column + 63) & ~(size_t)63;
}

void lanes_pack_group(enum lanes_kind kind, const unsigned char *src, size_t rows, size_t cols,
                      unsigned char *dst)
{
    if (rows < R16_ROWS) {
        memset(dst, 0, lanes_group_bytes(kind, cols));
    }
    for (size_t lane = 0; lane < rows; lane++) {
        if (kind == LANES_F32) {
            for (size_t col = 0; col < cols; col++) {
                memcpy(dst + (col * R16_ROWS + lane) * 4, src + (lane * cols + col) * 4, 4);
            }
        } else {
            for (size_t col = 0; col < cols; col++) {
                memcpy(dst + (col * R16_ROWS + lane) * 2, src + (lane * cols + col) * 2, 2);
            }
        }
    }
}

void lanes_row(const struct lanes_matrix *m, size_t row, float *dst)
{
    const unsigned char *group = m->data + row / R16_ROWS * m->group_bytes;
    for (size_t col = 0; col < m->cols; col++) {
        size_t index = col * R16_ROWS + row % R16_ROWS;
        if (m->kind == LANES_F32) {
            memcpy(&dst[col], group + index * 4, 4);
        } else {
            uint16_t bits;
            memcpy(&bits, group + index * 2, 2);
            dst[col] = m->kind == LANES_F16 ? quant_f16_to_f32(bits) : quant_bf16_to_f32(bits);
        }
    }
}

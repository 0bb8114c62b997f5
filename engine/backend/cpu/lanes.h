/* Packing of F32, F16 and BF16 weights: 16 rows side by side, see struct lanes_matrix in kernels.h.
 */
#ifndef PHID_BACKEND_CPU_LANES_H
#define PHID_BACKEND_CPU_LANES_H

#include "engine/backend/cpu/kernels.h"

/* False for other types. */
bool lanes_kind_of(uint32_t quant_type, enum lanes_kind *ret);

static inline size_t lanes_element_bytes(enum lanes_kind kind)
{
    return kind == LANES_F32 ? sizeof(float) : sizeof(uint16_t);
}

/* Of one group, a multiple of 64; 0 when it does not fit a size_t. */
size_t lanes_group_bytes(enum lanes_kind kind, size_t cols);

/* src: the first of `rows` (1..16) rows of cols elements, unaligned; the missing ones become zeros.
 */
void lanes_pack_group(enum lanes_kind kind, const unsigned char *src, size_t rows, size_t cols,
                      unsigned char *dst);

/* Row `row` as f32. */
void lanes_row(const struct lanes_matrix *m, size_t row, float *dst);

#endif

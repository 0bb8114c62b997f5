/* All kernels of an instruction set: the templates over the vectors of the vec header that the
 * including file has chosen, and their table. That file defines VEC_TABLE, the table's name in C,
 * and VEC_NAME, the one it has for people. */
#include <math.h>

#include "quant/format/block.h"

#include "engine/backend/cpu/multiply_template.h"
#include "engine/backend/cpu/lanes_template.h"
#include "engine/backend/cpu/rows_template.h"
#include "engine/backend/cpu/attend_template.h"
#include "engine/backend/cpu/attend_s8_template.h"
#include "engine/backend/cpu/peak_template.h"

const struct cpu_kernels VEC_TABLE = {
    .name = VEC_NAME,
    .tile_tokens = VEC_TILE_TOKENS,
    .direct_tokens = VEC_DIRECT_TOKENS,
    .direct_tiles = VEC_DIRECT_TILES,
    .panel_groups = VEC_PANEL_GROUPS,
    .panel_blocks = VEC_PANEL_BLOCKS,
    .row_codes = VEC_ROW_CODES,
    .sum_base = VEC_SUM_BASE,
    .sum_step = VEC_SUM_BITS ? 128 : 1,
    .sum_pairs = VEC_SUM_PAIRS,
#if VEC_HAS_TILES
    .release = release_tiles,
    .bf16_open = open_bf16,
    .bf16_of = bf16_of_vectors,
    .bf16_multiply = multiply_bf16,
#elif VEC_SUM_BITS
    .w8_rows = VEC_W8_ROWS,
    .w8_open = open_w8,
    .w8_quantize = quantize_w8,
    .w8_multiply = multiply_w8,
#endif
    CPU_KERNELS_FUNCTIONS,
};

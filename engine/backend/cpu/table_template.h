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
    .sum_base = VEC_SUM_BASE,
    .sum_step = VEC_SUM_BITS ? 128 : 1,
    .sum_pairs = VEC_SUM_PAIRS,
    .quantize = quantize,
    .multiply = multiply,
    .open_panel = open_panel,
    .multiply_panels = multiply_panels,
    .multiply_lanes = multiply_lanes,
    .attend_page_f16 = attend_page_f16,
    .attend_page_f32 = attend_page_f32,
    .attend_page_s8 = attend_page_s8,
    .attend_merge = attend_merge,
    .to_s8 = to_s8,
    .to_s16 = to_s16,
    .norm = norm,
    .silu_mul = silu_mul,
    .add = add,
    .to_f16 = to_f16,
    .spin_int8 = spin_int8,
    .spin_f32 = spin_f32,
    .read_all = read_all,
};

/* The kernels for AVX2 with FMA, F16C and AVX-VNNI, the dot product of bytes in 256-bit registers.
 */
#define VEC_AVXVNNI 1
#include "engine/backend/cpu/vec_avx2.h"

#include <math.h>

#include "quant/format/block.h"

#include "engine/backend/cpu/multiply_template.h"
#include "engine/backend/cpu/lanes_template.h"
#include "engine/backend/cpu/rows_template.h"
#include "engine/backend/cpu/attend_template.h"
#include "engine/backend/cpu/attend_s8_template.h"
#include "engine/backend/cpu/peak_template.h"

const struct cpu_kernels cpu_kernels_avxvnni = {
    .name = "avxvnni",
    .tile_tokens = VEC_TILE_TOKENS,
    .direct_tiles = VEC_DIRECT_TILES,
    .panel_groups = VEC_PANEL_GROUPS,
    .panel_blocks = VEC_PANEL_BLOCKS,
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

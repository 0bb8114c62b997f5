/* The kernels for AVX-512 without VNNI (F, BW, DQ, VL, CD). */
#include "engine/backend/cpu/vec_avx512.h"

#define VEC_TABLE cpu_kernels_avx512
#define VEC_NAME  "avx512"
#include "engine/backend/cpu/table_template.h"

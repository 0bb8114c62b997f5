/* The kernels for AVX2 with FMA and F16C. */
#include "engine/backend/cpu/vec_avx2.h"

#define VEC_TABLE cpu_kernels_avx2
#define VEC_NAME  "avx2"
#include "engine/backend/cpu/table_template.h"

/* The kernels for AVX-512 with VNNI. */
#define VEC_AVX512VNNI 1
#include "engine/backend/cpu/vec_avx512.h"

#define VEC_TABLE cpu_kernels_avx512vnni
#define VEC_NAME  "avx512vnni"
#include "engine/backend/cpu/table_template.h"

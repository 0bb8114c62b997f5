/* The kernels for AMX: those for AVX-512 VNNI, but for products of 9 rows and more, and bf16. */
#define VEC_AVX512VNNI 1
#define VEC_AMX        1
#include "engine/backend/cpu/vec_avx512.h"

#define VEC_TABLE cpu_kernels_amx
#define VEC_NAME  "amx"
#include "engine/backend/cpu/table_template.h"

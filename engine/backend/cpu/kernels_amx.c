/* The kernels for AMX with products of bytes: those for AVX-512 VNNI, but for products of 9 rows and more. */
#define VEC_AVX512VNNI 1
#define VEC_AMX        1
#include "engine/backend/cpu/vec_avx512.h"

#define VEC_TABLE cpu_kernels_amx
#define VEC_NAME  "amx"
#include "engine/backend/cpu/table_template.h"

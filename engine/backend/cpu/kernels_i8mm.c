/* The kernels for ARM with dot products and with products of 8-bit matrices (SDOT, SMMLA). */
#define VEC_DOTPROD 1
#define VEC_I8MM    1
#include "engine/backend/cpu/vec_neon.h"

#define VEC_TABLE cpu_kernels_i8mm
#define VEC_NAME  "i8mm"
#include "engine/backend/cpu/table_template.h"

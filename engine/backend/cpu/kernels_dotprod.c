/* The kernels for ARM with the dot products of ARMv8.2 (SDOT). */
#define VEC_DOTPROD 1
#include "engine/backend/cpu/vec_neon.h"

#define VEC_TABLE cpu_kernels_dotprod
#define VEC_NAME  "dotprod"
#include "engine/backend/cpu/table_template.h"

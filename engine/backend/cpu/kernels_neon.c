/* The kernels for any 64-bit ARM. */
#include "engine/backend/cpu/vec_neon.h"

#define VEC_TABLE cpu_kernels_neon
#define VEC_NAME  "neon"
#include "engine/backend/cpu/table_template.h"

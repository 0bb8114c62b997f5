/* The kernels for AVX2 with FMA, F16C and AVX-VNNI, the dot product of bytes in 256-bit registers.
 */
#define VEC_AVXVNNI 1
#include "engine/backend/cpu/vec_avx2.h"

#define VEC_TABLE cpu_kernels_avxvnni
#define VEC_NAME  "avxvnni"
#include "engine/backend/cpu/table_template.h"

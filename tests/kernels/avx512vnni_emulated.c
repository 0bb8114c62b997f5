/* The AVX-512 VNNI kernels once more, imitated. */
#include "tests/kernels/avx512_emulated.h"

#define cpu_kernels_avx512vnni cpu_kernels_avx512vnni_emulated
#include "engine/backend/cpu/kernels_avx512vnni.c"

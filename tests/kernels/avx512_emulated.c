/* The AVX-512 kernels once more, imitated. */
#include "tests/kernels/avx512_emulated.h"

#define cpu_kernels_avx512 cpu_kernels_avx512_emulated
#include "engine/backend/cpu/kernels_avx512.c"

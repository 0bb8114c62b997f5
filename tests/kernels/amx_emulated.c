/* The AMX kernels once more, imitated. */
#include "tests/kernels/avx512_emulated.h"

#include "tests/kernels/amx_emulated.h"

#define cpu_kernels_amx cpu_kernels_amx_emulated
#include "engine/backend/cpu/kernels_amx.c"

/* What instruction sets this processor and this kernel allow, as tiers that the kernels are
 * compiled for. Detected with CPUID and XGETBV, so a tier is offered only where the kernel saves
 * its registers; on ARM the kernel says. Any thread. */
#ifndef PHID_BASE_CPUID_H
#define PHID_BASE_CPUID_H

#include <stdbool.h>
#include <stddef.h>

#include "engine/base/str.h"

/* In order of speed. Each tier includes all before it, but for AVX-VNNI: see cpuid_has. */
enum cpuid_isa {
    CPUID_SCALAR = 0,
    CPUID_AVX2,       /* AVX2, FMA, F16C */
    CPUID_AVXVNNI,    /* and VEX-encoded VNNI: int8 dot products */
    CPUID_AVX512,     /* AVX-512 F, BW, DQ, VL, CD */
    CPUID_AVX512VNNI, /* and VNNI: int8 dot products */
    CPUID_AMX,        /* and AMX-TILE, AMX-INT8, AMX-BF16: products of matrices; VBMI, BF16 */
    CPUID_NEON,       /* any 64-bit ARM; nothing below but scalar */
    CPUID_DOTPROD,    /* and SDOT: int8 dot products */
    CPUID_I8MM,       /* and SMMLA: int8 products of matrices */
    CPUID_ISA_COUNT,
};

struct cpuid_features {
    enum cpuid_isa isa; /* the highest tier */
    bool avxvnni;       /* VEX-encoded VNNI; not on all processors with AVX-512 */
    bool avx512bf16;
};

/* Asks the kernel to let this process use AMX's tiles where there are any: all its threads may from
 * then on. */
struct cpuid_features cpuid_detect(void);

/* Whether kernels of this tier run. */
bool cpuid_has(const struct cpuid_features *features, enum cpuid_isa isa);

/* "scalar", "avx2", "avxvnni", "avx512", "avx512vnni", "amx", "neon", "dotprod", "i8mm"; never
 * NULL. */
const char *cpuid_isa_name(enum cpuid_isa isa);

/* False when the name is none of them. */
bool cpuid_isa_find(struct str name, enum cpuid_isa *ret);

#endif

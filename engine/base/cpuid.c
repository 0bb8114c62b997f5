#include "engine/base/cpuid.h"

#include <stdint.h>

#if defined(__x86_64__)

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

struct leaf {
    uint32_t eax, ebx, ecx, edx;
};

static struct leaf leaf_read(uint32_t leaf, uint32_t subleaf)
{
    struct leaf out = {0};
    __get_cpuid_count(leaf, subleaf, &out.eax, &out.ebx, &out.ecx, &out.edx);
    return out;
}

/* Which register states the kernel saves (XCR0). The instruction itself, so that this file needs no
 * special flags. */
static uint32_t xcr0_read(void)
{
    uint32_t low;
    uint32_t high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

static bool has(uint32_t reg, int bit)
{
    return (reg >> bit & 1) != 0;
}

/* Whether the kernel saves tiles and lets this process have them: it wants to be asked, since they
 * are 8 KiB of a thread. Documentation/arch/x86/xstate.rst. */
static bool may_use_tiles(uint32_t xcr0)
{
    const uint32_t tile_state = 0x60000; /* their shapes, their data */
    const long req_xcomp_perm = 0x1023, xtiledata = 18;
    const bool has_palette = leaf_read(0x1d, 0).eax >= 1; /* some virtual machines forget it */
    return has_palette && (xcr0 & tile_state) == tile_state &&
           syscall(SYS_arch_prctl, req_xcomp_perm, xtiledata) == 0;
}

/* Bit numbers: Intel SDM volume 2, CPUID; volume 1, 13.3 for XCR0. */
struct cpuid_features cpuid_detect(void)
{
    struct cpuid_features features = {.isa = CPUID_SCALAR};
    struct leaf l1 = leaf_read(1, 0);
    bool osxsave = has(l1.ecx, 27);
    if (!osxsave) {
        return features;
    }
    const uint32_t ymm_state = 0x6;  /* SSE, AVX */
    const uint32_t zmm_state = 0xe6; /* and opmask, upper halves, upper registers */
    uint32_t xcr0 = xcr0_read();
    struct leaf l7 = leaf_read(7, 0);
    struct leaf l7_1 = l7.eax >= 1 ? leaf_read(7, 1) : (struct leaf){0};

    bool avx2 = (xcr0 & ymm_state) == ymm_state && has(l1.ecx, 28) && has(l1.ecx, 12) &&
                has(l1.ecx, 29) && has(l7.ebx, 5);
    if (!avx2) {
        return features;
    }
    features.avxvnni = has(l7_1.eax, 4);
    features.isa = features.avxvnni ? CPUID_AVXVNNI : CPUID_AVX2;

    bool avx512 = (xcr0 & zmm_state) == zmm_state && has(l7.ebx, 16) && has(l7.ebx, 17) &&
                  has(l7.ebx, 28) && has(l7.ebx, 30) && has(l7.ebx, 31);
    if (!avx512) {
        return features;
    }
    features.isa = has(l7.ecx, 11) ? CPUID_AVX512VNNI : CPUID_AVX512;
    features.avx512bf16 = has(l7_1.eax, 5);
    bool vectors_beside = features.avx512bf16 && has(l7.ecx, 1); /* VBMI */
    bool tiles = has(l7.edx, 22) && has(l7.edx, 24) && has(l7.edx, 25);
    if (features.isa == CPUID_AVX512VNNI && vectors_beside && tiles && may_use_tiles(xcr0)) {
        features.isa = CPUID_AMX;
    }
    return features;
}

#elif defined(__aarch64__)

#include <asm/hwcap.h>
#include <sys/auxv.h>

struct cpuid_features cpuid_detect(void)
{
    struct cpuid_features features = {.isa = CPUID_NEON};
    if ((getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0) {
        features.isa = (getauxval(AT_HWCAP2) & HWCAP2_I8MM) != 0 ? CPUID_I8MM : CPUID_DOTPROD;
    }
    return features;
}

#else

struct cpuid_features cpuid_detect(void)
{
    return (struct cpuid_features){.isa = CPUID_SCALAR};
}

#endif

bool cpuid_has(const struct cpuid_features *features, enum cpuid_isa isa)
{
    if (isa == CPUID_AVXVNNI) {
        return features->avxvnni;
    }
    const bool same_family = (isa >= CPUID_NEON) == (features->isa >= CPUID_NEON);
    return isa == CPUID_SCALAR || (same_family && isa <= features->isa);
}

static const char *const isa_names[CPUID_ISA_COUNT] = {
    [CPUID_SCALAR] = "scalar",
    [CPUID_AVX2] = "avx2",
    [CPUID_AVXVNNI] = "avxvnni",
    [CPUID_AVX512] = "avx512",
    [CPUID_AVX512VNNI] = "avx512vnni",
    [CPUID_AMX] = "amx",
    [CPUID_NEON] = "neon",
    [CPUID_DOTPROD] = "dotprod",
    [CPUID_I8MM] = "i8mm",
};

const char *cpuid_isa_name(enum cpuid_isa isa)
{
    return (unsigned)isa < CPUID_ISA_COUNT ? isa_names[isa] : "unknown";
}

bool cpuid_isa_find(struct str name, enum cpuid_isa *ret)
{
    for (unsigned i = 0; i < CPUID_ISA_COUNT; i++) {
        if (str_equal_c(name, isa_names[i])) {
            *ret = (enum cpuid_isa)i;
            return true;
        }
    }
    return false;
}

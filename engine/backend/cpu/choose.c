#include "engine/backend/cpu/choose.h"

#include "engine/base/cpuid.h"

static const struct cpu_kernels *kernels_of(enum cpuid_isa isa)
{
#if defined(__x86_64__)
    if (isa >= CPUID_AMX) {
        return &cpu_kernels_amx;
    }
    if (isa == CPUID_AVX512VNNI) {
        return &cpu_kernels_avx512vnni;
    }
    if (isa == CPUID_AVX512) {
        return &cpu_kernels_avx512;
    }
    if (isa == CPUID_AVXVNNI) {
        return &cpu_kernels_avxvnni;
    }
    if (isa >= CPUID_AVX2) {
        return &cpu_kernels_avx2;
    }
#elif defined(__aarch64__)
    if (isa >= CPUID_I8MM) {
        return &cpu_kernels_i8mm;
    }
    if (isa == CPUID_DOTPROD) {
        return &cpu_kernels_dotprod;
    }
    if (isa == CPUID_NEON) {
        return &cpu_kernels_neon;
    }
#endif
    return &cpu_kernels_scalar;
}

enum phid_status cpu_choose_kernels(const char *isa, const struct cpu_kernels **ret,
                                    struct phid_error *err)
{
    const struct cpuid_features features = cpuid_detect();
    enum cpuid_isa wanted = features.isa;
    if (isa != NULL && !str_equal_c(STR("auto"), isa) && !cpuid_isa_find(str_of(isa), &wanted)) {
        return phid_fail(err, PHID_ERR_ARGUMENT, "unknown instruction set \"%s\"", isa);
    }
    if (!cpuid_has(&features, wanted)) {
        return phid_fail(err, PHID_ERR_UNSUPPORTED, "this processor has no %s, at most %s",
                         cpuid_isa_name(wanted), cpuid_isa_name(features.isa));
    }
    *ret = kernels_of(wanted);
    return PHID_OK;
}

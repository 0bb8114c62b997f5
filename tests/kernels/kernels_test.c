/* Every kernel of every instruction set this machine has against the scalar one, bit for bit, on
 * random and extreme input between guard zones; with --bench their times.
 *
 *   kernels_test [--seed N] [--bench [FILTER]] [--tier NAME]
 *
 * Exits with 0 when all agree, 1 when not. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/base/cpuid.h"
#include "tests/kernels/harness.h"

#if defined(__x86_64__)
extern const struct cpu_kernels cpu_kernels_avxvnni_emulated;
#endif
#if KERNELS_TEST_EMULATED
extern const struct cpu_kernels cpu_kernels_avx512vnni_emulated;
#endif

const struct tier *tiers(void)
{
    static struct tier list[8];
    size_t n = 0;
#if defined(__x86_64__)
    const struct cpuid_features features = cpuid_detect();
    enum cpuid_isa isa = features.isa;
    list[n++] = (struct tier){"avx2", &cpu_kernels_avx2, isa >= CPUID_AVX2};
    list[n++] = (struct tier){"avxvnni", &cpu_kernels_avxvnni, features.avxvnni};
    list[n++] = (struct tier){"avxvnni-emulated", &cpu_kernels_avxvnni_emulated, isa >= CPUID_AVX2};
    list[n++] = (struct tier){"avx512vnni", &cpu_kernels_avx512vnni, isa >= CPUID_AVX512VNNI};
#if KERNELS_TEST_EMULATED
    list[n++] =
        (struct tier){"avx512vnni-emulated", &cpu_kernels_avx512vnni_emulated, isa >= CPUID_AVX2};
#endif
#endif
    list[n] = (struct tier){0};
    return list;
}

static void check_all(struct harness *h)
{
    check_multiply(h);
    check_panels(h);
    check_lanes(h);
    check_rows(h);
    check_attention(h);
}

int main(int argc, char **argv)
{
    struct harness h = {.seed = (uint64_t)time(NULL), .kernels = &cpu_kernels_scalar};
    const char *filter = NULL;
    const char *only = NULL;
    bool bench = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc) {
            h.seed = strtoull(argv[++i], NULL, 10);
        } else if (strcmp(argv[i], "--tier") == 0 && i + 1 < argc) {
            only = argv[++i];
        } else if (strcmp(argv[i], "--bench") == 0) {
            bench = true;
            if (i + 1 < argc && argv[i + 1][0] != '-') {
                filter = argv[++i];
            }
        } else {
            fprintf(stderr, "usage: kernels_test [--seed N] [--bench [FILTER]] [--tier NAME]\n");
            return 2;
        }
    }
    printf("seed %llu\n", (unsigned long long)h.seed);
    rng_init(&h.rng, h.seed);
    if (!bench) {
        check_pack(&h);
    }
    for (const struct tier *t = tiers(); t->name != NULL; t++) {
        if (only != NULL && strcmp(only, t->name) != 0) {
            continue;
        }
        if (!t->runs) {
            printf("%s: not on this machine\n", t->name);
            continue;
        }
        h.kernels = t->kernels;
        printf("%s\n", t->name);
        if (bench) {
            bench_tier(&h, filter);
        } else {
            check_all(&h);
        }
    }
    printf("%zu checks, %zu failed\n", h.checks, h.failures);
    return h.failures == 0 ? 0 : 1;
}

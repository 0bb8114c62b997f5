/* Every kernel of every instruction set this machine has against the scalar one, bit for bit, on
 * random and extreme input between guard zones; with --bench their times.
 *
 *   kernels_test [--seed N] [--bench [FILTER]] [--tier NAME]
 *
 * Exits with 0 when all agree, 1 when not or when the tier asked for does not run here. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/backend/cpu/choose.h"
#include "engine/base/cpuid.h"
#include "tests/kernels/harness.h"

#if defined(__x86_64__)
extern const struct cpu_kernels cpu_kernels_avxvnni_emulated;
#endif
#if KERNELS_TEST_EMULATED
extern const struct cpu_kernels cpu_kernels_avx512_emulated;
extern const struct cpu_kernels cpu_kernels_avx512vnni_emulated;
extern const struct cpu_kernels cpu_kernels_amx_emulated;
#endif

const struct tier *tiers(void)
{
    static struct tier list[12];
    size_t n = 0;
#if defined(__x86_64__)
    const struct cpuid_features features = cpuid_detect();
    enum cpuid_isa isa = features.isa;
    list[n++] = (struct tier){"avx2", &cpu_kernels_avx2, isa >= CPUID_AVX2};
    list[n++] = (struct tier){"avxvnni", &cpu_kernels_avxvnni, features.avxvnni};
    list[n++] = (struct tier){"avxvnni-emulated", &cpu_kernels_avxvnni_emulated, isa >= CPUID_AVX2};
    list[n++] = (struct tier){"avx512", &cpu_kernels_avx512, isa >= CPUID_AVX512};
    list[n++] = (struct tier){"avx512vnni", &cpu_kernels_avx512vnni, isa >= CPUID_AVX512VNNI};
    list[n++] = (struct tier){"amx", &cpu_kernels_amx, isa >= CPUID_AMX};
#if KERNELS_TEST_EMULATED
    list[n++] = (struct tier){"avx512-emulated", &cpu_kernels_avx512_emulated, isa >= CPUID_AVX2};
    list[n++] =
        (struct tier){"avx512vnni-emulated", &cpu_kernels_avx512vnni_emulated, isa >= CPUID_AVX2};
    list[n++] = (struct tier){"amx-emulated", &cpu_kernels_amx_emulated, isa >= CPUID_AVX2};
#endif
#elif defined(__aarch64__)
    enum cpuid_isa isa = cpuid_detect().isa;
    list[n++] = (struct tier){"neon", &cpu_kernels_neon, true};
    list[n++] = (struct tier){"dotprod", &cpu_kernels_dotprod, isa >= CPUID_DOTPROD};
    list[n++] = (struct tier){"i8mm", &cpu_kernels_i8mm, isa >= CPUID_I8MM};
#endif
    list[n] = (struct tier){0};
    return list;
}

/* "auto" takes the last tier that runs here; each by its name is taken or refused. */
static void check_choice(struct harness *h)
{
    const struct cpu_kernels *best = &cpu_kernels_scalar;
    const struct cpu_kernels *chosen = NULL;
    for (const struct tier *t = tiers(); t->name != NULL; t++) {
        if (strcmp(t->name, t->kernels->name) != 0) {
            continue; /* an imitation */
        }
        enum phid_status status = cpu_choose_kernels(t->name, &chosen, NULL);
        check(h, status == (t->runs ? PHID_OK : PHID_ERR_UNSUPPORTED), "choosing %s", t->name);
        check(h, !t->runs || chosen == t->kernels, "chosen for %s", t->name);
        best = t->runs ? t->kernels : best;
    }
    check(h, cpu_choose_kernels("auto", &chosen, NULL) == PHID_OK && chosen == best,
          "chosen by itself: %s and not %s", chosen->name, best->name);
}

static void check_all(struct harness *h)
{
    check(h, h->kernels->spin_int8(6) == 2 * h->kernels->spin_int8(3), "products of the peak");
    check_multiply(h);
    check_panels(h);
    check_bf16(h);
    check_w8(h);
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
        check_choice(&h);
        check_pack(&h);
    }
    for (const struct tier *t = tiers(); t->name != NULL; t++) {
        if (only != NULL && strcmp(only, t->name) != 0) {
            continue;
        }
        if (!t->runs) {
            printf("%s: not on this machine\n", t->name);
            h.failures += only != NULL;
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

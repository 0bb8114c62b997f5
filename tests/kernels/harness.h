/* What the kernel checks share: seeded data, buffers between guard zones, and one line for a
 * failure that says all that is needed to see it again. */
#ifndef PHID_TESTS_KERNELS_HARNESS_H
#define PHID_TESTS_KERNELS_HARNESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/backend/cpu/kernels.h"
#include "engine/backend/cpu/q8.h"
#include "engine/base/rng.h"

struct harness {
    uint64_t seed;
    struct rng rng;
    const struct cpu_kernels *kernels; /* under test */
    size_t checks;
    size_t failures;
};

/* A table of kernels and whether this machine can run it. */
struct tier {
    const char *name;
    const struct cpu_kernels *kernels;
    bool runs;
};

/* Ends with a tier whose name is NULL. */
const struct tier *tiers(void);

/* `bytes` bytes, 64-byte aligned, with poison before, in and after them. Never NULL: the program
 * ends without memory. */
void *guarded_new(size_t bytes);

/* Frees; false when a guard was written to. */
bool guarded_free(void *p);

/* Counts a check; prints `format` with the seed and the tier when !ok. Returns ok. */
bool check(struct harness *h, bool ok, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Same bits, but +0 and -0 are one. */
bool same_floats(const float *a, const float *b, size_t n);

/* Finite numbers of mixed size; with some zeros. */
void random_floats(struct harness *h, float *x, size_t n, float spread);

/* A packed matrix of random codes and finite scales. `extreme`: all bits of the codes set, cleared,
 * or the sign only. */
enum extreme { EXTREME_NONE, EXTREME_ONES, EXTREME_ZEROS, EXTREME_SIGN, EXTREME_COUNT };
struct r16_matrix random_matrix(struct harness *h, enum r16_kind kind, size_t rows, size_t cols,
                                enum extreme extreme);
void random_matrix_free(struct r16_matrix *m);

/* A tile of `tokens` rows quantized by the scalar kernel from random numbers, or all at the ends of
 * the range; what the kind does not need is not written. */
struct tile_memory {
    struct q8 q8;
    struct q8_tile tile;
    unsigned char *memory;
};
void tile_init(struct harness *h, struct tile_memory *t, enum r16_kind kind, size_t tokens,
               size_t cols, bool extreme);
void tile_fini(struct tile_memory *t);

extern const char *const kind_names[R16_KINDS];
size_t kind_columns(enum r16_kind kind); /* a row is a multiple of */

void check_pack(struct harness *h);
void check_multiply(struct harness *h);
void check_panels(struct harness *h);
void check_bf16(struct harness *h);
void check_w8(struct harness *h);
void check_lanes(struct harness *h);
void check_rows(struct harness *h);
void check_attention(struct harness *h);

/* Times every kernel of the tier; `filter` (or NULL) must be part of what is printed. */
void bench_tier(struct harness *h, const char *filter);

#endif

#include "tests/kernels/harness.h"

#include <math.h>
#include <string.h>

static void check_quantize(struct harness *h, size_t n, float spread)
{
    float *x = guarded_new(n * sizeof(*x));
    int8_t *codes[2];
    float *scale[2];
    int32_t *sums[2];
    float *left[2];
    random_floats(h, x, n, spread);
    memset(x, 0, n >= 64 ? 32 * sizeof(*x) : 0); /* a block of zeros */
    for (int i = 0; i < 2; i++) {
        const struct cpu_kernels *k = i == 0 ? &cpu_kernels_scalar : h->kernels;
        codes[i] = guarded_new(n);
        scale[i] = guarded_new(n / 32 * sizeof(float));
        sums[i] = guarded_new(n / 16 * sizeof(int32_t));
        left[i] = guarded_new(n * sizeof(float));
        k->quantize(x, n, codes[i], scale[i], sums[i], left[i]);
    }
    bool same = memcmp(codes[0], codes[1], n) == 0 && same_floats(scale[0], scale[1], n / 32) &&
                memcmp(sums[0], sums[1], n / 16 * sizeof(int32_t)) == 0 &&
                same_floats(left[0], left[1], n);
    bool clean = guarded_free(x);
    for (int i = 0; i < 2; i++) {
        clean = guarded_free(codes[i]) && clean;
        clean = guarded_free(scale[i]) && clean;
        clean = guarded_free(sums[i]) && clean;
        clean = guarded_free(left[i]) && clean;
    }
    check(h, same && clean, "quantize n=%zu spread=%g", n, (double)spread);
}

/* Whole rows to 8 and 16 bits with one scale. */
static void check_codes(struct harness *h, const float *x, size_t n, float spread)
{
    int8_t *bytes[2];
    int16_t *words[2];
    float scale[2][2];
    float limit = 100.0f + (float)rng_below(&h->rng, 28);
    for (int i = 0; i < 2; i++) {
        const struct cpu_kernels *k = i == 0 ? &cpu_kernels_scalar : h->kernels;
        bytes[i] = guarded_new(n);
        words[i] = guarded_new(n * sizeof(*words[i]));
        scale[0][i] = k->to_s8(x, bytes[i], n, limit);
        scale[1][i] = k->to_s16(x, words[i], n, 32767.0f);
    }
    bool same = memcmp(bytes[0], bytes[1], n) == 0 &&
                memcmp(words[0], words[1], n * sizeof(*words[0])) == 0 &&
                same_floats(&scale[0][0], &scale[0][1], 1) &&
                same_floats(&scale[1][0], &scale[1][1], 1);
    bool clean = true;
    for (int i = 0; i < 2; i++) {
        clean = guarded_free(bytes[i]) && clean;
        clean = guarded_free(words[i]) && clean;
    }
    check(h, same && clean, "to_s8, to_s16 n=%zu spread=%g", n, (double)spread);
}

/* x and y of every kernel that works element by element, by two tables. */
static void check_elements(struct harness *h, size_t n, float spread)
{
    float *x = guarded_new(n * sizeof(*x));
    float *w = guarded_new(n * sizeof(*w));
    float *out[2];
    uint16_t *halves[2];
    bool clean = true;
    random_floats(h, x, n, spread);
    random_floats(h, w, n, 1.0f);
    for (int i = 0; i < 2; i++) {
        out[i] = guarded_new(n * sizeof(float));
        halves[i] = guarded_new(n * sizeof(uint16_t));
    }
    for (int i = 0; i < 2; i++) {
        (i == 0 ? &cpu_kernels_scalar : h->kernels)->norm(x, w, n, 1e-5f, out[i]);
    }
    check(h, same_floats(out[0], out[1], n), "norm n=%zu spread=%g", n, (double)spread);
    for (int i = 0; i < 2; i++) {
        memcpy(out[i], x, n * sizeof(float));
        (i == 0 ? &cpu_kernels_scalar : h->kernels)->silu_mul(out[i], w, n);
    }
    check(h, same_floats(out[0], out[1], n), "silu_mul n=%zu spread=%g", n, (double)spread);
    for (int i = 0; i < 2; i++) {
        memcpy(out[i], x, n * sizeof(float));
        (i == 0 ? &cpu_kernels_scalar : h->kernels)->add(out[i], w, n);
    }
    check(h, same_floats(out[0], out[1], n), "add n=%zu spread=%g", n, (double)spread);
    for (int i = 0; i < 2; i++) {
        (i == 0 ? &cpu_kernels_scalar : h->kernels)->to_f16(x, halves[i], n);
    }
    check(h, memcmp(halves[0], halves[1], n * sizeof(uint16_t)) == 0, "to_f16 n=%zu spread=%g", n,
          (double)spread);
    check_codes(h, x, n, spread);
    for (int i = 0; i < 2; i++) {
        clean = guarded_free(out[i]) && clean;
        clean = guarded_free(halves[i]) && clean;
    }
    clean = guarded_free(x) && clean;
    clean = guarded_free(w) && clean;
    check(h, clean, "guards around rows of n=%zu", n);
}

/* The specification itself: silu(x) with up = 1 against the C library. */
static void check_exponential(struct harness *h)
{
    for (int i = 0; i < 4000; i++) {
        float x = (float)i * 0.05f - 100.0f;
        float y = x;
        float one = 1.0f;
        cpu_kernels_scalar.silu_mul(&y, &one, 1);
        double expected = (double)x / (1.0 + exp(-(double)x));
        check(h, fabs((double)y - expected) <= 5e-7 * fabs(expected) + 1e-36, "silu(%g) = %g",
              (double)x, (double)y);
    }
}

void check_rows(struct harness *h)
{
    static const float spreads[] = {1.0f, 1e-6f, 30.0f, 3e4f, 1e-33f, 1e-18f};
    for (size_t i = 0; i < sizeof(spreads) / sizeof(spreads[0]); i++) {
        for (size_t n = 1; n < 600; n += 1 + rng_below(&h->rng, 37)) {
            check_elements(h, n, spreads[i]);
            check_quantize(h, (n + 31) / 32 * 32, spreads[i]);
        }
    }
    check_exponential(h);
}

/* Choosing the scale of a group of weights so that the rounding error is small. Internal to this
 * folder; used when encoding only. Stateless, any thread.
 *
 * Each search rounds the weights with a few scales around the obvious one. For given codes the best
 * scale (and minimum) follow from weighted least squares, and so does the error they leave; the
 * scale with the smallest error wins. */
#ifndef PHID_QUANT_FORMAT_SEARCH_H
#define PHID_QUANT_FORMAT_SEARCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "quant/format/format.h"

/* Copies n weights; NaN and infinities become 0, so that one bad number spoils itself and not its
 * block. */
void search_clean(const float *src, float *dst, size_t n);

/* The half-float bits of a scale; one too large for the type becomes the largest finite one. */
uint16_t search_half(float scale);

/* x rounded to nearest even, limited to [min, max]; NaN gives min. Limits first, so that the
 * conversion is defined. Adding 1.5 * 2^23 leaves no bits for a fraction, which rounds without a
 * function call. */
static inline float search_round(float x, float min, float max)
{
    const float no_fraction = 0x1.8p23f;
    x = x > min ? x : min;
    x = x < max ? x : max;
    return (x + no_fraction) - no_fraction;
}

static inline int search_code(float x, int min, int max)
{
    return (int)search_round(x, (float)min, (float)max);
}

/* The scale d (of either sign) for which the codes q = round(x / d) in [-levels, levels - 1] make
 * sum of importance * (x - d * q)^2 small. 0 when all x are (nearly) zero. */
float search_symmetric(const float *x, const float *importance, int n, int levels);

struct search_range {
    int max_code;      /* codes are 0..max_code */
    int steps;         /* scales tried on each side of the obvious one */
    bool reaches_zero; /* the minimum is stored as m >= 0 and subtracted, so the range always
                          contains 0 */
};

/* The scale d >= 0 and minimum (negated: m) for which q = round((x + m) / d) make
 * sum of importance * (x - (d * q - m))^2 small. d is 0 when all x are (nearly) alike. */
float search_affine(const float *x, const float *importance, int n, struct search_range range,
                    float *ret_min);

/* The scale for the codebook `values` (ascending, 16 of them, of both signs), as search_symmetric.
 */
float search_codebook(const float *x, const float *importance, int n, const int8_t values[16]);

/* Index of the codebook value nearest to x. */
int search_nearest(float x, const int8_t values[16]);

#endif

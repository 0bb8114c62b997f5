/* Choosing the scale of a group of weights so that the rounding error is small. Internal to this folder; used when
 * encoding only, so it may take its time. Stateless, any thread. */
#ifndef PHID_QUANT_FORMAT_SEARCH_H
#define PHID_QUANT_FORMAT_SEARCH_H

#include <stddef.h>
#include <stdint.h>

/* Copies n weights; NaN and infinities become 0, so that one bad number spoils itself and not its block. */
void search_clean(const float *src, float *dst, size_t n);

/* The half-float bits of a scale; one too large for the type becomes the largest finite one. */
uint16_t search_half(float scale);

/* round(x), halves away from zero, limited to [min, max]. */
int search_code(float x, int min, int max);

/* The scale d (of either sign) for which the codes q = round(x / d) in [-levels, levels - 1] make
 * sum of importance * (x - d * q)^2 small. 0 when all x are (nearly) zero. n at most 256. */
float search_symmetric(const float *x, const float *importance, int n, int levels);

/* The scale d >= 0 and minimum m >= 0 for which q = round((x + m) / d) in [0, max_code] make
 * sum of importance * (x - (d * q - m))^2 small. Tries `steps` scales above and below the obvious one. n at most 256. */
float search_affine(const float *x, const float *importance, int n, int max_code, int steps, float *ret_min);

/* The scale for the codebook `values` (ascending, 16 of them, of both signs), as search_symmetric. */
float search_codebook(const float *x, const float *importance, int n, const int8_t values[16]);

/* Index of the codebook value nearest to x. */
int search_nearest(float x, const int8_t values[16]);

#endif

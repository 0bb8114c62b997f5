/* The passes over a whole vocabulary that sampling needs: the largest logit, exponentials, sums, a
 * draw.
 *
 * Written for the vector units every build has; no pass depends on the machine it runs on, so a
 * seed gives the same token everywhere. Stateless, any thread. */
#ifndef PHID_SAMPLE_SOFTMAX_H
#define PHID_SAMPLE_SOFTMAX_H

#include <stdbool.h>
#include <stddef.h>

struct softmax_scan {
    float max; /* -Inf when there is nothing above it */
    bool nan;  /* some value is NaN; max then means nothing */
};

struct softmax_scan softmax_scan(const float *logits, size_t n);

/* weights[i] = exp((logits[i] - max) * inverse_temperature), relative error below 1e-6, 0 where
 * that is below 1e-37. max is the largest logit; when it is +Inf the weights are 1 for +Inf and 0
 * else. weights may be logits itself, or NULL when only the sum is wanted. Returns the sum in f64.
 */
double softmax_weights(const float *logits, size_t n, float max, float inverse_temperature,
                       float *weights);

/* The sum as softmax_draw adds it up. */
double softmax_sum(const float *weights, size_t n);

/* The first index at which the running sum of the weights (none negative, the sum positive) exceeds
 * `target`, which is in [0, softmax_sum). Never an index of weight 0. */
size_t softmax_draw(const float *weights, size_t n, double target);

#endif

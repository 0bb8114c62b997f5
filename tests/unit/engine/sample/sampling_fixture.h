/* What the sampling tests share: seeded test data and the whole distribution computed the slow,
 * obvious way. */
#ifndef PHID_TESTS_SAMPLING_FIXTURE_H
#define PHID_TESTS_SAMPLING_FIXTURE_H

#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#include "engine/base/rng.h"
#include "engine/sample/sampler.h"

static inline float uniform(struct rng *r, float low, float high)
{
    return low + (high - low) * rng_unit(r);
}

struct ranked {
    int32_t id;
    double logit;
};

static inline int compare_ranked(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    if (x->logit != y->logit) {
        return x->logit < y->logit ? 1 : -1;
    }
    return x->id < y->id ? -1 : 1;
}

/* Probabilities [n] by sorting: temperature, top_k, top_p over the rest, min_p. */
static inline void reference_distribution(const float *logits, size_t n,
                                          const struct sampler_params *p, double *ret)
{
    struct ranked *r = malloc(n * sizeof(*r));
    for (size_t i = 0; i < n; i++) {
        r[i] =
            (struct ranked){.id = (int32_t)i, .logit = (double)logits[i] / (double)p->temperature};
        ret[i] = 0;
    }
    qsort(r, n, sizeof(*r), compare_ranked);
    size_t kept = p->top_k > 0 && (size_t)p->top_k < n ? (size_t)p->top_k : n;
    double sum = 0, best = r[0].logit;
    for (size_t i = 0; i < kept; i++) {
        sum += exp(r[i].logit - best);
    }
    double nucleus = 0;
    size_t in_nucleus = 0;
    while (in_nucleus < kept && (in_nucleus == 0 || nucleus < (double)p->top_p * sum)) {
        nucleus += exp(r[in_nucleus++].logit - best);
    }
    kept = p->top_p < 1 ? in_nucleus : kept;
    while (kept > 1 && exp(r[kept - 1].logit - best) < (double)p->min_p) {
        kept--;
    }
    sum = 0;
    for (size_t i = 0; i < kept; i++) {
        sum += exp(r[i].logit - best);
    }
    for (size_t i = 0; i < kept; i++) {
        ret[r[i].id] = exp(r[i].logit - best) / sum;
    }
    free(r);
}

#endif

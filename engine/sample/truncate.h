/* Truncations of the distribution: top_k, top_p, min_p. None sorts: a border value is found by
 * radix selection over the bits of the floats, so the cost is linear for any input, also for all
 * logits equal.
 *
 * Stateless, any thread. Ties at a border go to the lower ids. */
#ifndef PHID_SAMPLE_TRUNCATE_H
#define PHID_SAMPLE_TRUNCATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The tokens still in play, by ascending id. */
struct candidates {
    float *weights; /* [capacity]; candidate i's, not token i's */
    int32_t *ids;   /* [capacity]; not filled while `all` */
    size_t count;
    bool all; /* candidate i is token i */
};

/* Keeps the k largest of logits [n] (k >= 1, no NaN): fills c->ids and puts their logits into
 * c->weights, which may be the logits themselves. */
void truncate_top_k(struct candidates *c, const float *logits, size_t n, size_t k);

/* Keeps the smallest set of largest weights whose sum reaches top_p (above 0) of `total`; at least
 * one. */
void truncate_top_p(struct candidates *c, double total, float top_p);

/* Keeps weights of at least `floor`; the largest weight is 1 and stays. */
void truncate_min_p(struct candidates *c, float floor);

#endif

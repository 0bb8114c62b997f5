/* A seeded sequence of random numbers for test data, random weights and shuffles. Not for secrets,
 * and not for sampling tokens (engine/sample has its own, which keeps no state).
 *
 * xoshiro256** by Blackman and Vigna ("Scrambled linear pseudorandom number generators", 2018), its
 * state filled by SplitMix64 (Steele, Lea, Flood, 2014) as its authors advise. The caller owns the
 * struct; not thread-safe. */
#ifndef PHID_BASE_RNG_H
#define PHID_BASE_RNG_H

#include <stdint.h>

struct rng {
    uint64_t state[4];
};

void rng_init(struct rng *r, uint64_t seed);
uint64_t rng_next(struct rng *r);

/* Uniform in [0, bound), without bias; 0 when bound is 0. */
uint64_t rng_below(struct rng *r, uint64_t bound);

/* Uniform in [0, 1), 24 bits. */
float rng_unit(struct rng *r);

/* Mean 0, variance 1 (Marsaglia's polar method). */
float rng_normal(struct rng *r);

#endif

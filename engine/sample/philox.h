/* Random numbers without state: a pure function of a seed and a counter.
 *
 * Philox 4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC
 * 2011). Because nothing is carried from draw to draw, a sequence's choices cannot depend on what
 * else was in a batch. Any thread. */
#ifndef PHID_SAMPLE_PHILOX_H
#define PHID_SAMPLE_PHILOX_H

#include <stdint.h>

void philox_block(const uint32_t counter[4], const uint32_t key[2], uint32_t ret[4]);

/* Uniform in [0, 1), 53 bits. */
double philox_uniform(uint64_t seed, uint64_t counter);

#endif

/* A histogram: how many values fell below each of some fixed bounds, and their sum.
 *
 * Any thread adds, any thread reads, without a lock: every number is a relaxed atomic. A reading
 * taken while others add may have seen a value's count and not its sum, never the half of either.
 * The owner keeps the struct; it needs no clean-up. */
#ifndef PHID_BASE_HISTOGRAM_H
#define PHID_BASE_HISTOGRAM_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define HISTOGRAM_BOUNDS_MAX 24

struct histogram {
    const uint64_t *bounds; /* [bound_count] ascending; a value belongs to the first bound >= it */
    size_t bound_count;
    _Atomic uint64_t counts[HISTOGRAM_BOUNDS_MAX + 1]; /* [bound_count] is above all of them */
    _Atomic uint64_t sum;
};

/* bounds is borrowed, usually static; at most HISTOGRAM_BOUNDS_MAX of them count. */
void histogram_init(struct histogram *h, const uint64_t *bounds, size_t bound_count);
void histogram_add(struct histogram *h, uint64_t value);

/* counts: [bound_count + 1], each bucket's own (not cumulative). Returns the sum. */
uint64_t histogram_read(const struct histogram *h, uint64_t *counts);

#endif

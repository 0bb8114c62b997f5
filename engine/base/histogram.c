#include "engine/base/histogram.h"

void histogram_init(struct histogram *h, const uint64_t *bounds, size_t bound_count)
{
    h->bounds = bounds;
    h->bound_count = bound_count < HISTOGRAM_BOUNDS_MAX ? bound_count : HISTOGRAM_BOUNDS_MAX;
    for (size_t i = 0; i <= HISTOGRAM_BOUNDS_MAX; i++) {
        atomic_init(&h->counts[i], 0);
    }
    atomic_init(&h->sum, 0);
}

void histogram_add(struct histogram *h, uint64_t value)
{
    size_t i = 0;
    while (i < h->bound_count && value > h->bounds[i]) {
        i++;
    }
    atomic_fetch_add_explicit(&h->counts[i], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&h->sum, value, memory_order_relaxed);
}

uint64_t histogram_read(const struct histogram *h, uint64_t *counts)
{
    for (size_t i = 0; i <= h->bound_count; i++) {
        counts[i] = atomic_load_explicit(&h->counts[i], memory_order_relaxed);
    }
    return atomic_load_explicit(&h->sum, memory_order_relaxed);
}

/* Measured values: a growing list of them, their mean, spread and percentiles. The caller owns the
 * struct. */
#ifndef PHID_BENCH_SAMPLES_H
#define PHID_BENCH_SAMPLES_H

#include <stdbool.h>
#include <stddef.h>

struct samples {
    float *values; /* heap */
    size_t count, capacity;
    bool failed; /* out of memory: values are missing */
};

void samples_init(struct samples *s);
void samples_fini(struct samples *s);
void samples_clear(struct samples *s); /* keeps the memory */
void samples_add(struct samples *s, double value);
void samples_append(struct samples *s, const struct samples *more);

double samples_mean(const struct samples *s);
double samples_std(const struct samples *s); /* of the population */

/* Ascending; what samples_percentile needs. */
void samples_sort(struct samples *s);

/* Of sorted values, `percent` from 0 to 100, linear between neighbours; 0 when there are none. */
double samples_percentile(const struct samples *s, double percent);

#endif

#include "tests/bench/samples.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_CAPACITY 64

void samples_init(struct samples *s)
{
    *s = (struct samples){0};
}

void samples_fini(struct samples *s)
{
    free(s->values);
    samples_init(s);
}

void samples_clear(struct samples *s)
{
    s->count = 0;
    s->failed = false;
}

static bool reserve(struct samples *s, size_t count)
{
    size_t capacity = s->capacity > 0 ? s->capacity : FIRST_CAPACITY;
    while (capacity < count) {
        capacity *= 2;
    }
    if (capacity == s->capacity) {
        return true;
    }
    float *values = realloc(s->values, capacity * sizeof *values);
    if (values == NULL) {
        s->failed = true;
        return false;
    }
    s->values = values;
    s->capacity = capacity;
    return true;
}

void samples_add(struct samples *s, double value)
{
    if (reserve(s, s->count + 1)) {
        s->values[s->count++] = (float)value;
    }
}

void samples_append(struct samples *s, const struct samples *more)
{
    if (more->count > 0 && reserve(s, s->count + more->count)) {
        memcpy(s->values + s->count, more->values, more->count * sizeof *more->values);
        s->count += more->count;
    }
    s->failed |= more->failed;
}

double samples_mean(const struct samples *s)
{
    double sum = 0;
    for (size_t i = 0; i < s->count; i++) {
        sum += (double)s->values[i];
    }
    return s->count > 0 ? sum / (double)s->count : 0;
}

double samples_std(const struct samples *s)
{
    double mean = samples_mean(s);
    double sum = 0;
    for (size_t i = 0; i < s->count; i++) {
        double off = (double)s->values[i] - mean;
        sum += off * off;
    }
    return s->count > 0 ? sqrt(sum / (double)s->count) : 0;
}

static int compare(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

void samples_sort(struct samples *s)
{
    if (s->count > 1) {
        qsort(s->values, s->count, sizeof *s->values, compare);
    }
}

double samples_percentile(const struct samples *s, double percent)
{
    if (s->count == 0) {
        return 0;
    }
    double place = percent / 100 * (double)(s->count - 1);
    size_t low = (size_t)place;
    size_t high = low + 1 < s->count ? low + 1 : low;
    double part = place - (double)low;
    return (double)s->values[low] * (1 - part) + (double)s->values[high] * part;
}

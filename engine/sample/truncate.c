#include "engine/sample/truncate.h"

#include <math.h>
#include <string.h>

#include "engine/sample/softmax.h"

enum {
    BIN_BITS = 11,
    BINS = 1 << BIN_BITS,
    SAMPLE_BLOCKS = 1024, /* block maxima from which top_k takes its first bound */
};

/* What a selection keeps: everything above the border value, and the first `ties` equal to it. */
struct border {
    uint32_t key;
    size_t ties;
};

/* Floats as integers of the same order; -0 is 0. */
static inline uint32_t key_of(float x)
{
    uint32_t bits;
    x += 0.0f;
    memcpy(&bits, &x, sizeof(bits));
    return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

static inline float value_of(uint32_t key)
{
    uint32_t bits = (key & 0x80000000u) != 0 ? key & 0x7FFFFFFFu : ~key;
    float x;
    memcpy(&x, &bits, sizeof(x));
    return x;
}

/* The sums of one digit of the keys whose higher bits equal `prefix`; by_count adds 1 for each
 * value, not the value. */
static void fill_bins(const float *values, size_t n, bool by_count, unsigned shift, uint32_t prefix,
                      uint32_t prefix_mask, double *bins)
{
    memset(bins, 0, BINS * sizeof(*bins));
    for (size_t i = 0; i < n; i++) {
        uint32_t key = key_of(values[i]);
        if ((key & prefix_mask) == prefix) {
            bins[(key >> shift) & (BINS - 1)] += by_count ? 1.0 : (double)values[i];
        }
    }
}

/* Walks down from the top until *target is reached and returns that bin; *target is then what is to
 * come out of it. When rounding leaves a little of the target over, all of the lowest bin in use is
 * to come. */
static size_t digit_of_target(const double *bins, double *target)
{
    size_t lowest = 0;
    for (size_t bin = BINS; bin-- > 0;) {
        if (bins[bin] > 0) {
            if (bins[bin] >= *target) {
                return bin;
            }
            *target -= bins[bin];
            lowest = bin;
        }
    }
    *target += bins[lowest];
    return lowest;
}

/* The border at which the largest values add up to `target`. Three digits of 11, 11 and 10 bits. */
static struct border find_border(const float *values, size_t n, bool by_count, double target)
{
    static const unsigned shifts[3] = {21, 10, 0};
    static const unsigned widths[3] = {11, 11, 10};
    double bins[BINS];
    uint32_t prefix = 0, mask = 0;
    for (int level = 0; level < 3; level++) {
        fill_bins(values, n, by_count, shifts[level], prefix, mask, bins);
        /* The last digit is 10 bits: the bit above it belongs to the prefix and is the same for
         * all. */
        uint32_t digit_mask = (1u << widths[level]) - 1;
        size_t digit = digit_of_target(bins, &target);
        prefix |= ((uint32_t)digit & digit_mask) << shifts[level];
        mask |= digit_mask << shifts[level];
    }
    struct border border = {.key = prefix, .ties = 1};
    double each = by_count ? 1.0 : (double)value_of(prefix);
    double ties = ceil(target / each);
    border.ties = ties >= 1 && ties < (double)n ? (size_t)ties : ties < 1 ? 1 : n;
    return border;
}

/* Keeps what find_border says of values, which are the candidates' weights. */
static void keep_border(struct candidates *c, struct border border)
{
    size_t kept = 0;
    for (size_t i = 0; i < c->count; i++) {
        uint32_t key = key_of(c->weights[i]);
        bool tie = key == border.key && border.ties > 0;
        if (key > border.key || tie) {
            border.ties -= tie ? 1 : 0;
            c->ids[kept] = c->ids[i];
            c->weights[kept] = c->weights[i];
            kept++;
        }
    }
    c->count = kept;
}

/* Keeps weights of at least `bound`. An index written is never above one still to be read. */
static void keep_at_least(struct candidates *c, float bound)
{
    size_t kept = 0;
    for (size_t i = 0; i < c->count; i++) {
        if (c->weights[i] >= bound) {
            c->ids[kept] = c->all ? (int32_t)i : c->ids[i];
            c->weights[kept] = c->weights[i];
            kept++;
        }
    }
    c->count = kept;
    c->all = false;
}

/* A value that at least k of the values reach, cheaply: the k-th largest of the maxima of blocks.
 */
static float bound_of_top_k(const float *logits, size_t n, size_t k)
{
    size_t block = (n + SAMPLE_BLOCKS - 1) / SAMPLE_BLOCKS;
    if (block < 4 || k > SAMPLE_BLOCKS / 4) {
        return -INFINITY;
    }
    float maxima[SAMPLE_BLOCKS];
    size_t count = 0;
    for (size_t start = 0; start < n; start += block) {
        size_t end = n - start < block ? n : start + block;
        maxima[count++] = softmax_scan(logits + start, end - start).max;
    }
    if (k > count) {
        return -INFINITY;
    }
    return value_of(find_border(maxima, count, true, (double)k).key);
}

void truncate_top_k(struct candidates *c, const float *logits, size_t n, size_t k)
{
    float bound = bound_of_top_k(logits, n, k);
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        if (logits[i] >= bound) {
            c->ids[kept] = (int32_t)i;
            c->weights[kept] = logits[i];
            kept++;
        }
    }
    c->count = kept;
    c->all = false;
    if (kept > k) {
        keep_border(c, find_border(c->weights, kept, true, (double)k));
    }
}

void truncate_top_p(struct candidates *c, double total, float top_p)
{
    /* Weights below this cannot matter: even all of them together are less than what top_p leaves
     * out. Half of it leaves room for rounding. */
    double bound = (1.0 - (double)top_p) * total / (double)c->count / 2;
    keep_at_least(c, bound > 0x1p-126 ? (float)bound : 0x1p-126f);
    keep_border(c, find_border(c->weights, c->count, false, (double)top_p * total));
}

void truncate_min_p(struct candidates *c, float floor)
{
    keep_at_least(c, floor);
}

#include "engine/sample/softmax.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

/* Four lanes: the width of every 64-bit target's baseline. */
typedef float float4 __attribute__((vector_size(16)));
typedef int32_t int4 __attribute__((vector_size(16)));

enum { LANES = 4, SIDE = 4, BLOCK = 256 };

static inline float4 load4(const float *p)
{
    float4 v;
    memcpy(&v, p, sizeof(v));
    return v;
}

static inline float4 splat4(float x)
{
    return (float4){x, x, x, x};
}

static inline float4 select4(int4 mask, float4 yes, float4 no)
{
    return (float4)(((int4)yes & mask) | ((int4)no & ~mask));
}

struct softmax_scan softmax_scan(const float *logits, size_t n)
{
    float4 max0 = splat4(-INFINITY), max1 = max0;
    int4 nan = {0, 0, 0, 0};
    size_t i = 0;
    for (; i + 2 * LANES <= n; i += 2 * LANES) {
        float4 a = load4(logits + i), b = load4(logits + i + LANES);
        max0 = select4(a > max0, a, max0);
        max1 = select4(b > max1, b, max1);
        nan |= (a != a) | (b != b);
    }
    struct softmax_scan scan = {.max = -INFINITY, .nan = (nan[0] | nan[1] | nan[2] | nan[3]) != 0};
    for (int lane = 0; lane < LANES; lane++) {
        scan.max = max0[lane] > scan.max ? max0[lane] : scan.max;
        scan.max = max1[lane] > scan.max ? max1[lane] : scan.max;
    }
    for (; i < n; i++) {
        scan.max = logits[i] > scan.max ? logits[i] : scan.max;
        scan.nan = scan.nan || isnan(logits[i]);
    }
    return scan;
}

/* exp(x) for x <= 0: 2^k * e^r with |r| <= ln(2)/2 and the series of e^r to the 7th power, whose
 * remainder is below 6e-9. Below -87 the result would leave the normal range; it is 0. Several
 * vectors side by side: each operation of one waits for the one before. */
static inline void exp4s(float4 x[SIDE])
{
    static const float series[] = {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f};
    int4 alive[SIDE], k[SIDE];
    float4 r[SIDE], e[SIDE];
    for (int v = 0; v < SIDE; v++) {
        alive[v] = x[v] >= splat4(-87.0f);
        x[v] = select4(alive[v], x[v], splat4(-87.0f));
        k[v] = __builtin_convertvector(x[v] * 1.44269504f - 0.5f, int4);
    }
    /* ln(2) in two parts, the first short enough for k * part to be exact. */
    for (int v = 0; v < SIDE; v++) {
        float4 kf = __builtin_convertvector(k[v], float4);
        r[v] = x[v] - kf * 0.693359375f;
        r[v] = r[v] + kf * 2.12194440e-4f;
        e[v] = splat4(1.0f / 5040);
    }
    for (int i = 0; i < 5; i++) {
        for (int v = 0; v < SIDE; v++) {
            e[v] = e[v] * r[v] + series[i];
        }
    }
    for (int v = 0; v < SIDE; v++) {
        e[v] = e[v] * r[v] * r[v] + r[v] + 1.0f;
        e[v] = (float4)((int4)e[v] + (k[v] << 23));
        x[v] = (float4)((int4)e[v] & alive[v]);
    }
}

static double weights_of_infinity(const float *logits, size_t n, float *weights)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        bool top = logits[i] == INFINITY;
        sum += top ? 1.0 : 0.0;
        if (weights != NULL) {
            weights[i] = top ? 1.0f : 0.0f;
        }
    }
    return sum;
}

/* SIDE * LANES weights. */
static inline void weigh(const float *logits, float max, float inverse_temperature, float *weights)
{
    float4 x[SIDE];
    for (size_t v = 0; v < SIDE; v++) {
        x[v] = (load4(logits + v * LANES) - max) * inverse_temperature;
    }
    exp4s(x);
    memcpy(weights, x, sizeof(x));
}

/* One block's sum, in f64 lanes: the order of additions is fixed, and still several go on at once.
 */
static double block_sum(const float *w, size_t n)
{
    double lanes[LANES] = {0, 0, 0, 0};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        for (int lane = 0; lane < LANES; lane++) {
            lanes[lane] += (double)w[i + (size_t)lane];
        }
    }
    for (; i < n; i++) {
        lanes[0] += (double)w[i];
    }
    return (lanes[0] + lanes[1]) + (lanes[2] + lanes[3]);
}

double softmax_weights(const float *logits, size_t n, float max, float inverse_temperature,
                       float *weights)
{
    if (isinf(max)) {
        return weights_of_infinity(logits, n, weights);
    }
    double sum = 0;
    for (size_t start = 0; start < n; start += BLOCK) {
        size_t count = n - start < BLOCK ? n - start : BLOCK;
        float block[BLOCK];
        size_t i = 0;
        for (; i + SIDE * LANES <= count; i += SIDE * LANES) {
            weigh(logits + start + i, max, inverse_temperature, block + i);
        }
        if (i < count) {
            float rest[SIDE * LANES];
            for (size_t k = 0; k < SIDE * LANES; k++) {
                rest[k] = max;
            }
            memcpy(rest, logits + start + i, (count - i) * sizeof(float));
            weigh(rest, max, inverse_temperature, block + i);
        }
        sum += block_sum(block, count);
        if (weights != NULL) {
            memcpy(weights + start, block, count * sizeof(float));
        }
    }
    return sum;
}

double softmax_sum(const float *weights, size_t n)
{
    double sum = 0;
    for (size_t start = 0; start < n; start += BLOCK) {
        sum += block_sum(weights + start, n - start < BLOCK ? n - start : BLOCK);
    }
    return sum;
}

size_t softmax_draw(const float *weights, size_t n, double target)
{
    double sum = 0;
    size_t last =
        0; /* the last index of a positive weight, for when rounding leaves the target unreached */
    for (size_t start = 0; start < n; start += BLOCK) {
        size_t count = n - start < BLOCK ? n - start : BLOCK;
        double block = block_sum(weights + start, count);
        if (sum + block <= target && start + count < n) {
            sum += block;
            continue;
        }
        for (size_t i = start; i < start + count; i++) {
            sum += (double)weights[i];
            if (weights[i] > 0) {
                if (sum > target) {
                    return i;
                }
                last = i;
            }
        }
    }
    if (weights[last] > 0) {
        return last;
    }
    /* The last block held only zeros: the nearest positive weight before it. */
    for (size_t i = n; i-- > 0;) {
        if (weights[i] > 0) {
            return i;
        }
    }
    return 0;
}

#include "quant/format/search.h"

#include <math.h>

/* A half float's smallest step is 6e-8: weights below this vanish in any type. It also keeps 1 /
 * scale finite. */
#define NEARLY_ZERO 1e-15f

void search_clean(const float *src, float *dst, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        dst[i] = isfinite(src[i]) ? src[i] : 0.0f;
    }
}

uint16_t search_half(float scale)
{
    const float largest = 65504.0f;
    if (scale > largest) {
        scale = largest;
    } else if (scale < -largest) {
        scale = -largest;
    }
    return quant_f32_to_f16(scale);
}

/* The value of largest magnitude, with its sign. */
static float extreme_of(const float *x, int n)
{
    float extreme = 0.0f;
    for (int i = 0; i < n; i++) {
        if (fabsf(x[i]) > fabsf(extreme)) {
            extreme = x[i];
        }
    }
    return extreme;
}

/* A scale and how good it is. For given codes the best scale is sum(w x q) / sum(w q q), and the
 * error it leaves is smaller the larger sum(w x q)^2 / sum(w q q) is. Weights so large that a sum
 * overflows give no candidate. */
struct best_scale {
    float scale;
    float gain;
};

static void consider(struct best_scale *best, float xq, float qq)
{
    float gain = xq * xq / qq;
    if (isfinite(gain) && gain > best->gain) {
        best->gain = gain;
        best->scale = xq / qq;
    }
}

float search_symmetric(const float *x, const float *importance, int n, int levels)
{
    float extreme = extreme_of(x, n);
    if (fabsf(extreme) < NEARLY_ZERO) {
        return 0.0f;
    }
    /* The negative end has one code more, so the extreme goes there. Around that, scales that clip
     * the extreme a little or leave room above it: up to 0.9 codes in steps of 0.1. */
    struct best_scale best = {.scale = extreme / (float)-levels, .gain = -1.0f};
    for (int step = -9; step <= 9; step++) {
        float inverse = -((float)levels + 0.1f * (float)step) / extreme;
        float xq = 0.0f;
        float qq = 0.0f;
        for (int i = 0; i < n; i++) {
            float q = search_round(x[i] * inverse, (float)-levels, (float)(levels - 1));
            float wq = importance[i] * q;
            xq += wq * x[i];
            qq += wq * q;
        }
        consider(&best, xq, qq);
    }
    return best.scale;
}

int search_nearest(float x, const int8_t values[16])
{
    /* Binary search for the last value not above x, then the nearer of the two around it. */
    int low = 0;
    for (int step = 8; step > 0; step /= 2) {
        low += x >= (float)values[low + step] ? step : 0;
    }
    if (low == 15) {
        return 15;
    }
    return low + (x - (float)values[low] < (float)values[low + 1] - x ? 0 : 1);
}

float search_codebook(const float *x, const float *importance, int n, const int8_t values[16])
{
    float extreme = extreme_of(x, n);
    if (fabsf(extreme) < NEARLY_ZERO) {
        return 0.0f;
    }
    /* The codebook reaches farther on the negative side, so the extreme may be fitted to either
     * end: scales up to 12 % around each. */
    struct best_scale best = {.scale = extreme / (float)values[0], .gain = -1.0f};
    for (int end = 0; end < 16; end += 15) {
        for (int step = -4; step <= 4; step++) {
            float inverse = (float)values[end] * (1.0f + 0.03f * (float)step) / extreme;
            float xq = 0.0f;
            float qq = 0.0f;
            for (int i = 0; i < n; i++) {
                float q = values[search_nearest(x[i] * inverse, values)];
                float wq = importance[i] * q;
                xq += wq * x[i];
                qq += wq * q;
            }
            consider(&best, xq, qq);
        }
    }
    return best.scale;
}

/* Weighted sums for the straight line x = d * q - m through given codes. */
struct line {
    float w, q, qq, x, xq, xx;
};

static struct line line_of(const float *x, const float *importance, int n, int max_code,
                           float inverse, float min)
{
    struct line s = {0};
    for (int i = 0; i < n; i++) {
        float q = search_round((x[i] + min) * inverse, 0.0f, (float)max_code);
        float wq = importance[i] * q;
        float wx = importance[i] * x[i];
        s.w += importance[i];
        s.q += wq;
        s.qq += wq * q;
        s.x += wx;
        s.xq += wx * q;
        s.xx += wx * x[i];
    }
    return s;
}

/* Solves for the scale and minimum and the error they leave. False when there is no such line. */
static bool line_solve(const struct line *s, bool reaches_zero, double *ret_scale, double *ret_min,
                       double *ret_error)
{
    double determinant = (double)s->w * (double)s->qq - (double)s->q * (double)s->q;
    if (!(determinant > 0.0)) {
        return false; /* all codes alike, or the sums overflowed */
    }
    double scale = ((double)s->w * (double)s->xq - (double)s->x * (double)s->q) / determinant;
    double min = ((double)s->q * (double)s->xq - (double)s->qq * (double)s->x) / determinant;
    if (reaches_zero && min < 0.0) {
        min = 0.0;
        scale = (double)s->xq / (double)s->qq;
    }
    *ret_scale = scale;
    *ret_min = min;
    *ret_error = scale * scale * (double)s->qq + min * min * (double)s->w + (double)s->xx -
                 2.0 * scale * min * (double)s->q - 2.0 * scale * (double)s->xq +
                 2.0 * min * (double)s->x;
    return scale > (double)NEARLY_ZERO && isfinite(*ret_error);
}

float search_affine(const float *x, const float *importance, int n, struct search_range range,
                    float *ret_min)
{
    float low = range.reaches_zero && x[0] > 0.0f ? 0.0f : x[0];
    float high = x[0];
    for (int i = 1; i < n; i++) {
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
    }
    *ret_min = -low;
    float width = high - low;
    if (!(width > NEARLY_ZERO)) {
        return 0.0f;
    }
    if (!isfinite(width)) {
        return high / (float)range.max_code; /* more than any half float scale can store */
    }
    double best_scale = (double)width / (double)range.max_code;
    double best_error = INFINITY;
    for (int step = -range.steps; step <= range.steps; step++) {
        float inverse = ((float)range.max_code + 0.1f * (float)step) / width;
        struct line s = line_of(x, importance, n, range.max_code, inverse, -low);
        double scale;
        double min;
        double error;
        if (line_solve(&s, range.reaches_zero, &scale, &min, &error) && error < best_error) {
            best_error = error;
            best_scale = scale;
            *ret_min = (float)min;
        }
    }
    return (float)best_scale;
}

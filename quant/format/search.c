#include "quant/format/search.h"

#include <math.h>
#include <string.h>

#include "quant/format/format.h"

/* A half float's smallest step is 6e-8: weights below this vanish in any type. It also keeps 1 / scale finite. */
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

int search_code(float x, int min, int max)
{
    /* Limited before the conversion, which is undefined for what an int cannot hold. NaN compares false: min. */
    if (!(x > (float)min)) {
        return min;
    }
    if (x >= (float)max) {
        return max;
    }
    return (int)roundf(x);
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

/* For given codes the best scale is sum(w x q) / sum(w q q), and the error it leaves is smaller the larger
 * sum(w x q)^2 / sum(w q q) is. Sums are kept in double: importance may be x^2 and x may be anything finite. */
struct fit {
    double xq;
    double qq;
};

static double fit_gain(struct fit f)
{
    return f.qq > 0.0 ? f.xq * f.xq / f.qq : 0.0;
}

float search_symmetric(const float *x, const float *importance, int n, int levels)
{
    float extreme = extreme_of(x, n);
    if (fabsf(extreme) < NEARLY_ZERO) {
        return 0.0f;
    }
    /* The negative end has one code more, so the extreme goes there. Around that, scales that clip the extreme a
     * little or leave room above it: up to 0.9 codes in steps of 0.1. */
    float best_scale = extreme / (float)-levels;
    double best_gain = -1.0;
    for (int step = -9; step <= 9; step++) {
        float inverse = -((float)levels + 0.1f * (float)step) / extreme;
        struct fit f = { 0 };
        for (int i = 0; i < n; i++) {
            double q = search_code(x[i] * inverse, -levels, levels - 1);
            f.xq += (double)importance[i] * (double)x[i] * q;
            f.qq += (double)importance[i] * q * q;
        }
        double gain = fit_gain(f);
        if (f.qq > 0.0 && gain > best_gain) {
            best_gain = gain;
            best_scale = (float)(f.xq / f.qq);
        }
    }
    return best_scale;
}

int search_nearest(float x, const int8_t values[16])
{
    if (!(x > (float)values[0])) {
        return 0;
    }
    int low = 0;
    while (low < 15 && (float)values[low + 1] <= x) {
        low++;
    }
    if (low == 15) {
        return 15;
    }
    return x - (float)values[low] < (float)values[low + 1] - x ? low : low + 1;
}

float search_codebook(const float *x, const float *importance, int n, const int8_t values[16])
{
    float extreme = extreme_of(x, n);
    if (fabsf(extreme) < NEARLY_ZERO) {
        return 0.0f;
    }
    /* The codebook reaches farther on the negative side, so the extreme may be fitted to either end: 15 scales
     * around each. */
    float best_scale = extreme / (float)values[0];
    double best_gain = -1.0;
    for (int end = 0; end < 16; end += 15) {
        for (int step = -7; step <= 7; step++) {
            float inverse = ((float)values[end] + (float)step * 0.016f * (float)values[end]) / extreme;
            struct fit f = { 0 };
            for (int i = 0; i < n; i++) {
                double q = values[search_nearest(x[i] * inverse, values)];
                f.xq += (double)importance[i] * (double)x[i] * q;
                f.qq += (double)importance[i] * q * q;
            }
            double gain = fit_gain(f);
            if (f.qq > 0.0 && gain > best_gain) {
                best_gain = gain;
                best_scale = (float)(f.xq / f.qq);
            }
        }
    }
    return best_scale;
}

/* Sums for the weighted straight line x = d * q - m. */
struct line {
    double w, q, qq, x, xq;
};

/* Solves for the scale and minimum (least squares). A minimum below zero cannot be stored: then the line goes
 * through zero. Returns false when the codes are all alike. */
static bool line_solve(const struct line *s, double *ret_scale, double *ret_min)
{
    double determinant = s->w * s->qq - s->q * s->q;
    if (!(determinant > 0.0)) {
        return false;
    }
    double scale = (s->w * s->xq - s->x * s->q) / determinant;
    double min = (s->q * s->xq - s->qq * s->x) / determinant;
    if (min < 0.0) {
        min = 0.0;
        scale = s->qq > 0.0 ? s->xq / s->qq : 0.0;
    }
    *ret_scale = scale;
    *ret_min = min;
    return scale > 0.0;
}

/* The line through the codes that the scale 1 / inverse and the minimum `min` give. */
static struct line line_of(const float *x, const float *importance, int n, int max_code, float inverse,
                           float min)
{
    struct line s = { 0 };
    for (int i = 0; i < n; i++) {
        double w = importance[i];
        double q = search_code((x[i] + min) * inverse, 0, max_code);
        s.w += w;
        s.q += w * q;
        s.qq += w * q * q;
        s.x += w * (double)x[i];
        s.xq += w * q * (double)x[i];
    }
    return s;
}

static double line_error(const float *x, const float *importance, int n, int max_code, double scale,
                         double min)
{
    double error = 0.0;
    float inverse = (float)(1.0 / scale);
    for (int i = 0; i < n; i++) {
        double q = search_code((x[i] + (float)min) * inverse, 0, max_code);
        double difference = scale * q - min - (double)x[i];
        error += (double)importance[i] * difference * difference;
    }
    return error;
}

float search_affine(const float *x, const float *importance, int n, int max_code, int steps, float *ret_min)
{
    float low = 0.0f; /* the minimum is stored as a positive number subtracted, so the range contains 0 */
    float high = x[0];
    for (int i = 0; i < n; i++) {
        low = fminf(low, x[i]);
        high = fmaxf(high, x[i]);
    }
    *ret_min = -low;
    float range = high - low;
    if (!(range > NEARLY_ZERO) || !isfinite(range)) {
        *ret_min = isfinite(range) ? -low : 0.0f;
        return 0.0f;
    }
    double best_scale = (double)(range / (float)max_code);
    double best_min = (double)-low;
    double best_error = line_error(x, importance, n, max_code, best_scale, best_min);
    for (int step = -steps; step <= steps; step++) {
        float inverse = ((float)max_code + 0.1f * (float)step) / range;
        struct line s = line_of(x, importance, n, max_code, inverse, -low);
        double scale;
        double min;
        if (!line_solve(&s, &scale, &min) || (float)scale < NEARLY_ZERO) {
            continue;
        }
        double error = line_error(x, importance, n, max_code, scale, min);
        if (error < best_error) {
            best_error = error;
            best_scale = scale;
            best_min = min;
        }
    }
    *ret_min = (float)best_min;
    return (float)best_scale;
}

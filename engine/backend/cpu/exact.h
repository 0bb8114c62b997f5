/* The reference path (options.exact): weights decoded to f32 row by row, f32 activations, sums in
 * f64. Slow and plain; every faster path is judged against it. */
#ifndef PHID_BACKEND_CPU_EXACT_H
#define PHID_BACKEND_CPU_EXACT_H

#include <stddef.h>

#include "engine/backend/cpu/backend.h"

/* x / sqrt(mean(x^2) + eps) * weight, the mean in f64. */
void exact_norm(const float *x, const float *weight, size_t n, float eps, float *y);

/* All products take the same x: [rows, cols]. */
void exact_matmul(struct backend *b, const float *x, size_t rows,
                  const struct cpu_product *products, size_t count);

/* As cpu_attention. */
void exact_attention(struct backend *b, const struct backend_batch *batch, size_t layer);

/* gate = silu(gate) * up */
void exact_silu_mul(float *gate, const float *up, size_t n);

/* Bytes of scratch memory a thread needs. */
size_t exact_thread_bytes(size_t max_cols, size_t head_dim);

#endif

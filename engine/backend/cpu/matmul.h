/* Products of weight matrices with a batch of activations, spread over the pool. Step thread.
 *
 * First the input is made ready (input.h), then products take it; what a product gives is handed on
 * while it is still in the caches: stored, added to the residual stream, or made the next product's
 * input. */
#ifndef PHID_BACKEND_CPU_MATMUL_H
#define PHID_BACKEND_CPU_MATMUL_H

#include "engine/backend/cpu/backend.h"

#define MATMUL_PRODUCTS_MAX 3

/* All products (at most MATMUL_PRODUCTS_MAX) take the same x: [rows, cols], made ready before.
 * Their tasks form one queue. `operation`: what the profile calls it. */
void cpu_matmul(struct backend *b, const float *x, size_t rows, const struct cpu_product *products,
                size_t count, enum cpu_operation operation);

/* Whether cpu_matmul_gated can be used: all three matrices take int8. */
bool cpu_matmul_can_gate(const struct backend *b, const struct cpu_layer *layer);

/* The layer's gate and up with a prepared input, and silu(gate) * up made ready for the layer's
 * down: cpu_matmul of that comes next, without anything between. */
void cpu_matmul_gated(struct backend *b, size_t rows, const struct cpu_layer *layer);

/* Bytes of scratch memory a thread needs. */
size_t cpu_matmul_thread_bytes(const struct backend *b);

#endif

/* Products of weight matrices with a batch of activations, spread over the pool. Step thread. */
#ifndef PHID_BACKEND_CPU_MATMUL_H
#define PHID_BACKEND_CPU_MATMUL_H

#include "engine/backend/cpu/backend.h"

#define MATMUL_PRODUCTS_MAX 3

/* All products (at most MATMUL_PRODUCTS_MAX) take the same x: [rows, cols]. Their tasks form one
 * queue. `operation`: what the profile calls it. */
void cpu_matmul(struct backend *b, const float *x, size_t rows, const struct cpu_product *products,
                size_t count, enum cpu_operation operation);

/* Bytes of scratch memory a thread needs. */
size_t cpu_matmul_thread_bytes(const struct backend *b);

#endif

/* What products multiply with: rows of activations, normed and quantized. Step thread; the epilogue
 * and the roots in tasks. */
#ifndef PHID_BACKEND_CPU_INPUT_H
#define PHID_BACKEND_CPU_INPUT_H

#include "engine/backend/cpu/backend.h"

struct cpu_input {
    const float *x;      /* [.., cols] */
    const size_t *rows;  /* which rows of x; NULL: all in order */
    const float *weight; /* of the RMSNorm that x goes through first; NULL: none */
    float *normed;       /* [rows, cols], when there is a norm */
    size_t cols;
};

/* Makes `rows` rows ready for these products; norms and quantizes in one go. */
void cpu_input_prepare(struct backend *b, const struct cpu_input *in, size_t rows,
                       const struct cpu_product *products, size_t count);

/* The same as an epilogue of the product that completes x (see cpu_product.then): when that product
 * is done and cpu_norm_end was called, the input is ready. */
struct cpu_norm {
    struct backend *b;
    const float *x; /* [rows, cols] */
    const float *weight;
    size_t rows, cols;
};

/* False: these products do not all take int8, they need cpu_input_prepare. `in` without rows. */
bool cpu_norm_begin(struct backend *b, const struct cpu_input *in, size_t rows,
                    const struct cpu_product *products, size_t count, struct cpu_norm *ret);
void cpu_norm_then(void *norm, size_t first, size_t count, size_t thread);
void cpu_norm_end(struct backend *b);

/* The next product takes this, which was quantized by other means. */
void cpu_input_take(struct backend *b, struct q8 *q8);

/* What the sums of each row with the ready input must be multiplied by; NULL: nothing. */
const float *cpu_input_roots(struct backend *b, size_t thread);

#endif

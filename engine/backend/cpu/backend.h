/* The CPU backend's state, shared by the files of this folder. Made by open, filled by load and kv_create; afterwards
 * only KV pages and scratch change, both in the step thread and the pool it runs. */
#ifndef PHID_BACKEND_CPU_BACKEND_H
#define PHID_BACKEND_CPU_BACKEND_H

#include <stddef.h>
#include <stdint.h>

#include "engine/backend/backend.h"
#include "engine/backend/cpu/kv.h"
#include "engine/backend/cpu/memory.h"
#include "engine/backend/cpu/weights.h"
#include "engine/base/pool.h"

/* What a batch's rows need, for max_rows rows; all matrices row-major. Sized at load, so a step allocates nothing. */
struct cpu_scratch {
    float *normed;     /* [rows, n_embd] */
    float *q;          /* [rows, n_heads * head_dim] */
    float *k, *v;      /* [rows, n_kv_heads * head_dim] */
    float *attended;   /* [rows, n_heads * head_dim] */
    float *gate, *up;  /* [rows, n_ff]; gate becomes silu(gate) * up */
    float *out;        /* [rows, n_embd]: what is added to the residual stream */
    float *rope;       /* [rows, rope_dims]: see cpu_rope_table */
    int32_t *position; /* [rows] */
    uint32_t *page;    /* [rows]: where the row's key and value go */
    float *threads;    /* [threads, thread_floats] */
    size_t thread_floats;
    struct cpu_memory memory;
};

struct backend {
    struct pool *pool;
    bool exact;
    size_t max_rows;
    const struct block_model *model; /* NULL before load; borrowed */
    size_t first, last;              /* layers loaded */
    struct cpu_weights weights;
    struct cpu_kv kv; /* shaped by kv_create */
    struct cpu_scratch scratch;
    char description[160];
};

static inline float *cpu_thread_scratch(const struct backend *b, size_t thread)
{
    return b->scratch.threads + thread * b->scratch.thread_floats;
}

/* One product of a matmul: y[row] = matrix * x[row] + bias for every row of x; y: [rows, matrix->rows]. */
struct cpu_product {
    const struct cpu_matrix *matrix;
    const float *bias; /* NULL: none */
    float *y;
};

/* The attention of one layer: reads scratch.q and the pages, writes scratch.attended. */
struct cpu_attention {
    struct backend *backend;
    const struct backend_batch *batch;
    size_t layer; /* counted from the first one loaded */
};

#endif

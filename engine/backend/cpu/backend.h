/* The CPU backend's state, shared by the files of this folder. Made by open, filled by load and
 * kv_create; afterwards only KV pages and scratch change, both in the step thread and the pool it
 * runs. */
#ifndef PHID_BACKEND_CPU_BACKEND_H
#define PHID_BACKEND_CPU_BACKEND_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/backend/backend.h"
#include "engine/backend/cpu/kernels.h"
#include "engine/backend/cpu/kv.h"
#include "engine/backend/cpu/memory.h"
#include "engine/backend/cpu/profile.h"
#include "engine/backend/cpu/q8.h"
#include "engine/backend/cpu/weights.h"
#include "engine/base/pool.h"

/* What attention does in this step, see attention_plan.h. */
struct attention_plan {
    struct attention_row *rows;            /* [rows]; row_count in use */
    struct attention_part *parts;          /* [2 * rows]; part_count in use */
    struct attention_open *open;           /* [rows + 1], scratch of the planning */
    const struct backend_sequence **order; /* [rows], scratch of the planning */
    size_t *shared;                        /* [rows + 1], likewise */
    float *slots; /* [slot_max, attention_slot_floats]: softmaxes over some of a row's keys */
    _Atomic uint32_t *left; /* [rows, n_kv_heads]: of the row's tasks in this layer */
    size_t row_count, part_count, slot_max;
};

/* RMSNorm without waiting for whole rows: they are weighted and quantized part by part, and what is
 * multiplied with them is divided by their root mean square, which is known by then. */
#define ROOTS_STRIDE 8 /* a cache line each */
struct cpu_roots {
    bool pending;   /* what is ready was not divided */
    float *squares; /* [n_embd / 32, rows now held]: sums of the squares of 32 elements */
    size_t rows;
    float *inverse; /* [threads, max_rows]: 1 / root mean square, by each thread for itself */
    uint64_t *run;  /* [threads, ROOTS_STRIDE]: which run the thread's are of */
    uint64_t runs;
};

/* What a batch's rows need, for max_rows rows; all matrices row-major. Sized at load, so a step
 * allocates nothing. */
struct cpu_scratch {
    float *normed;      /* [rows, n_embd] */
    float *q;           /* [rows, n_heads * head_dim] */
    float *k, *v;       /* [rows, n_kv_heads * head_dim] */
    float *attended;    /* [rows, n_heads * head_dim] */
    float *gate, *up;   /* [rows, n_ff]; gate becomes silu(gate) * up */
    float *out;         /* [rows, n_embd]: what is added to the residual stream */
    float *rope;        /* [rows, rope_dims]: see cpu_rope_table */
    int32_t *position;  /* [rows] */
    uint32_t *page;     /* [rows]: where the row's key and value go */
    struct q8 q8;       /* input of a matmul, out of a norm */
    struct q8 mixed;    /* out of attention */
    struct q8 gated;    /* out of gate and up */
    struct q8 *ready;   /* which of them the next matmul takes; NULL: none, it takes floats */
    size_t prompt_rows; /* of the rows in hand, the last ones: see q8.h */
    struct cpu_roots roots;
    struct attention_plan plan;
    unsigned char *threads; /* [threads, thread_bytes]: whatever a task needs */
    size_t thread_bytes;
    struct cpu_memory memory;
};

struct backend {
    struct pool *pool;
    const struct cpu_kernels *kernels; /* the scalar ones when exact */
    bool exact;
    size_t max_rows;
    enum backend_activations activations;
    bool (*read)(void *user, const void *data, size_t bytes, void *to); /* the options' */
    void *read_user;
    bool lazy;
    struct cpu_memory_policy policy; /* of weights, keys and values */
    size_t terms;                    /* int8 terms of an activation, see q8.h; decided by load */
    enum q8_prompts prompts;         /* and what those of prompts are kept as; likewise */
    const struct block_model *model; /* NULL before load; borrowed */
    size_t first, last;              /* layers loaded */
    struct cpu_weights weights;
    struct cpu_kv kv; /* shaped by kv_create */
    struct cpu_scratch scratch;
    struct cpu_profile profile;
    char description[160];
};

/* thread_bytes, 64-byte aligned */
static inline void *cpu_thread_scratch(const struct backend *b, size_t thread)
{
    return b->scratch.threads + thread * b->scratch.thread_bytes;
}

/* One product of a matmul: y[row] = matrix * x[row] + bias for every row of x; y: [rows,
 * matrix->rows]. */
struct cpu_product {
    const struct cpu_matrix *matrix;
    const float *bias; /* NULL: none */
    float *y;
    float *residual; /* NULL: none; else what y is added to, and y holds nothing of use */
    /* Called by the task that has made columns [first, first + count) of all rows of y, or of the
     * residual, while its caches hold them: both multiples of then_cols. NULL: nothing follows. */
    void (*then)(void *context, size_t first, size_t count, size_t thread);
    void *then_context;
    size_t then_cols;
};

#endif

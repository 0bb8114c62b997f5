/* Weights in memory of the backend's own, so that the model file may go away, change or shrink
 * after the load. Written during the load, read by all threads afterwards. */
#ifndef PHID_BACKEND_CPU_WEIGHTS_H
#define PHID_BACKEND_CPU_WEIGHTS_H

#include <stdbool.h>
#include <stddef.h>

#include "engine/backend/backend.h"
#include "engine/backend/cpu/kernels.h"
#include "engine/backend/cpu/memory.h"
#include "engine/base/pool.h"

enum cpu_order {
    CPU_ORDER_FILE,  /* rows of blocks as in the file: the exact path decodes them one by one */
    CPU_ORDER_R16,   /* quantized types, for int8 activations */
    CPU_ORDER_LANES, /* F32, F16, BF16, for f32 activations */
};

struct cpu_matrix {
    const struct quant_format *format; /* NULL: the model has no such matrix */
    const char *name;                  /* borrowed from the model */
    size_t rows;
    size_t cols;
    enum cpu_order order;
    struct r16_matrix r16;     /* CPU_ORDER_R16 */
    struct lanes_matrix lanes; /* CPU_ORDER_LANES */
    size_t move;               /* its place in the load */
    size_t part_bytes;         /* of a row in file order, of a group of 16 rows in the others */
    unsigned char *data;
    size_t bytes;
};

struct cpu_layer {
    struct cpu_matrix q, k, v, attn_out, gate, up, down;
    const float *attn_norm, *ffn_norm;
    const float *q_bias, *k_bias, *v_bias, *attn_out_bias; /* NULL: none */
};

struct cpu_weights {
    struct cpu_layer *layers; /* heap; layer_count of them */
    size_t layer_count;
    struct cpu_matrix embedding; /* format NULL when not loaded */
    struct cpu_matrix output;
    const float *output_norm;
    size_t max_cols;     /* of any matrix */
    size_t max_r16_cols; /* of any quantized matrix in R16 order */
    struct cpu_memory memory;
    struct cpu_loading *loading; /* NULL when all matrices are there */
};

struct cpu_load {
    const struct block_model *model;
    size_t first, last;
    bool embedding, head;
    bool exact;
    void (*release)(void *user, const struct block_matrix *matrix);
    void *user;
    bool (*read)(void *user, const void *data, size_t bytes, void *to); /* see backend.h */
    void *read_user;
    bool lazy;
    struct cpu_memory_policy policy;
};

/* Bytes of memory a load takes. Reads no weights; of `load` only model, first, last, embedding,
 * head and exact count. */
enum phid_status cpu_weights_bytes(const struct cpu_load *load, size_t *ret_bytes,
                                   struct phid_error *err);

/* A lazy load takes memory and nothing else; cpu_weights_need and cpu_weights_next do the rest. */
enum phid_status cpu_weights_open(struct cpu_weights *w, const struct cpu_load *load,
                                  struct pool *pool, struct phid_error *err);

/* Sees to it that these matrices are there. PHID_ERR_IO when the file is gone or has changed,
 * PHID_ERR_FORMAT for weights that are not finite; an error is final. */
enum phid_status cpu_weights_need(struct cpu_weights *w, struct pool *pool,
                                  const struct cpu_matrix *const *matrices, size_t count,
                                  struct phid_error *err);
enum phid_status cpu_weights_need_layer(struct cpu_weights *w, struct pool *pool, size_t layer,
                                        struct phid_error *err);

/* The next one that is not there; *ret_done when there is none left. */
enum phid_status cpu_weights_next(struct cpu_weights *w, struct pool *pool, bool *ret_done,
                                  struct phid_error *err);
void cpu_weights_close(struct cpu_weights *w);

/* Row `row` as f32, equal to what the format's decode gives. */
void cpu_matrix_row(const struct cpu_matrix *matrix, size_t row, float *dst);

#endif

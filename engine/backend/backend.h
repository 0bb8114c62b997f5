/* The block-level interface to a device: what the engine asks of the CPU, of CUDA, of any other.
 *
 * A backend runs transformer blocks, not tensor operations: it may fuse, repack and capture as it
 * likes. A model is a description (struct block_model) that knows no device. KV memory is pages of
 * BACKEND_PAGE_TOKENS tokens of every layer of a span; page ids are the engine's and mean the same
 * on every backend, which keeps its own storage for them. All functions of one backend are called
 * from one thread, the step thread, unless a comment says otherwise. Plain C with no engine types,
 * so that a backend can be a shared object of its own. */
#ifndef PHID_BACKEND_BACKEND_H
#define PHID_BACKEND_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"
#include "quant/format/format.h"

#define BACKEND_PAGE_TOKENS 64

/* One weight matrix as it lies in the file: [rows, cols] row-major, y = W x with x of `cols`
 * elements. Fused tensors of a file are several of these, each a range of rows. data == NULL: the
 * model has none. */
struct block_matrix {
    const char *name; /* of the tensor, for messages; borrowed from the model */
    const struct quant_format *format;
    const void *
        data; /* rows * quant_row_bytes(format, cols) bytes, unaligned, valid until the load ends */
    size_t rows;
    size_t cols;
};

enum block_rope_pairs {
    BLOCK_ROPE_NEOX,
    BLOCK_ROPE_INTERLEAVED
}; /* pairs (i, i + rot/2) or (2i, 2i + 1) */

/* Which list of rotary factors a sequence uses; fixed for all tokens in its pages. */
enum block_rope_set { BLOCK_ROPE_SHORT = 0, BLOCK_ROPE_LONG = 1, BLOCK_ROPE_SETS = 2 };

struct block_model {
    size_t n_layers;
    size_t n_embd;
    size_t n_heads;
    size_t n_kv_heads; /* divides n_heads; query head j uses key/value head j / (n_heads /
                          n_kv_heads) */
    size_t head_dim;
    size_t n_ff;
    size_t n_vocab;
    float norm_eps;        /* RMSNorm: x / sqrt(mean(x^2) + eps) * w, in f32 */
    float attention_scale; /* usually 1 / sqrt(head_dim) */
    int32_t
        sliding_window; /* 0: none; else key k is visible to query q iff q - k < sliding_window */
    enum block_rope_pairs rope_pairs;
    size_t rope_dims; /* even, <= head_dim; dimensions beyond pass through unscaled */
    /* theta(pos, i) = pos * inverse_frequency[set][i]; cos and sin are multiplied by
     * rope_magnitude[set]. f64 computed by the model, [rope_dims / 2] each, never NULL. */
    const double *rope_inverse_frequency[BLOCK_ROPE_SETS];
    float rope_magnitude[BLOCK_ROPE_SETS];

    struct block_matrix embedding;    /* [n_vocab, n_embd] */
    struct block_matrix output;       /* [n_vocab, n_embd]; the same data as embedding when tied */
    const float *output_norm;         /* [n_embd] */
    const struct block_layer *layers; /* [n_layers] */
};

struct block_layer {
    const float *attn_norm;                                /* [n_embd] */
    const float *ffn_norm;                                 /* [n_embd] */
    struct block_matrix q, k, v;                           /* [heads * head_dim, n_embd] */
    const float *q_bias, *k_bias, *v_bias, *attn_out_bias; /* NULL: none */
    struct block_matrix attn_out;                          /* [n_embd, n_heads * head_dim] */
    struct block_matrix gate, up; /* [n_ff, n_embd]; h = silu(gate x) * (up x) */
    struct block_matrix down;     /* [n_embd, n_ff] */
};

/* How activations are rounded for quantized weights: int8 with a scale for each block of 32, or two
 * such terms, the second for what the first leaves over (about 16 bits, twice the arithmetic); or
 * int8 for answers and, where the processor multiplies it, bf16 for a batch's prompt_rows, and for
 * the weights they meet. auto: two terms for small models, else the last. w8a8: as auto, but for
 * prompt_rows, if they are many, and the weights they meet int8 with a scale for 128 columns where
 * the processor gains by it. */
enum backend_activations {
    BACKEND_ACTIVATIONS_AUTO,
    BACKEND_ACTIVATIONS_INT8,
    BACKEND_ACTIVATIONS_INT8X2,
    BACKEND_ACTIVATIONS_BF16,
    BACKEND_ACTIVATIONS_W8A8
};

/* int8: one scale for each token and head. */
enum backend_kv_type { BACKEND_KV_F16, BACKEND_KV_F32, BACKEND_KV_INT8 };

struct backend_options {
    size_t threads;  /* 0: one per core this process may run on */
    const char *isa; /* "auto", or the name of a tier to force, for tests: "scalar", "avx2",
                        "avxvnni", ... */
    bool exact;      /* the reference path: f32 activations, f32 KV, weights decoded to f32, scalar
                        kernels, f64 sums where cheap */
    enum backend_activations activations;
    size_t max_rows; /* rows in one batch, at most; scratch memory is sized from it */
    /* Copies bytes of a matrix' data to `to`; false when they are not there any more. Called by any
     * thread of the backend; NULL: they are read where they lie. */
    bool (*read)(void *user, const void *data, size_t bytes, void *to);
    void *read_user;
    bool lazy;         /* load only plans: see load_more */
    bool pin_threads;  /* each thread keeps to one core, see pool_pin */
    bool small_pages;  /* do not ask the system for huge pages */
    bool local_memory; /* weights, keys and values lie where the thread runs that writes them first,
                        * not spread over the memory nodes */
    bool profile;      /* count what `profile` tells */
};

/* A sequence's part in a batch: `rows` consecutive rows, positions start .. start + rows - 1. */
struct backend_sequence {
    size_t first_row;
    size_t rows;
    int32_t start;         /* tokens already in its pages */
    const uint32_t *pages; /* page of position p is pages[p / BACKEND_PAGE_TOKENS]; covers start +
                              rows tokens */
    enum block_rope_set rope_set;
};

/* A ragged batch. Rows of a sequence are contiguous, sequences follow each other without gaps. */
struct backend_batch {
    const int32_t *tokens; /* [rows] ids, checked to be < n_vocab by the engine */
    size_t rows;
    size_t prompt_rows; /* the last ones: tokens of prompts, so many of them that a backend may
                           compute them in an arithmetic that costs something to begin with */
    const struct backend_sequence *sequences;
    size_t sequence_count;
    void (*progress)(void *user); /* called by step after each layer or so, on the step thread: a
                                     sign of life; may be NULL */
    void *progress_user;
};

/* What one token costs in the layers and the head that are loaded: for judging a measurement
 * against the machine. */
struct backend_costs {
    uint64_t
        layer_weight_bytes; /* read by step, at least once a batch, as the backend stores them */
    uint64_t head_weight_bytes; /* read by head */
    uint64_t layer_macs;        /* multiply-adds of the matrices, per row of a step */
    uint64_t head_macs;         /* per row of a head */
    uint64_t kv_token_bytes;    /* read by step per token of context and row; 0 before kv_create */
};

/* One kind of operation, summed over all batches since open. */
struct backend_operation {
    const char *name; /* static */
    uint64_t runs;
    uint64_t ns; /* as the step thread sees it; of all operations together: the time in embed, step
                    and head */
    uint64_t wait_ns;     /* of all threads together: not in a task */
    uint64_t bytes, macs; /* of weights, or of keys and values: read at least, multiplied */
};

#define BACKEND_OPERATIONS_MAX 16

struct backend; /* a device in use; each implementation has its own */

struct backend_api {
    const char *name; /* "cpu", "cuda" */

    /* Is there such a device here? *ret_description is static text ("AVX-512 VNNI, 2 threads"). Any
     * thread. */
    bool (*probe)(const char **ret_description);

    enum phid_status (*open)(const struct backend_options *options, struct backend **ret,
                             struct phid_error *err);
    void (*close)(struct backend *b);

    /* Bytes that the weights of a whole model take once they are loaded: reckoned from their shapes
     * and types, without a device in use. Any thread. */
    enum phid_status (*weight_bytes)(const struct block_model *model, size_t *ret_bytes,
                                     struct phid_error *err);

    /* Takes the layers [first, last) of the model, and the embedding and the head when asked,
     * repacked as the backend likes. The model's data may go away afterwards; its description (not
     * the data) must outlive the backend. `release` (may be NULL) is called after each matrix is no
     * longer needed, so that file pages can be dropped. */
    enum phid_status (*load)(struct backend *b, const struct block_model *model, size_t first,
                             size_t last, bool embedding, bool head,
                             void (*release)(void *user, const struct block_matrix *matrix),
                             void *user, struct phid_error *err);

    /* After a lazy load: takes in the next matrix that no step has needed yet; *ret_done when all
     * are there, and from then on their data may go away. embed, step and head take in what they
     * lack themselves. May be NULL: load did it. */
    enum phid_status (*load_more)(struct backend *b, bool *ret_done, struct phid_error *err);

    /* Storage for n_pages pages of the loaded layers. Once. */
    enum phid_status (*kv_create)(struct backend *b, enum backend_kv_type type, size_t n_pages,
                                  struct phid_error *err);
    size_t (*kv_page_bytes)(const struct backend *b,
                            enum backend_kv_type type); /* of the loaded layers; after load */
    enum phid_status (*kv_copy)(struct backend *b, uint32_t from, uint32_t to,
                                struct phid_error *err);

    /* Brings in memory of the pages [first, last), which will be used soon, so that a step does not
     * wait for the system to find some: a call for about `tokens` tokens more, in ascending order.
     * False: all of it is there. No content changes. May be NULL: all is there from the start. */
    bool (*kv_warm)(struct backend *b, size_t first, size_t last, size_t tokens);

    /* hidden: [rows, n_embd] f32 row-major. embed writes it, step reads and writes it. */
    enum phid_status (*embed)(struct backend *b, const struct backend_batch *batch, float *hidden,
                              struct phid_error *err);
    enum phid_status (*step)(struct backend *b, const struct backend_batch *batch, size_t first,
                             size_t last, float *hidden, struct phid_error *err);

    /* Final norm and logits of the rows listed: logits [count, n_vocab] f32. */
    enum phid_status (*head)(struct backend *b, const float *hidden, const size_t *rows,
                             size_t count, float *logits, struct phid_error *err);

    /* Marks a point in the device's work; waits until it is reached. The CPU is synchronous: both
     * do nothing. */
    enum phid_status (*fence)(struct backend *b, uint64_t *ret_fence, struct phid_error *err);
    enum phid_status (*wait)(struct backend *b, uint64_t fence, struct phid_error *err);

    /* Text of what the backend chose: instruction set, threads, memory. Borrowed until close. */
    const char *(*describe)(const struct backend *b);
    size_t (*memory_bytes)(const struct backend *b); /* weights, KV and scratch held now */
    void (*costs)(const struct backend *b, struct backend_costs *ret); /* after load */

    /* Where the time went; ret: [BACKEND_OPERATIONS_MAX]. Returns how many there are, 0 unless
     * opened with `profile`. Any thread; in the middle of a step the numbers may be of different
     * moments. May be NULL: no profile. */
    size_t (*profile)(const struct backend *b, struct backend_operation *ret);
};

const struct backend_api *backend_cpu(void);

#endif

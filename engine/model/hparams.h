/* The hyperparameters of a file: every `ARCH.*` key the engine knows, read with its type and range
 * from one table, and checked against each other. Values only; the caller's storage. */
#ifndef PHID_MODEL_HPARAMS_H
#define PHID_MODEL_HPARAMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"
#include "engine/gguf/gguf.h"

/* Counts of a key that was absent keep the default of the table in hparams.c, 0 where there is
 * none. */
struct hparams {
    const char *architecture; /* static; the keys' prefix */
    uint64_t vocab_size;      /* the tokens array's length */
    uint64_t context_length;
    uint64_t embedding_length;
    uint64_t feed_forward_length;
    uint64_t block_count;
    uint64_t head_count;
    uint64_t head_count_kv; /* absent: head_count */
    uint64_t key_length;    /* of one head; absent: embedding_length / head_count */
    uint64_t value_length;  /* equal to key_length */
    uint64_t rope_dims;     /* absent: key_length */
    uint64_t sliding_window;
    bool has_sliding_window;
    uint64_t original_context; /* absent: 0 */
    uint64_t expert_count;     /* 0: anything else is refused */
    double norm_eps;
    double rope_base;
    double rope_attn_factor;   /* absent: 0 */
    double rope_linear_factor; /* positions are divided by it; 1: no scaling */
    struct str rope_scaling;   /* its type; empty: absent */
};

/* Errors: PHID_ERR_FORMAT (a key missing, of a wrong type, out of range, or at odds with another;
 * named with its offset), PHID_ERR_UNSUPPORTED (mixture of experts, key and value heads of
 * different length). */
enum phid_status hparams_read(const struct gguf_file *file, const char *architecture,
                              struct hparams *ret, struct phid_error *err);

/* PHID_ERR_UNSUPPORTED unless rope.scaling.type is absent or one of `known` (NULL at the end). */
enum phid_status hparams_check_scaling(const struct hparams *h, const char *const *known,
                                       struct phid_error *err);

#endif

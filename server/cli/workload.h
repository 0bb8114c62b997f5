/* What a model asks of a machine, reckoned from its file: bytes to read and multiply-adds to do for
 * a token. `bench` divides its measurements by these. Plain numbers, any thread. */
#ifndef PHID_CLI_WORKLOAD_H
#define PHID_CLI_WORKLOAD_H

#include <stddef.h>
#include <stdint.h>

#include "engine/gguf/gguf.h"

struct workload {
    uint64_t layers, heads, kv_heads, head_size;
    uint64_t body_macs;  /* a token: every matrix but the embedding and the head */
    uint64_t head_macs;  /* a token whose logits are wanted */
    uint64_t step_bytes; /* weights one decode step reads; from the file, where no engine says */
    uint64_t kv_token_bytes; /* keys and values of one token */
};

/* Bytes of one token's key and value in one head. kv_type: enum config_kv_type. */
uint64_t workload_kv_head_bytes(int kv_type, uint64_t head_size);

/* PHID_ERR_FORMAT when the file lacks what is needed. */
enum phid_status workload_of(const struct gguf_file *file, int kv_type, struct workload *ret,
                             struct phid_error *err);

/* Multiply-adds to compute `tokens` tokens at once from nothing, with the logits of the last. */
double workload_prefill_macs(const struct workload *w, size_t tokens);

/* Bytes one decode step reads for `sequences` sequences of `context` tokens each. */
double workload_step_bytes(const struct workload *w, size_t sequences, double context);

#endif

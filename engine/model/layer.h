/* The tensors of one decoder block that all architectures here share: norms, attention and a gated
 * feed-forward, in the fused and the split form that converters write. Inside engine/model only. */
#ifndef PHID_MODEL_LAYER_H
#define PHID_MODEL_LAYER_H

#include "engine/model/arch.h"

struct layer_forms {
    bool biases;        /* attention may have biases */
    bool fused_gate_up; /* without ffn_gate.weight, ffn_up.weight holds the gate's rows and then its
                           own */
};

/* Binds every blk.N tensor into m->block.layers, which it allocates. */
enum phid_status layer_bind_all(struct model *m, const struct layer_forms *forms, struct binder *b,
                                struct phid_error *err);

/* token_embd, output_norm and output; without output.weight the embedding is the head. */
enum phid_status layer_bind_ends(struct model *m, struct binder *b, struct phid_error *err);

#endif

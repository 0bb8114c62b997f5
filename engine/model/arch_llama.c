/* llama: Llama 2 and 3, Mistral, TinyLlama, SmolLM2. As phi3, but with rotary pairs (2i, 2i + 1),
 * for which the converter has permuted the rows of Q and K, separate gate and up, optional
 * attention biases, and Llama 3's factors in one tensor. */
#include "engine/model/layer.h"
#include "engine/model/rope.h"

static enum phid_status bind(struct model *m, const struct hparams *h, struct binder *b,
                             struct phid_error *err)
{
    static const char *const scalings[] = {"none", "linear", NULL};
    static const struct layer_forms forms = {.biases = true, .fused_gate_up = false};
    enum phid_status status = hparams_check_scaling(h, scalings, err);
    if (status != PHID_OK) {
        return status;
    }
    m->block.rope_pairs = BLOCK_ROPE_INTERLEAVED;
    bool windowed = h->sliding_window > 0 && h->sliding_window < h->context_length;
    m->block.sliding_window = windowed ? (int32_t)h->sliding_window : 0;
    status = layer_bind_ends(m, b, err);
    const float *factors = NULL;
    if (status == PHID_OK && binder_has(b, "rope_freqs.weight")) {
        status = rope_bind_factors(b, "rope_freqs.weight", &factors, err);
    }
    if (status == PHID_OK) {
        status = rope_set_one(m, h, factors, err);
    }
    return status == PHID_OK ? layer_bind_all(m, &forms, b, err) : status;
}

const struct model_arch model_arch_llama = {.name = "llama", .bind = bind};

/* phi3: Phi-3-mini, Phi-3.5-mini, Phi-3-medium, Phi-4 and Phi-4-mini. Pre-norm RMS blocks, rotary
 * pairs (i, i + rot/2) over a part of the head, LongRoPE factors in two tensors, fused QKV and
 * fused gate/up as the converter writes them. */
#include "engine/model/layer.h"
#include "engine/model/rope.h"

/* Files from before the key existed: the models of 4096 tokens were trained with a window of 2047.
 */
enum { OLD_CONTEXT = 4096, OLD_WINDOW = 2047 };

/* Hugging Face applies the window only where it is smaller than the context; 0 and 262144 stand for
 * none. */
static int32_t sliding_window(const struct hparams *h)
{
    uint64_t window = h->sliding_window;
    if (!h->has_sliding_window && h->context_length == OLD_CONTEXT &&
        (h->block_count == 32 || h->block_count == 40)) {
        window = OLD_WINDOW;
    }
    return window > 0 && window < h->context_length ? (int32_t)window : 0;
}

static enum phid_status bind_rope(struct model *m, const struct hparams *h, struct binder *b,
                                  struct phid_error *err)
{
    if (!binder_has(b, "rope_factors_long.weight") && !binder_has(b, "rope_factors_short.weight")) {
        return rope_set_one(m, h, NULL, err);
    }
    const float *long_factors, *short_factors;
    enum phid_status status = rope_bind_factors(b, "rope_factors_long.weight", &long_factors, err);
    if (status == PHID_OK) {
        status = rope_bind_factors(b, "rope_factors_short.weight", &short_factors, err);
    }
    return status == PHID_OK ? rope_set_two(m, h, short_factors, long_factors, err) : status;
}

static enum phid_status bind(struct model *m, const struct hparams *h, struct binder *b,
                             struct phid_error *err)
{
    static const char *const scalings[] = {"none", "longrope", "su", "linear", NULL};
    static const struct layer_forms forms = {.biases = false, .fused_gate_up = true};
    enum phid_status status = hparams_check_scaling(h, scalings, err);
    if (status != PHID_OK) {
        return status;
    }
    m->block.rope_pairs = BLOCK_ROPE_NEOX;
    m->block.sliding_window = sliding_window(h);
    status = layer_bind_ends(m, b, err);
    if (status == PHID_OK) {
        status = bind_rope(m, h, b, err);
    }
    return status == PHID_OK ? layer_bind_all(m, &forms, b, err) : status;
}

const struct model_arch model_arch_phi3 = {.name = "phi3", .bind = bind};

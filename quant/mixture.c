#include "quant/mixture.h"

#include <strings.h>

struct named_mixture {
    const char *name;
    struct mixture mixture;
};

/* Output heads: six bits are enough not to be the weakest link, and eight where everything has
 * eight. */
static const struct named_mixture mixtures[] = {
    {"f32", {QUANT_F32, QUANT_F32, QUANT_F32, 0}},
    {"f16", {QUANT_F16, QUANT_F16, QUANT_F16, 1}},
    {"bf16", {QUANT_BF16, QUANT_BF16, QUANT_BF16, 32}},
    {"q8_0", {QUANT_Q8_0, QUANT_Q8_0, QUANT_Q8_0, 7}},
    {"q4_0", {QUANT_Q4_0, QUANT_Q4_0, QUANT_Q6_K, 2}},
    {"q4_1", {QUANT_Q4_1, QUANT_Q4_1, QUANT_Q6_K, 3}},
    {"q5_0", {QUANT_Q5_0, QUANT_Q5_0, QUANT_Q6_K, 8}},
    {"q5_1", {QUANT_Q5_1, QUANT_Q5_1, QUANT_Q6_K, 9}},
    {"q2_k", {QUANT_Q2_K, QUANT_Q2_K, QUANT_Q6_K, 21}},
    {"q3_k", {QUANT_Q3_K, QUANT_Q3_K, QUANT_Q6_K, 11}},
    {"q4_k", {QUANT_Q4_K, QUANT_Q4_K, QUANT_Q6_K, 14}},
    {"q4_k_m", {QUANT_Q4_K, QUANT_Q6_K, QUANT_Q6_K, 15}},
    {"q5_k", {QUANT_Q5_K, QUANT_Q5_K, QUANT_Q6_K, 16}},
    {"q5_k_m", {QUANT_Q5_K, QUANT_Q6_K, QUANT_Q6_K, 17}},
    {"q6_k", {QUANT_Q6_K, QUANT_Q6_K, QUANT_Q6_K, 18}},
    {"iq4_nl", {QUANT_IQ4_NL, QUANT_IQ4_NL, QUANT_Q6_K, 25}},
    {"iq4_xs", {QUANT_IQ4_XS, QUANT_IQ4_XS, QUANT_Q6_K, 30}},
    {"iq3_s", {QUANT_IQ3_S, QUANT_IQ3_S, QUANT_Q6_K, 26}},
    {"iq3_xxs", {QUANT_IQ3_XXS, QUANT_IQ3_XXS, QUANT_Q6_K, 23}},
    {"iq2_s", {QUANT_IQ2_S, QUANT_IQ2_S, QUANT_Q6_K, 28}},
    {"iq2_xs", {QUANT_IQ2_XS, QUANT_IQ2_XS, QUANT_Q6_K, 20}},
    {"iq2_xxs", {QUANT_IQ2_XXS, QUANT_IQ2_XXS, QUANT_Q6_K, 19}},
    {"iq1_m", {QUANT_IQ1_M, QUANT_IQ1_M, QUANT_Q6_K, 31}},
    {"iq1_s", {QUANT_IQ1_S, QUANT_IQ1_S, QUANT_Q6_K, 24}},
    {"tq2_0", {QUANT_TQ2_0, QUANT_TQ2_0, QUANT_Q6_K, 37}},
    {"tq1_0", {QUANT_TQ1_0, QUANT_TQ1_0, QUANT_Q6_K, 36}},
    {"mxfp4", {QUANT_MXFP4, QUANT_MXFP4, QUANT_Q6_K, 38}},
};

enum { MIXTURE_COUNT = sizeof mixtures / sizeof mixtures[0] };

const char *mixture_names(void)
{
    return "f32, f16, bf16, q8_0, q4_0, q4_1, q5_0, q5_1, q2_k, q3_k, q4_k, q4_k_m, q5_k, q5_k_m, "
           "q6_k, iq4_nl, iq4_xs, iq3_s, iq3_xxs, iq2_s, iq2_xs, iq2_xxs, iq1_m, iq1_s, tq2_0, "
           "tq1_0, mxfp4";
}

bool mixture_find(struct str name, struct mixture *ret)
{
    for (size_t i = 0; i < MIXTURE_COUNT; i++) {
        if (name.size == strlen(mixtures[i].name) &&
            strncasecmp(name.data, mixtures[i].name, name.size) == 0) {
            *ret = mixtures[i].mixture;
            return true;
        }
    }
    return false;
}

static bool ends_with(struct str s, struct str end)
{
    return s.size >= end.size && memcmp(s.data + s.size - end.size, end.data, end.size) == 0;
}

bool mixture_applies(const struct gguf_tensor *tensor)
{
    return tensor->n_dims >= 2 && ends_with(tensor->name, STR(".weight")) &&
           !ends_with(tensor->name, STR("_norm.weight")) &&
           !ends_with(tensor->name, STR("ffn_gate_inp.weight")) &&
           !str_starts_with(tensor->name, STR("rope_f"));
}

bool mixture_layer(struct str name, uint64_t *ret)
{
    if (!str_starts_with(name, STR("blk."))) {
        return false;
    }
    uint64_t layer = 0;
    size_t i = 4;
    for (; i < name.size && i < 4 + 6 && name.data[i] >= '0' && name.data[i] <= '9'; i++) {
        layer = layer * 10 + (uint64_t)(name.data[i] - '0');
    }
    if (i == 4 || i == name.size || name.data[i] != '.') {
        return false;
    }
    *ret = layer;
    return true;
}

/* The layers whose value and down projections get more bits: the first and last eighth, and every
 * third between. */
static bool layer_raised(uint64_t layer, uint64_t layers)
{
    uint64_t eighth = layers / 8;
    return layer < eighth || layer >= 7 * layers / 8 || (layer - eighth) % 3 == 2;
}

static bool name_raised(struct str name)
{
    return ends_with(name, STR(".attn_v.weight")) || ends_with(name, STR(".attn_qkv.weight")) ||
           ends_with(name, STR(".ffn_down.weight")) ||
           ends_with(name, STR(".ffn_down_exps.weight"));
}

/* What to use where a row is not a whole number of 256-weight blocks: the nearest type with blocks
 * of 32. */
static enum quant_type smaller_blocks(enum quant_type type)
{
    switch (type) {
    case QUANT_Q2_K:
    case QUANT_Q3_K:
    case QUANT_IQ1_S:
    case QUANT_IQ1_M:
    case QUANT_IQ2_XXS:
    case QUANT_IQ2_XS:
    case QUANT_IQ2_S:
    case QUANT_TQ1_0:
    case QUANT_TQ2_0:
        return QUANT_Q4_0;
    case QUANT_Q4_K:
        return QUANT_Q5_0;
    case QUANT_Q5_K:
        return QUANT_Q5_1;
    case QUANT_Q6_K:
        return QUANT_Q8_0;
    case QUANT_IQ3_XXS:
    case QUANT_IQ3_S:
    case QUANT_IQ4_XS:
        return QUANT_IQ4_NL;
    default:
        return QUANT_F16;
    }
}

struct mixture_choice mixture_choose(const struct mixture *mixture,
                                     const struct gguf_tensor *tensor, uint64_t layers, bool tied)
{
    enum quant_type type = mixture->base;
    uint64_t layer;
    if (str_equal_c(tensor->name, tied ? "token_embd.weight" : "output.weight")) {
        type = mixture->output;
    } else if (name_raised(tensor->name) && mixture_layer(tensor->name, &layer) &&
               layer_raised(layer, layers)) {
        type = mixture->raised;
    }
    struct mixture_choice choice = {.format = quant_format_find((uint32_t)type)};
    while (tensor->ne[0] % choice.format->block_weights !=
           0) { /* ends at F16, whose blocks are single weights */
        choice.format = quant_format_find((uint32_t)smaller_blocks(choice.format->type));
        choice.fallback = true;
    }
    return choice;
}

#include "quant/format/format.h"

#include <strings.h>

#include "engine/base/checked.h"
#include "quant/format/block.h"
#include "quant/format/codec.h"

#define BLOCK_OF(weights, type) .block_weights = (weights), .block_bytes = sizeof(type)

static const struct quant_format formats[] = {
    {QUANT_F32, "F32", BLOCK_OF(1, float), f32_decode, f32_encode},
    {QUANT_F16, "F16", BLOCK_OF(1, uint16_t), f16_decode, f16_encode},
    {QUANT_Q4_0, "Q4_0", BLOCK_OF(32, struct block_q4_0), q4_0_decode, q4_0_encode},
    {QUANT_Q4_1, "Q4_1", BLOCK_OF(32, struct block_q4_1), q4_1_decode, q4_1_encode},
    {QUANT_Q5_0, "Q5_0", BLOCK_OF(32, struct block_q5_0), q5_0_decode, q5_0_encode},
    {QUANT_Q5_1, "Q5_1", BLOCK_OF(32, struct block_q5_1), q5_1_decode, q5_1_encode},
    {QUANT_Q8_0, "Q8_0", BLOCK_OF(32, struct block_q8_0), q8_0_decode, q8_0_encode},
    {QUANT_Q2_K, "Q2_K", BLOCK_OF(256, struct block_q2_k), q2_k_decode, q2_k_encode},
    {QUANT_Q3_K, "Q3_K", BLOCK_OF(256, struct block_q3_k), q3_k_decode, q3_k_encode},
    {QUANT_Q4_K, "Q4_K", BLOCK_OF(256, struct block_q4_k), q4_k_decode, q4_k_encode},
    {QUANT_Q5_K, "Q5_K", BLOCK_OF(256, struct block_q5_k), q5_k_decode, q5_k_encode},
    {QUANT_Q6_K, "Q6_K", BLOCK_OF(256, struct block_q6_k), q6_k_decode, q6_k_encode},
    {QUANT_IQ2_XXS, "IQ2_XXS", BLOCK_OF(256, struct block_iq2_xxs), iq2_xxs_decode, iq2_xxs_encode},
    {QUANT_IQ2_XS, "IQ2_XS", BLOCK_OF(256, struct block_iq2_xs), iq2_xs_decode, iq2_xs_encode},
    {QUANT_IQ3_XXS, "IQ3_XXS", BLOCK_OF(256, struct block_iq3_xxs), iq3_xxs_decode, iq3_xxs_encode},
    {QUANT_IQ1_S, "IQ1_S", BLOCK_OF(256, struct block_iq1_s), iq1_s_decode, iq1_s_encode},
    {QUANT_IQ4_NL, "IQ4_NL", BLOCK_OF(32, struct block_iq4_nl), iq4_nl_decode, iq4_nl_encode},
    {QUANT_IQ3_S, "IQ3_S", BLOCK_OF(256, struct block_iq3_s), iq3_s_decode, iq3_s_encode},
    {QUANT_IQ2_S, "IQ2_S", BLOCK_OF(256, struct block_iq2_s), iq2_s_decode, iq2_s_encode},
    {QUANT_IQ4_XS, "IQ4_XS", BLOCK_OF(256, struct block_iq4_xs), iq4_xs_decode, iq4_xs_encode},
    {QUANT_IQ1_M, "IQ1_M", BLOCK_OF(256, struct block_iq1_m), iq1_m_decode, iq1_m_encode},
    {QUANT_BF16, "BF16", BLOCK_OF(1, uint16_t), bf16_decode, bf16_encode},
    {QUANT_TQ1_0, "TQ1_0", BLOCK_OF(256, struct block_tq1_0), tq1_0_decode, tq1_0_encode},
    {QUANT_TQ2_0, "TQ2_0", BLOCK_OF(256, struct block_tq2_0), tq2_0_decode, tq2_0_encode},
    {QUANT_MXFP4, "MXFP4", BLOCK_OF(32, struct block_mxfp4), mxfp4_decode, mxfp4_encode},
};

enum { FORMAT_COUNT = sizeof formats / sizeof formats[0] };

/* By number. The gaps (4, 5, 31..33, 36..38) were types once and are removed. */
static const char *const type_names[] = {
    [0] = "F32",     [1] = "F16",      [2] = "Q4_0",   [3] = "Q4_1",    [6] = "Q5_0",
    [7] = "Q5_1",    [8] = "Q8_0",     [9] = "Q8_1",   [10] = "Q2_K",   [11] = "Q3_K",
    [12] = "Q4_K",   [13] = "Q5_K",    [14] = "Q6_K",  [15] = "Q8_K",   [16] = "IQ2_XXS",
    [17] = "IQ2_XS", [18] = "IQ3_XXS", [19] = "IQ1_S", [20] = "IQ4_NL", [21] = "IQ3_S",
    [22] = "IQ2_S",  [23] = "IQ4_XS",  [24] = "I8",    [25] = "I16",    [26] = "I32",
    [27] = "I64",    [28] = "F64",     [29] = "IQ1_M", [30] = "BF16",   [34] = "TQ1_0",
    [35] = "TQ2_0",  [39] = "MXFP4",   [40] = "NVFP4", [41] = "Q1_0",   [42] = "Q2_0",
};

enum { TYPE_NAME_COUNT = sizeof type_names / sizeof type_names[0] };

const struct quant_format *quant_format_at(size_t index)
{
    return index < FORMAT_COUNT ? &formats[index] : NULL;
}

const struct quant_format *quant_format_find(uint32_t type)
{
    for (size_t i = 0; i < FORMAT_COUNT; i++) {
        if ((uint32_t)formats[i].type == type) {
            return &formats[i];
        }
    }
    return NULL;
}

const struct quant_format *quant_format_find_name(struct str name)
{
    for (size_t i = 0; i < FORMAT_COUNT; i++) {
        if (name.size == strlen(formats[i].name) &&
            strncasecmp(name.data, formats[i].name, name.size) == 0) {
            return &formats[i];
        }
    }
    return NULL;
}

const char *quant_type_name(uint32_t type)
{
    return type < TYPE_NAME_COUNT ? type_names[type] : NULL;
}

size_t quant_row_bytes(const struct quant_format *format, size_t n)
{
    size_t bytes;
    if (n % format->block_weights != 0 ||
        !checked_mul(n / format->block_weights, format->block_bytes, &bytes)) {
        return 0;
    }
    return bytes;
}

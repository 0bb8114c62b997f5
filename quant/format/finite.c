/* Are all weights of a run of blocks numbers? A block's codes are integers and their products with
 * its scales stay far below the largest float, so the scales alone decide. */
#include "quant/format/format.h"

#include <math.h>

#include "quant/format/block.h"

/* Every exponent bit set: an infinity or NaN. */
static bool half_finite(const unsigned char *bytes)
{
    return (bytes[1] & 0x7c) != 0x7c;
}

static bool bf16_finite(const unsigned char *bytes)
{
    return ((bytes[1] & 0x7f) << 1 | bytes[0] >> 7) != 0xff;
}

/* Where a block keeps its halves; `second` is the same as `first` where there is one only. False
 * for the types that are floats themselves or have no half in one piece. */
static bool halves_of(enum quant_type type, size_t *first, size_t *second)
{
    switch (type) {
    case QUANT_Q4_1:
    case QUANT_Q5_1:
    case QUANT_Q4_K:
    case QUANT_Q5_K:
        *first = 0;
        *second = sizeof(uint16_t);
        return true;
    case QUANT_Q4_0:
    case QUANT_Q5_0:
    case QUANT_Q8_0:
    case QUANT_IQ4_NL:
    case QUANT_IQ4_XS:
    case QUANT_IQ1_S:
    case QUANT_IQ2_XXS:
    case QUANT_IQ2_XS:
    case QUANT_IQ2_S:
    case QUANT_IQ3_XXS:
    case QUANT_IQ3_S:
        *first = *second = 0;
        return true;
    case QUANT_Q2_K:
        *first = offsetof(struct block_q2_k, d);
        *second = offsetof(struct block_q2_k, dmin);
        return true;
    case QUANT_Q3_K:
        *first = *second = offsetof(struct block_q3_k, d);
        return true;
    case QUANT_Q6_K:
        *first = *second = offsetof(struct block_q6_k, d);
        return true;
    case QUANT_TQ1_0:
        *first = *second = offsetof(struct block_tq1_0, d);
        return true;
    case QUANT_TQ2_0:
        *first = *second = offsetof(struct block_tq2_0, d);
        return true;
    default:
        return false;
    }
}

static bool iq1_m_finite(const struct block_iq1_m *blocks, size_t count)
{
    bool finite = true;
    for (size_t i = 0; i < count; i++) {
        finite &= (block_iq1_m_d(&blocks[i]) & 0x7c00) != 0x7c00;
    }
    return finite;
}

/* The largest scales take only the smallest codes. */
static bool mxfp4_finite(const struct block_mxfp4 *blocks, size_t count)
{
    bool finite = true;
    for (size_t i = 0; i < count; i++) {
        for (int j = 0; blocks[i].e > 252 && j < 16; j++) {
            const float scale = block_mxfp4_scale(blocks[i].e);
            finite &= isfinite(scale * (float)quant_mxfp4_values[blocks[i].qs[j] & 15]);
            finite &= isfinite(scale * (float)quant_mxfp4_values[blocks[i].qs[j] >> 4]);
        }
    }
    return finite;
}

static bool floats_finite(enum quant_type type, const unsigned char *bytes, size_t n)
{
    bool finite = true;
    for (size_t i = 0; i < n; i++) {
        if (type == QUANT_F16) {
            finite &= half_finite(bytes + 2 * i);
        } else if (type == QUANT_BF16) {
            finite &= bf16_finite(bytes + 2 * i);
        } else {
            finite &= bf16_finite(bytes + 4 * i + 2); /* the upper half of a float */
        }
    }
    return finite;
}

bool quant_weights_finite(const struct quant_format *format, const void *src, size_t n)
{
    const unsigned char *bytes = src;
    size_t first;
    size_t second;
    if (format->type == QUANT_IQ1_M) {
        return iq1_m_finite(src, n / format->block_weights);
    }
    if (format->type == QUANT_MXFP4) {
        return mxfp4_finite(src, n / format->block_weights);
    }
    if (!halves_of(format->type, &first, &second)) {
        return floats_finite(format->type, bytes, n);
    }
    bool finite = true;
    for (size_t i = 0; i < n / format->block_weights; i++, bytes += format->block_bytes) {
        finite &= half_finite(bytes + first);
        finite &= half_finite(bytes + second);
    }
    return finite;
}

/* Block layouts of the tensor types, byte for byte as a GGUF file holds them (little endian).
 *
 * A row of weights is a run of blocks. The structs are packed, so a pointer to one needs no
 * alignment. `d`, `m` and `dmin` are IEEE half floats as bits. Layouts:
 * https://github.com/ggml-org/ggml/blob/master/docs/gguf.md and the reference decoder in the `gguf`
 * Python package. Kernels include this header; everybody else uses format.h. */
#ifndef PHID_QUANT_FORMAT_BLOCK_H
#define PHID_QUANT_FORMAT_BLOCK_H

#include <stdint.h>
#include <string.h>

#define BLOCK_WEIGHTS       32
#define SUPER_BLOCK_WEIGHTS 256

#define BLOCK_PACKED __attribute__((packed))

/* w[i] = d * (q[i] - 8); q[i] and q[i + 16] are the low and high half of qs[i]. */
struct BLOCK_PACKED block_q4_0 {
    uint16_t d;
    uint8_t qs[16];
};

/* w[i] = d * q[i] + m */
struct BLOCK_PACKED block_q4_1 {
    uint16_t d;
    uint16_t m;
    uint8_t qs[16];
};

/* w[i] = d * (q[i] - 16); the fifth bit of q[i] is bit i of qh. */
struct BLOCK_PACKED block_q5_0 {
    uint16_t d;
    uint8_t qh[4];
    uint8_t qs[16];
};

/* w[i] = d * q[i] + m */
struct BLOCK_PACKED block_q5_1 {
    uint16_t d;
    uint16_t m;
    uint8_t qh[4];
    uint8_t qs[16];
};

/* w[i] = d * q[i] */
struct BLOCK_PACKED block_q8_0 {
    uint16_t d;
    int8_t qs[32];
};

/* 16 sub-blocks of 16: w = d * (scales[b] & 15) * q - dmin * (scales[b] >> 4), q in 0..3.
 * Byte i (0..31) of each half of qs holds weights i, 32 + i, 64 + i, 96 + i of that half, lowest
 * bits first. */
struct BLOCK_PACKED block_q2_k {
    uint8_t scales[16];
    uint8_t qs[64];
    uint16_t d;
    uint16_t dmin;
};

/* 16 sub-blocks of 16: w = d * (scale[b] - 32) * q, q in -4..3. qs as in Q2_K holds the two low
 * bits; where bit (i / 32) of hmask[i % 32] is clear, 4 is subtracted. The sixteen 6-bit scales:
 * low 4 bits of scale b in nibble b / 8 of scales[b % 8], high 2 bits in bit pair b / 4 of scales[8
 * + b % 4]. */
struct BLOCK_PACKED block_q3_k {
    uint8_t hmask[32];
    uint8_t qs[64];
    uint8_t scales[12];
    uint16_t d;
};

/* 8 sub-blocks of 32: w = d * scale[b] * q - dmin * min[b], q in 0..15. qs[32 * g + i] holds weight
 * i of sub-block 2g in its low half and of 2g + 1 in its high half. Scales: block_k_scale_min. */
struct BLOCK_PACKED block_q4_k {
    uint16_t d;
    uint16_t dmin;
    uint8_t scales[12];
    uint8_t qs[128];
};

/* As Q4_K with q in 0..31; the fifth bit of weight i of sub-block b is bit b of qh[i]. */
struct BLOCK_PACKED block_q5_k {
    uint16_t d;
    uint16_t dmin;
    uint8_t scales[12];
    uint8_t qh[32];
    uint8_t qs[128];
};

/* 16 sub-blocks of 16: w = d * scales[b] * (q - 32), q in 0..63. For each half of 128 weights: ql
 * has 64 bytes, byte i holds the low 4 bits of weights i and 64 + i; qh has 32 bytes, byte i holds
 * the high 2 bits of weights i, 32 + i, 64 + i, 96 + i, lowest bits first. */
struct BLOCK_PACKED block_q6_k {
    uint8_t ql[128];
    uint8_t qh[64];
    int8_t scales[16];
    uint16_t d;
};

/* w[i] = d * quant_iq4_values[q[i]]; halves as in Q4_0. */
struct BLOCK_PACKED block_iq4_nl {
    uint16_t d;
    uint8_t qs[16];
};

/* 8 sub-blocks of 32: w = d * (scale[b] - 32) * quant_iq4_values[q], halves as in Q4_0 (qs[16 * b +
 * i]). Low 4 bits of scale b in nibble b % 2 of scales_l[b / 2], high 2 bits in bit pair b of
 * scales_h. */
struct BLOCK_PACKED block_iq4_xs {
    uint16_t d;
    uint16_t scales_h;
    uint8_t scales_l[4];
    uint8_t qs[128];
};

/* The IQ1, IQ2 and IQ3 types have no codes for single weights: an index names a point of a grid,
 * which says the levels of 8 weights (4 in IQ3), and bits beside it the signs. Grids, levels and
 * how indices and signs lie in these fields: grid.h and grid.c. */

/* qs[2 * b]: the four 8-bit indices of sub-block b (32 weights); qs[2 * b + 1]: four times 7 bits
 * of signs, then the 4-bit scale. Both little endian, unaligned. */
struct BLOCK_PACKED block_iq2_xxs {
    uint16_t d;
    uint32_t qs[16];
};

/* Each of qs: a 9-bit index and 7 bits of signs. 4-bit scales of 16 weights, low half first. */
struct BLOCK_PACKED block_iq2_xs {
    uint16_t d;
    uint16_t qs[32];
    uint8_t scales[8];
};

/* 10-bit indices: 8 bits in qs, 2 in qh; all 8 signs. */
struct BLOCK_PACKED block_iq2_s {
    uint16_t d;
    uint8_t qs[32];
    uint8_t signs[32];
    uint8_t qh[8];
    uint8_t scales[8];
};

/* 8-bit indices of 4 weights; signs and scale of sub-block b in scales[b] as in IQ2_XXS. */
struct BLOCK_PACKED block_iq3_xxs {
    uint16_t d;
    uint8_t qs[64];
    uint32_t scales[8];
};

/* 9-bit indices: 8 bits in qs, 1 in qh; 4-bit scales of 32 weights. */
struct BLOCK_PACKED block_iq3_s {
    uint16_t d;
    uint8_t qs[64];
    uint8_t qh[8];
    uint8_t signs[32];
    uint8_t scales[4];
};

/* 11-bit indices: 8 bits in qs, 3 in qh[b], above which it has the 3-bit scale of sub-block b and
 * the sign of what is added to its weights. */
struct BLOCK_PACKED block_iq1_s {
    uint16_t d;
    uint8_t qs[32];
    uint16_t qh[8];
};

/* 11-bit indices: 8 bits in qs, 3 in a half of qh, whose 4th bit is the sign of what is added to
 * these 8 weights. Each of scales: four 3-bit scales of 16 weights and 4 bits of d, lowest first.
 */
struct BLOCK_PACKED block_iq1_m {
    uint8_t qs[32];
    uint8_t qh[16];
    uint16_t scales[4];
};

/* w = d * (q - 1), q in 0..2, five to a byte of qs and four to one of qh: see ternary.c. */
struct BLOCK_PACKED block_tq1_0 {
    uint8_t qs[48];
    uint8_t qh[4];
    uint16_t d;
};

/* w = d * (q - 1), q in 0..3; qs as in Q2_K. */
struct BLOCK_PACKED block_tq2_0 {
    uint8_t qs[64];
    uint16_t d;
};

/* w[i] = 2^(e - 128) * quant_mxfp4_values[q[i]]; halves as in Q4_0. */
struct BLOCK_PACKED block_mxfp4 {
    uint8_t e;
    uint8_t qs[16];
};

_Static_assert(sizeof(struct block_q4_0) == 18, "Q4_0");
_Static_assert(sizeof(struct block_q4_1) == 20, "Q4_1");
_Static_assert(sizeof(struct block_q5_0) == 22, "Q5_0");
_Static_assert(sizeof(struct block_q5_1) == 24, "Q5_1");
_Static_assert(sizeof(struct block_q8_0) == 34, "Q8_0");
_Static_assert(sizeof(struct block_q2_k) == 84, "Q2_K");
_Static_assert(sizeof(struct block_q3_k) == 110, "Q3_K");
_Static_assert(sizeof(struct block_q4_k) == 144, "Q4_K");
_Static_assert(sizeof(struct block_q5_k) == 176, "Q5_K");
_Static_assert(sizeof(struct block_q6_k) == 210, "Q6_K");
_Static_assert(sizeof(struct block_iq4_nl) == 18, "IQ4_NL");
_Static_assert(sizeof(struct block_iq4_xs) == 136, "IQ4_XS");
_Static_assert(sizeof(struct block_iq2_xxs) == 66, "IQ2_XXS");
_Static_assert(sizeof(struct block_iq2_xs) == 74, "IQ2_XS");
_Static_assert(sizeof(struct block_iq2_s) == 82, "IQ2_S");
_Static_assert(sizeof(struct block_iq3_xxs) == 98, "IQ3_XXS");
_Static_assert(sizeof(struct block_iq3_s) == 110, "IQ3_S");
_Static_assert(sizeof(struct block_iq1_s) == 50, "IQ1_S");
_Static_assert(sizeof(struct block_iq1_m) == 56, "IQ1_M");
_Static_assert(sizeof(struct block_tq1_0) == 54, "TQ1_0");
_Static_assert(sizeof(struct block_tq2_0) == 66, "TQ2_0");
_Static_assert(sizeof(struct block_mxfp4) == 17, "MXFP4");

/* The 16 levels of IQ4_NL and IQ4_XS: denser near zero, as weights are. */
extern const int8_t quant_iq4_values[16];

/* Twice the 16 values of a 4-bit float with 2 bits of exponent and 1 of fraction. */
extern const int8_t quant_mxfp4_values[16];

/* 2^(e - 128), also where that is below the smallest normal float (e of 0 and 1). */
static inline float block_mxfp4_scale(uint8_t e)
{
    uint32_t bits = e < 2 ? (uint32_t)0x00200000 << e : (uint32_t)(e - 1) << 23;
    float scale;
    memcpy(&scale, &bits, sizeof(scale));
    return scale;
}

/* The half that IQ1_M keeps in four pieces. */
static inline uint16_t block_iq1_m_d(const struct block_iq1_m *block)
{
    int d = 0;
    for (int i = 0; i < 4; i++) {
        d |= block->scales[i] >> 12 << 4 * i;
    }
    return (uint16_t)d;
}

/* The 256 codes of a ternary block (0..2, TQ2_0: 0..3); the weight is d * (code - 1). */
void block_tq1_0_codes(const struct block_tq1_0 *block, uint8_t codes[SUPER_BLOCK_WEIGHTS]);
void block_tq2_0_codes(const struct block_tq2_0 *block, uint8_t codes[SUPER_BLOCK_WEIGHTS]);

/* The 6-bit scale and minimum of sub-block b (0..7) of Q4_K and Q5_K. Bytes 0..3 hold the scales of
 * 0..3 and bytes 4..7 their minima in the low 6 bits; the 2 bits above are the high bits of
 * sub-blocks 4..7, whose low 4 bits are the halves of bytes 8..11. */
static inline void block_k_scale_min(const uint8_t scales[12], int b, uint8_t *ret_scale,
                                     uint8_t *ret_min)
{
    if (b < 4) {
        *ret_scale = scales[b] & 63;
        *ret_min = scales[b + 4] & 63;
    } else {
        *ret_scale = (uint8_t)((scales[b + 4] & 15) | (scales[b - 4] >> 6) << 4);
        *ret_min = (uint8_t)((scales[b + 4] >> 4) | (scales[b] >> 6) << 4);
    }
}

/* The 6-bit scale of sub-block b (0..15) of Q3_K, before 32 is subtracted. */
static inline uint8_t block_q3_k_scale(const uint8_t scales[12], int b)
{
    return (uint8_t)((scales[b % 8] >> 4 * (b / 8) & 15) | (scales[8 + b % 4] >> 2 * (b / 4) & 3)
                                                               << 4);
}

/* The 6-bit scale of sub-block b (0..7) of IQ4_XS, before 32 is subtracted. */
static inline uint8_t block_iq4_xs_scale(const struct block_iq4_xs *block, int b)
{
    return (uint8_t)((block->scales_l[b / 2] >> 4 * (b % 2) & 15) | (block->scales_h >> 2 * b & 3)
                                                                        << 4);
}

#endif

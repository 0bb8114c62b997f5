/* R16, the order in which quantized weights lie in memory for the kernels: 16 rows side by side, in
 * groups of 4 consecutive weights, so that 64 bytes of codes are one 4-weight step of 16 rows. That
 * is what a dot-product instruction takes (four products of bytes summed into a 32-bit lane), with
 * the activations broadcast from memory: no shuffle, no sum across lanes. Rows are padded to a
 * multiple of 16 with zeros.
 *
 *   matrix  row groups of 16 rows, one after the other: who multiplies some rows reads one stream
 *   group   units of up to 8 blocks (256 columns; the last one of a group may have fewer)
 *   unit    a header with the scales of its blocks, then their codes; all 64-byte aligned
 *   header  by R16_SCALES_*, see below; arrays in the order given, [..][16 rows]
 *   block   32 columns: planes of 64-byte vectors. In a vector, byte 4 * lane + j belongs to row
 *           `lane` and to column 4 * g + j of the block, where g (0..7) is the step:
 *             4-bit plane  4 vectors: i holds step i in its low, step i + 4 in its high halves
 *             2-bit plane  2 vectors: i holds steps 4 i .. 4 i + 3, lowest bits first
 *             1-bit plane  1 vector: bit g belongs to step g
 *             8-bit plane  8 vectors, one a step
 *           Types of 3, 5 and 6 bits have a plane of low bits, then one of the bits above.
 *
 * The size is that of the file's blocks, within 3 % (6 % for Q3_K), because sub-scales of 6 bits
 * take a byte. Types whose file has an index for 4 or 8 weights (IQ1, IQ2, IQ3) or five digits of
 * base 3 in a byte (TQ1_0) get codes for single weights: the indices' tables are too large to look
 * up on the way. The README has the sizes. */
#ifndef PHID_BACKEND_CPU_R16_H
#define PHID_BACKEND_CPU_R16_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define R16_ROWS        16
#define R16_BLOCK       32 /* columns of a block */
#define R16_STEPS       8  /* 4-column steps of a block */
#define R16_UNIT_BLOCKS 8
#define R16_VECTOR      64 /* bytes of one step of 16 rows */

enum r16_kind {
    R16_Q4_0,
    R16_Q4_1,
    R16_Q5_0,
    R16_Q5_1,
    R16_Q8_0,
    R16_Q2_K,
    R16_Q3_K,
    R16_Q4_K,
    R16_Q5_K,
    R16_Q6_K,
    R16_IQ4_NL,
    R16_IQ4_XS,
    R16_TQ2_0, /* and TQ1_0 */
    R16_IQ1_S,
    R16_IQ1_M,
    R16_IQ2_XXS,
    R16_IQ2_S, /* and IQ2_XS */
    R16_IQ3_XXS,
    R16_IQ3_S,
    R16_MXFP4,
    R16_KINDS,
};

/* f16 unless another type is given. A weight is scale * value + bias. */
enum r16_scales {
    R16_SCALES_D,   /* d[blocks]                              scale d */
    R16_SCALES_DM,  /* d[blocks], m[blocks]                   scale d, bias m */
    R16_SCALES_DS,  /* d, s8 s[blocks]                        scale d * s */
    R16_SCALES_DSM, /* d, dmin, u8 s[blocks], u8 m[blocks]    scale d * s, bias -(dmin * m) */
    R16_SCALES_DH,  /* d, s8 s[2 * blocks]                    as DS, for each half of a block */
    R16_SCALES_DHM, /* d, dmin, u8 (s | m << 4)[2 * blocks]   as DSM, for each half of a block */
    R16_SCALES_DO,  /* d, u8 (s | s' << 4)[blocks]            halves: d * (2 s + 1), and s' */
    R16_SCALES_DP,  /* d, u8 (s | m << 4)[blocks]             scale d * s, bias -(d * s * m / 8) */
    R16_SCALES_U,   /* d                                      scale d */
    R16_SCALES_E,   /* u8 e[blocks]                           scale 2^(e - 128), e <= R16_E_MAX */
};

#define R16_E_MAX 232 /* kernels multiply scales by CPU_FLOAT_BASE, which must stay a float */

/* Tables of values, for codes of up to 4 bits. */
enum r16_levels {
    R16_LEVELS_NONE,
    R16_LEVELS_IQ4, /* signed */
    R16_LEVELS_IQ1,
    R16_LEVELS_IQ2,
    R16_LEVELS_IQ3_XXS,
    R16_LEVELS_IQ3_S,
    R16_LEVELS_MXFP4,
    R16_LEVELS_COUNT,
};

/* The tables as the kernels look values up, as bits of a byte. */
enum r16_levels_form {
    R16_LEVELS_VALUES,
    R16_LEVELS_OFFSET, /* above the values by the kind's offset */
    R16_LEVELS_RAISED, /* by 128 */
    R16_LEVELS_FORMS,
};

extern const int8_t r16_levels[R16_LEVELS_FORMS][R16_LEVELS_COUNT][16];

struct r16_type {
    uint8_t low_bits;  /* of the first plane: 2, 4 or 8 */
    uint8_t high_bits; /* of the second plane: 0, 1 or 2 */
    uint8_t offset;    /* value = opened code - offset; a power of two or 0 */
    uint8_t levels;    /* enum r16_levels: the value is looked up, the opened code follows it */
    uint8_t code_bits; /* of an opened code, where there are levels */
    uint8_t d_shift;   /* d is the header's f16 divided by 2^d_shift */
    uint8_t scales;    /* enum r16_scales */
};

static const struct r16_type r16_types[R16_KINDS] = {
    [R16_Q4_0] = {.low_bits = 4, .offset = 8, .scales = R16_SCALES_D},
    [R16_Q4_1] = {.low_bits = 4, .scales = R16_SCALES_DM},
    [R16_Q5_0] = {.low_bits = 4, .high_bits = 1, .offset = 16, .scales = R16_SCALES_D},
    [R16_Q5_1] = {.low_bits = 4, .high_bits = 1, .scales = R16_SCALES_DM},
    [R16_Q8_0] = {.low_bits = 8, .scales = R16_SCALES_D}, /* signed bytes */
    [R16_Q2_K] = {.low_bits = 2, .scales = R16_SCALES_DHM},
    [R16_Q3_K] = {.low_bits = 2, .high_bits = 1, .offset = 4, .scales = R16_SCALES_DH},
    [R16_Q4_K] = {.low_bits = 4, .scales = R16_SCALES_DSM},
    [R16_Q5_K] = {.low_bits = 4, .high_bits = 1, .scales = R16_SCALES_DSM},
    [R16_Q6_K] = {.low_bits = 4, .high_bits = 2, .offset = 32, .scales = R16_SCALES_DH},
    [R16_IQ4_NL] = {.low_bits = 4,
                    .levels = R16_LEVELS_IQ4,
                    .code_bits = 8,
                    .scales = R16_SCALES_D},
    [R16_IQ4_XS] = {.low_bits = 4,
                    .levels = R16_LEVELS_IQ4,
                    .code_bits = 8,
                    .scales = R16_SCALES_DS},
    [R16_TQ2_0] = {.low_bits = 2, .offset = 1, .scales = R16_SCALES_U},
    [R16_IQ1_S] = {.low_bits = 2, .scales = R16_SCALES_DP},
    [R16_IQ1_M] = {.low_bits = 2,
                   .high_bits = 1,
                   .offset = 16,
                   .levels = R16_LEVELS_IQ1,
                   .code_bits = 5,
                   .d_shift = 3,
                   .scales = R16_SCALES_DO},
    [R16_IQ2_XXS] = {.low_bits = 2,
                     .high_bits = 1,
                     .offset = 64,
                     .levels = R16_LEVELS_IQ2,
                     .code_bits = 7,
                     .d_shift = 3,
                     .scales = R16_SCALES_DS},
    [R16_IQ2_S] = {.low_bits = 2,
                   .high_bits = 1,
                   .offset = 64,
                   .levels = R16_LEVELS_IQ2,
                   .code_bits = 7,
                   .d_shift = 3,
                   .scales = R16_SCALES_DO},
    [R16_IQ3_XXS] = {.low_bits = 4,
                     .offset = 64,
                     .levels = R16_LEVELS_IQ3_XXS,
                     .code_bits = 7,
                     .d_shift = 2,
                     .scales = R16_SCALES_DS},
    [R16_IQ3_S] = {.low_bits = 4,
                   .offset = 16,
                   .levels = R16_LEVELS_IQ3_S,
                   .code_bits = 5,
                   .scales = R16_SCALES_DS},
    [R16_MXFP4] = {.low_bits = 4,
                   .offset = 16,
                   .levels = R16_LEVELS_MXFP4,
                   .code_bits = 5,
                   .scales = R16_SCALES_E},
};

static inline bool r16_has_halves(enum r16_kind kind)
{
    return r16_types[kind].scales == R16_SCALES_DH || r16_types[kind].scales == R16_SCALES_DHM ||
           r16_types[kind].scales == R16_SCALES_DO;
}

static inline bool r16_has_bias(enum r16_kind kind)
{
    return r16_types[kind].scales == R16_SCALES_DM || r16_types[kind].scales == R16_SCALES_DSM ||
           r16_types[kind].scales == R16_SCALES_DHM || r16_types[kind].scales == R16_SCALES_DP;
}

/* Bits of an opened code: what bounds a sum of products. */
static inline int r16_code_bits(enum r16_kind kind)
{
    return r16_types[kind].levels != R16_LEVELS_NONE
               ? r16_types[kind].code_bits
               : r16_types[kind].low_bits + r16_types[kind].high_bits;
}

/* Whether opened codes are signed bytes. */
static inline bool r16_is_signed(enum r16_kind kind)
{
    return r16_code_bits(kind) == 8;
}

/* What the f16 d of a header is multiplied by. */
static inline float r16_d_factor(enum r16_kind kind)
{
    return 1.0f / (float)(1 << r16_types[kind].d_shift);
}

static inline size_t r16_block_bytes(enum r16_kind kind)
{
    return (size_t)R16_VECTOR * (size_t)(r16_types[kind].low_bits + r16_types[kind].high_bits);
}

static inline size_t r16_header_bytes(enum r16_kind kind, size_t blocks)
{
    /* Bytes of a row, and of a row and block, by r16_scales. */
    static const uint8_t fixed[] = {0, 0, 2, 4, 2, 4, 2, 2, 2, 0};
    static const uint8_t per_block[] = {2, 4, 1, 2, 2, 2, 1, 1, 0, 1};
    size_t row = fixed[r16_types[kind].scales] + blocks * per_block[r16_types[kind].scales];
    return (row * R16_ROWS + 63) & ~(size_t)63;
}

static inline size_t r16_unit_bytes(enum r16_kind kind, size_t blocks)
{
    return r16_header_bytes(kind, blocks) + blocks * r16_block_bytes(kind);
}

/* cols: a multiple of 32. */
static inline size_t r16_group_bytes(enum r16_kind kind, size_t cols)
{
    size_t blocks = cols / R16_BLOCK;
    size_t tail = blocks % R16_UNIT_BLOCKS;
    return blocks / R16_UNIT_BLOCKS * r16_unit_bytes(kind, R16_UNIT_BLOCKS) +
           (tail == 0 ? 0 : r16_unit_bytes(kind, tail));
}

static inline size_t r16_groups(size_t rows)
{
    return rows / R16_ROWS + (rows % R16_ROWS != 0);
}

/* A matrix in this order, as kernels see it. */
struct r16_matrix {
    enum r16_kind kind;
    size_t rows, cols;
    size_t group_bytes;
    const unsigned char *data; /* 64-byte aligned; r16_groups(rows) * group_bytes */
};

/* The specification of the layout, one weight at a time. `unit` has `blocks` blocks; block and
 * column k (0..31) name the weight of row `lane`. */
int r16_value(enum r16_kind kind, const unsigned char *unit, size_t blocks, size_t block,
              size_t lane, size_t k);
float r16_scale(enum r16_kind kind, const unsigned char *unit, size_t blocks, size_t block,
                size_t lane, size_t half);
float r16_bias(enum r16_kind kind, const unsigned char *unit, size_t blocks, size_t block,
               size_t lane, size_t half);

/* Row `row` decoded, bit-equal to the decode of the format it was packed from. */
void r16_row(const struct r16_matrix *matrix, size_t row, float *dst);

/* The kind a tensor type is packed to; false for types that are not (F32, F16, BF16). */
bool r16_kind_of(uint32_t quant_type, enum r16_kind *ret);

/* Whether kernels can take all of n weights, as the file has them: no scale is too large. */
bool r16_fits(uint32_t quant_type, const unsigned char *src, size_t n);

/* Packs one group of rows from rows of blocks of a type that has a kind, as a file has them. src:
 * the first row; `rows` (1..16) rows of row_bytes each, unaligned; the missing ones become zeros.
 */
void r16_pack_group(uint32_t quant_type, const unsigned char *src, size_t row_bytes, size_t rows,
                    size_t cols, unsigned char *dst);

#endif

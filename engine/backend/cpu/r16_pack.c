#include "engine/backend/cpu/r16.h"

#include <string.h>

#include "quant/format/block.h"
#include "quant/format/format.h"

/* One row's part of a unit, opened up: codes in ascending column, scales as the header wants them.
 */
struct opened {
    uint8_t codes[R16_UNIT_BLOCKS * R16_BLOCK];
    uint16_t d[R16_UNIT_BLOCKS];    /* [0] alone where the unit has one */
    uint16_t m[R16_UNIT_BLOCKS];    /* m or dmin */
    uint8_t s[2 * R16_UNIT_BLOCKS]; /* sub-scales, signed ones as bits */
    uint8_t sm[R16_UNIT_BLOCKS];    /* sub-minima */
};

/* Weights 0..15 from the low halves of 16 bytes, 16..31 from the high ones. */
static void open_halves(const uint8_t qs[16], uint8_t codes[32])
{
    for (int i = 0; i < 16; i++) {
        codes[i] = qs[i] & 15;
        codes[i + 16] = qs[i] >> 4;
    }
}

static void open_fifth_bits(const uint8_t qh[4], uint8_t codes[32])
{
    for (int i = 0; i < 32; i++) {
        codes[i] |= (uint8_t)((qh[i / 8] >> i % 8 & 1) << 4);
    }
}

static void open_q4_0(const void *src, size_t blocks, struct opened *o)
{
    const struct block_q4_0 *block = src;
    for (size_t b = 0; b < blocks; b++) {
        o->d[b] = block[b].d;
        open_halves(block[b].qs, o->codes + R16_BLOCK * b);
    }
}

static void open_q4_1(const void *src, size_t blocks, struct opened *o)
{
    const struct block_q4_1 *block = src;
    for (size_t b = 0; b < blocks; b++) {
        o->d[b] = block[b].d;
        o->m[b] = block[b].m;
        open_halves(block[b].qs, o->codes + R16_BLOCK * b);
    }
}

static void open_q5_0(const void *src, size_t blocks, struct opened *o)
{
    const struct block_q5_0 *block = src;
    for (size_t b = 0; b < blocks; b++) {
        o->d[b] = block[b].d;
        open_halves(block[b].qs, o->codes + R16_BLOCK * b);
        open_fifth_bits(block[b].qh, o->codes + R16_BLOCK * b);
    }
}

static void open_q5_1(const void *src, size_t blocks, struct opened *o)
{
    const struct block_q5_1 *block = src;
    for (size_t b = 0; b < blocks; b++) {
        o->d[b] = block[b].d;
        o->m[b] = block[b].m;
        open_halves(block[b].qs, o->codes + R16_BLOCK * b);
        open_fifth_bits(block[b].qh, o->codes + R16_BLOCK * b);
    }
}

static void open_q8_0(const void *src, size_t blocks, struct opened *o)
{
    const struct block_q8_0 *block = src;
    for (size_t b = 0; b < blocks; b++) {
        o->d[b] = block[b].d;
        memcpy(o->codes + R16_BLOCK * b, block[b].qs, R16_BLOCK);
    }
}

/* The two bits at 2 * (i / 32 % 4) of byte i % 32 of each half. */
static void open_pairs(const uint8_t qs[64], uint8_t codes[SUPER_BLOCK_WEIGHTS])
{
    for (int half = 0; half < 2; half++) {
        for (int pair = 0; pair < 4; pair++) {
            for (int i = 0; i < 32; i++) {
                codes[128 * half + 32 * pair + i] = qs[32 * half + i] >> 2 * pair & 3;
            }
        }
    }
}

static void open_q2_k(const void *src, size_t blocks, struct opened *o)
{
    (void)blocks;
    const struct block_q2_k *block = src;
    o->d[0] = block->d;
    o->m[0] = block->dmin;
    memcpy(o->s, block->scales, sizeof(block->scales));
    open_pairs(block->qs, o->codes);
}

static void open_q3_k(const void *src, size_t blocks, struct opened *o)
{
    (void)blocks;
    const struct block_q3_k *block = src;
    o->d[0] = block->d;
    for (int b = 0; b < 16; b++) {
        o->s[b] = (uint8_t)(block_q3_k_scale(block->scales, b) - 32);
    }
    open_pairs(block->qs, o->codes);
    for (int b = 0; b < 8; b++) {
        for (int i = 0; i < 32; i++) {
            o->codes[32 * b + i] |= (uint8_t)((block->hmask[i] >> b & 1) << 2);
        }
    }
}

static void open_q4_k_codes(const uint8_t qs[128], uint8_t codes[SUPER_BLOCK_WEIGHTS])
{
    for (int pair = 0; pair < 4; pair++) {
        for (int i = 0; i < 32; i++) {
            codes[64 * pair + i] = qs[32 * pair + i] & 15;
            codes[64 * pair + 32 + i] = qs[32 * pair + i] >> 4;
        }
    }
}

static void open_q4_k(const void *src, size_t blocks, struct opened *o)
{
    (void)blocks;
    const struct block_q4_k *block = src;
    o->d[0] = block->d;
    o->m[0] = block->dmin;
    for (int b = 0; b < 8; b++) {
        block_k_scale_min(block->scales, b, &o->s[b], &o->sm[b]);
    }
    open_q4_k_codes(block->qs, o->codes);
}

static void open_q5_k(const void *src, size_t blocks, struct opened *o)
{
    (void)blocks;
    const struct block_q5_k *block = src;
    o->d[0] = block->d;
    o->m[0] = block->dmin;
    for (int b = 0; b < 8; b++) {
        block_k_scale_min(block->scales, b, &o->s[b], &o->sm[b]);
    }
    open_q4_k_codes(block->qs, o->codes);
    for (int b = 0; b < 8; b++) {
        for (int i = 0; i < 32; i++) {
            o->codes[32 * b + i] |= (uint8_t)((block->qh[i] >> b & 1) << 4);
        }
    }
}

static void open_q6_k(const void *src, size_t blocks, struct opened *o)
{
    (void)blocks;
    const struct block_q6_k *block = src;
    o->d[0] = block->d;
    memcpy(o->s, block->scales, sizeof(block->scales));
    open_pairs(block->qh, o->codes);
    for (int half = 0; half < 2; half++) {
        uint8_t *codes = o->codes + 128 * half;
        for (int i = 0; i < 64; i++) {
            codes[i] = (uint8_t)(codes[i] << 4 | (block->ql[64 * half + i] & 15));
            codes[64 + i] = (uint8_t)(codes[64 + i] << 4 | block->ql[64 * half + i] >> 4);
        }
    }
}

static void open_iq4_nl(const void *src, size_t blocks, struct opened *o)
{
    const struct block_iq4_nl *block = src;
    for (size_t b = 0; b < blocks; b++) {
        o->d[b] = block[b].d;
        open_halves(block[b].qs, o->codes + R16_BLOCK * b);
    }
}

static void open_iq4_xs(const void *src, size_t blocks, struct opened *o)
{
    (void)blocks;
    const struct block_iq4_xs *block = src;
    o->d[0] = block->d;
    for (int b = 0; b < 8; b++) {
        o->s[b] = (uint8_t)(block_iq4_xs_scale(block, b) - 32);
        open_halves(block->qs + 16 * b, o->codes + R16_BLOCK * b);
    }
}

struct packer {
    uint32_t quant_type;
    size_t file_block;  /* bytes of a block in the file */
    size_t file_blocks; /* blocks of the file in a whole unit */
    void (*open)(const void *src, size_t blocks, struct opened *o);
};

static const struct packer packers[R16_KINDS] = {
    [R16_Q4_0] = {QUANT_Q4_0, sizeof(struct block_q4_0), 8, open_q4_0},
    [R16_Q4_1] = {QUANT_Q4_1, sizeof(struct block_q4_1), 8, open_q4_1},
    [R16_Q5_0] = {QUANT_Q5_0, sizeof(struct block_q5_0), 8, open_q5_0},
    [R16_Q5_1] = {QUANT_Q5_1, sizeof(struct block_q5_1), 8, open_q5_1},
    [R16_Q8_0] = {QUANT_Q8_0, sizeof(struct block_q8_0), 8, open_q8_0},
    [R16_Q2_K] = {QUANT_Q2_K, sizeof(struct block_q2_k), 1, open_q2_k},
    [R16_Q3_K] = {QUANT_Q3_K, sizeof(struct block_q3_k), 1, open_q3_k},
    [R16_Q4_K] = {QUANT_Q4_K, sizeof(struct block_q4_k), 1, open_q4_k},
    [R16_Q5_K] = {QUANT_Q5_K, sizeof(struct block_q5_k), 1, open_q5_k},
    [R16_Q6_K] = {QUANT_Q6_K, sizeof(struct block_q6_k), 1, open_q6_k},
    [R16_IQ4_NL] = {QUANT_IQ4_NL, sizeof(struct block_iq4_nl), 8, open_iq4_nl},
    [R16_IQ4_XS] = {QUANT_IQ4_XS, sizeof(struct block_iq4_xs), 1, open_iq4_xs},
};

bool r16_kind_of(uint32_t quant_type, enum r16_kind *ret)
{
    for (int kind = 0; kind < R16_KINDS; kind++) {
        if (packers[kind].quant_type == quant_type) {
            *ret = (enum r16_kind)kind;
            return true;
        }
    }
    return false;
}

/* One row's codes of a block into the planes; a word is a step's four codes. */
static void place_codes(const struct r16_type *type, const uint8_t codes[R16_BLOCK], size_t lane,
                        unsigned char *block)
{
    uint32_t word[R16_STEPS];
    uint32_t *low = (uint32_t *)(void *)block + lane; /* blocks are 64-byte aligned */
    memcpy(word, codes, sizeof(word));
    if (type->low_bits == 8) {
        for (size_t g = 0; g < 8; g++) {
            low[g * R16_ROWS] = word[g];
        }
        return;
    }
    uint32_t *high = low + (size_t)type->low_bits * R16_ROWS;
    if (type->low_bits == 4) {
        for (size_t i = 0; i < 4; i++) {
            low[i * R16_ROWS] = (word[i] & 0x0f0f0f0fu) | (word[i + 4] & 0x0f0f0f0fu) << 4;
        }
    } else {
        for (size_t i = 0; i < 2; i++) {
            low[i * R16_ROWS] = (word[4 * i] & 0x03030303u) | (word[4 * i + 1] & 0x03030303u) << 2 |
                                (word[4 * i + 2] & 0x03030303u) << 4 |
                                (word[4 * i + 3] & 0x03030303u) << 6;
        }
    }
    if (type->high_bits == 1) {
        uint32_t bits = 0;
        for (size_t g = 0; g < 8; g++) {
            bits |= (word[g] >> type->low_bits & 0x01010101u) << g;
        }
        high[0] = bits;
    } else if (type->high_bits == 2) {
        for (size_t i = 0; i < 2; i++) {
            uint32_t bits = 0;
            for (size_t j = 0; j < 4; j++) {
                bits |= (word[4 * i + j] >> type->low_bits & 0x03030303u) << 2 * j;
            }
            high[i * R16_ROWS] = bits;
        }
    }
}

static void place_scales(enum r16_scales scales, const struct opened *o, size_t blocks, size_t lane,
                         unsigned char *header)
{
    uint16_t *d = (uint16_t *)(void *)header + lane;
    unsigned char *after_d = header + R16_ROWS * sizeof(uint16_t) + lane;
    unsigned char *after_dmin = after_d + R16_ROWS * sizeof(uint16_t);
    size_t halves = scales == R16_SCALES_DH || scales == R16_SCALES_DHM ? 2 * blocks : blocks;
    if (scales == R16_SCALES_D || scales == R16_SCALES_DM) {
        for (size_t b = 0; b < blocks; b++) {
            d[b * R16_ROWS] = o->d[b];
            if (scales == R16_SCALES_DM) {
                d[(blocks + b) * R16_ROWS] = o->m[b];
            }
        }
        return;
    }
    bool dmin = scales == R16_SCALES_DSM || scales == R16_SCALES_DHM;
    unsigned char *s = dmin ? after_dmin : after_d;
    d[0] = o->d[0];
    if (dmin) {
        d[R16_ROWS] = o->m[0];
    }
    for (size_t b = 0; b < halves; b++) {
        s[b * R16_ROWS] = o->s[b];
        if (scales == R16_SCALES_DSM) {
            s[(blocks + b) * R16_ROWS] = o->sm[b];
        }
    }
}

void r16_pack_group(enum r16_kind kind, const unsigned char *src, size_t row_bytes, size_t rows,
                    size_t cols, unsigned char *dst)
{
    const struct r16_type *type = &r16_types[kind];
    const struct packer *packer = &packers[kind];
    size_t group_bytes = r16_group_bytes(kind, cols);
    if (rows < R16_ROWS) {
        memset(dst, 0, group_bytes);
    }
    struct opened o = {0};
    size_t left = cols / R16_BLOCK;
    size_t src_offset = 0;
    while (left > 0) {
        size_t blocks = left < R16_UNIT_BLOCKS ? left : R16_UNIT_BLOCKS;
        unsigned char *codes = dst + r16_header_bytes(kind, blocks);
        for (size_t lane = 0; lane < rows; lane++) {
            packer->open(src + lane * row_bytes + src_offset, blocks, &o);
            place_scales((enum r16_scales)type->scales, &o, blocks, lane, dst);
            for (size_t b = 0; b < blocks; b++) {
                place_codes(type, o.codes + R16_BLOCK * b, lane, codes + b * r16_block_bytes(kind));
            }
        }
        src_offset += packer->file_block * (packer->file_blocks == 1 ? 1 : blocks);
        dst += r16_unit_bytes(kind, blocks);
        left -= blocks;
    }
}

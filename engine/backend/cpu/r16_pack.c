#include "engine/backend/cpu/r16.h"

#include <string.h>

#include "quant/format/block.h"
#include "quant/format/format.h"
#include "quant/format/grid.h"

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

/* Types of points on a grid: the level of each weight and its sign are the code. */
static void open_grid(enum quant_type type, const void *src, struct opened *o, struct grid_block *g)
{
    grid_open(grid_type_find(type), src, g);
    o->d[0] = g->d;
    memcpy(o->codes, g->codes, sizeof(g->codes));
}

/* A scale for each 32 weights. */
static void open_grid_32(enum quant_type type, const void *src, struct opened *o)
{
    struct grid_block g;
    open_grid(type, src, o, &g);
    for (int b = 0; b < 8; b++) {
        o->s[b] = g.scales[2 * b];
    }
}

/* A scale for each 16, odd, two to a byte. */
static void open_grid_16(enum quant_type type, const void *src, struct opened *o)
{
    struct grid_block g;
    open_grid(type, src, o, &g);
    for (int b = 0; b < 8; b++) {
        o->s[b] = (uint8_t)(g.scales[2 * b] >> 1 | (g.scales[2 * b + 1] >> 1) << 4);
    }
}

static void open_iq1_m(const void *src, size_t blocks, struct opened *o)
{
    (void)blocks;
    open_grid_16(QUANT_IQ1_M, src, o);
}

static void open_iq2_xxs(const void *src, size_t blocks, struct opened *o)
{
    (void)blocks;
    open_grid_32(QUANT_IQ2_XXS, src, o);
}

static void open_iq2_xs(const void *src, size_t blocks, struct opened *o)
{
    (void)blocks;
    open_grid_16(QUANT_IQ2_XS, src, o);
}

static void open_iq2_s(const void *src, size_t blocks, struct opened *o)
{
    (void)blocks;
    open_grid_16(QUANT_IQ2_S, src, o);
}

static void open_iq3_xxs(const void *src, size_t blocks, struct opened *o)
{
    (void)blocks;
    open_grid_32(QUANT_IQ3_XXS, src, o);
}

static void open_iq3_s(const void *src, size_t blocks, struct opened *o)
{
    (void)blocks;
    open_grid_32(QUANT_IQ3_S, src, o);
}

/* A weight is scale * (level + 1/8 or - 1/8) with levels -1, 0, 1. The codes are 0, 1, 2, so 7 or 9
 * eighths of the scale are subtracted: one sign for 32 weights, which is cheaper beside the scale
 * than a third bit for each. */
static void open_iq1_s(const void *src, size_t blocks, struct opened *o)
{
    (void)blocks;
    struct grid_block g;
    open_grid(QUANT_IQ1_S, src, o, &g);
    for (int b = 0; b < 8; b++) {
        int eighths = o->codes[R16_BLOCK * b] > 3 ? 9 : 7;
        o->s[b] = (uint8_t)(g.scales[2 * b] | eighths << 4);
    }
    for (int i = 0; i < SUPER_BLOCK_WEIGHTS; i++) {
        o->codes[i] &= 3;
    }
}

static void open_tq1_0(const void *src, size_t blocks, struct opened *o)
{
    (void)blocks;
    const struct block_tq1_0 *block = src;
    o->d[0] = block->d;
    block_tq1_0_codes(block, o->codes);
}

static void open_tq2_0(const void *src, size_t blocks, struct opened *o)
{
    (void)blocks;
    const struct block_tq2_0 *block = src;
    o->d[0] = block->d;
    block_tq2_0_codes(block, o->codes);
}

static void open_mxfp4(const void *src, size_t blocks, struct opened *o)
{
    const struct block_mxfp4 *block = src;
    for (size_t b = 0; b < blocks; b++) {
        o->s[b] = block[b].e;
        open_halves(block[b].qs, o->codes + R16_BLOCK * b);
    }
}

struct packer {
    uint32_t quant_type;
    enum r16_kind kind;
    size_t file_block;  /* bytes of a block in the file */
    size_t file_blocks; /* blocks of the file in a whole unit */
    void (*open)(const void *src, size_t blocks, struct opened *o);
};

static const struct packer packers[] = {
    {QUANT_Q4_0, R16_Q4_0, sizeof(struct block_q4_0), 8, open_q4_0},
    {QUANT_Q4_1, R16_Q4_1, sizeof(struct block_q4_1), 8, open_q4_1},
    {QUANT_Q5_0, R16_Q5_0, sizeof(struct block_q5_0), 8, open_q5_0},
    {QUANT_Q5_1, R16_Q5_1, sizeof(struct block_q5_1), 8, open_q5_1},
    {QUANT_Q8_0, R16_Q8_0, sizeof(struct block_q8_0), 8, open_q8_0},
    {QUANT_Q2_K, R16_Q2_K, sizeof(struct block_q2_k), 1, open_q2_k},
    {QUANT_Q3_K, R16_Q3_K, sizeof(struct block_q3_k), 1, open_q3_k},
    {QUANT_Q4_K, R16_Q4_K, sizeof(struct block_q4_k), 1, open_q4_k},
    {QUANT_Q5_K, R16_Q5_K, sizeof(struct block_q5_k), 1, open_q5_k},
    {QUANT_Q6_K, R16_Q6_K, sizeof(struct block_q6_k), 1, open_q6_k},
    {QUANT_IQ4_NL, R16_IQ4_NL, sizeof(struct block_iq4_nl), 8, open_iq4_nl},
    {QUANT_IQ4_XS, R16_IQ4_XS, sizeof(struct block_iq4_xs), 1, open_iq4_xs},
    {QUANT_TQ1_0, R16_TQ2_0, sizeof(struct block_tq1_0), 1, open_tq1_0},
    {QUANT_TQ2_0, R16_TQ2_0, sizeof(struct block_tq2_0), 1, open_tq2_0},
    {QUANT_IQ1_S, R16_IQ1_S, sizeof(struct block_iq1_s), 1, open_iq1_s},
    {QUANT_IQ1_M, R16_IQ1_M, sizeof(struct block_iq1_m), 1, open_iq1_m},
    {QUANT_IQ2_XXS, R16_IQ2_XXS, sizeof(struct block_iq2_xxs), 1, open_iq2_xxs},
    {QUANT_IQ2_XS, R16_IQ2_S, sizeof(struct block_iq2_xs), 1, open_iq2_xs},
    {QUANT_IQ2_S, R16_IQ2_S, sizeof(struct block_iq2_s), 1, open_iq2_s},
    {QUANT_IQ3_XXS, R16_IQ3_XXS, sizeof(struct block_iq3_xxs), 1, open_iq3_xxs},
    {QUANT_IQ3_S, R16_IQ3_S, sizeof(struct block_iq3_s), 1, open_iq3_s},
    {QUANT_MXFP4, R16_MXFP4, sizeof(struct block_mxfp4), 8, open_mxfp4},
};

static const struct packer *find_packer(uint32_t quant_type)
{
    for (size_t i = 0; i < sizeof(packers) / sizeof(packers[0]); i++) {
        if (packers[i].quant_type == quant_type) {
            return &packers[i];
        }
    }
    return NULL;
}

bool r16_kind_of(uint32_t quant_type, enum r16_kind *ret)
{
    const struct packer *packer = find_packer(quant_type);
    if (packer != NULL) {
        *ret = packer->kind;
    }
    return packer != NULL;
}

bool r16_fits(uint32_t quant_type, const unsigned char *src, size_t n)
{
    bool fits = true;
    if (quant_type == QUANT_MXFP4) {
        const struct block_mxfp4 *blocks = (const void *)src;
        for (size_t i = 0; i < n / BLOCK_WEIGHTS; i++) {
            fits &= blocks[i].e <= R16_E_MAX;
        }
    }
    return fits;
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
    size_t bytes = scales == R16_SCALES_U                                ? 0
                   : scales == R16_SCALES_DH || scales == R16_SCALES_DHM ? 2 * blocks
                                                                         : blocks;
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
    if (scales == R16_SCALES_E) {
        s = header + lane;
    } else {
        d[0] = o->d[0];
    }
    if (dmin) {
        d[R16_ROWS] = o->m[0];
    }
    for (size_t b = 0; b < bytes; b++) {
        s[b * R16_ROWS] = o->s[b];
        if (scales == R16_SCALES_DSM) {
            s[(blocks + b) * R16_ROWS] = o->sm[b];
        }
    }
}

void r16_pack_group(uint32_t quant_type, const unsigned char *src, size_t row_bytes, size_t rows,
                    size_t cols, unsigned char *dst)
{
    const struct packer *packer = find_packer(quant_type);
    const enum r16_kind kind = packer->kind;
    const struct r16_type *type = &r16_types[kind];
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

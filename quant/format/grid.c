#include "quant/format/grid.h"

#include "quant/format/codec.h"

#include <string.h>

const int8_t grid_levels_iq1[16] = {-7, 1, 9, 0, -9, -1, 7, 0};
const int8_t grid_levels_iq2[16] = {8, 25, 43, 0, -8, -25, -43, 0};
const int8_t grid_levels_iq3_xxs[16] = {4,  12,  20,  28,  36,  44,  52,  62,
                                        -4, -12, -20, -28, -36, -44, -52, -62};
const int8_t grid_levels_iq3_s[16] = {1, 3, 5, 7, 9, 11, 13, 15, -1, -3, -5, -7, -9, -11, -13, -15};

/* Seven sign bits and an eighth that makes their number even. */
static uint8_t even_signs(uint32_t seven)
{
    seven &= 127;
    return (uint8_t)(seven | (uint32_t)__builtin_parity(seven) << 7);
}

/* A scale is stored as half of it, rounded down. */
static uint8_t odd(uint32_t stored)
{
    return (uint8_t)(2 * stored + 1);
}

/* IQ2_XXS and IQ3_XXS: the signs of 32 weights and their scale in one word. */
static void open_word(uint32_t word, int b, struct grid_parts *p)
{
    for (int i = 0; i < 4; i++) {
        p->signs[4 * b + i] = even_signs(word >> 7 * i);
    }
    p->scales[2 * b] = p->scales[2 * b + 1] = odd(word >> 28);
}

static uint32_t close_word(const struct grid_parts *p, int b)
{
    uint32_t word = (uint32_t)(p->scales[2 * b] >> 1) << 28;
    for (int i = 0; i < 4; i++) {
        word |= (uint32_t)(p->signs[4 * b + i] & 127) << 7 * i;
    }
    return word;
}

/* IQ2_XS and IQ2_S: 16 scales in halves of bytes. */
static void open_scales(const uint8_t scales[8], struct grid_parts *p)
{
    for (int i = 0; i < 16; i++) {
        p->scales[i] = odd(scales[i / 2] >> 4 * (i % 2) & 15);
    }
}

static void close_scales(const struct grid_parts *p, uint8_t scales[8])
{
    for (int i = 0; i < 8; i++) {
        scales[i] = (uint8_t)(p->scales[2 * i] >> 1 | (p->scales[2 * i + 1] >> 1) << 4);
    }
}

static void open_iq2_xxs(const void *src, struct grid_parts *p)
{
    const struct block_iq2_xxs *block = src;
    p->d = block->d;
    for (int b = 0; b < 8; b++) {
        for (int i = 0; i < 4; i++) {
            p->points[4 * b + i] = (uint16_t)(block->qs[2 * b] >> 8 * i & 255);
        }
        open_word(block->qs[2 * b + 1], b, p);
    }
}

static void close_iq2_xxs(const struct grid_parts *p, void *dst)
{
    struct block_iq2_xxs *block = dst;
    block->d = p->d;
    for (int b = 0; b < 8; b++) {
        uint32_t word = 0;
        for (int i = 0; i < 4; i++) {
            word |= (uint32_t)p->points[4 * b + i] << 8 * i;
        }
        block->qs[2 * b] = word;
        block->qs[2 * b + 1] = close_word(p, b);
    }
}

static void open_iq2_xs(const void *src, struct grid_parts *p)
{
    const struct block_iq2_xs *block = src;
    p->d = block->d;
    for (int i = 0; i < 32; i++) {
        p->points[i] = block->qs[i] & 511;
        p->signs[i] = even_signs(block->qs[i] >> 9);
    }
    open_scales(block->scales, p);
}

static void close_iq2_xs(const struct grid_parts *p, void *dst)
{
    struct block_iq2_xs *block = dst;
    block->d = p->d;
    for (int i = 0; i < 32; i++) {
        block->qs[i] = (uint16_t)(p->points[i] | (p->signs[i] & 127) << 9);
    }
    close_scales(p, block->scales);
}

static void open_iq2_s(const void *src, struct grid_parts *p)
{
    const struct block_iq2_s *block = src;
    p->d = block->d;
    for (int i = 0; i < 32; i++) {
        p->points[i] = (uint16_t)(block->qs[i] | (block->qh[i / 4] >> 2 * (i % 4) & 3) << 8);
        p->signs[i] = block->signs[i];
    }
    open_scales(block->scales, p);
}

static void close_iq2_s(const struct grid_parts *p, void *dst)
{
    struct block_iq2_s *block = dst;
    memset(block, 0, sizeof(*block));
    block->d = p->d;
    for (int i = 0; i < 32; i++) {
        block->qs[i] = (uint8_t)p->points[i];
        block->qh[i / 4] = (uint8_t)(block->qh[i / 4] | (p->points[i] >> 8) << 2 * (i % 4));
        block->signs[i] = p->signs[i];
    }
    close_scales(p, block->scales);
}

static void open_iq3_xxs(const void *src, struct grid_parts *p)
{
    const struct block_iq3_xxs *block = src;
    p->d = block->d;
    for (int i = 0; i < 64; i++) {
        p->points[i] = block->qs[i];
    }
    for (int b = 0; b < 8; b++) {
        open_word(block->scales[b], b, p);
    }
}

static void close_iq3_xxs(const struct grid_parts *p, void *dst)
{
    struct block_iq3_xxs *block = dst;
    block->d = p->d;
    for (int i = 0; i < 64; i++) {
        block->qs[i] = (uint8_t)p->points[i];
    }
    for (int b = 0; b < 8; b++) {
        block->scales[b] = close_word(p, b);
    }
}

static void open_iq3_s(const void *src, struct grid_parts *p)
{
    const struct block_iq3_s *block = src;
    p->d = block->d;
    for (int i = 0; i < 64; i++) {
        p->points[i] = (uint16_t)(block->qs[i] | (block->qh[i / 8] >> i % 8 & 1) << 8);
    }
    memcpy(p->signs, block->signs, sizeof(p->signs));
    for (int i = 0; i < 16; i++) {
        p->scales[i] = odd(block->scales[i / 4] >> 4 * (i / 2 % 2) & 15);
    }
}

static void close_iq3_s(const struct grid_parts *p, void *dst)
{
    struct block_iq3_s *block = dst;
    memset(block, 0, sizeof(*block));
    block->d = p->d;
    for (int i = 0; i < 64; i++) {
        block->qs[i] = (uint8_t)p->points[i];
        block->qh[i / 8] = (uint8_t)(block->qh[i / 8] | (p->points[i] >> 8) << i % 8);
    }
    memcpy(block->signs, p->signs, sizeof(p->signs));
    for (int i = 0; i < 4; i++) {
        block->scales[i] = (uint8_t)(p->scales[4 * i] >> 1 | (p->scales[4 * i + 2] >> 1) << 4);
    }
}

static void open_iq1_s(const void *src, struct grid_parts *p)
{
    const struct block_iq1_s *block = src;
    p->d = block->d;
    for (int i = 0; i < 32; i++) {
        uint16_t qh = block->qh[i / 4];
        p->points[i] = (uint16_t)(block->qs[i] | (qh >> 3 * (i % 4) & 7) << 8);
        p->signs[i] = (qh & 0x8000) != 0 ? 255 : 0;
        p->scales[i / 2] = odd(qh >> 12 & 7);
    }
}

static void close_iq1_s(const struct grid_parts *p, void *dst)
{
    struct block_iq1_s *block = dst;
    block->d = p->d;
    for (int b = 0; b < 8; b++) {
        uint32_t qh = (uint32_t)(p->scales[2 * b] >> 1) << 12 | (p->signs[4 * b] != 0 ? 0x8000 : 0);
        for (int i = 0; i < 4; i++) {
            block->qs[4 * b + i] = (uint8_t)p->points[4 * b + i];
            qh |= (uint32_t)(p->points[4 * b + i] >> 8) << 3 * i;
        }
        block->qh[b] = (uint16_t)qh;
    }
}

static void open_iq1_m(const void *src, struct grid_parts *p)
{
    const struct block_iq1_m *block = src;
    p->d = block_iq1_m_d(block);
    for (int i = 0; i < 32; i++) {
        int high = block->qh[i / 2] >> 4 * (i % 2);
        p->points[i] = (uint16_t)(block->qs[i] | (high & 7) << 8);
        p->signs[i] = (high & 8) != 0 ? 255 : 0;
    }
    for (int i = 0; i < 16; i++) {
        p->scales[i] = odd(block->scales[i / 4] >> 3 * (i % 4) & 7);
    }
}

static void close_iq1_m(const struct grid_parts *p, void *dst)
{
    struct block_iq1_m *block = dst;
    memset(block, 0, sizeof(*block));
    for (int i = 0; i < 32; i++) {
        int high = p->points[i] >> 8 | (p->signs[i] != 0 ? 8 : 0);
        block->qs[i] = (uint8_t)p->points[i];
        block->qh[i / 2] = (uint8_t)(block->qh[i / 2] | high << 4 * (i % 2));
    }
    for (int i = 0; i < 4; i++) {
        int word = (p->d >> 4 * i & 15) << 12;
        for (int j = 0; j < 4; j++) {
            word |= (p->scales[4 * i + j] >> 1) << 3 * j;
        }
        block->scales[i] = (uint16_t)word;
    }
}

#define POINTS(array) .points = (array), .point_count = sizeof(array) / sizeof((array)[0])

static const struct grid_type types[] = {
    {.type = QUANT_IQ2_XXS,
     POINTS(grid_iq2_xxs),
     .point_weights = 8,
     .bits = 2,
     .scale_weights = 32,
     .sign_weights = 1,
     .even_signs = true,
     .scale_max = 31,
     .factor = 0.125f,
     .levels = grid_levels_iq2,
     .open = open_iq2_xxs,
     .close = close_iq2_xxs},
    {.type = QUANT_IQ2_XS,
     POINTS(grid_iq2_xs),
     .point_weights = 8,
     .bits = 2,
     .scale_weights = 16,
     .sign_weights = 1,
     .even_signs = true,
     .scale_max = 31,
     .factor = 0.125f,
     .levels = grid_levels_iq2,
     .open = open_iq2_xs,
     .close = close_iq2_xs},
    {.type = QUANT_IQ2_S,
     POINTS(grid_iq2_s),
     .point_weights = 8,
     .bits = 2,
     .scale_weights = 16,
     .sign_weights = 1,
     .scale_max = 31,
     .factor = 0.125f,
     .levels = grid_levels_iq2,
     .open = open_iq2_s,
     .close = close_iq2_s},
    {.type = QUANT_IQ3_XXS,
     POINTS(grid_iq3_xxs),
     .point_weights = 4,
     .bits = 3,
     .scale_weights = 32,
     .sign_weights = 1,
     .even_signs = true,
     .scale_max = 31,
     .factor = 0.25f,
     .levels = grid_levels_iq3_xxs,
     .open = open_iq3_xxs,
     .close = close_iq3_xxs},
    {.type = QUANT_IQ3_S,
     POINTS(grid_iq3_s),
     .point_weights = 4,
     .bits = 3,
     .scale_weights = 32,
     .sign_weights = 1,
     .scale_max = 31,
     .factor = 1.0f,
     .levels = grid_levels_iq3_s,
     .open = open_iq3_s,
     .close = close_iq3_s},
    {.type = QUANT_IQ1_S,
     POINTS(grid_iq1),
     .point_weights = 8,
     .bits = 2,
     .scale_weights = 32,
     .sign_weights = 32,
     .scale_max = 15,
     .factor = 0.125f,
     .levels = grid_levels_iq1,
     .open = open_iq1_s,
     .close = close_iq1_s},
    {.type = QUANT_IQ1_M,
     POINTS(grid_iq1),
     .point_weights = 8,
     .bits = 2,
     .scale_weights = 16,
     .sign_weights = 8,
     .scale_max = 15,
     .factor = 0.125f,
     .levels = grid_levels_iq1,
     .open = open_iq1_m,
     .close = close_iq1_m},
};

const struct grid_type *grid_type_find(enum quant_type type)
{
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        if (types[i].type == type) {
            return &types[i];
        }
    }
    return NULL;
}

void grid_open(const struct grid_type *type, const void *block, struct grid_block *ret)
{
    struct grid_parts parts;
    type->open(block, &parts);
    ret->d = parts.d;
    memcpy(ret->scales, parts.scales, sizeof(ret->scales));
    const int mask = (1 << type->bits) - 1;
    for (int i = 0; i < SUPER_BLOCK_WEIGHTS; i++) {
        uint16_t point = type->points[parts.points[i / type->point_weights]];
        int level = point >> type->bits * (i % type->point_weights) & mask;
        int sign = parts.signs[i / GRID_WEIGHTS] >> i % GRID_WEIGHTS & 1;
        ret->codes[i] = (uint8_t)(level | sign << type->bits);
    }
}

static void decode(enum quant_type number, const void *src, float *dst, size_t n)
{
    const struct grid_type *type = grid_type_find(number);
    const struct quant_format *format = quant_format_find(number);
    const unsigned char *block = src;
    for (size_t k = 0; k < n / SUPER_BLOCK_WEIGHTS; k++, block += format->block_bytes) {
        struct grid_block opened;
        grid_open(type, block, &opened);
        float d = quant_f16_to_f32(opened.d) * type->factor;
        for (int i = 0; i < SUPER_BLOCK_WEIGHTS; i++) {
            *dst++ = d * (float)opened.scales[i / 16] * (float)type->levels[opened.codes[i]];
        }
    }
}

#define DEFINE_DECODE(name, number)                                                                \
    void name##_decode(const void *src, float *dst, size_t n)                                      \
    {                                                                                              \
        decode(number, src, dst, n);                                                               \
    }

DEFINE_DECODE(iq1_s, QUANT_IQ1_S)
DEFINE_DECODE(iq1_m, QUANT_IQ1_M)
DEFINE_DECODE(iq2_xxs, QUANT_IQ2_XXS)
DEFINE_DECODE(iq2_xs, QUANT_IQ2_XS)
DEFINE_DECODE(iq2_s, QUANT_IQ2_S)
DEFINE_DECODE(iq3_xxs, QUANT_IQ3_XXS)
DEFINE_DECODE(iq3_s, QUANT_IQ3_S)

/* IQ1, IQ2 and IQ3: blocks of 256 weights whose codes are points of a grid.
 *
 * A point gives the levels of 8 weights (4 in IQ3), and a sign bit goes with each weight; in IQ1 it
 * goes with 8 or 32 and says whether an eighth is added or subtracted. Opened, that is a code for
 * each weight, level | sign << bits, and a whole number that it stands for:
 *   w = d * factor * scale * levels[code]
 * All products but the first are exact in a float, so their order does not matter. Decoding,
 * encoding and the kernels' packing all go through grid_open. Stateless, any thread. */
#ifndef PHID_QUANT_FORMAT_GRID_H
#define PHID_QUANT_FORMAT_GRID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "quant/format/block.h"
#include "quant/format/format.h"

#define GRID_WEIGHTS 8 /* under one byte of signs */

/* One block, opened. */
struct grid_block {
    uint16_t d;                         /* half float bits */
    uint8_t codes[SUPER_BLOCK_WEIGHTS]; /* of levels: below 2 << bits */
    uint8_t scales[16];                 /* odd, of 16 weights each: 1..31, IQ1 1..15 */
};

/* The parts of a block that an encoder chooses. */
struct grid_parts {
    uint16_t d;
    uint16_t points[64]; /* for each 8 weights, IQ3: each 4 */
    uint8_t signs[32];   /* for each 8 weights: a bit for each; IQ1: all alike */
    uint8_t scales[16];  /* as above */
};

struct grid_type {
    enum quant_type type;
    const uint16_t *points;
    size_t point_count;
    uint8_t point_weights; /* 8 or 4 */
    uint8_t bits;          /* of a level in a point: 2 or 3 */
    uint8_t scale_weights; /* under one scale: 32 or 16 */
    uint8_t sign_weights;  /* under one sign: 1, in IQ1 8 or 32 */
    bool even_signs;       /* an even number of the 8 signs is set */
    uint8_t scale_max;
    float factor;
    const int8_t *levels; /* [16] */
    void (*open)(const void *block, struct grid_parts *ret);
    void (*close)(const struct grid_parts *parts, void *ret_block);
};

/* NULL when it is not one of them. */
const struct grid_type *grid_type_find(enum quant_type type);

void grid_open(const struct grid_type *type, const void *block, struct grid_block *ret);

/* What codes stand for. Level 3 of IQ1 and IQ2 is in no point. */
extern const int8_t grid_levels_iq1[16];     /* 8 * (-1, 0, 1) + or - 1 */
extern const int8_t grid_levels_iq2[16];     /* + or - 8, 25, 43 */
extern const int8_t grid_levels_iq3_xxs[16]; /* + or - 4, 12, .. 52, 62 */
extern const int8_t grid_levels_iq3_s[16];   /* + or - 1, 3, .. 15 */

extern const uint16_t grid_iq2_xxs[256];
extern const uint16_t grid_iq2_xs[512];
extern const uint16_t grid_iq2_s[1024];
extern const uint16_t grid_iq3_xxs[256];
extern const uint16_t grid_iq3_s[512];
extern const uint16_t grid_iq1[2048];

#endif

/* Products of packed weights with few tokens. Part of multiply_template.h.
 *
 * Several row groups are read side by side: a unit of each after the other, while the next ones are
 * asked for in turns. A core that reads one stream leaves part of its way to memory unused, because
 * what it fetches ahead by itself ends with every page. */

#include "engine/backend/cpu/memory.h"

/* Few tokens wait for memory only, which more streams in smaller turns bring sooner. */
#define VEC_STREAMS         8
#define VEC_STREAMS_OF_MANY 4
#define VEC_MANY_TOKENS     5

/* A shorter one has ended when what it asked for arrives. */
#ifdef VEC_EMULATED
#define VEC_STREAM_BYTES ((size_t)1 << 10) /* tests, which are slow there, reach it */
#else
#define VEC_STREAM_BYTES ((size_t)32 << 10)
#endif

/* Packed weights of so many tokens are multiplied by tiles. */
#ifndef VEC_TILES_FROM
#define VEC_TILES_FROM (VEC_DIRECT_TOKENS + 1)
#endif

/* A packed block with more tokens than there are registers for: it is opened once, then each half
 * of the tokens has its turn. */
INLINE void add_in_turns(enum r16_kind kind, const unsigned char *unit, const struct unit_scales *u,
                         size_t blocks, size_t b, const unsigned char *codes,
                         const struct q8_tile *x, int tokens, v16f *sums)
{
    const int first = (tokens + 1) / 2;
    _Alignas(R16_VECTOR) unsigned char memory[CPU_PANEL_BLOCK_BYTES];
    const unsigned char *opened = memory;
    open_block(kind, unit, u, blocks, b, codes, memory);
    keep_in_memory(opened, sums);
    add_opened(kind, &opened, 1, x, b, (struct tokens){0, first, tokens}, sums);
    keep_in_memory(opened, sums);
    add_opened(kind, &opened, 1, x, b, (struct tokens){first, tokens - first, tokens},
               sums + first);
}

/* Row groups that are read side by side. */
struct streams {
    size_t count;
    size_t jump; /* bytes from a group's end to what its stream goes on with */
    const unsigned char *units[VEC_STREAMS]; /* of each the one that is next */
    v16f sums[VEC_STREAMS][VEC_DIRECT_TOKENS];
};

/* What is asked for next. */
struct ahead {
    const struct streams *streams;
    size_t stream, offset;
};

/* A turn of each stream is `turn` bytes. */
INLINE void fetch_ahead(struct ahead *a, size_t bytes, size_t turn)
{
    for (size_t done = 0; done < bytes; done += turn) {
        fetch(a->streams->units[a->stream] + a->offset, turn);
        if (++a->stream == a->streams->count) {
            a->stream = 0;
            a->offset += turn;
        }
    }
}

/* The compiler keeps the pointer itself, not many sums of it and something else. */
#define KEEP_POINTER(p) __asm__("" : "+r"(p))

/* The activations from block `block` on. */
INLINE struct q8_tile tile_from(const struct q8_tile *x, size_t block, int tokens)
{
    const size_t at = block * (size_t)tokens;
    struct q8_tile y = *x;
    y.codes += at * R16_BLOCK;
    y.scale += at;
    y.start += at;
    y.scaled_sum += at;
    y.half_start += 2 * at;
    y.scaled_half_sum += 2 * at;
    KEEP_POINTER(y.codes);
    KEEP_POINTER(y.scale);
    KEEP_POINTER(y.start);
    KEEP_POINTER(y.scaled_sum);
    KEEP_POINTER(y.half_start);
    KEEP_POINTER(y.scaled_half_sum);
    return y;
}

/* As term_scales, but for negative zeros, which sums do not show: they begin with 0. */
INLINE struct row_scales packed_scales(enum r16_kind kind, const unsigned char *unit,
                                       const struct unit_scales *u, size_t blocks, size_t block,
                                       size_t half)
{
#ifdef VEC_NIBBLE_PRODUCTS
    if (r16_types[kind].scales == R16_SCALES_DHM) {
        struct row_scales s;
        f_nibble_products(unit + R16_ROWS * 4 + (2 * block + half) * R16_ROWS, u->d, u->minus_dmin,
                          &s.scale, &s.bias);
        s.shift = f_shift_of(s.scale);
        return s;
    }
#endif
    return term_scales(kind, unit, u, blocks, block, half);
}

/* x: from the unit's first block on. */
INLINE void multiply_unit(enum r16_kind kind, const unsigned char *unit, size_t blocks,
                          const struct q8_tile *x, int tokens, struct ahead *ahead, v16f *sums)
{
    const int halves = r16_has_halves(kind) ? 2 : 1;
    const size_t block_bytes = r16_block_bytes(kind);
    const unsigned char *codes = unit + r16_header_bytes(kind, blocks);
    const bool many = tokens >= VEC_MANY_TOKENS;
    const size_t fetched =
        many ? cpu_round_up(r16_unit_bytes(kind, blocks) / blocks, CPU_ALIGN) : block_bytes;
    struct unit_scales u = unit_scales_load(kind, unit);
    if (!many) {
        fetch_ahead(ahead, r16_header_bytes(kind, blocks), CPU_ALIGN);
    }
    for (size_t b = 0; b < blocks; b++, codes += block_bytes) {
        fetch_ahead(ahead, fetched, many ? fetched : CPU_ALIGN);
        if (tokens > VEC_SUM_TOKENS) {
            add_in_turns(kind, unit, &u, blocks, b, codes, x, tokens, sums);
            continue;
        }
        UNROLL for (int half = 0; half < halves; half++)
        {
            struct row_scales scales = packed_scales(kind, unit, &u, blocks, b, (size_t)half);
            add_term(kind, false, &codes, 1, half, &scales, x, b,
                     (struct tokens){0, tokens, tokens}, sums);
        }
    }
}

INLINE void multiply_units(enum r16_kind kind, struct streams *s, size_t blocks,
                           const struct q8_tile *x, size_t first_block, int tokens)
{
    const struct q8_tile here = tile_from(x, first_block, tokens);
    const size_t bytes = r16_unit_bytes(kind, blocks);
    const bool last = first_block + blocks == x->blocks;
    struct ahead ahead = {.streams = s, .offset = bytes + (last ? s->jump : 0)};
    for (size_t i = 0; i < s->count; i++) {
        if (tokens > VEC_SUM_TOKENS) {
            multiply_unit(kind, s->units[i], blocks, &here, tokens, &ahead, s->sums[i]);
            continue;
        }
        v16f sums[CPU_TILE_TOKENS_MAX];
        UNROLL for (int t = 0; t < tokens; t++)
        {
            sums[t] = s->sums[i][t];
        }
        multiply_unit(kind, s->units[i], blocks, &here, tokens, &ahead, sums);
        UNROLL for (int t = 0; t < tokens; t++)
        {
            s->sums[i][t] = sums[t];
        }
    }
    for (size_t i = 0; i < s->count; i++) {
        s->units[i] += bytes;
    }
}

INLINE void multiply_streams(enum r16_kind kind, struct streams *s, const struct q8_tile *x,
                             int tokens)
{
#if VEC_HAS_TILES
    if (tokens >= VEC_TILES_FROM) {
        v16f sums[VEC_DIRECT_TOKENS]; /* in registers */
        UNROLL for (int t = 0; t < tokens; t++)
        {
            sums[t] = f_zero();
        }
        multiply_group_by_tiles(kind, s->units[0], x, tokens, sums);
        UNROLL for (int t = 0; t < tokens; t++)
        {
            s->sums[0][t] = sums[t];
        }
        return;
    }
#endif
    size_t done = 0;
    /* A whole unit's size is a constant; many tokens have no use for one, and twice the code. */
    for (; tokens <= VEC_SUM_TOKENS && done + R16_UNIT_BLOCKS <= x->blocks;
         done += R16_UNIT_BLOCKS) {
        multiply_units(kind, s, R16_UNIT_BLOCKS, x, done, tokens);
    }
    for (size_t blocks; done < x->blocks; done += blocks) {
        blocks = x->blocks - done < R16_UNIT_BLOCKS ? x->blocks - done : R16_UNIT_BLOCKS;
        multiply_units(kind, s, blocks, x, done, tokens);
    }
}

INLINE void store_rows(v16f x, float *y, size_t count)
{
    if (count >= R16_ROWS) {
        f_store(y, x);
        return;
    }
    float lanes[R16_ROWS];
    f_store(lanes, x);
    memcpy(y, lanes, count * sizeof(*y));
}

/* How many streams some row groups are read as. */
INLINE size_t streams_for(size_t bytes, int tokens)
{
    if (tokens >= VEC_TILES_FROM || bytes < 2 * VEC_STREAM_BYTES) {
        return 1;
    }
    const size_t most = tokens >= VEC_MANY_TOKENS ? VEC_STREAMS_OF_MANY : VEC_STREAMS;
    return bytes / VEC_STREAM_BYTES < most ? bytes / VEC_STREAM_BYTES : most;
}

/* Groups as far apart as there are streams for them, so that each stream goes on where it was. Most
 * callers go on with as many groups behind these, so the last of each stream ask for those. */
INLINE void multiply_tokens(enum r16_kind kind, const struct r16_matrix *m, size_t first,
                            size_t groups, const struct q8_tile *x, int tokens, float *y,
                            size_t y_stride)
{
    const size_t most = streams_for(groups * m->group_bytes, tokens);
    const size_t apart = (groups + most - 1) / most;
    for (size_t at = 0; at < apart; at++) {
        struct streams s;
        s.count = 0; /* nothing else: clearing all of it would be seen */
        s.jump = at + 1 == apart ? (groups - apart) * m->group_bytes : 0;
        for (size_t i = at; i < groups; i += apart, s.count++) {
            s.units[s.count] = m->data + (first + i) * m->group_bytes;
            UNROLL for (int t = 0; t < tokens; t++)
            {
                s.sums[s.count][t] = f_zero();
            }
        }
        multiply_streams(kind, &s, x, tokens);
        for (size_t i = 0; i < s.count; i++) {
            size_t group = first + at + i * apart;
            UNROLL for (int t = 0; t < tokens; t++)
            {
                store_rows(s.sums[i][t], y + (size_t)t * y_stride + group * R16_ROWS,
                           m->rows - group * R16_ROWS);
            }
        }
    }
}

/* Opened panels times activations by AMX's tiles, one part of multiply_template.h. A product of
 * tiles adds to [tokens][16 rows] sums [tokens][columns] activations times [columns / 4][16
 * rows][4] weights, where columns are those of a term: a block or half of one. That is how both lie
 * in memory, given row_codes. Codes of opened panels are values here, signed. */

/* What LDTILECFG reads; Intel SDM volume 2. */
struct tile_shapes {
    uint8_t palette, start_row, zeros[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};

/* Tiles 0 and 1: sums of two row groups. 2: activations. 3 and 4: weights of the groups. */
#define TERM_SHAPES(COLUMNS, TOKENS)                                                               \
    {.palette = 1,                                                                                 \
     .row_bytes = {R16_VECTOR, R16_VECTOR, COLUMNS, R16_VECTOR, R16_VECTOR},                       \
     .rows = {TOKENS, TOKENS, TOKENS, (COLUMNS) / 4, (COLUMNS) / 4}},

static const struct tile_shapes term_shapes[2][VEC_TILE_TOKENS] = {
    {UP_TO(VEC_TILE_TOKENS)(TERM_SHAPES, R16_BLOCK)},
    {UP_TO(VEC_TILE_TOKENS)(TERM_SHAPES, R16_BLOCK / 2)},
};

/* Which shapes this thread's tiles have; NULL: none. To give them others takes as long as a dozen
 * products, and most calls want those of the call before. */
static _Thread_local const struct tile_shapes *shapes_now;

static void shape_tiles(const struct tile_shapes *shapes)
{
    if (shapes_now != shapes) {
        _tile_loadconfig(shapes);
        shapes_now = shapes;
    }
}

/* While tiles have a shape a switch of threads saves 8 KiB. */
static void release_tiles(void)
{
    _tile_release();
    shapes_now = NULL;
}

/* Sums of products of a term with one or two row groups: ret [groups][tokens][R16_ROWS]. */
INLINE void multiply_term(enum r16_kind kind, const struct r16_panel *panels, int groups,
                          size_t term, const int8_t *x, int tokens, int32_t *ret)
{
    const size_t halves = r16_has_halves(kind) ? 2 : 1;
    const size_t block = term / halves;
    const size_t half = term % halves;
    const size_t at = block * opened_bytes(kind) + half * (R16_STEPS / 2 * R16_VECTOR);
    _tile_loadd(2, x + block * (size_t)tokens * R16_BLOCK + half * (R16_BLOCK / 2), R16_BLOCK);
    _tile_zero(0);
    _tile_loadd(3, panels[0].data + at, R16_VECTOR);
    _tile_dpbssd(0, 2, 3);
    if (groups == 2) {
        _tile_zero(1);
        _tile_loadd(4, panels[1].data + at, R16_VECTOR);
        _tile_dpbssd(1, 2, 4);
    }
    _tile_stored(0, ret, R16_VECTOR);
    if (groups == 2) {
        _tile_stored(1, ret + tokens * R16_ROWS, R16_VECTOR);
    }
}

/* What the products of a term add to the sums [groups][tokens]. `block` is the term's in x. */
INLINE void add_products(enum r16_kind kind, const struct row_scales *scales, int groups,
                         const struct q8_tile *x, size_t block, size_t half, int tokens,
                         const int32_t *products, v16f *sums)
{
    const size_t at = block * (size_t)tokens;
    const float *codes_sum = r16_has_halves(kind)
                                 ? x->scaled_half_sum + 2 * at + half * (size_t)tokens
                                 : x->scaled_sum + at;
    UNROLL for (int t = 0; t < tokens; t++)
    {
        v16f x_scale = f_set1(x->scale[at + (size_t)t]);
        UNROLL for (int i = 0; i < groups; i++)
        {
            v16f *sum = &sums[i * tokens + t];
            v16f part = f_from_i(i_load(products + (i * tokens + t) * R16_ROWS));
            *sum = f_fma(f_mul(part, scales[i].scale), x_scale, *sum);
            if (r16_has_bias(kind)) {
                *sum = f_fma(scales[i].bias, f_set1(codes_sum[t]), *sum);
            }
        }
    }
}

/* sums: [groups][tokens]. The products of a term are on their way while those of the term before
 * are added. */
INLINE void continue_panels(enum r16_kind kind, const struct r16_panel *panels, int groups,
                            size_t blocks, const struct q8_tile *x, size_t first_block, int tokens,
                            v16f *sums)
{
    const size_t halves = r16_has_halves(kind) ? 2 : 1;
    const size_t terms = blocks * halves;
    const size_t term_bytes = (size_t)tokens * R16_BLOCK / halves;
    const int8_t *codes = x->codes + first_block * (size_t)tokens * R16_BLOCK;
    const int8_t *next = codes + x->blocks * (size_t)tokens * R16_BLOCK;
    _Alignas(R16_VECTOR) int32_t products[2][CPU_PANEL_GROUPS * VEC_TILE_TOKENS * R16_ROWS];
    fetch_tile(kind, x, first_block, blocks, tokens);
    multiply_term(kind, panels, groups, 0, codes, tokens, products[0]);
    for (size_t term = 0; term < terms; term++) {
        if (term + 1 < terms) {
            multiply_term(kind, panels, groups, term + 1, codes, tokens, products[(term + 1) % 2]);
        }
        fetch(next + term * term_bytes, term_bytes);
        struct row_scales scales[CPU_PANEL_GROUPS];
        UNROLL for (int i = 0; i < groups; i++)
        {
            const unsigned char *opened = panels[i].data + term / halves * opened_bytes(kind);
            scales[i] = opened_scales(kind, opened, term % halves);
        }
        add_products(kind, scales, groups, x, first_block + term / halves, term % halves, tokens,
                     products[term % 2], sums);
    }
}

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

/* Tile 0: sums. 1: activations. 2: weights. */
#define TERM_SHAPES(COLUMNS, TOKENS)                                                               \
    {.palette = 1,                                                                                 \
     .row_bytes = {R16_VECTOR, COLUMNS, R16_VECTOR},                                               \
     .rows = {TOKENS, TOKENS, (COLUMNS) / 4}},

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

/* Begins to multiply a term. Of the panel it takes codes, of a tile's activations `x` too. */
INLINE void multiply_term(enum r16_kind kind, const struct r16_panel *panel, size_t term,
                          const int8_t *x, int tokens)
{
    const size_t halves = r16_has_halves(kind) ? 2 : 1;
    const size_t block = term / halves;
    const size_t half = term % halves;
    _tile_loadd(1, x + block * (size_t)tokens * R16_BLOCK + half * (R16_BLOCK / 2), R16_BLOCK);
    _tile_loadd(2, panel->data + block * opened_bytes(kind) + half * (R16_STEPS / 2 * R16_VECTOR),
                R16_VECTOR);
    _tile_zero(0);
    _tile_dpbssd(0, 1, 2);
}

/* What the products of a term, [tokens][R16_ROWS], add to the sums. `block` is the term's in x. */
INLINE void add_products(enum r16_kind kind, const struct row_scales *scales,
                         const struct q8_tile *x, size_t block, size_t half, int tokens,
                         const int32_t *products, v16f *sums)
{
    const size_t at = block * (size_t)tokens;
    const float *codes_sum = r16_has_halves(kind)
                                 ? x->scaled_half_sum + 2 * at + half * (size_t)tokens
                                 : x->scaled_sum + at;
    UNROLL for (int t = 0; t < tokens; t++)
    {
        v16i product = i_add(i_load(products + t * R16_ROWS), i_set1(VEC_SUM_BASE));
        v16f part = f_scaled(product, scales->scale, scales->shift);
        sums[t] = f_fma(part, f_set1(x->scale[at + (size_t)t]), sums[t]);
        if (r16_has_bias(kind)) {
            sums[t] = f_fma(scales->bias, f_set1(codes_sum[t]), sums[t]);
        }
    }
}

/* Two terms ahead of the sums a product begins, one ahead it is stored: a store that had to wait
 * for its product would keep other instructions from being taken up. */
INLINE void continue_panels(enum r16_kind kind, const struct r16_panel *panel, int groups,
                            size_t blocks, const struct q8_tile *x, size_t first_block, int tokens,
                            v16f *sums)
{
    (void)groups; /* one, see VEC_SUM_GROUPS */
    const size_t halves = r16_has_halves(kind) ? 2 : 1;
    const size_t terms = blocks * halves;
    const size_t term_bytes = (size_t)tokens * R16_BLOCK / halves;
    const int8_t *codes = x->codes + first_block * (size_t)tokens * R16_BLOCK;
    const int8_t *next = codes + x->blocks * (size_t)tokens * R16_BLOCK;
    _Alignas(R16_VECTOR) int32_t products[2][VEC_TILE_TOKENS * R16_ROWS];
    multiply_term(kind, panel, 0, codes, tokens);
    _tile_stored(0, products[0], R16_VECTOR);
    if (terms > 1) {
        multiply_term(kind, panel, 1, codes, tokens);
    }
    for (size_t term = 0; term < terms; term++) {
        if (term + 1 < terms) {
            _tile_stored(0, products[(term + 1) % 2], R16_VECTOR);
        }
        if (term + 2 < terms) {
            multiply_term(kind, panel, term + 2, codes, tokens);
        }
        fetch(next + term * term_bytes, term_bytes);
        struct row_scales scales =
            opened_scales(kind, panel->data + term / halves * opened_bytes(kind), term % halves);
        add_products(kind, &scales, x, first_block + term / halves, term % halves, tokens,
                     products[term % 2], sums);
    }
}

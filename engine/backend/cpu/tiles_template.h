/* Products by AMX's tiles, one part of multiply_template.h: of opened panels, and of packed weights
 * with the few tokens that one tile holds. A product of tiles adds to [tokens][16 rows] sums
 * [tokens][columns] activations times [columns / 4][16 rows][4] weights, where columns are those of
 * a term: a block or half of one. That is how both lie in memory, given row_codes. Codes of opened
 * panels are values here, signed. */

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

static void shape_for_terms(enum r16_kind kind, size_t tokens)
{
    shape_tiles(&term_shapes[r16_has_halves(kind) ? 1 : 0][tokens - 1]);
}

/* While tiles have a shape a switch of threads saves 8 KiB. */
static void release_tiles(void)
{
    if (shapes_now != NULL) {
        _tile_release();
        shapes_now = NULL;
    }
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

/* The packed blocks of a row group, opened one after the other shortly before they are multiplied:
 * who opens many at once waits for memory first and multiplies then. */
#define RING_BLOCKS  4 /* a power of two */
#define OPENED_AHEAD 3

struct opener {
    const unsigned char *unit;
    const unsigned char *codes; /* of the next block */
    struct unit_scales scales;
    size_t unit_blocks, block; /* of the unit, and which of them is next */
    size_t done, left;
    unsigned char *ring; /* of the last RING_BLOCKS */
};

INLINE void start_unit(enum r16_kind kind, struct opener *o)
{
    o->unit = o->codes;
    o->unit_blocks = o->left < R16_UNIT_BLOCKS ? o->left : R16_UNIT_BLOCKS;
    o->block = 0;
    o->codes += r16_header_bytes(kind, o->unit_blocks);
    o->scales = unit_scales_load(kind, o->unit);
}

INLINE void open_next(enum r16_kind kind, struct opener *o)
{
    if (o->left == 0) {
        return;
    }
    if (o->block == o->unit_blocks) {
        start_unit(kind, o);
    }
    for (size_t line = 0; line < r16_block_bytes(kind); line += 64) {
        __builtin_prefetch(o->codes + VEC_PREFETCH_BYTES + line);
    }
    open_block(kind, o->unit, &o->scales, o->unit_blocks, o->block, o->codes,
               o->ring + o->done % RING_BLOCKS * opened_bytes(kind));
    o->codes += r16_block_bytes(kind);
    o->block++;
    o->done++;
    o->left--;
}

/* Terms, from block first_block of x on: blocks opened before, or by an opener in its ring. */
struct terms {
    const unsigned char *opened;
    struct opener *opener; /* NULL: none */
    const int8_t *codes;   /* of x, block first_block */
    size_t count, first_block;
    int tokens;
};

INLINE const unsigned char *term_block(enum r16_kind kind, const struct terms *terms, size_t block)
{
    return terms->opened +
           (terms->opener != NULL ? block % RING_BLOCKS : block) * opened_bytes(kind);
}

/* Begins to multiply a term. */
INLINE void begin_term(enum r16_kind kind, const struct terms *terms, size_t term)
{
    const size_t halves = r16_has_halves(kind) ? 2 : 1;
    const size_t block = term / halves;
    const size_t half = term % halves;
    _tile_loadd(1,
                terms->codes + block * (size_t)terms->tokens * R16_BLOCK + half * (R16_BLOCK / 2),
                R16_BLOCK);
    _tile_loadd(2, term_block(kind, terms, block) + half * (R16_STEPS / 2 * R16_VECTOR),
                R16_VECTOR);
    _tile_zero(0);
    _tile_dpbssd(0, 1, 2);
}

/* Two terms ahead of the sums a product begins, one ahead it is stored: a store that had to wait
 * for its product would keep other instructions from being taken up. */
INLINE void add_terms(enum r16_kind kind, const struct terms *terms, const struct q8_tile *x,
                      v16f *sums)
{
    const size_t halves = r16_has_halves(kind) ? 2 : 1;
    const size_t term_bytes = (size_t)terms->tokens * R16_BLOCK / halves;
    const int8_t *next = terms->codes + x->blocks * (size_t)terms->tokens * R16_BLOCK;
    _Alignas(R16_VECTOR) int32_t products[2][VEC_TILE_TOKENS * R16_ROWS];
    begin_term(kind, terms, 0);
    _tile_stored(0, products[0], R16_VECTOR);
    if (terms->count > 1) {
        begin_term(kind, terms, 1);
    }
    for (size_t term = 0; term < terms->count; term++) {
        if (term + 1 < terms->count) {
            _tile_stored(0, products[(term + 1) % 2], R16_VECTOR);
        }
        if (term + 2 < terms->count) {
            begin_term(kind, terms, term + 2);
        }
        if (terms->opener == NULL) {
            fetch(next + term * term_bytes, term_bytes);
        } else if (term % halves == 0) {
            open_next(kind, terms->opener);
        }
        struct row_scales scales =
            opened_scales(kind, term_block(kind, terms, term / halves), term % halves);
        add_products(kind, &scales, x, terms->first_block + term / halves, term % halves,
                     terms->tokens, products[term % 2], sums);
    }
}

INLINE void continue_panels(enum r16_kind kind, const struct r16_panel *panel, int groups,
                            size_t blocks, const struct q8_tile *x, size_t first_block, int tokens,
                            v16f *sums)
{
    (void)groups; /* one, see VEC_SUM_GROUPS */
    const struct terms terms = {
        .opened = panel->data,
        .codes = x->codes + first_block * (size_t)tokens * R16_BLOCK,
        .count = blocks * (r16_has_halves(kind) ? 2 : 1),
        .first_block = first_block,
        .tokens = tokens,
    };
    add_terms(kind, &terms, x, sums);
}

/* A packed row group. */
INLINE void multiply_group_by_tiles(enum r16_kind kind, const unsigned char *group,
                                    const struct q8_tile *x, int tokens, v16f *sums)
{
    _Alignas(R16_VECTOR) unsigned char ring[RING_BLOCKS * CPU_PANEL_BLOCK_BYTES];
    struct opener opener = {.codes = group, .left = x->blocks, .ring = ring};
    for (size_t i = 0; i < OPENED_AHEAD; i++) {
        open_next(kind, &opener);
    }
    const struct terms terms = {
        .opened = ring,
        .opener = &opener,
        .codes = x->codes,
        .count = x->blocks * (r16_has_halves(kind) ? 2 : 1),
        .tokens = tokens,
    };
    add_terms(kind, &terms, x, sums);
}

/* bf16 weights and products by AMX's tiles, one part of multiply_template.h. What it does: bf16.h.
 * Only tiles of full size: rows of tokens that there are not are multiplied too, and nobody looks
 * at their sums. */

/* Tiles 0 to 3: sums of tile t of the tokens and group g, 2 * t + g. 4 and 5: activations. 6 and 7:
 * weights. */
static const struct tile_shapes bf16_shapes = {
    .palette = 1,
    .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64},
    .rows = {16, 16, 16, 16, 16, 16, 16, 16},
};

/* Scales and biases of the lower and the upper eight rows, each twice. */
struct pair_scales {
    v16f scale[2], bias[2];
};

INLINE struct pair_scales pair_scales_of(enum r16_kind kind, const struct row_scales *s)
{
    struct pair_scales p;
    UNROLL for (int upper = 0; upper < 2; upper++)
    {
        p.scale[upper] = f_twice(s->scale, upper);
        p.bias[upper] = r16_has_bias(kind) ? f_twice(s->bias, upper) : f_zero();
    }
    return p;
}

/* Weights of two columns of a step, of eight rows. */
INLINE v16f f_weights(enum r16_kind kind, v64 codes, int pair, bool upper,
                      const struct pair_scales *s)
{
    const int above = 32768 + (kind_has_offset(kind) ? 128 : 0);
    return f_fma(f_sub(f_from_bytes(codes, pair, upper), f_set1((float)above)), s->scale[upper],
                 s->bias[upper]);
}

INLINE void open_bf16_block(enum r16_kind kind, const unsigned char *unit,
                            const struct unit_scales *u, size_t blocks, size_t b,
                            const unsigned char *codes, uint16_t *weights)
{
    struct row_scales rows = term_scales(kind, unit, u, blocks, b, 0);
    struct pair_scales scales = pair_scales_of(kind, &rows);
    for (size_t line = 0; line < r16_block_bytes(kind); line += 64) {
        __builtin_prefetch(codes + r16_unit_bytes(kind, R16_UNIT_BLOCKS) + line, 0, 2);
    }
    UNROLL for (int g = 0; g < R16_STEPS; g++)
    {
        if (r16_has_halves(kind) && g == R16_STEPS / 2) {
            rows = term_scales(kind, unit, u, blocks, b, 1);
            scales = pair_scales_of(kind, &rows);
        }
        v64 step = raised_codes(kind, false, codes, g);
        UNROLL for (int pair = 0; pair < 2; pair++)
        {
            f_store_bf16_two(weights + (2 * g + pair) * 2 * R16_ROWS,
                             f_weights(kind, step, pair, false, &scales),
                             f_weights(kind, step, pair, true, &scales));
        }
    }
}

INLINE void open_bf16_kind(enum r16_kind kind, const struct r16_matrix *m, size_t group,
                           size_t first_block, size_t count, uint16_t *weights)
{
    const size_t all = m->cols / R16_BLOCK;
    const unsigned char *unit =
        m->data + group * m->group_bytes +
        first_block / R16_UNIT_BLOCKS * r16_unit_bytes(kind, R16_UNIT_BLOCKS);
    for (size_t done = 0; done < count; done += R16_UNIT_BLOCKS) {
        size_t left = all - first_block - done;
        size_t blocks = left < R16_UNIT_BLOCKS ? left : R16_UNIT_BLOCKS;
        const unsigned char *codes = unit + r16_header_bytes(kind, blocks);
        struct unit_scales u = unit_scales_load(kind, unit);
        for (size_t b = 0; b < blocks && done + b < count; b++) {
            open_bf16_block(kind, unit, &u, blocks, b, codes, weights + (done + b) * BF16_TILE);
            codes += r16_block_bytes(kind);
        }
        unit += r16_unit_bytes(kind, blocks);
    }
}

static void bf16_of_vectors(const float *x, uint16_t *y, size_t n)
{
    for (size_t i = 0; i < n; i += CPU_LANES) {
        f_store_bf16(y + i, f_load(x + i));
    }
}

/* Numbers of tiles are part of the instructions. */
#define EACH_SUM(X) X(0, 0, 0) X(1, 0, 1) X(2, 1, 0) X(3, 1, 1)

#define ZERO_SUM(TILE, T, G)                                                                       \
    if (T < tiles && G < groups) {                                                                 \
        _tile_zero(TILE);                                                                          \
    }
#define LOAD_SUM(TILE, T, G)                                                                       \
    if (T < tiles && G < groups) {                                                                 \
        _tile_loadd(TILE, sums + T * BF16_TOKENS * stride + G * R16_ROWS, stride * sizeof(*sums)); \
    }
#define STORE_SUM(TILE, T, G)                                                                      \
    if (T < tiles && G < groups) {                                                                 \
        _tile_stored(TILE, sums + T * BF16_TOKENS * stride + G * R16_ROWS,                         \
                     stride * sizeof(*sums));                                                      \
    }

INLINE void multiply_bf16_tiles(const struct bf16_product *p, int tiles, int groups)
{
    float *const sums = p->sums;
    const size_t stride = p->sums_stride;
    if (p->start) {
        EACH_SUM(ZERO_SUM)
    } else {
        EACH_SUM(LOAD_SUM)
    }
    const uint16_t *x = p->x;
    const uint16_t *weights = p->weights;
    for (size_t b = 0; b < p->blocks; b++, x += BF16_TILE, weights += BF16_TILE) {
        _tile_loadd(4, x, R16_VECTOR);
        _tile_loadd(6, weights, R16_VECTOR);
        _tile_dpbf16ps(0, 4, 6);
        if (groups > 1) {
            _tile_loadd(7, weights + p->group_stride, R16_VECTOR);
            _tile_dpbf16ps(1, 4, 7);
        }
        if (tiles > 1) {
            _tile_loadd(5, x + p->x_stride, R16_VECTOR);
            _tile_dpbf16ps(2, 5, 6);
        }
        if (tiles > 1 && groups > 1) {
            _tile_dpbf16ps(3, 5, 7);
        }
    }
    EACH_SUM(STORE_SUM)
}

static void multiply_bf16(const struct bf16_product *p)
{
    shape_tiles(&bf16_shapes);
    if (p->groups > 1 && p->tiles > 1) {
        multiply_bf16_tiles(p, 2, 2);
    } else if (p->groups > 1) {
        multiply_bf16_tiles(p, 1, 2);
    } else if (p->tiles > 1) {
        multiply_bf16_tiles(p, 2, 1);
    } else {
        multiply_bf16_tiles(p, 1, 1);
    }
}

#define DEFINE_OPEN_BF16(KIND)                                                                     \
    static void open_bf16_##KIND(const struct r16_matrix *m, size_t group, size_t first_block,     \
                                 size_t blocks, uint16_t *weights)                                 \
    {                                                                                              \
        open_bf16_kind(R16_##KIND, m, group, first_block, blocks, weights);                        \
    }

EACH_KIND(DEFINE_OPEN_BF16)

#define OPEN_BF16_ENTRY(KIND) [R16_##KIND] = open_bf16_##KIND,

static void open_bf16(const struct r16_matrix *m, size_t group, size_t first_block, size_t blocks,
                      uint16_t *weights)
{
    static void (*const table[R16_KINDS])(const struct r16_matrix *m, size_t group,
                                          size_t first_block, size_t blocks,
                                          uint16_t *weights) = {EACH_KIND(OPEN_BF16_ENTRY)};
    table[m->kind](m, group, first_block, blocks, weights);
}

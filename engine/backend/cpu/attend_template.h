/* Attention over one page, for any instruction set. See multiply_template.h; needs f_exp of
 * rows_template.h. */

INLINE v16f kv_load(bool half, const void *base, size_t index)
{
    return half ? f_load_f16((const uint16_t *)base + index) : f_load((const float *)base + index);
}

/* The part of a page that query i sees: from .. to - 1. */
INLINE int seen_from(const struct attention_block *b, size_t i, int32_t first_key)
{
    return b->begin[i] > first_key ? b->begin[i] - first_key : 0;
}

INLINE int seen_to(const struct attention_block *b, size_t i, int32_t first_key)
{
    return b->end[i] - first_key < CPU_PAGE_TOKENS ? b->end[i] - first_key : CPU_PAGE_TOKENS;
}

/* The next page comes into the second-level cache while the first queries read this one, at the
 * same pace: `ahead` is where a tile's part of it lies. The others have NULL there, a constant. */
INLINE const char *part_of(const char *page, size_t offset)
{
    return page == NULL ? NULL : page + offset;
}

/* Asks for `lines` cache lines; the compiler sees a constant. */
INLINE void ask_for(const char *p, int lines)
{
    UNROLL for (int i = 0; i < lines; i++)
    {
        __builtin_prefetch(p + 64 * i, 0, 2);
    }
}

/* Number i of `rows` when each quarter of them has its turn: several streams bring more than one,
 * see direct_template.h. */
INLINE size_t turn_of(size_t i, size_t rows)
{
    return i % 4 * (rows / 4) + i / 4;
}

/* Lines of the next page's keys in step d, of each group in turn; `line`: bytes of a group and
 * step.
 */
INLINE void ask_for_keys(const char *ahead, size_t d, size_t group_bytes, int groups, size_t line)
{
    if (line == 64 || groups == 1) {
        UNROLL for (int i = 0; i < groups; i++)
        {
            __builtin_prefetch(ahead + (size_t)i * group_bytes + d * line, 0, 2);
        }
        return;
    }
    UNROLL for (int i = 0; i < groups / 2; i++)
    {
        const size_t group = d % 2 * (size_t)(groups / 2) + (size_t)i;
        __builtin_prefetch(ahead + group * group_bytes + d / 2 * 64, 0, 2);
    }
}

/* Scores of `queries` queries from `first` with `groups` groups of 16 keys. */
INLINE void score_tile(bool half, const struct attention_block *b, size_t first, int queries,
                       const void *keys, const char *next, size_t group, int groups)
{
    const size_t dims = b->head_dim;
    const float *q = b->q + first * dims;
    const size_t line = CPU_LANES * (half ? sizeof(uint16_t) : sizeof(float));
    const char *ahead = part_of(next, group * dims * line);
    v16f sums[VEC_FLOAT_TILE];
    UNROLL for (int i = 0; i < queries * groups; i++)
    {
        sums[i] = f_zero();
    }
    for (size_t d = 0; d < dims; d++) {
        if (ahead != NULL) {
            ask_for_keys(ahead, d, dims * line, groups, line);
        }
        UNROLL for (int g = 0; g < groups; g++)
        {
            v16f k = kv_load(half, keys, ((group + (size_t)g) * dims + d) * CPU_LANES);
            UNROLL for (int i = 0; i < queries; i++)
            {
                sums[i * groups + g] =
                    f_fma(f_set1(q[(size_t)i * dims + d]), k, sums[i * groups + g]);
            }
        }
    }
    UNROLL for (int i = 0; i < queries; i++)
    {
        UNROLL for (int g = 0; g < groups; g++)
        {
            f_store(b->scores + (first + (size_t)i) * CPU_PAGE_TOKENS +
                        (group + (size_t)g) * CPU_LANES,
                    sums[i * groups + g]);
        }
    }
}

/* All groups of keys from .. to - 1. */
INLINE void score_queries(bool half, const struct attention_block *b, size_t first, int queries,
                          const void *keys, const char *next, int from, int to)
{
    size_t group = (size_t)from / CPU_LANES;
    const size_t end = ((size_t)to + CPU_LANES - 1) / CPU_LANES;
    if (VEC_FLOAT_TILE >= 4 * queries) {
        for (; group + 4 <= end; group += 4) {
            score_tile(half, b, first, queries, keys, next, group, 4);
        }
    }
    if (VEC_FLOAT_TILE >= 2 * queries) {
        for (; group + 2 <= end; group += 2) {
            score_tile(half, b, first, queries, keys, next, group, 2);
        }
    }
    for (; group < end; group++) {
        score_tile(half, b, first, queries, keys, next, group, 1);
    }
}

/* Turns the scores of one query into what the keys count, 0 for those not seen. */
INLINE void soften(struct attention_block *b, size_t i, int from, int to)
{
    float *scores = b->scores + i * CPU_PAGE_TOKENS;
    float *total = b->total + i * CPU_LANES;
    float *sums = b->sums + i * b->value_stride;
    v16f largest = f_set1(b->maximum[i]);
    for (int key = from / CPU_LANES * CPU_LANES; key < to; key += CPU_LANES) {
        v16f masked = f_select_range(f_load(scores + key), f_set1(-INFINITY), from - key, to - key);
        f_store(scores + key, masked);
        largest = f_max(largest, masked);
    }
    const float maximum = from < to ? f_largest(largest) : b->maximum[i];
    v16f totals = f_load(total);
    if (maximum > b->maximum[i]) {
        v16f factor = f_exp(f_set1(b->maximum[i] - maximum));
        totals = f_mul(totals, factor);
        for (size_t d = 0; d < b->value_stride; d += CPU_LANES) {
            f_store(sums + d, f_mul(f_load(sums + d), factor));
        }
        b->maximum[i] = maximum;
    }
    for (int key = 0; key < CPU_PAGE_TOKENS; key += CPU_LANES) {
        v16f p = f_zero();
        if (key < to && key + CPU_LANES > from) {
            p = f_exp(f_sub(f_load(scores + key), f_set1(maximum)));
            totals = f_add(totals, p);
        }
        f_store(scores + key, p);
    }
    f_store(total, totals);
}

/* sums += p * values for `queries` queries and `parts` vectors of dimensions. */
INLINE void value_tile(bool half, struct attention_block *b, size_t first, int queries,
                       const void *values, const char *next, size_t dim, int parts, int from,
                       int to)
{
    const size_t stride = b->value_stride;
    const float *p = b->scores + first * CPU_PAGE_TOKENS;
    float *out = b->sums + first * stride + dim;
    const size_t element = half ? sizeof(uint16_t) : sizeof(float);
    const char *ahead = part_of(next, dim * element);
    v16f sums[VEC_FLOAT_TILE];
    UNROLL for (int i = 0; i < queries; i++)
    {
        UNROLL for (int j = 0; j < parts; j++)
        {
            sums[i * parts + j] = f_load(out + (size_t)i * stride + (size_t)j * CPU_LANES);
        }
    }
    for (size_t key = (size_t)from; key < (size_t)to; key++) {
        if (ahead != NULL) {
            ask_for(ahead + turn_of(key, CPU_PAGE_TOKENS) * stride * element,
                    half ? (parts + 1) / 2 : parts);
        }
        UNROLL for (int j = 0; j < parts; j++)
        {
            v16f v = kv_load(half, values, key * stride + dim + (size_t)j * CPU_LANES);
            UNROLL for (int i = 0; i < queries; i++)
            {
                sums[i * parts + j] =
                    f_fma(f_set1(p[(size_t)i * CPU_PAGE_TOKENS + key]), v, sums[i * parts + j]);
            }
        }
    }
    UNROLL for (int i = 0; i < queries; i++)
    {
        UNROLL for (int j = 0; j < parts; j++)
        {
            f_store(out + (size_t)i * stride + (size_t)j * CPU_LANES, sums[i * parts + j]);
        }
    }
}

INLINE void value_queries(bool half, struct attention_block *b, size_t first, int queries,
                          const void *values, const char *next, int from, int to)
{
    size_t dim = 0;
    if (VEC_FLOAT_TILE >= 4 * queries) {
        for (; dim + 4 * CPU_LANES <= b->value_stride; dim += 4 * CPU_LANES) {
            value_tile(half, b, first, queries, values, next, dim, 4, from, to);
        }
    }
    if (VEC_FLOAT_TILE >= 2 * queries) {
        for (; dim + 2 * CPU_LANES <= b->value_stride; dim += 2 * CPU_LANES) {
            value_tile(half, b, first, queries, values, next, dim, 2, from, to);
        }
    }
    for (; dim < b->value_stride; dim += CPU_LANES) {
        value_tile(half, b, first, queries, values, next, dim, 1, from, to);
    }
}

/* The part of a page that any of `queries` queries from `first` sees; false when there is none. */
INLINE bool seen_by_any(const struct attention_block *b, size_t first, int queries,
                        int32_t first_key, int *from, int *to)
{
    *from = CPU_PAGE_TOKENS;
    *to = 0;
    for (size_t i = first; i < first + (size_t)queries; i++) {
        int low = seen_from(b, i, first_key);
        int high = seen_to(b, i, first_key);
        if (low < high) {
            *from = low < *from ? low : *from;
            *to = high > *to ? high : *to;
        }
    }
    return *from < *to;
}

/* `ahead`: they bring the next page near. */
INLINE void attend_queries(bool half, struct attention_block *b, size_t first, int queries,
                           bool ahead, const void *keys, const void *values, int32_t first_key)
{
    int from;
    int to;
    if (!seen_by_any(b, first, queries, first_key, &from, &to)) {
        return;
    }
    score_queries(half, b, first, queries, keys, ahead ? b->next_keys : NULL, from, to);
    for (size_t i = first; i < first + (size_t)queries; i++) {
        soften(b, i, seen_from(b, i, first_key), seen_to(b, i, first_key));
    }
    value_queries(half, b, first, queries, values, ahead ? b->next_values : NULL, from, to);
}

/* How many of so many queries a tile takes: 3 and 6 are what common models have for a key head. */
INLINE size_t tile_queries(size_t left)
{
    if (VEC_FLOAT_TILE >= 16) {
        return left >= 8 ? 8 : left >= 6 ? 6 : left >= 4 ? 4 : left;
    }
    return left >= 4 ? 4 : left >= 2 ? 2 : left;
}

/* X(8) and so on: every number that tile_queries may give. */
#if VEC_FLOAT_TILE >= 16
#define EACH_TILE(X) X(8) X(6) X(4) X(3) X(2) X(1)
#else
#define EACH_TILE(X) X(4) X(2) X(1)
#endif

/* Some of the queries from i on; returns how many. */
INLINE size_t attend_some(bool half, struct attention_block *b, size_t i, bool ahead,
                          const void *keys, const void *values, int32_t first_key)
{
    const size_t some = tile_queries(b->queries - i);
    switch (some) {
#define ATTEND(N)                                                                                  \
    case N:                                                                                        \
        attend_queries(half, b, i, N, ahead, keys, values, first_key);                             \
        break;
        EACH_TILE(ATTEND)
    }
    return some;
}

INLINE void attend_page(bool half, struct attention_block *b, const void *keys, const void *values,
                        int32_t first_key)
{
    size_t i = attend_some(half, b, 0, true, keys, values, first_key);
    while (i < b->queries) {
        i += attend_some(half, b, i, false, keys, values, first_key);
    }
}

static void attend_merge(float *maximum, float *total, float *sums, float next_maximum,
                         const float *next_total, const float *next_sums, size_t stride)
{
    if (next_maximum == -INFINITY) {
        return;
    }
    const float m = next_maximum > *maximum ? next_maximum : *maximum;
    const v16f f = f_exp(f_set1(*maximum - m));
    const v16f g = f_exp(f_set1(next_maximum - m));
    if (*maximum == -INFINITY) {
        f_store(total, f_load(next_total));
        memcpy(sums, next_sums, stride * sizeof(*sums));
    } else {
        f_store(total, f_fma(f_load(next_total), g, f_mul(f_load(total), f)));
        for (size_t d = 0; d < stride; d += CPU_LANES) {
            f_store(sums + d, f_fma(f_load(next_sums + d), g, f_mul(f_load(sums + d), f)));
        }
    }
    *maximum = m;
}

static void attend_page_f16(struct attention_block *b, const void *keys, const void *values,
                            int32_t first_key)
{
    attend_page(true, b, keys, values, first_key);
}

static void attend_page_f32(struct attention_block *b, const void *keys, const void *values,
                            int32_t first_key)
{
    attend_page(false, b, keys, values, first_key);
}

/* Codes of weights and sums of their products with activations, for any instruction set: the
 * integer part of multiply_template.h, which see. */

#ifndef VEC_SUM_PAIRS
#define VEC_SUM_PAIRS 0
#endif

/* How codes of activations lie, see q8_four. */
#ifndef VEC_ROW_CODES
#define VEC_ROW_CODES 0
#endif

/* Row groups of opened panels whose sums registers hold at once. */
#ifndef VEC_SUM_GROUPS
#define VEC_SUM_GROUPS VEC_PANEL_GROUPS
#endif

/* A sum of one token is added up as two halves, neither of which then waits so long. */
#ifndef VEC_HALVE_SUM
#define VEC_HALVE_SUM 0
#endif

/* Opened panels are multiplied by tiles_template.h. */
#ifndef VEC_HAS_TILES
#define VEC_HAS_TILES 0
#endif

#if VEC_SUM_BITS

/* Codes of kinds with an offset lie at the top of their bytes, so that they are 128 above the
 * values, which are then 2^kind_align times as large. Where the bits do not end up there of
 * themselves (an offset that is not half the range), see kind_raise; tables have them there. */
INLINE bool kind_has_offset(enum r16_kind kind)
{
    return r16_is_signed(kind) || r16_types[kind].offset != 0;
}

INLINE int kind_align(enum r16_kind kind)
{
    const struct r16_type *type = &r16_types[kind];
    const int bits = type->low_bits + type->high_bits;
    const bool half = type->levels == R16_LEVELS_NONE && type->offset == 1 << (bits - 1);
    return half ? 8 - bits : 0;
}

/* What is added to the codes instead. */
INLINE int kind_raise(enum r16_kind kind)
{
    const struct r16_type *type = &r16_types[kind];
    const bool as_is = type->levels == R16_LEVELS_NONE && type->offset != 0;
    return as_is && kind_align(kind) == 0 ? 128 - type->offset : 0;
}

/* Or else sums begin lower: that is done once for each token, not for each step. */
INLINE bool kind_starts_lower(enum r16_kind kind, bool opened, int tokens)
{
    return !opened && kind_raise(kind) != 0 && tokens < 4;
}

#else

/* log2 of what the codes are above the values; -1: nothing. */
INLINE int kind_offset_shift(enum r16_kind kind)
{
    if (r16_is_signed(kind)) {
        return VEC_SIGNED_SHIFT;
    }
    switch (r16_types[kind].offset) {
    case 1:
        return 0;
    case 4:
        return 2;
    case 8:
        return 3;
    case 16:
        return 4;
    case 32:
        return 5;
    case 64:
        return 6;
    default:
        return -1;
    }
}

INLINE int kind_align(enum r16_kind kind)
{
    (void)kind;
    return 0;
}

INLINE bool kind_starts_lower(enum r16_kind kind, bool opened, int tokens)
{
    (void)kind;
    (void)opened;
    (void)tokens;
    return false;
}

#endif

/* What the file has for each weight of step g of a packed block, of less than 8 bits, `align` bits
 * above the bottom of its byte. */
INLINE v64 packed_codes(enum r16_kind kind, const unsigned char *block, int g, int align)
{
    const int low_bits = r16_types[kind].low_bits;
    const int high_bits = r16_types[kind].high_bits;
    v64 codes = low_bits == 4
                    ? c_bits(c_load(block + g % 4 * R16_VECTOR), 4 * (g / 4) - align, 15 << align)
                    : c_bits(c_load(block + g / 4 * R16_VECTOR), 2 * (g % 4) - align, 3 << align);
    const unsigned char *high = block + low_bits * R16_VECTOR;
    const int up = low_bits + align;
    if (high_bits == 1) {
        codes = c_or(codes, c_bits(c_load(high), g - up, 1 << up));
    } else if (high_bits == 2) {
        codes = c_or(codes, c_bits(c_load(high + g / 4 * R16_VECTOR), 2 * (g % 4) - up, 3 << up));
    }
    return codes;
}

/* The codes of step g of a packed block, or of an opened one. */
INLINE v64 step_codes(enum r16_kind kind, bool opened, const unsigned char *block, int g)
{
    if (opened) {
        return c_load(block + g * R16_VECTOR);
    }
    if (r16_types[kind].low_bits == 8) {
        return c_from_signed(c_load(block + g * R16_VECTOR));
    }
    v64 codes = packed_codes(kind, block, g, kind_align(kind));
    if (r16_types[kind].levels != R16_LEVELS_NONE) {
        const int form = VEC_SUM_BITS ? R16_LEVELS_RAISED : R16_LEVELS_OFFSET;
        return c_lookup(r16_levels[form][r16_types[kind].levels], codes);
    }
    return codes;
}

/* The same above the values by what sums of products begin with. */
INLINE v64 raised_codes(enum r16_kind kind, bool opened, const unsigned char *block, int g)
{
    v64 codes = step_codes(kind, opened, block, g);
#if VEC_SUM_BITS
    if (!opened && kind_raise(kind) != 0) {
        codes = c_add(codes, kind_raise(kind));
    }
#endif
    return codes;
}

/* Products of `steps` steps, from `first`, of one or two row groups with `tokens` tokens: acc
 * [groups][tokens]. Two groups share the loads of the activations. x: activations of the block, of
 * the first of these tokens; `stride` tokens lie between two steps. */
#if VEC_HAS_DOT4

#ifdef VEC_HAS_PAIRS

/* An opened row group holds its steps two by two, for products of two rows and two tokens. A last
 * token without a second is taken twice. */
INLINE void dot_steps_pairs(const unsigned char *block, int first, int steps, const int8_t *x,
                            int stride, int tokens, v16i *acc)
{
    v32i sums[CPU_TILE_TOKENS_MAX / 2];
    UNROLL for (int t = 0; t < tokens; t += 2)
    {
        sums[t / 2] = i_pair(acc[t], acc[t + 1 < tokens ? t + 1 : t]);
    }
    UNROLL for (int g = first; g < first + steps; g += 2)
    {
        v128 codes = c_load_two(block + g * R16_VECTOR);
        UNROLL for (int t = 0; t < tokens; t += 2)
        {
            sums[t / 2] = i_dot8(sums[t / 2], codes, x_pair(x, stride, g, t));
        }
    }
    UNROLL for (int t = 0; t < tokens; t++)
    {
        acc[t] = t % 2 == 0 ? i_pair_first(sums[t / 2]) : i_pair_second(sums[t / 2]);
    }
}

#endif

INLINE void dot_steps(enum r16_kind kind, bool opened, const unsigned char *const *blocks,
                      int groups, int first, int steps, const int8_t *x, int stride, int tokens,
                      v16i *acc)
{
#ifdef VEC_HAS_PAIRS
    if (opened) {
        UNROLL for (int i = 0; i < groups; i++)
        {
            dot_steps_pairs(blocks[i], first, steps, x, stride, tokens, acc + i * tokens);
        }
        return;
    }
#endif
    UNROLL for (int g = first; g < first + steps; g++)
    {
        v64 codes[CPU_PANEL_GROUPS];
        UNROLL for (int i = 0; i < groups; i++)
        {
            codes[i] = kind_starts_lower(kind, opened, tokens)
                           ? step_codes(kind, opened, blocks[i], g)
                           : raised_codes(kind, opened, blocks[i], g);
        }
        UNROLL for (int t = 0; t < tokens; t++)
        {
            const int four = (int)q8_four(VEC_ROW_CODES, (size_t)stride, (size_t)t, (size_t)g);
            UNROLL for (int i = 0; i < groups; i++)
            {
                acc[i * tokens + t] = i_dot4(acc[i * tokens + t], codes[i], x, four);
            }
        }
    }
}

#else

/* How many steps of products fit 16 bits for the largest code times 127, twice a step. */
INLINE int kind_narrow_steps(enum r16_kind kind)
{
    const int bits = r16_code_bits(kind);
    return bits <= 4 ? 8 : bits == 5 ? 4 : bits == 6 ? 2 : 1;
}

/* A step's products with all tokens, x: the step's activations. Two by two: four multiplications,
 * then four additions. Zen 3 issues that nearly twice as fast as an addition right after each
 * multiplication. */
INLINE void add_products(v64 codes, const int8_t *x, int tokens, v64 *pairs)
{
    UNROLL for (int t = 0; t < tokens; t += 2)
    {
        const int other = t + 1 < tokens ? t + 1 : t;
        v64 one = w_products(codes, x + t * 4);
        v64 two = w_products(codes, x + other * 4);
        pairs[t] = w_add(pairs[t], one);
        if (other != t) {
            pairs[other] = w_add(pairs[other], two);
        }
    }
}

#if VEC_SUM_PAIRS

/* Sums of 16 bits that begin with minus offset times the activations end as sums of values, which
 * are about half as large as codes: what is too much on the way wraps and comes back. True when all
 * of a term's fit. */
INLINE bool kind_starts_narrow(enum r16_kind kind)
{
    const int steps = r16_has_halves(kind) ? R16_STEPS / 2 : R16_STEPS;
    const int offset = r16_types[kind].offset;
    const int above = (1 << r16_code_bits(kind)) - 1 - offset;
    const int largest = above > offset ? above : offset;
    return !r16_is_signed(kind) && offset != 0 && largest * 127 * 2 * steps <= INT16_MAX;
}

INLINE void dot_steps_narrow(enum r16_kind kind, bool opened, const unsigned char *block, int first,
                             int steps, const int8_t *x, const int32_t *starts, int stride,
                             int tokens, v16i *acc)
{
    v64 pairs[CPU_TILE_TOKENS_MAX];
    UNROLL for (int t = 0; t < tokens; t++)
    {
        pairs[t] = w_set_pairs(starts + t, kind_offset_shift(kind));
    }
    UNROLL for (int g = first; g < first + steps; g++)
    {
        add_products(step_codes(kind, opened, block, g), x + g * stride * 4, tokens, pairs);
    }
    UNROLL for (int t = 0; t < tokens; t++)
    {
        acc[t] = i_add_pairs(i_zero(), pairs[t]);
    }
}

#endif

INLINE void dot_steps_signed(enum r16_kind kind, bool opened, const unsigned char *block, int first,
                             int steps, const int8_t *x, int stride, int tokens, v16i *acc)
{
    UNROLL for (int g = first; g < first + steps; g++)
    {
        v64 codes = step_codes(kind, opened, block, g);
        v64 sizes = c_abs(codes);
        UNROLL for (int t = 0; t < tokens; t++)
        {
            acc[t] = i_add_pairs(acc[t], w_signed_products(sizes, codes, x + (g * stride + t) * 4));
        }
    }
}

INLINE void dot_steps_unsigned(enum r16_kind kind, bool opened, const unsigned char *block,
                               int first, int steps, const int8_t *x, int stride, int tokens,
                               v16i *acc)
{
    const int narrow = kind_narrow_steps(kind) < steps ? kind_narrow_steps(kind) : steps;
    UNROLL for (int from = first; from < first + steps; from += narrow)
    {
        v64 pairs[CPU_TILE_TOKENS_MAX];
        UNROLL for (int t = 0; t < tokens; t++)
        {
            pairs[t] = w_zero();
        }
        UNROLL for (int g = from; g < from + narrow; g++)
        {
            add_products(step_codes(kind, opened, block, g), x + g * stride * 4, tokens, pairs);
        }
        UNROLL for (int t = 0; t < tokens; t++)
        {
            acc[t] = i_add_pairs(acc[t], pairs[t]);
        }
    }
}

INLINE void dot_steps(enum r16_kind kind, bool opened, const unsigned char *const *blocks,
                      int groups, int first, int steps, const int8_t *x, int stride, int tokens,
                      v16i *acc)
{
    UNROLL for (int i = 0; i < groups; i++)
    {
        if (r16_is_signed(kind)) {
            dot_steps_signed(kind, opened, blocks[i], first, steps, x, stride, tokens,
                             acc + i * tokens);
        } else {
            dot_steps_unsigned(kind, opened, blocks[i], first, steps, x, stride, tokens,
                               acc + i * tokens);
        }
    }
}

#endif

INLINE v16i sum_start(enum r16_kind kind, bool opened, int tokens, const int32_t *start)
{
#if VEC_SUM_BITS
    if (kind_starts_lower(kind, opened, tokens)) {
        const int offset = 128 - kind_raise(kind);
        return i_set1(VEC_SUM_BASE + (*start - VEC_SUM_BASE) / 128 * offset);
    }
    return kind_has_offset(kind) ? i_set1(*start) : i_set1(VEC_SUM_BASE);
#else
    (void)opened;
    (void)tokens;
    const int shift = kind_offset_shift(kind);
#if VEC_SUM_PAIRS
    return shift >= 0 ? i_shift(i_add_pairs(i_zero(), w_set_pairs(start, 0)), shift) : i_zero();
#else
    return shift >= 0 ? i_add_shifted(i_zero(), *start, shift) : i_zero();
#endif
#endif
}

/* Sums of values and activations, with what VEC_SUM_BITS begins them with. */
INLINE void dot_term(enum r16_kind kind, bool opened, const unsigned char *const *codes, int groups,
                     int first, int steps, const int8_t *x, const int32_t *starts, int stride,
                     int tokens, v16i *acc)
{
#if VEC_SUM_PAIRS
    if (kind_starts_narrow(kind)) {
        UNROLL for (int i = 0; i < groups; i++)
        {
            dot_steps_narrow(kind, opened, codes[i], first, steps, x, starts, stride, tokens,
                             acc + i * tokens);
        }
        return;
    }
#endif
    UNROLL for (int t = 0; t < tokens; t++)
    {
        v16i start = sum_start(kind, opened, tokens, starts + t);
        UNROLL for (int i = 0; i < groups; i++)
        {
            acc[i * tokens + t] = start;
        }
    }
#if VEC_HALVE_SUM
    if (!opened && tokens == 1 && groups == 1 && steps == R16_STEPS) {
        v16i second = i_zero();
        dot_steps(kind, opened, codes, 1, first, steps / 2, x, stride, 1, acc);
        dot_steps(kind, opened, codes, 1, first + steps / 2, steps / 2, x, stride, 1, &second);
        acc[0] = i_add(acc[0], second);
        return;
    }
#endif
    dot_steps(kind, opened, codes, groups, first, steps, x, stride, tokens, acc);
}

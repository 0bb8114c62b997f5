/* The vectors that the kernel templates are written in, as AVX2 (with FMA and F16C) has them: 16
 * lanes are two registers. Included by one file only, compiled for that instruction set;
 * vec_avx512.h gives the same names. */
#ifndef PHID_BACKEND_CPU_VEC_AVX2_H
#define PHID_BACKEND_CPU_VEC_AVX2_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "engine/backend/cpu/kernels.h"

#define INLINE static inline __attribute__((always_inline))
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 8")
#endif

#define VEC_REGISTERS     2 /* of 16 lanes */
#define VEC_TILE_TOKENS   4 /* 16 rows by 4 tokens: 8 of 16 registers hold sums */
#define VEC_DIRECT_TOKENS 8
#define VEC_SUM_TOKENS    4 /* that have registers: more of them take turns, see add_in_turns */
#define VEC_DIRECT_TILES  1
#define VEC_PANEL_GROUPS  1
#define VEC_PANEL_BLOCKS  32 /* 16 KiB of codes, half of a 32 KiB first-level cache */
#define VEC_FETCH_TILE    0  /* whether a panel's product asks for the next tile's activations */
#define VEC_PREFETCH_BYTES                                                                         \
    2048 /* ahead in the stream of weights: past the next page's edge before it is reached */
#define VEC_FLOAT_TILE 4 /* vectors of f32 sums that hide the latency of multiply-adds */

/* VEC_HAS_DOT4: there is a dot product of four bytes (VEC_AVXVNNI is defined by the file of a
 * processor that has that of AVX-512 VNNI in these registers).
 * VEC_SUM_PAIRS: products are summed in 16 bits, and activations carry starts for such sums.
 * VEC_SUM_BITS: sums of products begin with VEC_SUM_BASE, see f_scaled, and codes of kinds with an
 * offset are made 128 above the values (but see kind_starts_lower). Otherwise they begin with 0,
 * codes stay above the values by what the kind says, and VEC_SIGNED_SHIFT is what c_from_signed
 * adds to signed codes, as log2; -1: nothing. */
#ifdef VEC_AVXVNNI
#define VEC_HAS_DOT4 1
#define VEC_SUM_BITS 1
#define VEC_SUM_BASE CPU_FLOAT_BITS
#define VEC_W8_ROWS  48
#else
#define VEC_HAS_DOT4     0
#define VEC_SUM_BITS     0
#define VEC_SUM_BASE     0
#define VEC_SIGNED_SHIFT (-1)
#define VEC_SUM_PAIRS    1
#endif

typedef struct {
    __m256 a, b;
} v16f;

typedef struct {
    __m256i a, b;
} v16i;

typedef struct {
    __m256i a, b;
} v64; /* 64 bytes of codes: rows 0-7, rows 8-15 */

INLINE v16f f_zero(void)
{
    return (v16f){_mm256_setzero_ps(), _mm256_setzero_ps()};
}

INLINE v16f f_set1(float x)
{
    return (v16f){_mm256_set1_ps(x), _mm256_set1_ps(x)};
}

INLINE v16f f_load(const float *p)
{
    return (v16f){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
}

INLINE void f_store(float *p, v16f x)
{
    _mm256_storeu_ps(p, x.a);
    _mm256_storeu_ps(p + 8, x.b);
}

INLINE v16f f_load_f16(const void *p)
{
    const __m128i *h = p;
    return (v16f){_mm256_cvtph_ps(_mm_loadu_si128(h)), _mm256_cvtph_ps(_mm_loadu_si128(h + 1))};
}

INLINE v16f f_load_bf16(const void *p)
{
    const __m128i *h = p;
    __m256i a = _mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(h)), 16);
    __m256i b = _mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(h + 1)), 16);
    return (v16f){_mm256_castsi256_ps(a), _mm256_castsi256_ps(b)};
}

INLINE v16f f_load_u8(const void *p)
{
    __m128i bytes = _mm_loadu_si128(p);
    return (v16f){_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes)),
                  _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_srli_si128(bytes, 8)))};
}

INLINE v16f f_load_s8(const void *p)
{
    __m128i bytes = _mm_loadu_si128(p);
    return (v16f){_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)),
                  _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(bytes, 8)))};
}

/* Low and high halves of 16 bytes. */
INLINE void f_load_nibbles(const void *p, v16f *low, v16f *high)
{
    __m128i bytes = _mm_loadu_si128(p);
    __m128i lo = _mm_and_si128(bytes, _mm_set1_epi8(15));
    __m128i hi = _mm_and_si128(_mm_srli_epi16(bytes, 4), _mm_set1_epi8(15));
    *low = (v16f){_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(lo)),
                  _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_srli_si128(lo, 8)))};
    *high = (v16f){_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(hi)),
                   _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_srli_si128(hi, 8)))};
}

/* 2^(e - 128) of 16 bytes: e - 1 is the exponent, but below the normal numbers (e of 0 and 1) the
 * same power is a single bit, (e + 1) * 2^21, and that is the larger number of the two only there.
 */
INLINE __m256 powers_of(__m256i e)
{
    const __m256i one = _mm256_set1_epi32(1);
    __m256i normal = _mm256_slli_epi32(_mm256_sub_epi32(e, one), 23);
    __m256i small = _mm256_slli_epi32(_mm256_add_epi32(e, one), 21);
    return _mm256_castsi256_ps(_mm256_max_epi32(normal, small));
}

INLINE v16f f_load_e8m0(const void *p)
{
    __m128i bytes = _mm_loadu_si128(p);
    return (v16f){powers_of(_mm256_cvtepu8_epi32(bytes)),
                  powers_of(_mm256_cvtepu8_epi32(_mm_srli_si128(bytes, 8)))};
}

INLINE void f_store_f16(uint16_t *p, v16f x)
{
    __m128i *h = (__m128i *)(void *)p;
    _mm_storeu_si128(h, _mm256_cvtps_ph(x.a, _MM_FROUND_TO_NEAREST_INT));
    _mm_storeu_si128(h + 1, _mm256_cvtps_ph(x.b, _MM_FROUND_TO_NEAREST_INT));
}

INLINE v16f f_add(v16f x, v16f y)
{
    return (v16f){_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)};
}

INLINE v16f f_sub(v16f x, v16f y)
{
    return (v16f){_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)};
}

INLINE v16f f_mul(v16f x, v16f y)
{
    return (v16f){_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)};
}

INLINE v16f f_div(v16f x, v16f y)
{
    return (v16f){_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)};
}

/* x * y + z */
INLINE v16f f_fma(v16f x, v16f y, v16f z)
{
    return (v16f){_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
}

INLINE v16f f_min(v16f x, v16f y)
{
    return (v16f){_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)};
}

INLINE v16f f_max(v16f x, v16f y)
{
    return (v16f){_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)};
}

INLINE v16f f_abs(v16f x)
{
    __m256 sign = _mm256_set1_ps(-0.0f);
    return (v16f){_mm256_andnot_ps(sign, x.a), _mm256_andnot_ps(sign, x.b)};
}

/* A macro, because clang takes no variable for an immediate. */
#define VEC_ROUND_EVEN (_MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)

INLINE v16f f_rint(v16f x)
{
    return (v16f){_mm256_round_ps(x.a, VEC_ROUND_EVEN), _mm256_round_ps(x.b, VEC_ROUND_EVEN)};
}

/* Lanes 8, 4, 2 and 1 apart, as CPU_LANES says. */
INLINE float f_sum(v16f x)
{
    __m256 v = _mm256_add_ps(x.a, x.b);
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

INLINE float f_largest(v16f x)
{
    __m256 v = _mm256_max_ps(x.a, x.b);
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}

/* Lanes from .. to - 1 of x, the others from y. */
INLINE v16f f_select_range(v16f x, v16f y, int from, int to)
{
    const __m256i lane_a = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256i lane_b = _mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15);
    __m256i low = _mm256_set1_epi32(from - 1);
    __m256i high = _mm256_set1_epi32(to);
    __m256i in_a =
        _mm256_and_si256(_mm256_cmpgt_epi32(lane_a, low), _mm256_cmpgt_epi32(high, lane_a));
    __m256i in_b =
        _mm256_and_si256(_mm256_cmpgt_epi32(lane_b, low), _mm256_cmpgt_epi32(high, lane_b));
    return (v16f){_mm256_blendv_ps(y.a, x.a, _mm256_castsi256_ps(in_a)),
                  _mm256_blendv_ps(y.b, x.b, _mm256_castsi256_ps(in_b))};
}

/* y where x < limit, else z. */
INLINE v16f f_select_below(v16f x, float limit, v16f y, v16f z)
{
    __m256 l = _mm256_set1_ps(limit);
    return (v16f){_mm256_blendv_ps(z.a, y.a, _mm256_cmp_ps(x.a, l, _CMP_LT_OQ)),
                  _mm256_blendv_ps(z.b, y.b, _mm256_cmp_ps(x.b, l, _CMP_LT_OQ))};
}

/* x * 2^n for whole numbers n in f32, when the result is a normal number. */
INLINE v16f f_scale_by_power(v16f x, v16f n)
{
    __m256i a = _mm256_slli_epi32(_mm256_cvtps_epi32(n.a), 23);
    __m256i b = _mm256_slli_epi32(_mm256_cvtps_epi32(n.b), 23);
    return (v16f){_mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(x.a), a)),
                  _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(x.b), b))};
}

INLINE v16f f_from_i(v16i x)
{
    return (v16f){_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)};
}

/* Rounds to nearest even, to bytes; also returns them. */
INLINE v16i i_store_s8(int8_t *p, v16f x)
{
    __m256i a = _mm256_cvtps_epi32(x.a);
    __m256i b = _mm256_cvtps_epi32(x.b);
    __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xd8);
    __m128i bytes =
        _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
    _mm_storeu_si128((__m128i *)(void *)p, bytes);
    return (v16i){a, b};
}

INLINE int32_t i_sum(v16i x)
{
    __m256i sums = _mm256_add_epi32(x.a, x.b);
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1));
    return _mm_cvtsi128_si32(s);
}

/* The same; returns their sum. */
INLINE int32_t f_store_s8(int8_t *p, v16f x)
{
    return i_sum(i_store_s8(p, x));
}

/* Rounds to nearest even, to 16 bits. */
INLINE void f_store_s16(int16_t *p, v16f x)
{
    __m256i words = _mm256_packs_epi32(_mm256_cvtps_epi32(x.a), _mm256_cvtps_epi32(x.b));
    _mm256_storeu_si256((__m256i *)(void *)p, _mm256_permute4x64_epi64(words, 0xd8));
}

/* 32 signed bytes as 16 lanes of two 16-bit numbers. */
INLINE v16i i_load_s8_pairs(const int8_t *p)
{
    const __m128i *v = (const __m128i *)(const void *)p;
    return (v16i){_mm256_cvtepi8_epi16(_mm_loadu_si128(v)),
                  _mm256_cvtepi8_epi16(_mm_loadu_si128(v + 1))};
}

/* x + the two products of each lane's 16-bit numbers and those at p. */
INLINE v16i i_dot2(v16i x, v16i pairs, const int16_t *p)
{
    int32_t word;
    memcpy(&word, p, sizeof(word));
    __m256i y = _mm256_set1_epi32(word);
    v16i sum = {_mm256_add_epi32(x.a, _mm256_madd_epi16(pairs.a, y)),
                _mm256_add_epi32(x.b, _mm256_madd_epi16(pairs.b, y))};
    /* One sum after the other: otherwise all broadcasts come first and one of eight sums goes to
     * memory. */
    __asm__ volatile("" : "+x"(sum.a), "+x"(sum.b));
    return sum;
}

INLINE v64 c_load(const unsigned char *p)
{
    const __m256i *v = (const __m256i *)(const void *)p;
    return (v64){_mm256_load_si256(v), _mm256_load_si256(v + 1)};
}

INLINE void c_store(unsigned char *p, v64 x)
{
    __m256i *v = (__m256i *)(void *)p;
    _mm256_store_si256(v, x.a);
    _mm256_store_si256(v + 1, x.b);
}

INLINE v64 c_or(v64 x, v64 y)
{
    return (v64){_mm256_or_si256(x.a, y.a), _mm256_or_si256(x.b, y.b)};
}

/* Adds y to every byte. */
INLINE v64 c_add(v64 x, int y)
{
    __m256i v = _mm256_set1_epi8((char)y);
    return (v64){_mm256_add_epi8(x.a, v), _mm256_add_epi8(x.b, v)};
}

/* The bits of `mask` in every byte, after shifting right (left when negative); bits that cross
 * bytes must be masked out. */
INLINE v64 c_bits(v64 x, int right, int mask)
{
    __m256i m = _mm256_set1_epi8((char)mask);
    if (right > 0) {
        x = (v64){_mm256_srli_epi16(x.a, right), _mm256_srli_epi16(x.b, right)};
    } else if (right < 0) {
        x = (v64){_mm256_slli_epi16(x.a, -right), _mm256_slli_epi16(x.b, -right)};
    }
    return (v64){_mm256_and_si256(x.a, m), _mm256_and_si256(x.b, m)};
}

/* table[byte] for bytes below 16 */
INLINE v64 c_lookup(const int8_t table[16], v64 x)
{
    __m256i t = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)table));
    return (v64){_mm256_shuffle_epi8(t, x.a), _mm256_shuffle_epi8(t, x.b)};
}

/* Signed codes as the products want them: unsigned for a dot product, else as they are. */
INLINE v64 c_from_signed(v64 x)
{
#if VEC_HAS_DOT4
    const __m256i half = _mm256_set1_epi8((char)0x80);
    return (v64){_mm256_xor_si256(x.a, half), _mm256_xor_si256(x.b, half)};
#else
    return x;
#endif
}

INLINE v16i i_zero(void)
{
    return (v16i){_mm256_setzero_si256(), _mm256_setzero_si256()};
}

#if VEC_SUM_BITS

INLINE v16i i_set1(int32_t x)
{
    return (v16i){_mm256_set1_epi32(x), _mm256_set1_epi32(x)};
}

INLINE v16i i_add(v16i x, v16i y)
{
    return (v16i){_mm256_add_epi32(x.a, y.a), _mm256_add_epi32(x.b, y.b)};
}

/* Without the last 8 bits of the mantissa. */
INLINE v16f f_coarse(v16f x)
{
    const __m256 mask = _mm256_castsi256_ps(_mm256_set1_epi32(~0xff));
    return (v16f){_mm256_and_ps(x.a, mask), _mm256_and_ps(x.b, mask)};
}

INLINE __m256i twice(__m256 x, int y)
{
    __m256i whole = _mm256_add_epi32(_mm256_cvtps_epi32(x), _mm256_set1_epi32(y));
    return _mm256_blend_epi16(whole, _mm256_slli_epi32(whole, 16), 0xaa);
}

/* The low 16 bits of x, rounded, plus y; twice in each lane. */
INLINE v16i i_twice(v16f x, int y)
{
    return (v16i){twice(x.a, y), twice(x.b, y)};
}

INLINE __m256i rounded(__m256i codes, __m256i factor, __m256i added)
{
    const __m256i upper = _mm256_set1_epi16((short)0xff00);
    __m256i even = _mm256_mulhrs_epi16(_mm256_slli_epi16(codes, 8), factor);
    __m256i odd = _mm256_mulhrs_epi16(_mm256_and_si256(codes, upper), factor);
    even = _mm256_srli_epi16(_mm256_add_epi16(even, added), 8);
    return _mm256_or_si256(even, _mm256_and_si256(_mm256_add_epi16(odd, added), upper));
}

/* Of signed bytes: (byte * 2^8 * factor + 2^14 >> 15) + added, of which the upper byte. factor and
 * added: numbers of 16 bits, each for two bytes. */
INLINE v64 c_rounded(v64 codes, v16i factor, v16i added)
{
    return (v64){rounded(codes.a, factor.a, added.a), rounded(codes.b, factor.b, added.b)};
}

/* (float)(x - VEC_SUM_BASE) * scale, rounded once. Because a sum of less than 2^22 on top of the
 * bits of CPU_FLOAT_BASE is the bits of that number plus the sum, and because shift =
 * -CPU_FLOAT_BASE
 * * scale is exact for scales of up to 22 bits (all types have fewer), this is one multiply-add
 * instead of a conversion and a multiplication. */
INLINE v16f f_scaled(v16i x, v16f scale, v16f shift)
{
    return f_fma((v16f){_mm256_castsi256_ps(x.a), _mm256_castsi256_ps(x.b)}, scale, shift);
}

INLINE v16f f_shift_of(v16f scale)
{
    return f_mul(scale, f_set1(-CPU_FLOAT_BASE));
}

#else

INLINE v16f f_scaled(v16i x, v16f scale, v16f shift)
{
    (void)shift;
    return f_mul(f_from_i(x), scale);
}

INLINE v16f f_shift_of(v16f scale)
{
    (void)scale;
    return f_zero();
}

#endif

/* x + y * 2^shift in all lanes */
INLINE v16i i_add_shifted(v16i x, int32_t y, int shift)
{
    __m256i v = _mm256_slli_epi32(_mm256_set1_epi32(y), shift);
    return (v16i){_mm256_add_epi32(x.a, v), _mm256_add_epi32(x.b, v)};
}

/* x * 2^shift */
INLINE v16i i_shift(v16i x, int shift)
{
    return (v16i){_mm256_slli_epi32(x.a, shift), _mm256_slli_epi32(x.b, shift)};
}

INLINE __m256i broadcast4(const int8_t *p)
{
    int32_t word;
    memcpy(&word, p, sizeof(word));
    return _mm256_set1_epi32(word);
}

/* The compiler must take x for changed. */
INLINE void c_hide(v64 *x)
{
    __asm__ volatile("" : "+x"(x->a), "+x"(x->b));
}

#if VEC_HAS_DOT4

/* x + the sums of four products of codes and four bytes: those of number `four` behind p. A block's
 * activations are a multiple of 16 bytes from p, so that a register may be loaded from them. */
INLINE v16i i_dot4(v16i x, v64 codes, const int8_t *p, int four)
{
    __m256i y = broadcast4(p + 4 * four);
    return (v16i){_mm256_dpbusd_avx_epi32(x.a, codes.a, y),
                  _mm256_dpbusd_avx_epi32(x.b, codes.b, y)};
}

#else

/* There is no instruction that sums four products of bytes into 32 bits; products of pairs are
 * summed in 16. */

/* Pairs of products of unsigned codes and the four bytes at p, in 16 bits. */
INLINE v64 w_products(v64 codes, const int8_t *p)
{
    __m256i y = broadcast4(p);
    return (v64){_mm256_maddubs_epi16(codes.a, y), _mm256_maddubs_epi16(codes.b, y)};
}

INLINE v64 w_add(v64 x, v64 y)
{
    return (v64){_mm256_add_epi16(x.a, y.a), _mm256_add_epi16(x.b, y.b)};
}

/* Pairs of products of signed codes and the four bytes at p: the codes' signs move to the bytes.
 * sizes: |codes|. */
INLINE v64 w_signed_products(v64 sizes, v64 codes, const int8_t *p)
{
    __m256i y = broadcast4(p);
    return (v64){_mm256_maddubs_epi16(sizes.a, _mm256_sign_epi8(y, codes.a)),
                 _mm256_maddubs_epi16(sizes.b, _mm256_sign_epi8(y, codes.b))};
}

INLINE v64 c_abs(v64 x)
{
    return (v64){_mm256_abs_epi8(x.a), _mm256_abs_epi8(x.b)};
}

/* The two 16-bit numbers at p in all lanes, times 2^shift. */
INLINE v64 w_set_pairs(const int32_t *p, int shift)
{
    __m256i v = _mm256_slli_epi16(_mm256_set1_epi32(*p), shift);
    return (v64){v, v};
}

INLINE v64 w_zero(void)
{
    return (v64){_mm256_setzero_si256(), _mm256_setzero_si256()};
}

/* x + the sums of two 16-bit sums a lane. */
INLINE v16i i_add_pairs(v16i x, v64 pairs)
{
    const __m256i ones = _mm256_set1_epi16(1);
    return (v16i){_mm256_add_epi32(x.a, _mm256_madd_epi16(pairs.a, ones)),
                  _mm256_add_epi32(x.b, _mm256_madd_epi16(pairs.b, ones))};
}

#endif

#endif

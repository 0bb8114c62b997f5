/* The vectors that the kernel templates are written in, as AVX-512 has them, with or without VNNI:
 * 16 lanes are one register. The same names as vec_avx2.h, see there. The kernel tests compile this
 * a second time with VEC_EMULATED, where the instructions come from a header that imitates them. */
#ifndef PHID_BACKEND_CPU_VEC_AVX512_H
#define PHID_BACKEND_CPU_VEC_AVX512_H

#ifdef VEC_EMULATED
#define INLINE                                                                                     \
    static /* a template's constants are then ordinary arguments: slow, and quick to compile */
#define UNROLL
#else
#include <immintrin.h>
#define INLINE static inline __attribute__((always_inline))
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif
#endif
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "engine/backend/cpu/kernels.h"

#define VEC_REGISTERS      1 /* of 16 lanes */
#define VEC_FETCH_TILE     1
#define VEC_PREFETCH_BYTES 4096
#define VEC_FLOAT_TILE     16 /* f32 sums: twice what hides the latency of multiply-adds */

/* Defined by the file of processors that have VNNI. */
#ifdef VEC_AVX512VNNI
#define VEC_SUM_TOKENS   8
#define VEC_PANEL_GROUPS 2
#ifdef VEC_AMX
#define VEC_DIRECT_TOKENS 16
#define VEC_TILES_FROM    9  /* for fewer packed weights are opened in registers */
#define VEC_TILE_TOKENS   16 /* all rows of a tile, 16 f32 sums */
#define VEC_SUM_GROUPS    1  /* the second row group finds the activations in the nearest cache */
#define VEC_DIRECT_TILES  1
#define VEC_PANEL_BLOCKS  8
#define VEC_HAS_TILES     1
#define VEC_ROW_CODES     1
#else
#define VEC_DIRECT_TOKENS VEC_SUM_TOKENS
#define VEC_TILE_TOKENS   6 /* 32 rows: 12 sums of products and 12 f32 sums in 32 registers */
#define VEC_DIRECT_TILES  2
#define VEC_PANEL_BLOCKS  16 /* two panels of 12 KiB at most */
#endif
#define VEC_HAS_DOT4  1
#define VEC_HALVE_SUM 1
#define VEC_SUM_BITS  1
#define VEC_SUM_BASE  CPU_FLOAT_BITS
#define VEC_W8_ROWS   48
#else
#define VEC_SUM_TOKENS    4
#define VEC_TILE_TOKENS   4 /* 16 rows: 4 sums of each kind, 16-bit, 32-bit and f32 */
#define VEC_DIRECT_TOKENS 4
#define VEC_DIRECT_TILES  1
#define VEC_PANEL_GROUPS  1
#define VEC_PANEL_BLOCKS  16
#define VEC_HAS_DOT4      0
#define VEC_SUM_BITS      0
#define VEC_SUM_BASE      0
#define VEC_SIGNED_SHIFT  (-1)
#endif

typedef __m512 v16f;
typedef __m512i v16i;
typedef __m512i v64;

INLINE v16f f_zero(void)
{
    return _mm512_setzero_ps();
}

INLINE v16f f_set1(float x)
{
    return _mm512_set1_ps(x);
}

INLINE v16f f_load(const float *p)
{
    return _mm512_loadu_ps(p);
}

INLINE void f_store(float *p, v16f x)
{
    _mm512_storeu_ps(p, x);
}

INLINE v16f f_load_f16(const void *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}

INLINE v16f f_load_bf16(const void *p)
{
    return _mm512_castsi512_ps(
        _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p)), 16));
}

INLINE v16f f_load_u8(const void *p)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p)));
}

INLINE v16f f_load_s8(const void *p)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)));
}

/* 2^23 + (x & mask) of numbers below 2^23: one instruction puts them among its bits. */
INLINE v16f f_from_bits(__m512i x, int mask)
{
    const __m512i base = _mm512_set1_epi32(0x4b000000);
    return _mm512_castsi512_ps(
        _mm512_ternarylogic_epi32(x, _mm512_set1_epi32(mask), base, 0xea)); /* x & mask | base */
}

/* The upper one is not shifted: it counts sixteenfold until it is multiplied. */
INLINE void f_load_nibbles(const void *p, v16f *low, v16f *high)
{
    const float base = 1 << 23;
    __m512i bytes = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p));
    *low = _mm512_sub_ps(f_from_bits(bytes, 0x0f), _mm512_set1_ps(base));
    *high = _mm512_fmadd_ps(f_from_bits(bytes, 0xf0), _mm512_set1_ps(1.0f / 16),
                            _mm512_set1_ps(-base / 16));
}

#define VEC_NIBBLE_PRODUCTS 1

/* x times the lower nibbles of 16 bytes and y times the upper ones, no zero of which is negative.
 * x, y: f16 numbers, so that every product on the way is a float. */
INLINE void f_nibble_products(const void *p, v16f x, v16f y, v16f *low, v16f *high)
{
    const float base = 1 << 23;
    const __m512 sixteenth = _mm512_mul_ps(y, _mm512_set1_ps(1.0f / 16));
    __m512i bytes = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p));
    *low = _mm512_fmadd_ps(f_from_bits(bytes, 0x0f), x, _mm512_mul_ps(x, _mm512_set1_ps(-base)));
    *high = _mm512_fmadd_ps(f_from_bits(bytes, 0xf0), sixteenth,
                            _mm512_mul_ps(sixteenth, _mm512_set1_ps(-base)));
}

/* 2^(e - 128) of 16 bytes: e - 1 is the exponent, but below the normal numbers (e of 0 and 1) the
 * same power is a single bit, (e + 1) * 2^21, and that is the larger number of the two only there.
 */
INLINE v16f f_load_e8m0(const void *p)
{
    const __m512i one = _mm512_set1_epi32(1);
    __m512i e = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p));
    __m512i normal = _mm512_slli_epi32(_mm512_sub_epi32(e, one), 23);
    __m512i small = _mm512_slli_epi32(_mm512_add_epi32(e, one), 21);
    return _mm512_castsi512_ps(_mm512_max_epi32(normal, small));
}

INLINE void f_store_f16(uint16_t *p, v16f x)
{
    _mm256_storeu_si256((__m256i *)(void *)p, _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
}

INLINE v16f f_add(v16f x, v16f y)
{
    return _mm512_add_ps(x, y);
}

INLINE v16f f_sub(v16f x, v16f y)
{
    return _mm512_sub_ps(x, y);
}

INLINE v16f f_mul(v16f x, v16f y)
{
    return _mm512_mul_ps(x, y);
}

INLINE v16f f_div(v16f x, v16f y)
{
    return _mm512_div_ps(x, y);
}

INLINE v16f f_fma(v16f x, v16f y, v16f z)
{
    return _mm512_fmadd_ps(x, y, z);
}

INLINE v16f f_min(v16f x, v16f y)
{
    return _mm512_min_ps(x, y);
}

INLINE v16f f_max(v16f x, v16f y)
{
    return _mm512_max_ps(x, y);
}

INLINE v16f f_abs(v16f x)
{
    return _mm512_abs_ps(x);
}

INLINE v16f f_rint(v16f x)
{
    return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

INLINE __m256 upper_half(v16f x)
{
    return _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(x), 1));
}

INLINE float f_sum(v16f x)
{
    __m256 v = _mm256_add_ps(_mm512_castps512_ps256(x), upper_half(x));
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

INLINE float f_largest(v16f x)
{
    __m256 v = _mm256_max_ps(_mm512_castps512_ps256(x), upper_half(x));
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}

INLINE v16f f_select_range(v16f x, v16f y, int from, int to)
{
    const uint32_t below_to = to >= 16 ? 0xffffu : to <= 0 ? 0u : (1u << to) - 1;
    const uint32_t below_from = from >= 16 ? 0xffffu : from <= 0 ? 0u : (1u << from) - 1;
    return _mm512_mask_blend_ps((__mmask16)(below_to & ~below_from), y, x);
}

INLINE v16f f_select_below(v16f x, float limit, v16f y, v16f z)
{
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(x, _mm512_set1_ps(limit), _CMP_LT_OQ), z, y);
}

INLINE v16f f_scale_by_power(v16f x, v16f n)
{
    return _mm512_castsi512_ps(
        _mm512_add_epi32(_mm512_castps_si512(x), _mm512_slli_epi32(_mm512_cvtps_epi32(n), 23)));
}

INLINE v16f f_from_i(v16i x)
{
    return _mm512_cvtepi32_ps(x);
}

INLINE v16i i_store_s8(int8_t *p, v16f x)
{
    __m512i whole = _mm512_cvtps_epi32(x);
    _mm_storeu_si128((__m128i *)(void *)p, _mm512_cvtsepi32_epi8(whole));
    return whole;
}

INLINE int32_t i_sum(v16i x)
{
    __m256i sums = _mm256_add_epi32(_mm512_castsi512_si256(x), _mm512_extracti64x4_epi64(x, 1));
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1));
    return _mm_cvtsi128_si32(s);
}

INLINE int32_t f_store_s8(int8_t *p, v16f x)
{
    return i_sum(i_store_s8(p, x));
}

INLINE void f_store_s16(int16_t *p, v16f x)
{
    _mm256_storeu_si256((__m256i *)(void *)p, _mm512_cvtsepi32_epi16(_mm512_cvtps_epi32(x)));
}

INLINE v16i i_load_s8_pairs(const int8_t *p)
{
    return _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)(const void *)p));
}

INLINE v16i i_dot2(v16i x, v16i pairs, const int16_t *p)
{
    int32_t word;
    memcpy(&word, p, sizeof(word));
#ifdef VEC_AVX512VNNI
    return _mm512_dpwssd_epi32(x, pairs, _mm512_set1_epi32(word));
#else
    return _mm512_add_epi32(x, _mm512_madd_epi16(pairs, _mm512_set1_epi32(word)));
#endif
}

INLINE v64 c_load(const unsigned char *p)
{
    return _mm512_load_si512((const void *)p);
}

INLINE void c_store(unsigned char *p, v64 x)
{
    _mm512_store_si512((void *)p, x);
}

INLINE v64 c_or(v64 x, v64 y)
{
    return _mm512_or_si512(x, y);
}

INLINE v64 c_add(v64 x, int y)
{
    return _mm512_add_epi8(x, _mm512_set1_epi8((char)y));
}

/* `right` is a constant, though not to the preprocessor: the shift by a register costs no more. */
INLINE v64 c_bits(v64 x, int right, int mask)
{
    if (right > 0) {
        x = _mm512_srl_epi16(x, _mm_cvtsi32_si128(right));
    } else if (right < 0) {
        x = _mm512_sll_epi16(x, _mm_cvtsi32_si128(-right));
    }
    return _mm512_and_si512(x, _mm512_set1_epi8((char)mask));
}

INLINE v64 c_lookup(const int8_t table[16], v64 x)
{
    __m512i t = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(const void *)table));
    return _mm512_shuffle_epi8(t, x);
}

INLINE v64 c_from_signed(v64 x)
{
#if VEC_HAS_DOT4
    return _mm512_xor_si512(x, _mm512_set1_epi8((char)0x80));
#else
    return x;
#endif
}

INLINE v16i i_load(const int32_t *p)
{
    return _mm512_load_si512((const void *)p);
}

INLINE v16i i_zero(void)
{
    return _mm512_setzero_si512();
}

INLINE __m512i broadcast4(const int8_t *p)
{
    int32_t word;
    memcpy(&word, p, sizeof(word));
    return _mm512_set1_epi32(word);
}

INLINE v16i i_add(v16i x, v16i y)
{
    return _mm512_add_epi32(x, y);
}

#ifdef VEC_AVX512VNNI

INLINE v16i i_set1(int32_t x)
{
    return _mm512_set1_epi32(x);
}

INLINE v16f f_coarse(v16f x)
{
    return _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(~0xff)));
}

INLINE v16i i_twice(v16f x, int y)
{
    __m512i whole = _mm512_add_epi32(_mm512_cvtps_epi32(x), _mm512_set1_epi32(y));
    return _mm512_or_si512(_mm512_and_si512(whole, _mm512_set1_epi32(0xffff)),
                           _mm512_slli_epi32(whole, 16));
}

INLINE v64 c_rounded(v64 codes, v16i factor, v16i added)
{
    const __m512i upper = _mm512_set1_epi16((short)0xff00);
    __m512i even = _mm512_mulhrs_epi16(_mm512_slli_epi16(codes, 8), factor);
    __m512i odd = _mm512_mulhrs_epi16(_mm512_and_si512(codes, upper), factor);
    even = _mm512_srli_epi16(_mm512_add_epi16(even, added), 8);
    odd = _mm512_add_epi16(odd, added);
    return _mm512_ternarylogic_epi32(even, odd, upper, 0xf8); /* even | odd & upper */
}

INLINE v16f f_scaled(v16i x, v16f scale, v16f shift)
{
    return _mm512_fmadd_ps(_mm512_castsi512_ps(x), scale, shift);
}

INLINE v16f f_shift_of(v16f scale)
{
    return _mm512_mul_ps(scale, _mm512_set1_ps(-CPU_FLOAT_BASE));
}

#ifdef VEC_AMX

/* Of a step's codes: lane 2 n + i is 2^15 + the byte of column 2 * pair + i and row n, or n + 8 of
 * the upper rows. One instruction puts the byte among the bits of 2^15. */
INLINE v16f f_from_bytes(v64 codes, int pair, bool upper)
{
    const __m512i base = _mm512_set1_epi32(0x47000000);
    const __m512i rows = _mm512_set_epi32(28, 28, 24, 24, 20, 20, 16, 16, 12, 12, 8, 8, 4, 4, 0, 0);
    const __m512i columns = _mm512_set_epi32(1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0);
    __m512i from = _mm512_add_epi32(_mm512_add_epi32(rows, columns),
                                    _mm512_set1_epi32(2 * pair + (upper ? 32 : 0)));
    return _mm512_castsi512_ps(_mm512_mask_permutexvar_epi8(
        base, 0x2222222222222222, _mm512_slli_epi32(from, 8), codes)); /* to byte 1 of a lane */
}

/* Every row's twice, of the lower or the upper eight. */
INLINE v16f f_twice(v16f x, bool upper)
{
    const __m512i lower = _mm512_set_epi32(7, 7, 6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0, 0);
    const __m512i from = _mm512_add_epi32(lower, _mm512_set1_epi32(upper ? 8 : 0));
    return _mm512_permutexvar_ps(from, x);
}

/* To bf16, see bf16_round. */
INLINE void f_store_bf16(uint16_t *p, v16f x)
{
    _mm256_storeu_si256((__m256i *)(void *)p, (__m256i)_mm512_cvtneps_pbh(x));
}

INLINE void f_store_bf16_two(uint16_t *p, v16f x, v16f y)
{
    _mm512_store_si512(p, (__m512i)_mm512_cvtne2ps_pbh(y, x));
}

#endif

/* Not the intrinsic: for its sum GCC 12 takes another register than the one added to, copies, and
 * runs out of registers in a tile of 32 rows by 6 tokens. */
INLINE v16i i_dot4(v16i x, v64 codes, const int8_t *p, int four)
{
    const __m512i y = broadcast4(p + 4 * four);
#ifdef VEC_EMULATED
    return _mm512_dpbusd_epi32(x, codes, y);
#else
    __asm__("vpdpbusd %2, %1, %0" : "+v"(x) : "v"(codes), "v"(y));
    return x;
#endif
}

#else

INLINE v16f f_scaled(v16i x, v16f scale, v16f shift)
{
    (void)shift;
    return _mm512_mul_ps(_mm512_cvtepi32_ps(x), scale);
}

INLINE v16f f_shift_of(v16f scale)
{
    (void)scale;
    return f_zero();
}

INLINE v16i i_add_shifted(v16i x, int32_t y, int shift)
{
    return _mm512_add_epi32(x, _mm512_set1_epi32((int32_t)((uint32_t)y << shift)));
}

/* The compiler must take x for changed. */
INLINE void c_hide(v64 *x)
{
#ifdef VEC_EMULATED
    __asm__ volatile("" : "+m"(*x));
#else
    __asm__ volatile("" : "+v"(*x));
#endif
}

INLINE v64 w_products(v64 codes, const int8_t *p)
{
    return _mm512_maddubs_epi16(codes, broadcast4(p));
}

INLINE v64 w_add(v64 x, v64 y)
{
    return _mm512_add_epi16(x, y);
}

INLINE v64 w_signed_products(v64 sizes, v64 codes, const int8_t *p)
{
    __m512i y = broadcast4(p);
    y = _mm512_mask_sub_epi8(y, _mm512_movepi8_mask(codes), _mm512_setzero_si512(), y);
    return _mm512_maddubs_epi16(sizes, y);
}

INLINE v64 c_abs(v64 x)
{
    return _mm512_abs_epi8(x);
}

INLINE v64 w_zero(void)
{
    return _mm512_setzero_si512();
}

INLINE v16i i_add_pairs(v16i x, v64 pairs)
{
    return _mm512_add_epi32(x, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
}

#endif

#endif

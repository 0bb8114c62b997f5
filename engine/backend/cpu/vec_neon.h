/* The vectors that the kernel templates are written in, as 64-bit ARM has them: 16 lanes are four
 * registers. The same names as vec_avx2.h, see there. Included by one file only for each of
 *   plain NEON   bytes are multiplied into 16 bits and added up from there
 *   VEC_DOTPROD  SDOT: four products of bytes to a lane, the activations taken from a register by
 *                lane, 16 bytes of them with one load
 *   VEC_I8MM     and SMMLA: two rows by two tokens by eight columns, for opened panels
 * All multiply signed by signed bytes. Codes are below 128 or signed already, so none is moved. */
#ifndef PHID_BACKEND_CPU_VEC_NEON_H
#define PHID_BACKEND_CPU_VEC_NEON_H

#include <arm_neon.h>
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

#define VEC_SUM_TOKENS     VEC_DIRECT_TOKENS
#define VEC_REGISTERS      4 /* of 16 lanes */
#define VEC_TILE_TOKENS    4 /* 16 rows by 4 tokens: 16 of 32 registers hold sums */
#define VEC_DIRECT_TOKENS  4
#define VEC_DIRECT_TILES   1
#define VEC_PANEL_GROUPS   1
#define VEC_PANEL_BLOCKS   32 /* 16 KiB of codes, a quarter to half of a first-level cache */
#define VEC_FETCH_TILE     0
#define VEC_PREFETCH_BYTES 2048
#define VEC_FLOAT_TILE     4    /* vectors of f32 sums that hide the latency of multiply-adds */
#define VEC_SIGNED_SHIFT   (-1) /* signed codes stay as they are */
#define VEC_HAS_DOT4       1
#define VEC_SUM_BITS       0 /* would want codes that SDOT takes for negative */
#define VEC_SUM_BASE       0

#ifdef VEC_I8MM
#define VEC_HAS_PAIRS 1
#endif

typedef struct {
    float32x4_t a, b, c, d;
} v16f;

typedef struct {
    int32x4_t a, b, c, d;
} v16i;

typedef struct {
    uint8x16_t a, b, c, d;
} v64; /* 64 bytes of codes: rows 0-3, 4-7, 8-11, 12-15 */

/* The same of every register. */
#define EACH(x, f)                                                                                 \
    {                                                                                              \
        f((x).a), f((x).b), f((x).c), f((x).d)                                                     \
    }
#define EACH_OF_2(x, y, f)                                                                         \
    {                                                                                              \
        f((x).a, (y).a), f((x).b, (y).b), f((x).c, (y).c), f((x).d, (y).d)                         \
    }

INLINE v16f f_set1(float x)
{
    float32x4_t v = vdupq_n_f32(x);
    return (v16f){v, v, v, v};
}

INLINE v16f f_zero(void)
{
    return f_set1(0.0f);
}

INLINE v16f f_load(const float *p)
{
    return (v16f){vld1q_f32(p), vld1q_f32(p + 4), vld1q_f32(p + 8), vld1q_f32(p + 12)};
}

INLINE void f_store(float *p, v16f x)
{
    vst1q_f32(p, x.a);
    vst1q_f32(p + 4, x.b);
    vst1q_f32(p + 8, x.c);
    vst1q_f32(p + 12, x.d);
}

/* 8 numbers of 16 bits, from any address. */
INLINE uint16x8_t load_words(const void *p, size_t index)
{
    return vreinterpretq_u16_u8(vld1q_u8((const uint8_t *)p + 2 * index));
}

INLINE v16f f_load_f16(const void *p)
{
    float16x8_t x = vreinterpretq_f16_u16(load_words(p, 0));
    float16x8_t y = vreinterpretq_f16_u16(load_words(p, 8));
    return (v16f){vcvt_f32_f16(vget_low_f16(x)), vcvt_high_f32_f16(x),
                  vcvt_f32_f16(vget_low_f16(y)), vcvt_high_f32_f16(y)};
}

INLINE float32x4_t f32_from_bf16(uint16x4_t x)
{
    return vreinterpretq_f32_u32(vshlq_n_u32(vmovl_u16(x), 16));
}

INLINE v16f f_load_bf16(const void *p)
{
    uint16x8_t x = load_words(p, 0);
    uint16x8_t y = load_words(p, 8);
    return (v16f){f32_from_bf16(vget_low_u16(x)), f32_from_bf16(vget_high_u16(x)),
                  f32_from_bf16(vget_low_u16(y)), f32_from_bf16(vget_high_u16(y))};
}

INLINE v16f f_from_u8(uint8x16_t bytes)
{
    uint16x8_t x = vmovl_u8(vget_low_u8(bytes));
    uint16x8_t y = vmovl_high_u8(bytes);
    return (v16f){vcvtq_f32_u32(vmovl_u16(vget_low_u16(x))), vcvtq_f32_u32(vmovl_high_u16(x)),
                  vcvtq_f32_u32(vmovl_u16(vget_low_u16(y))), vcvtq_f32_u32(vmovl_high_u16(y))};
}

INLINE v16f f_load_u8(const void *p)
{
    return f_from_u8(vld1q_u8(p));
}

INLINE v16f f_load_s8(const void *p)
{
    int8x16_t bytes = vld1q_s8(p);
    int16x8_t x = vmovl_s8(vget_low_s8(bytes));
    int16x8_t y = vmovl_high_s8(bytes);
    return (v16f){vcvtq_f32_s32(vmovl_s16(vget_low_s16(x))), vcvtq_f32_s32(vmovl_high_s16(x)),
                  vcvtq_f32_s32(vmovl_s16(vget_low_s16(y))), vcvtq_f32_s32(vmovl_high_s16(y))};
}

/* Low and high halves of 16 bytes. */
INLINE void f_load_nibbles(const void *p, v16f *low, v16f *high)
{
    uint8x16_t bytes = vld1q_u8(p);
    *low = f_from_u8(vandq_u8(bytes, vdupq_n_u8(15)));
    *high = f_from_u8(vshrq_n_u8(bytes, 4));
}

/* 2^(e - 128) of four numbers, see vec_avx2.h. */
INLINE float32x4_t powers_of(uint16x4_t e)
{
    const int32x4_t one = vdupq_n_s32(1);
    int32x4_t wide = vreinterpretq_s32_u32(vmovl_u16(e));
    int32x4_t normal = vshlq_n_s32(vsubq_s32(wide, one), 23);
    int32x4_t small = vshlq_n_s32(vaddq_s32(wide, one), 21);
    return vreinterpretq_f32_s32(vmaxq_s32(normal, small));
}

INLINE v16f f_load_e8m0(const void *p)
{
    uint8x16_t bytes = vld1q_u8(p);
    uint16x8_t x = vmovl_u8(vget_low_u8(bytes));
    uint16x8_t y = vmovl_high_u8(bytes);
    return (v16f){powers_of(vget_low_u16(x)), powers_of(vget_high_u16(x)),
                  powers_of(vget_low_u16(y)), powers_of(vget_high_u16(y))};
}

INLINE void f_store_f16(uint16_t *p, v16f x)
{
    vst1q_u16(p, vreinterpretq_u16_f16(vcvt_high_f16_f32(vcvt_f16_f32(x.a), x.b)));
    vst1q_u16(p + 8, vreinterpretq_u16_f16(vcvt_high_f16_f32(vcvt_f16_f32(x.c), x.d)));
}

INLINE v16f f_add(v16f x, v16f y)
{
    return (v16f)EACH_OF_2(x, y, vaddq_f32);
}

INLINE v16f f_sub(v16f x, v16f y)
{
    return (v16f)EACH_OF_2(x, y, vsubq_f32);
}

INLINE v16f f_mul(v16f x, v16f y)
{
    return (v16f)EACH_OF_2(x, y, vmulq_f32);
}

INLINE v16f f_div(v16f x, v16f y)
{
    return (v16f)EACH_OF_2(x, y, vdivq_f32);
}

/* x * y + z */
INLINE v16f f_fma(v16f x, v16f y, v16f z)
{
    return (v16f){vfmaq_f32(z.a, x.a, y.a), vfmaq_f32(z.b, x.b, y.b), vfmaq_f32(z.c, x.c, y.c),
                  vfmaq_f32(z.d, x.d, y.d)};
}

INLINE v16f f_min(v16f x, v16f y)
{
    return (v16f)EACH_OF_2(x, y, vminq_f32);
}

INLINE v16f f_max(v16f x, v16f y)
{
    return (v16f)EACH_OF_2(x, y, vmaxq_f32);
}

INLINE v16f f_abs(v16f x)
{
    return (v16f)EACH(x, vabsq_f32);
}

INLINE v16f f_rint(v16f x)
{
    return (v16f)EACH(x, vrndnq_f32);
}

/* Lanes 8, 4, 2 and 1 apart, as CPU_LANES says. */
INLINE float f_sum(v16f x)
{
    float32x4_t v = vaddq_f32(vaddq_f32(x.a, x.c), vaddq_f32(x.b, x.d));
    return vpadds_f32(vadd_f32(vget_low_f32(v), vget_high_f32(v)));
}

INLINE float f_largest(v16f x)
{
    return vmaxvq_f32(vmaxq_f32(vmaxq_f32(x.a, x.c), vmaxq_f32(x.b, x.d)));
}

INLINE float32x4_t select_range(float32x4_t x, float32x4_t y, int from, int to, int first)
{
    const int32_t numbers[4] = {0, 1, 2, 3};
    int32x4_t lane = vaddq_s32(vld1q_s32(numbers), vdupq_n_s32(first));
    return vbslq_f32(
        vandq_u32(vcgeq_s32(lane, vdupq_n_s32(from)), vcltq_s32(lane, vdupq_n_s32(to))), x, y);
}

/* Lanes from .. to - 1 of x, the others from y. */
INLINE v16f f_select_range(v16f x, v16f y, int from, int to)
{
    return (v16f){select_range(x.a, y.a, from, to, 0), select_range(x.b, y.b, from, to, 4),
                  select_range(x.c, y.c, from, to, 8), select_range(x.d, y.d, from, to, 12)};
}

/* y where x < limit, else z. */
INLINE v16f f_select_below(v16f x, float limit, v16f y, v16f z)
{
    float32x4_t l = vdupq_n_f32(limit);
    return (v16f){vbslq_f32(vcltq_f32(x.a, l), y.a, z.a), vbslq_f32(vcltq_f32(x.b, l), y.b, z.b),
                  vbslq_f32(vcltq_f32(x.c, l), y.c, z.c), vbslq_f32(vcltq_f32(x.d, l), y.d, z.d)};
}

INLINE float32x4_t scale_by_power(float32x4_t x, float32x4_t n)
{
    int32x4_t power = vshlq_n_s32(vcvtnq_s32_f32(n), 23);
    return vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(x), power));
}

/* x * 2^n for whole numbers n in f32, when the result is a normal number. */
INLINE v16f f_scale_by_power(v16f x, v16f n)
{
    return (v16f)EACH_OF_2(x, n, scale_by_power);
}

INLINE v16f f_from_i(v16i x)
{
    return (v16f)EACH(x, vcvtq_f32_s32);
}

/* Rounds to nearest even, to bytes; returns the sum of the 16. */
INLINE int32_t f_store_s8(int8_t *p, v16f x)
{
    v16i n = EACH(x, vcvtnq_s32_f32);
    int16x8_t low = vqmovn_high_s32(vqmovn_s32(n.a), n.b);
    int16x8_t high = vqmovn_high_s32(vqmovn_s32(n.c), n.d);
    vst1q_s8(p, vqmovn_high_s16(vqmovn_s16(low), high));
    return vaddvq_s32(vaddq_s32(vaddq_s32(n.a, n.b), vaddq_s32(n.c, n.d)));
}

/* Rounds to nearest even, to 16 bits. */
INLINE void f_store_s16(int16_t *p, v16f x)
{
    v16i n = EACH(x, vcvtnq_s32_f32);
    vst1q_s16(p, vqmovn_high_s32(vqmovn_s32(n.a), n.b));
    vst1q_s16(p + 8, vqmovn_high_s32(vqmovn_s32(n.c), n.d));
}

/* 32 signed bytes as 16 lanes of two 16-bit numbers: all first ones, then all second ones. */
INLINE v16i i_load_s8_pairs(const int8_t *p)
{
    int8x16x2_t v = vld2q_s8(p);
    return (v16i){vreinterpretq_s32_s16(vmovl_s8(vget_low_s8(v.val[0]))),
                  vreinterpretq_s32_s16(vmovl_high_s8(v.val[0])),
                  vreinterpretq_s32_s16(vmovl_s8(vget_low_s8(v.val[1]))),
                  vreinterpretq_s32_s16(vmovl_high_s8(v.val[1]))};
}

/* x + the two products of each lane's 16-bit numbers and those at p. */
INLINE v16i i_dot2(v16i x, v16i pairs, const int16_t *p)
{
    int32_t word;
    memcpy(&word, p, sizeof(word));
    int16x4_t y = vreinterpret_s16_s32(vdup_n_s32(word));
    int16x8_t first_low = vreinterpretq_s16_s32(pairs.a);
    int16x8_t first_high = vreinterpretq_s16_s32(pairs.b);
    int16x8_t second_low = vreinterpretq_s16_s32(pairs.c);
    int16x8_t second_high = vreinterpretq_s16_s32(pairs.d);
    x.a = vmlal_lane_s16(x.a, vget_low_s16(first_low), y, 0);
    x.b = vmlal_high_lane_s16(x.b, first_low, y, 0);
    x.c = vmlal_lane_s16(x.c, vget_low_s16(first_high), y, 0);
    x.d = vmlal_high_lane_s16(x.d, first_high, y, 0);
    x.a = vmlal_lane_s16(x.a, vget_low_s16(second_low), y, 1);
    x.b = vmlal_high_lane_s16(x.b, second_low, y, 1);
    x.c = vmlal_lane_s16(x.c, vget_low_s16(second_high), y, 1);
    x.d = vmlal_high_lane_s16(x.d, second_high, y, 1);
    return x;
}

INLINE v64 c_load(const unsigned char *p)
{
    return (v64){vld1q_u8(p), vld1q_u8(p + 16), vld1q_u8(p + 32), vld1q_u8(p + 48)};
}

INLINE void c_store(unsigned char *p, v64 x)
{
    vst1q_u8(p, x.a);
    vst1q_u8(p + 16, x.b);
    vst1q_u8(p + 32, x.c);
    vst1q_u8(p + 48, x.d);
}

INLINE v64 c_or(v64 x, v64 y)
{
    return (v64)EACH_OF_2(x, y, vorrq_u8);
}

INLINE uint8x16_t byte_bits(uint8x16_t x, int right, int mask)
{
    x = right > 0 ? x >> right : x << -right;
    return right > 0 && mask == 255 >> right ? x : vandq_u8(x, vdupq_n_u8((uint8_t)mask));
}

/* The bits of `mask` in every byte, after shifting right (left when negative). */
INLINE v64 c_bits(v64 x, int right, int mask)
{
    return (v64){byte_bits(x.a, right, mask), byte_bits(x.b, right, mask),
                 byte_bits(x.c, right, mask), byte_bits(x.d, right, mask)};
}

/* table[byte] for bytes below 16 */
INLINE v64 c_lookup(const int8_t table[16], v64 x)
{
    uint8x16_t t = vreinterpretq_u8_s8(vld1q_s8(table));
    return (v64){vqtbl1q_u8(t, x.a), vqtbl1q_u8(t, x.b), vqtbl1q_u8(t, x.c), vqtbl1q_u8(t, x.d)};
}

INLINE v64 c_from_signed(v64 x)
{
    return x;
}

INLINE v16i i_zero(void)
{
    int32x4_t zero = vdupq_n_s32(0);
    return (v16i){zero, zero, zero, zero};
}

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

/* x + y * 2^shift in all lanes */
INLINE v16i i_add_shifted(v16i x, int32_t y, int shift)
{
    int32x4_t v = vdupq_n_s32((int32_t)((uint32_t)y << shift));
    return (v16i){vaddq_s32(x.a, v), vaddq_s32(x.b, v), vaddq_s32(x.c, v), vaddq_s32(x.d, v)};
}

#ifdef VEC_DOTPROD

/* An immediate must be one before anything is inlined. */
INLINE int32x4_t dot4(int32x4_t x, uint8x16_t codes, int8x16_t y, int four)
{
    int8x16_t c = vreinterpretq_s8_u8(codes);
    switch (four) {
    case 0:
        return vdotq_laneq_s32(x, c, y, 0);
    case 1:
        return vdotq_laneq_s32(x, c, y, 1);
    case 2:
        return vdotq_laneq_s32(x, c, y, 2);
    default:
        return vdotq_laneq_s32(x, c, y, 3);
    }
}

#else

INLINE int8x16_t same_four(int8x16_t y, int four)
{
    int32x4_t words = vreinterpretq_s32_s8(y);
    switch (four) {
    case 0:
        return vreinterpretq_s8_s32(vdupq_laneq_s32(words, 0));
    case 1:
        return vreinterpretq_s8_s32(vdupq_laneq_s32(words, 1));
    case 2:
        return vreinterpretq_s8_s32(vdupq_laneq_s32(words, 2));
    default:
        return vreinterpretq_s8_s32(vdupq_laneq_s32(words, 3));
    }
}

/* Two products are at most 2 * 128 * 127, which 16 bits hold. */
INLINE int32x4_t dot4(int32x4_t x, uint8x16_t codes, int8x16_t y, int four)
{
    int8x16_t c = vreinterpretq_s8_u8(codes);
    y = same_four(y, four);
    int16x8_t low = vmull_s8(vget_low_s8(c), vget_low_s8(y));
    return vpadalq_s16(x, vpaddq_s16(low, vmull_high_s8(c, y)));
}

#endif

/* x + the sums of four products of codes and four bytes: those of number `four` behind p. */
INLINE v16i i_dot4(v16i x, v64 codes, const int8_t *p, int four)
{
    int8x16_t y = vld1q_s8(p + four / 4 * 16);
    return (v16i){dot4(x.a, codes.a, y, four % 4), dot4(x.b, codes.b, y, four % 4),
                  dot4(x.c, codes.c, y, four % 4), dot4(x.d, codes.d, y, four % 4)};
}

#ifdef VEC_I8MM

/* Sums of two tokens: a register holds two rows, each with its first and its second token. */
typedef struct {
    v16i low, high; /* rows 0-7, rows 8-15 */
} v32i;

/* Codes of two steps: a register holds two rows, each with eight columns. */
typedef struct {
    v64 low, high;
} v128;

INLINE v32i i_pair(v16i x, v16i y)
{
    return (v32i){
        {vzip1q_s32(x.a, y.a), vzip2q_s32(x.a, y.a), vzip1q_s32(x.b, y.b), vzip2q_s32(x.b, y.b)},
        {vzip1q_s32(x.c, y.c), vzip2q_s32(x.c, y.c), vzip1q_s32(x.d, y.d), vzip2q_s32(x.d, y.d)}};
}

INLINE v16i i_pair_first(v32i x)
{
    return (v16i){vuzp1q_s32(x.low.a, x.low.b), vuzp1q_s32(x.low.c, x.low.d),
                  vuzp1q_s32(x.high.a, x.high.b), vuzp1q_s32(x.high.c, x.high.d)};
}

INLINE v16i i_pair_second(v32i x)
{
    return (v16i){vuzp2q_s32(x.low.a, x.low.b), vuzp2q_s32(x.low.c, x.low.d),
                  vuzp2q_s32(x.high.a, x.high.b), vuzp2q_s32(x.high.c, x.high.d)};
}

INLINE v128 c_load_two(const unsigned char *p)
{
    return (v128){c_load(p), c_load(p + R16_VECTOR)};
}

INLINE uint8x16_t first_columns(uint8x16_t x, uint8x16_t y)
{
    return vreinterpretq_u8_u32(vzip1q_u32(vreinterpretq_u32_u8(x), vreinterpretq_u32_u8(y)));
}

INLINE uint8x16_t second_columns(uint8x16_t x, uint8x16_t y)
{
    return vreinterpretq_u8_u32(vzip2q_u32(vreinterpretq_u32_u8(x), vreinterpretq_u32_u8(y)));
}

/* Two steps side by side. */
INLINE void c_store_two(unsigned char *p, v64 x, v64 y)
{
    c_store(p, (v64){first_columns(x.a, y.a), second_columns(x.a, y.a), first_columns(x.b, y.b),
                     second_columns(x.b, y.b)});
    c_store(p + R16_VECTOR, (v64){first_columns(x.c, y.c), second_columns(x.c, y.c),
                                  first_columns(x.d, y.d), second_columns(x.d, y.d)});
}

/* Columns of steps g and g + 1 (g even) of tokens t and t + 1 (t even), or of t alone twice. */
INLINE int8x16_t x_pair(const int8_t *x, int tokens, int g, int t)
{
    if (tokens == 4) {
        uint8x16_t one = vreinterpretq_u8_s8(vld1q_s8(x + 16 * g));
        uint8x16_t two = vreinterpretq_u8_s8(vld1q_s8(x + 16 * g + 16));
        return vreinterpretq_s8_u8(t == 0 ? first_columns(one, two) : second_columns(one, two));
    }
    int8_t bytes[16];
    const int other = t + 1 < tokens ? t + 1 : t;
    memcpy(bytes, x + (g * tokens + t) * 4, 4);
    memcpy(bytes + 4, x + ((g + 1) * tokens + t) * 4, 4);
    memcpy(bytes + 8, x + (g * tokens + other) * 4, 4);
    memcpy(bytes + 12, x + ((g + 1) * tokens + other) * 4, 4);
    return vld1q_s8(bytes);
}

INLINE v16i dot8(v16i sums, v64 codes, int8x16_t y)
{
    return (v16i){vmmlaq_s32(sums.a, vreinterpretq_s8_u8(codes.a), y),
                  vmmlaq_s32(sums.b, vreinterpretq_s8_u8(codes.b), y),
                  vmmlaq_s32(sums.c, vreinterpretq_s8_u8(codes.c), y),
                  vmmlaq_s32(sums.d, vreinterpretq_s8_u8(codes.d), y)};
}

/* sums + the sums of eight products */
INLINE v32i i_dot8(v32i sums, v128 codes, int8x16_t y)
{
    return (v32i){dot8(sums.low, codes.low, y), dot8(sums.high, codes.high, y)};
}

#endif

#endif

/* The instructions of AVX-512 imitated by SIMDe, so that machines without it run the source of its
 * kernels against the scalar ones. Correctness only; the times mean nothing. */
#ifndef PHID_TESTS_KERNELS_AVX512_EMULATED_H
#define PHID_TESTS_KERNELS_AVX512_EMULATED_H

#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx2.h>
#include <simde/x86/avx512.h>
#include <simde/x86/f16c.h>
#include <simde/x86/fma.h>

/* What SIMDe 0.7.4 does not have, by halves. */
static inline __m256i low_half(__m512i x)
{
    return _mm512_castsi512_si256(x);
}

static inline __m256i high_half(__m512i x)
{
    return _mm512_extracti64x4_epi64(x, 1);
}

static inline __m512i join(__m256i low, __m256i high)
{
    return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}

static inline __m512 join_ps(__m256 low, __m256 high)
{
    return _mm512_castsi512_ps(join(_mm256_castps_si256(low), _mm256_castps_si256(high)));
}

static inline __m512 emulated_cvtepi32_ps(__m512i x)
{
    return join_ps(_mm256_cvtepi32_ps(low_half(x)), _mm256_cvtepi32_ps(high_half(x)));
}

static inline __m512i emulated_cvtps_epi32(__m512 x)
{
    __m512i bits = _mm512_castps_si512(x);
    return join(_mm256_cvtps_epi32(_mm256_castsi256_ps(low_half(bits))),
                _mm256_cvtps_epi32(_mm256_castsi256_ps(high_half(bits))));
}

static inline __m512i emulated_cvtepu8_epi32(__m128i x)
{
    return join(_mm256_cvtepu8_epi32(x), _mm256_cvtepu8_epi32(_mm_srli_si128(x, 8)));
}

static inline __m512i emulated_cvtepi8_epi32(__m128i x)
{
    return join(_mm256_cvtepi8_epi32(x), _mm256_cvtepi8_epi32(_mm_srli_si128(x, 8)));
}

static inline __m512i emulated_cvtepu16_epi32(__m256i x)
{
    return join(_mm256_cvtepu16_epi32(_mm256_castsi256_si128(x)),
                _mm256_cvtepu16_epi32(_mm256_extracti128_si256(x, 1)));
}

static inline __m512 emulated_cvtph_ps(__m256i x)
{
    return join_ps(_mm256_cvtph_ps(_mm256_castsi256_si128(x)),
                   _mm256_cvtph_ps(_mm256_extracti128_si256(x, 1)));
}

static inline __m256i emulated_cvtps_ph(__m512 x, int rounding)
{
    (void)rounding;
    __m512i bits = _mm512_castps_si512(x);
    __m128i low = _mm256_cvtps_ph(_mm256_castsi256_ps(low_half(bits)), _MM_FROUND_TO_NEAREST_INT);
    __m128i high = _mm256_cvtps_ph(_mm256_castsi256_ps(high_half(bits)), _MM_FROUND_TO_NEAREST_INT);
    return _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
}

#undef _mm512_madd_epi16 /* takes too many arguments there */
#define _mm512_madd_epi16(x, y)  simde_mm512_madd_epi16(x, y)
#define _mm512_cvtepi32_ps(x)    emulated_cvtepi32_ps(x)
#define _mm512_cvtps_epi32(x)    emulated_cvtps_epi32(x)
#define _mm512_cvtepu8_epi32(x)  emulated_cvtepu8_epi32(x)
#define _mm512_cvtepi8_epi32(x)  emulated_cvtepi8_epi32(x)
#define _mm512_cvtepu16_epi32(x) emulated_cvtepu16_epi32(x)
#define _mm512_cvtph_ps(x)       emulated_cvtph_ps(x)
#define _mm512_cvtps_ph(x, mode) emulated_cvtps_ph(x, mode)

#define VEC_EMULATED 1

#endif

/* The AVX-VNNI kernels once more, their dot product imitated with AVX2, so that machines without it
 * run the same source against the scalar kernels. Correctness only; the times mean nothing. */
#include <immintrin.h>

/* Exact in 32 bits: bytes of even and of odd place, widened to 16 bits. */
static inline __m256i emulated_dpbusd(__m256i sum, __m256i codes, __m256i x)
{
    __m256i even = _mm256_madd_epi16(_mm256_and_si256(codes, _mm256_set1_epi16(255)),
                                     _mm256_srai_epi16(_mm256_slli_epi16(x, 8), 8));
    __m256i odd = _mm256_madd_epi16(_mm256_srli_epi16(codes, 8), _mm256_srai_epi16(x, 8));
    return _mm256_add_epi32(sum, _mm256_add_epi32(even, odd));
}

#define _mm256_dpbusd_avx_epi32 emulated_dpbusd
#define cpu_kernels_avxvnni     cpu_kernels_avxvnni_emulated
#include "engine/backend/cpu/kernels_avxvnni.c"

/* The decode and encode functions behind the table in format.c, and what they share. Internal to
 * this folder. */
#ifndef PHID_QUANT_FORMAT_CODEC_H
#define PHID_QUANT_FORMAT_CODEC_H

#include <stddef.h>
#include <stdint.h>

void f32_decode(const void *src, float *dst, size_t n);
void f32_encode(const float *src, void *dst, size_t n);
void f16_decode(const void *src, float *dst, size_t n);
void f16_encode(const float *src, void *dst, size_t n);
void bf16_decode(const void *src, float *dst, size_t n);
void bf16_encode(const float *src, void *dst, size_t n);

void q4_0_decode(const void *src, float *dst, size_t n);
void q4_0_encode(const float *src, void *dst, size_t n);
void q4_1_decode(const void *src, float *dst, size_t n);
void q4_1_encode(const float *src, void *dst, size_t n);
void q5_0_decode(const void *src, float *dst, size_t n);
void q5_0_encode(const float *src, void *dst, size_t n);
void q5_1_decode(const void *src, float *dst, size_t n);
void q5_1_encode(const float *src, void *dst, size_t n);
void q8_0_decode(const void *src, float *dst, size_t n);
void q8_0_encode(const float *src, void *dst, size_t n);

void q2_k_decode(const void *src, float *dst, size_t n);
void q2_k_encode(const float *src, void *dst, size_t n);
void q3_k_decode(const void *src, float *dst, size_t n);
void q3_k_encode(const float *src, void *dst, size_t n);
void q4_k_decode(const void *src, float *dst, size_t n);
void q4_k_encode(const float *src, void *dst, size_t n);
void q5_k_decode(const void *src, float *dst, size_t n);
void q5_k_encode(const float *src, void *dst, size_t n);
void q6_k_decode(const void *src, float *dst, size_t n);
void q6_k_encode(const float *src, void *dst, size_t n);

void iq4_nl_decode(const void *src, float *dst, size_t n);
void iq4_nl_encode(const float *src, void *dst, size_t n);
void iq4_xs_decode(const void *src, float *dst, size_t n);
void iq4_xs_encode(const float *src, void *dst, size_t n);

void iq1_s_decode(const void *src, float *dst, size_t n);
void iq1_s_encode(const float *src, void *dst, size_t n);
void iq1_m_decode(const void *src, float *dst, size_t n);
void iq1_m_encode(const float *src, void *dst, size_t n);
void iq2_xxs_decode(const void *src, float *dst, size_t n);
void iq2_xxs_encode(const float *src, void *dst, size_t n);
void iq2_xs_decode(const void *src, float *dst, size_t n);
void iq2_xs_encode(const float *src, void *dst, size_t n);
void iq2_s_decode(const void *src, float *dst, size_t n);
void iq2_s_encode(const float *src, void *dst, size_t n);
void iq3_xxs_decode(const void *src, float *dst, size_t n);
void iq3_xxs_encode(const float *src, void *dst, size_t n);
void iq3_s_decode(const void *src, float *dst, size_t n);
void iq3_s_encode(const float *src, void *dst, size_t n);

void tq1_0_decode(const void *src, float *dst, size_t n);
void tq1_0_encode(const float *src, void *dst, size_t n);
void tq2_0_decode(const void *src, float *dst, size_t n);
void tq2_0_encode(const float *src, void *dst, size_t n);
void mxfp4_decode(const void *src, float *dst, size_t n);
void mxfp4_encode(const float *src, void *dst, size_t n);

#endif

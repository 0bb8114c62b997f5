/* Numbers as a GGUF file holds them, at any alignment. Internal to this folder. */
#ifndef PHID_GGUF_LITTLE_ENDIAN_H
#define PHID_GGUF_LITTLE_ENDIAN_H

#include <stdint.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "tensor data is used in place, so the machine must match");

static inline uint16_t little_u16(const unsigned char *bytes)
{
    uint16_t x;
    memcpy(&x, bytes, sizeof x);
    return x;
}

static inline uint32_t little_u32(const unsigned char *bytes)
{
    uint32_t x;
    memcpy(&x, bytes, sizeof x);
    return x;
}

static inline uint64_t little_u64(const unsigned char *bytes)
{
    uint64_t x;
    memcpy(&x, bytes, sizeof x);
    return x;
}

static inline float little_f32(const unsigned char *bytes)
{
    float x;
    memcpy(&x, bytes, sizeof x);
    return x;
}

static inline double little_f64(const unsigned char *bytes)
{
    double x;
    memcpy(&x, bytes, sizeof x);
    return x;
}

#endif

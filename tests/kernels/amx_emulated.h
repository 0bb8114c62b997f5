/* AMX's tiles imitated, as far as the kernels use them. What the processor would not do ends the
 * program: shapes that it does not take, tiles without one, tiles that do not fit each other. */
#ifndef PHID_TESTS_KERNELS_AMX_EMULATED_H
#define PHID_TESTS_KERNELS_AMX_EMULATED_H

#include <float.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/backend/cpu/bf16.h"

enum { TILES = 8, TILE_ROWS = 16, TILE_ROW_BYTES = 64 };

static struct {
    unsigned char shapes[64]; /* as LDTILECFG reads them; the first byte is 0 without shapes */
    unsigned char data[TILES][TILE_ROWS][TILE_ROW_BYTES];
} tiles_state;

static void tiles_check(int ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "tiles: %s\n", what);
        abort();
    }
}

static size_t tile_row_bytes(int tile)
{
    return tiles_state.shapes[16 + 2 * tile];
}

static size_t tile_rows(int tile)
{
    return tiles_state.shapes[48 + tile];
}

static void emulated_tile_loadconfig(const void *shapes)
{
    memcpy(tiles_state.shapes, shapes, sizeof(tiles_state.shapes));
    tiles_check(tiles_state.shapes[0] == 1, "palette is not 1");
    for (size_t i = 1; i < 64; i++) {
        int is_shape = (i >= 16 && i < 32 && i % 2 == 0) || (i >= 48 && i < 56);
        tiles_check(is_shape || tiles_state.shapes[i] == 0, "bytes that must be 0 are not");
    }
    for (int i = 0; i < TILES; i++) {
        tiles_check(tile_row_bytes(i) <= TILE_ROW_BYTES && tile_rows(i) <= TILE_ROWS, "too large");
        tiles_check((tile_row_bytes(i) == 0) == (tile_rows(i) == 0), "half a shape");
    }
    memset(tiles_state.data, 0, sizeof(tiles_state.data));
}

static void emulated_tile_release(void)
{
    memset(&tiles_state, 0, sizeof(tiles_state));
}

static void tile_check(int tile)
{
    tiles_check(tiles_state.shapes[0] == 1, "no shapes");
    tiles_check(tile_rows(tile) != 0, "a tile without a shape");
}

static void emulated_tile_zero(int tile)
{
    tile_check(tile);
    memset(tiles_state.data[tile], 0, sizeof(tiles_state.data[tile]));
}

static void emulated_tile_loadd(int tile, const void *from, size_t stride)
{
    emulated_tile_zero(tile);
    for (size_t i = 0; i < tile_rows(tile); i++) {
        memcpy(tiles_state.data[tile][i], (const char *)from + i * stride, tile_row_bytes(tile));
    }
}

static void emulated_tile_stored(int tile, void *to, size_t stride)
{
    tile_check(tile);
    for (size_t i = 0; i < tile_rows(tile); i++) {
        memcpy((char *)to + i * stride, tiles_state.data[tile][i], tile_row_bytes(tile));
    }
}

static void check_factors(int c, int a, int b)
{
    tile_check(a);
    tile_check(b);
    tile_check(c);
    tiles_check(a != b && b != c && c != a, "a tile twice in a product");
    tiles_check(tile_rows(a) == tile_rows(c), "rows of the first factor and of the sums");
    tiles_check(tile_row_bytes(b) == tile_row_bytes(c), "columns of the second and of the sums");
    tiles_check(tile_row_bytes(a) == 4 * tile_rows(b), "columns of the first, rows of the second");
}

/* c[m][n] += a[m][4 k + j] * b[k][4 n + j], signed bytes. */
static void emulated_tile_dpbssd(int c, int a, int b)
{
    check_factors(c, a, b);
    for (size_t m = 0; m < tile_rows(c); m++) {
        int32_t sums[TILE_ROW_BYTES / 4];
        memcpy(sums, tiles_state.data[c][m], sizeof(sums));
        for (size_t k = 0; k < tile_rows(b); k++) {
            const int8_t *x = (const int8_t *)tiles_state.data[a][m] + 4 * k;
            const int8_t *w = (const int8_t *)tiles_state.data[b][k];
            for (size_t n = 0; n < tile_row_bytes(c) / 4; n++, w += 4) {
                sums[n] += x[0] * w[0] + x[1] * w[1] + x[2] * w[2] + x[3] * w[3];
            }
        }
        memcpy(tiles_state.data[c][m], sums, sizeof(sums));
    }
}

static float normal_number(float x)
{
    return x < FLT_MIN && x > -FLT_MIN ? 0.0f : x;
}

static float bf16_number(uint16_t x)
{
    uint32_t bits = (uint32_t)x << 16;
    float ret;
    memcpy(&ret, &bits, sizeof(ret));
    return normal_number(ret);
}

/* c[m][n] += a[m][2 k + j] * b[k][2 n + j], bf16 and f32: TDPBF16PS, Intel SDM volume 2. */
static void emulated_tile_dpbf16ps(int c, int a, int b)
{
    check_factors(c, a, b);
    for (size_t m = 0; m < tile_rows(c); m++) {
        for (size_t n = 0; n < tile_row_bytes(c) / 4; n++) {
            float sums[2] = {0}, sum;
            for (size_t k = 0; k < tile_rows(b); k++) {
                uint16_t x[2], w[2];
                memcpy(x, tiles_state.data[a][m] + 4 * k, sizeof(x));
                memcpy(w, tiles_state.data[b][k] + 4 * n, sizeof(w));
                for (size_t j = 0; j < 2; j++) {
                    sums[j] = normal_number(fmaf(bf16_number(x[j]), bf16_number(w[j]), sums[j]));
                }
            }
            memcpy(&sum, tiles_state.data[c][m] + 4 * n, sizeof(sum));
            sum = normal_number(normal_number(sum) + normal_number(sums[0] + sums[1]));
            memcpy(tiles_state.data[c][m] + 4 * n, &sum, sizeof(sum));
        }
    }
}

/* And what of AVX-512 the same kernels use beside them. */
static __m512i emulated_mask_permutexvar_epi8(__m512i src, uint64_t mask, __m512i index, __m512i a)
{
    unsigned char from[64], at[64], to[64];
    memcpy(from, &a, sizeof(from));
    memcpy(at, &index, sizeof(at));
    memcpy(to, &src, sizeof(to));
    for (size_t i = 0; i < sizeof(to); i++) {
        to[i] = (mask >> i & 1) != 0 ? from[at[i] % 64] : to[i];
    }
    memcpy(&src, to, sizeof(to));
    return src;
}

static __m512 emulated_permutexvar_ps(__m512i index, __m512 a)
{
    float from[16], to[16];
    int32_t at[16];
    memcpy(from, &a, sizeof(from));
    memcpy(at, &index, sizeof(at));
    for (size_t i = 0; i < 16; i++) {
        to[i] = from[at[i] % 16];
    }
    memcpy(&a, to, sizeof(to));
    return a;
}

static __m256i emulated_cvtneps_pbh(__m512 a)
{
    float from[16];
    uint16_t to[16];
    __m256i ret;
    memcpy(from, &a, sizeof(from));
    for (size_t i = 0; i < 16; i++) {
        to[i] = bf16_round(from[i]);
    }
    memcpy(&ret, to, sizeof(to));
    return ret;
}

static __m512i emulated_cvtne2ps_pbh(__m512 high, __m512 low)
{
    return join(emulated_cvtneps_pbh(low), emulated_cvtneps_pbh(high));
}

#undef _tile_loadd /* macros of GCC's headers */
#undef _tile_stored
#undef _tile_zero
#undef _tile_dpbssd
#undef _tile_dpbf16ps
#undef _mm512_mask_permutexvar_epi8
#undef _mm512_permutexvar_ps
#define _mm512_mask_permutexvar_epi8 emulated_mask_permutexvar_epi8
#define _mm512_permutexvar_ps        emulated_permutexvar_ps
#define _mm512_cvtneps_pbh           emulated_cvtneps_pbh
#define _mm512_cvtne2ps_pbh          emulated_cvtne2ps_pbh

#define _tile_loadconfig emulated_tile_loadconfig
#define _tile_release    emulated_tile_release
#define _tile_zero       emulated_tile_zero
#define _tile_loadd      emulated_tile_loadd
#define _tile_stored     emulated_tile_stored
#define _tile_dpbssd     emulated_tile_dpbssd
#define _tile_dpbf16ps   emulated_tile_dpbf16ps

#endif

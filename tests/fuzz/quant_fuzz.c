/* Fuzz target: any bytes as blocks of every tensor type. They decode without a look outside the
 * block or a table; quant_weights_finite says whether to numbers; and if so what the processor's
 * kernels keep of them is the same weights. */
#include <math.h>
#include <string.h>

#include "engine/backend/cpu/r16.h"
#include "quant/format/format.h"
#include "tests/fuzz/fuzz.h"

enum { WEIGHTS_MAX = 1024 };

static void check_packed(const struct quant_format *format, const uint8_t *blocks, size_t n,
                         const float *weights)
{
    struct r16_matrix m = {.rows = 1, .cols = n};
    if (!r16_kind_of((uint32_t)format->type, &m.kind)) {
        return;
    }
    m.group_bytes = r16_group_bytes(m.kind, n);
    unsigned char *packed = aligned_alloc(64, m.group_bytes);
    float row[WEIGHTS_MAX];
    FUZZ_CHECK(packed != NULL);
    r16_pack_group((uint32_t)format->type, blocks, quant_row_bytes(format, n), 1, n, packed);
    m.data = packed;
    r16_row(&m, 0, row);
    for (size_t i = 0; i < n; i++) {
        FUZZ_CHECK(row[i] == weights[i]);
    }
    free(packed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    for (size_t i = 0; quant_format_at(i) != NULL; i++) {
        const struct quant_format *format = quant_format_at(i);
        const size_t most = WEIGHTS_MAX / format->block_weights;
        size_t blocks = size / format->block_bytes;
        blocks = blocks < most ? blocks : most;
        size_t n = blocks * format->block_weights;
        if (n < 32) {
            continue;
        }
        float weights[WEIGHTS_MAX];
        format->decode(data, weights, n);
        bool finite = true;
        for (size_t k = 0; k < n; k++) {
            finite = finite && isfinite(weights[k]);
        }
        FUZZ_CHECK(quant_weights_finite(format, data, n) == finite);
        if (finite) {
            check_packed(format, data, n, weights);
        }
    }
    return 0;
}

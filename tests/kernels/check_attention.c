#include "tests/kernels/harness.h"

#include <math.h>
#include <string.h>

#include "quant/format/format.h"

struct shape {
    size_t queries, dims, pages;
    int32_t window; /* 0: none */
    bool half;
};

struct block_memory {
    struct attention_block block;
    float *total, *sums, *scores;
};

static void block_init(struct block_memory *b, const struct shape *s, const float *q, const int32_t *ends)
{
    size_t stride = (s->dims + 15) / 16 * 16;
    b->total = guarded_new(s->queries * CPU_LANES * sizeof(float));
    b->sums = guarded_new(s->queries * stride * sizeof(float));
    b->scores = guarded_new(s->queries * CPU_PAGE_TOKENS * sizeof(float));
    memset(b->total, 0, s->queries * CPU_LANES * sizeof(float));
    memset(b->sums, 0, s->queries * stride * sizeof(float));
    b->block = (struct attention_block){
        .queries = s->queries, .head_dim = s->dims, .value_stride = stride, .q = q,
        .total = b->total, .sums = b->sums, .scores = b->scores,
    };
    for (size_t i = 0; i < s->queries; i++) {
        b->block.maximum[i] = -INFINITY;
        b->block.end[i] = ends[i];
        b->block.begin[i] = s->window != 0 && ends[i] > s->window ? ends[i] - s->window : 0;
    }
}

static bool block_fini(struct block_memory *b)
{
    bool clean = guarded_free(b->total);
    clean = guarded_free(b->sums) && clean;
    return guarded_free(b->scores) && clean;
}

/* One page; slots from `used` on are not numbers. */
static void fill_page(struct harness *h, const struct shape *s, size_t used, float spread, void *keys, void *values)
{
    size_t stride = (s->dims + 15) / 16 * 16;
    for (size_t slot = 0; slot < CPU_PAGE_TOKENS; slot++) {
        for (size_t d = 0; d < stride; d++) {
            float k = slot < used ? rng_normal(&h->rng) * spread : NAN;
            float v = slot >= used ? NAN : d < s->dims ? rng_normal(&h->rng) : 0.0f;
            size_t key_at = (slot / CPU_LANES * s->dims + d) * CPU_LANES + slot % CPU_LANES;
            if (s->half) {
                uint16_t bits = quant_f32_to_f16(k);
                memcpy((uint16_t *)keys + key_at, &bits, d < s->dims ? sizeof(bits) : 0);
                ((uint16_t *)values)[slot * stride + d] = quant_f32_to_f16(v);
            } else {
                memcpy((float *)keys + key_at, &k, d < s->dims ? sizeof(k) : 0);
                ((float *)values)[slot * stride + d] = v;
            }
        }
    }
}

static void check_shape(struct harness *h, const struct shape *s)
{
    size_t stride = (s->dims + 15) / 16 * 16;
    size_t element = s->half ? 2 : 4;
    float *q = guarded_new(s->queries * s->dims * sizeof(float));
    void *keys = guarded_new(CPU_PAGE_TOKENS * s->dims * element);
    void *values = guarded_new(CPU_PAGE_TOKENS * stride * element);
    random_floats(h, q, s->queries * s->dims, 0.5f);
    int32_t ends[CPU_QUERIES_MAX];
    int32_t last = (int32_t)(s->pages * CPU_PAGE_TOKENS - rng_below(&h->rng, CPU_PAGE_TOKENS));
    for (size_t i = 0; i < s->queries; i++) {
        int32_t end = last - (int32_t)(s->queries - 1 - i) / 2; /* pairs of heads of one token */
        ends[i] = end < 1 ? 1 : end;
    }
    struct block_memory expected;
    struct block_memory got;
    block_init(&expected, s, q, ends);
    block_init(&got, s, q, ends);
    for (size_t page = 0; page < s->pages; page++) {
        int32_t first = (int32_t)(page * CPU_PAGE_TOKENS);
        size_t used = last - first < CPU_PAGE_TOKENS ? (size_t)(last - first) : CPU_PAGE_TOKENS;
        fill_page(h, s, used, page % 2 == 0 ? 1.0f : 3.0f, keys, values);
        if (s->half) {
            cpu_kernels_scalar.attend_page_f16(&expected.block, keys, values, first);
            h->kernels->attend_page_f16(&got.block, keys, values, first);
        } else {
            cpu_kernels_scalar.attend_page_f32(&expected.block, keys, values, first);
            h->kernels->attend_page_f32(&got.block, keys, values, first);
        }
    }
    bool same = same_floats(expected.block.maximum, got.block.maximum, s->queries) &&
                same_floats(expected.total, got.total, s->queries * CPU_LANES) &&
                same_floats(expected.sums, got.sums, s->queries * stride);
    bool clean = block_fini(&expected);
    clean = block_fini(&got) && clean;
    clean = guarded_free(values) && clean;
    clean = guarded_free(keys) && clean;
    clean = guarded_free(q) && clean;
    check(h, same && clean, "attention %s queries=%zu dims=%zu pages=%zu window=%d last=%d%s", s->half ? "f16" : "f32",
          s->queries, s->dims, s->pages, (int)s->window, (int)last, clean ? "" : ", guard overwritten");
}

void check_attention(struct harness *h)
{
    static const size_t dims[] = { 1, 8, 10, 16, 48, 64, 80, 96, 128 };
    for (size_t i = 0; i < sizeof(dims) / sizeof(dims[0]); i++) {
        for (size_t queries = 1; queries <= CPU_QUERIES_MAX; queries += 1 + queries / 5) {
            struct shape s = { .queries = queries, .dims = dims[i], .half = rng_below(&h->rng, 2) == 0 };
            s.pages = 1 + rng_below(&h->rng, 3);
            check_shape(h, &s);
            s.half = !s.half;
            s.window = 1 + (int32_t)rng_below(&h->rng, 100);
            check_shape(h, &s);
        }
    }
}

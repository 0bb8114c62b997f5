#include "tests/kernels/harness.h"

#include <math.h>
#include <string.h>

#include "quant/format/format.h"

struct shape {
    size_t queries, dims, pages;
    int32_t window; /* 0: none */
    enum element { F16, F32, S8 } element;
};

static const char *const element_names[] = {"f16", "f32", "s8"};

static size_t value_stride(const struct shape *s)
{
    return (s->dims + 15) / 16 * 16;
}

struct block_memory {
    struct attention_block block;
    float *total, *sums, *scores;
    int16_t *weights;
};

/* A page in either form. */
struct page {
    void *keys, *values;
    float *key_scale, *value_scale; /* of S8 */
};

static void block_init(struct block_memory *b, const struct shape *s, const float *q,
                       const int16_t *q_codes, const int32_t *ends)
{
    size_t stride = value_stride(s);
    b->total = guarded_new(s->queries * CPU_LANES * sizeof(float));
    b->sums = guarded_new(s->queries * stride * sizeof(float));
    b->scores = guarded_new(s->queries * CPU_PAGE_TOKENS * sizeof(float));
    b->weights = guarded_new(s->queries * CPU_PAGE_TOKENS * sizeof(int16_t));
    memset(b->total, 0, s->queries * CPU_LANES * sizeof(float));
    memset(b->sums, 0, s->queries * stride * sizeof(float));
    b->block = (struct attention_block){
        .queries = s->queries,
        .head_dim = s->dims,
        .value_stride = stride,
        .q = q,
        .total = b->total,
        .sums = b->sums,
        .scores = b->scores,
        .q_codes = q_codes,
        .weights = b->weights,
    };
    for (size_t i = 0; i < s->queries; i++) {
        b->block.maximum[i] = -INFINITY;
        b->block.q_scale[i] = 1e-4f * (float)(i + 1);
        b->block.end[i] = ends[i];
        b->block.begin[i] = s->window != 0 && ends[i] > s->window ? ends[i] - s->window : 0;
    }
}

static bool block_fini(struct block_memory *b)
{
    bool clean = guarded_free(b->total);
    clean = guarded_free(b->sums) && clean;
    clean = guarded_free(b->weights) && clean;
    return guarded_free(b->scores) && clean;
}

/* One page; slots from `used` on are not numbers. */
static void fill_floats(struct harness *h, const struct shape *s, size_t used, float spread,
                        void *keys, void *values)
{
    size_t stride = value_stride(s);
    for (size_t slot = 0; slot < CPU_PAGE_TOKENS; slot++) {
        for (size_t d = 0; d < stride; d++) {
            float k = slot < used ? rng_normal(&h->rng) * spread : NAN;
            float v = slot >= used ? NAN : d < s->dims ? rng_normal(&h->rng) : 0.0f;
            size_t key_at = (slot / CPU_LANES * s->dims + d) * CPU_LANES + slot % CPU_LANES;
            if (s->element == F16) {
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

/* Random codes, at times all at an end of the range; in unused slots anything, and scales that are
 * not numbers. */
static void fill_codes(struct harness *h, const struct shape *s, size_t used, float spread,
                       const struct page *page)
{
    size_t pairs = (s->dims + 1) / 2;
    uint64_t extreme = rng_below(&h->rng, 6);
    int8_t *keys = page->keys;
    int8_t *values = page->values;
    for (size_t i = 0; i < CPU_PAGE_TOKENS * 2 * pairs; i++) {
        bool padding = s->dims % 2 == 1 && i % 2 == 1 && i / (2 * CPU_LANES) % pairs == pairs - 1;
        keys[i] = (int8_t)(padding ? 0 : extreme == 0 ? 127 : (int)rng_below(&h->rng, 255) - 127);
    }
    for (size_t i = 0; i < CPU_PAGE_TOKENS * value_stride(s); i++) {
        bool padding = i / 2 % value_stride(s) >= s->dims;
        values[i] = (int8_t)(padding        ? 0
                             : extreme == 1 ? -127
                                            : (int)rng_below(&h->rng, 255) - 127);
    }
    for (size_t i = 0; i < CPU_PAGE_TOKENS; i++) {
        page->key_scale[i] = i < used ? fabsf(rng_normal(&h->rng)) * spread * 0.01f : NAN;
        page->value_scale[i] = i >= used ? NAN : extreme == 2 ? 1e-38f : fabsf(rng_normal(&h->rng));
    }
}

static void fill_page(struct harness *h, const struct shape *s, size_t used, float spread,
                      const struct page *page)
{
    if (s->element == S8) {
        fill_codes(h, s, used, spread, page);
    } else {
        fill_floats(h, s, used, spread, page->keys, page->values);
    }
}

static void attend(const struct cpu_kernels *k, const struct shape *s, struct attention_block *b,
                   const struct page *page, int32_t first)
{
    struct attention_page_s8 codes = {page->keys, page->values, page->key_scale, page->value_scale};
    if (s->element == S8) {
        k->attend_page_s8(b, &codes, first);
    } else if (s->element == F16) {
        k->attend_page_f16(b, page->keys, page->values, first);
    } else {
        k->attend_page_f32(b, page->keys, page->values, first);
    }
}

static void page_init(struct page *page, const struct shape *s)
{
    static const size_t bytes[] = {[F16] = 2, [F32] = 4, [S8] = 1};
    size_t key_dims = s->element == S8 ? (s->dims + 1) / 2 * 2 : s->dims;
    page->keys = guarded_new(CPU_PAGE_TOKENS * key_dims * bytes[s->element]);
    page->values = guarded_new(CPU_PAGE_TOKENS * value_stride(s) * bytes[s->element]);
    page->key_scale = guarded_new(CPU_PAGE_TOKENS * sizeof(float));
    page->value_scale = guarded_new(CPU_PAGE_TOKENS * sizeof(float));
}

static bool page_fini(struct page *page)
{
    bool clean = guarded_free(page->keys);
    clean = guarded_free(page->values) && clean;
    clean = guarded_free(page->key_scale) && clean;
    return guarded_free(page->value_scale) && clean;
}

static int16_t *random_q_codes(struct harness *h, const struct shape *s)
{
    size_t padded = (s->dims + 1) / 2 * 2;
    int limit = (int)attention_q_limit(s->dims);
    bool extreme = rng_below(&h->rng, 4) == 0;
    int16_t *codes = guarded_new(s->queries * padded * sizeof(*codes));
    for (size_t i = 0; i < s->queries * padded; i++) {
        int code = extreme ? limit : (int)rng_below(&h->rng, 2 * (uint64_t)limit + 1) - limit;
        codes[i] = (int16_t)(i % padded < s->dims ? code : 0);
    }
    return codes;
}

static void check_shape(struct harness *h, const struct shape *s)
{
    size_t stride = value_stride(s);
    float *q = guarded_new(s->queries * s->dims * sizeof(float));
    int16_t *q_codes = random_q_codes(h, s);
    struct page memory;
    page_init(&memory, s);
    random_floats(h, q, s->queries * s->dims, 0.5f);
    int32_t ends[CPU_QUERIES_MAX];
    int32_t last = (int32_t)(s->pages * CPU_PAGE_TOKENS - rng_below(&h->rng, CPU_PAGE_TOKENS));
    for (size_t i = 0; i < s->queries; i++) {
        int32_t end = last - (int32_t)(s->queries - 1 - i) / 2; /* pairs of heads of one token */
        ends[i] = end < 1 ? 1 : end;
    }
    struct block_memory expected;
    struct block_memory got;
    block_init(&expected, s, q, q_codes, ends);
    block_init(&got, s, q, q_codes, ends);
    for (size_t page = 0; page < s->pages; page++) {
        int32_t first = (int32_t)(page * CPU_PAGE_TOKENS);
        size_t used = last - first < CPU_PAGE_TOKENS ? (size_t)(last - first) : CPU_PAGE_TOKENS;
        fill_page(h, s, used, page % 2 == 0 ? 1.0f : 3.0f, &memory);
        attend(&cpu_kernels_scalar, s, &expected.block, &memory, first);
        attend(h->kernels, s, &got.block, &memory, first);
    }
    bool same = same_floats(expected.block.maximum, got.block.maximum, s->queries) &&
                same_floats(expected.total, got.total, s->queries * CPU_LANES) &&
                same_floats(expected.sums, got.sums, s->queries * stride);
    bool clean = block_fini(&expected);
    clean = block_fini(&got) && clean;
    clean = page_fini(&memory) && clean;
    clean = guarded_free(q_codes) && clean;
    clean = guarded_free(q) && clean;
    check(h, same && clean, "attention %s queries=%zu dims=%zu pages=%zu window=%d last=%d%s",
          element_names[s->element], s->queries, s->dims, s->pages, (int)s->window, (int)last,
          clean ? "" : ", guard overwritten");
}

static void check_merge(struct harness *h, size_t stride)
{
    float *earlier[2];
    float *later = guarded_new((stride + CPU_LANES) * sizeof(float));
    float maximum[2];
    const float from = rng_below(&h->rng, 4) == 0 ? -INFINITY : rng_normal(&h->rng) * 10.0f;
    const float next = rng_below(&h->rng, 4) == 0 ? -INFINITY : rng_normal(&h->rng) * 10.0f;
    random_floats(h, later, stride + CPU_LANES, 1.0f);
    for (int i = 0; i < 2; i++) {
        earlier[i] = guarded_new((stride + CPU_LANES) * sizeof(float));
        random_floats(h, earlier[0], i == 0 ? stride + CPU_LANES : 0, 1.0f);
        memcpy(earlier[i], earlier[0], (stride + CPU_LANES) * sizeof(float));
        maximum[i] = from;
    }
    for (int i = 0; i < 2; i++) {
        const struct cpu_kernels *k = i == 0 ? &cpu_kernels_scalar : h->kernels;
        k->attend_merge(&maximum[i], earlier[i], earlier[i] + CPU_LANES, next, later,
                        later + CPU_LANES, stride);
    }
    bool same = maximum[0] == maximum[1] && same_floats(earlier[0], earlier[1], stride + CPU_LANES);
    bool clean = guarded_free(earlier[0]);
    clean = guarded_free(earlier[1]) && clean;
    clean = guarded_free(later) && clean;
    check(h, same && clean, "attend_merge stride=%zu %g %g", stride, (double)from, (double)next);
}

void check_attention(struct harness *h)
{
    for (size_t i = 0; i < 100; i++) {
        check_merge(h, CPU_LANES * (1 + rng_below(&h->rng, 10)));
    }
    static const size_t dims[] = {1, 8, 10, 16, 33, 48, 64, 80, 96, 128, 600};
    for (size_t i = 0; i < sizeof(dims) / sizeof(dims[0]); i++) {
        for (size_t queries = 1; queries <= CPU_QUERIES_MAX; queries += 1 + queries / 4) {
            struct shape s = {.queries = queries, .dims = dims[i]};
            for (s.element = F16; s.element <= S8; s.element++) {
                s.pages = 1 + rng_below(&h->rng, 3);
                s.window = rng_below(&h->rng, 2) == 0 ? 0 : 1 + (int32_t)rng_below(&h->rng, 100);
                check_shape(h, &s);
            }
        }
    }
}

/* The CPU backend against a second forward pass in f64, and against itself: however rows are
 * batched, cut into chunks or paged, the same numbers must come out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "engine/backend/backend.h"
#include "engine/backend/cpu/backend.h"
#include "engine/backend/cpu/choose.h"
#include "engine/base/rng.h"
#include "quant/format/block.h"
#include "tests/unit/engine/backend/cpu/model_fixture.h"

#define MAX_ROWS         80
#define MAX_PAGES        80
#define REFERENCE_TOKENS 384

struct fixture {
    const struct model_fixture *model;
    struct backend *backend;
    const struct backend_api *api;
    size_t n_vocab, n_embd;
    size_t answers; /* the first sequences of the batches that follow; the others are in prompts */
};

struct settings {
    bool exact;
    enum backend_kv_type kv;
    enum backend_activations activations;
    const char *isa;
    const struct cpu_kernels *kernels; /* NULL: those of isa */
    size_t threads;
};

static const struct settings exact = {.exact = true, .kv = BACKEND_KV_F32, .threads = 2};

static void release_counts(void *user, const struct block_matrix *matrix)
{
    assert_non_null(matrix->data);
    ++*(size_t *)user;
}

/* The model's matrices are scrambled after the load and stay so up to stop(). */
static void start(struct fixture *f, const struct model_fixture *model,
                  const struct settings *settings)
{
    struct phid_error err;
    f->api = backend_cpu();
    f->model = model;
    f->answers = 0;
    f->n_vocab = model->model.n_vocab;
    f->n_embd = model->model.n_embd;
    struct backend_options options = {
        .threads = settings->threads,
        .isa = settings->isa,
        .exact = settings->exact,
        .activations = settings->activations,
        .max_rows = MAX_ROWS,
    };
    assert_int_equal(f->api->open(&options, &f->backend, &err), PHID_OK);
    if (settings->kernels != NULL) {
        f->backend->kernels = settings->kernels;
    }
    size_t layers = model->model.n_layers;
    bool tied = model->model.output.data == model->model.embedding.data;
    size_t released = 0;
    enum phid_status status = f->api->load(f->backend, &model->model, 0, layers, true, true,
                                           release_counts, &released, &err);
    assert_int_equal(status, PHID_OK);
    assert_int_equal(released, 7 * layers + (tied ? 1 : 2));
    model_fixture_scramble(model);
    assert_int_equal(f->api->kv_create(f->backend, settings->kv, MAX_PAGES, &err), PHID_OK);
}

static void stop(struct fixture *f)
{
    f->api->close(f->backend);
    model_fixture_scramble(f->model);
}

/* Runs a batch and stores the logits of all its rows. */
static void run(struct fixture *f, const struct backend_sequence *sequences, size_t count,
                const int32_t *tokens, float *logits)
{
    struct phid_error err;
    size_t rows = 0, prompt_rows = 0;
    for (size_t i = 0; i < count; i++) {
        rows += sequences[i].rows;
        prompt_rows += i < f->answers ? 0 : sequences[i].rows;
    }
    struct backend_batch batch = {.tokens = tokens,
                                  .rows = rows,
                                  .prompt_rows = prompt_rows,
                                  .sequences = sequences,
                                  .sequence_count = count};
    float *hidden = calloc(rows * f->n_embd, sizeof(float));
    size_t list[MAX_ROWS];
    for (size_t i = 0; i < rows; i++) {
        list[i] = i;
    }
    assert_int_equal(f->api->embed(f->backend, &batch, hidden, &err), PHID_OK);
    assert_int_equal(f->api->step(f->backend, &batch, 0, f->model->model.n_layers, hidden, &err),
                     PHID_OK);
    assert_int_equal(f->api->head(f->backend, hidden, list, rows, logits, &err), PHID_OK);
    free(hidden);
}

/* One sequence in chunks of at most `chunk` rows, from its beginning. */
static void run_chunks(struct fixture *f, const int32_t *tokens, size_t count, size_t chunk,
                       enum block_rope_set set, const uint32_t *pages, float *logits)
{
    for (size_t done = 0; done < count; done += chunk) {
        size_t rows = count - done < chunk ? count - done : chunk;
        struct backend_sequence s = {
            .rows = rows, .start = (int32_t)done, .pages = pages, .rope_set = set};
        run(f, &s, 1, tokens + done, logits + done * f->n_vocab);
    }
}

static void random_tokens(int32_t *tokens, size_t count, size_t vocab, uint64_t seed)
{
    struct rng rng;
    rng_init(&rng, seed);
    for (size_t i = 0; i < count; i++) {
        tokens[i] = (int32_t)rng_below(&rng, vocab);
    }
}

static const uint32_t mixed_pages[] = {5, 0, 9, 3, 12, 7};

/* A model, and what it must answer to the first of `tokens`, with either rotary set. */
struct reference {
    struct model_fixture model;
    int32_t tokens[REFERENCE_TOKENS];
    double *expected[2];
};

static void reference_start(struct reference *r, const struct model_shape *shape, size_t count)
{
    assert_true(count <= REFERENCE_TOKENS);
    model_fixture_init(&r->model, shape, 7);
    random_tokens(r->tokens, count, shape->vocab, 11);
    for (int set = 0; set < 2; set++) {
        r->expected[set] = calloc(count * shape->vocab, sizeof(double));
        model_reference(&r->model.model, set, r->tokens, count, r->expected[set]);
    }
}

static void reference_stop(struct reference *r)
{
    free(r->expected[0]);
    free(r->expected[1]);
    model_fixture_fini(&r->model);
}

static double error_of(const struct reference *r, const struct settings *settings, size_t count,
                       size_t chunk, enum block_rope_set set)
{
    struct fixture f;
    start(&f, &r->model, settings);
    float *logits = calloc(count * f.n_vocab, sizeof(*logits));
    run_chunks(&f, r->tokens, count, chunk, set, mixed_pages, logits);
    double error = relative_rms(logits, r->expected[set], count * f.n_vocab);
    free(logits);
    stop(&f);
    return error;
}

static void assert_error_below(double error, double limit, const char *what)
{
    if (!(error <= limit)) {
        fail_msg("%s: relative RMS %g, limit %g", what, error, limit);
    }
}

static void test_backend_exact_shapes(void **state)
{
    (void)state;
    struct model_shape shapes[8];
    for (size_t i = 0; i < 8; i++) {
        shapes[i] = model_shape_plain;
    }
    shapes[1].kv_heads = 1, shapes[1].rope_dims = 8; /* MQA, partial rotary */
    shapes[2].head_dim = 96, shapes[2].rope_dims = 96, shapes[2].kv_heads = 4,
    shapes[2].tied = true;
    shapes[3].pairs = BLOCK_ROPE_INTERLEAVED, shapes[3].head_dim = 10, shapes[3].rope_dims = 10;
    shapes[4].window = 20;
    shapes[5].biases = true, shapes[5].ff = 50, shapes[5].embd = 40;
    shapes[6].type = QUANT_Q4_K, shapes[6].head_type = QUANT_Q6_K, shapes[6].embd = 256,
    shapes[6].ff = 512;
    shapes[6].heads = 8, shapes[6].head_dim = 32, shapes[6].rope_dims = 32, shapes[6].layers = 1;
    shapes[7].type = QUANT_Q8_0, shapes[7].head_type = QUANT_BF16, shapes[7].rope_dims = 0;
    for (size_t i = 0; i < 8; i++) {
        char what[32];
        snprintf(what, sizeof(what), "shape %zu", i);
        struct reference r;
        reference_start(&r, &shapes[i], 90);
        assert_error_below(error_of(&r, &exact, 90, 37, BLOCK_ROPE_SHORT), 2e-6, what);
        assert_error_below(error_of(&r, &exact, 5, 1, BLOCK_ROPE_LONG), 2e-6, what);
        reference_stop(&r);
    }
}

/* Every instruction set this machine has; the scalar one always. */
static const char *const tiers[] = {"scalar", "avx2", "avxvnni", "avx512", "avx512vnni",
                                    "amx",    "neon", "dotprod", "i8mm"};

static bool tier_runs(const char *isa)
{
    struct phid_error err;
    struct backend *b;
    struct backend_options options = {.threads = 1, .isa = isa, .max_rows = 1};
    if (backend_cpu()->open(&options, &b, &err) != PHID_OK) {
        assert_int_equal(err.status, PHID_ERR_UNSUPPORTED);
        return false;
    }
    backend_cpu()->close(b);
    return true;
}

static void type_near_reference(const struct reference *r, size_t tier, const char *name,
                                bool packed)
{
    struct settings settings = {.isa = tiers[tier],
                                .kv = BACKEND_KV_F32,
                                .activations = BACKEND_ACTIVATIONS_INT8,
                                .threads = 2};
    char what[64];
    snprintf(what, sizeof(what), "%s, %s", tiers[tier], name);
    /* All tiers give the same bits (below), so the slow scalar one sees a few rows only. */
    size_t count = tier == 0 ? 12 : 70;
    double limit = packed ? 0.05 : 1e-5;
    assert_error_below(error_of(r, &settings, count, 33, BLOCK_ROPE_SHORT), limit, what);
    settings.activations = BACKEND_ACTIVATIONS_INT8X2;
    limit = packed ? 5e-4 : 1e-5;
    assert_error_below(error_of(r, &settings, count, 33, BLOCK_ROPE_SHORT), limit, what);
    settings.kv = BACKEND_KV_F16;
    assert_error_below(error_of(r, &settings, count, 1, BLOCK_ROPE_LONG), 1e-3, what);
    settings.kv = BACKEND_KV_INT8;
    assert_error_below(error_of(r, &settings, count, 1, BLOCK_ROPE_LONG), 2e-2, what);
}

/* The scalar kernels with those for prompts in other forms. */
static const struct cpu_kernels *scalar_prompts(void)
{
    static struct cpu_kernels kernels;
    kernels = cpu_kernels_scalar;
    kernels.bf16_open = bf16_open;
    kernels.bf16_of = bf16_of;
    kernels.bf16_multiply = bf16_multiply;
    kernels.w8_open = w8_open;
    kernels.w8_quantize = w8_quantize;
    kernels.w8_multiply = w8_multiply;
    return &kernels;
}

/* bf16 is nearer to the reference than int8, with every type; weights rounded once more are not. */
static void prompts_near_reference(const struct reference *r, const char *name, bool packed)
{
    struct settings settings = {.isa = "scalar",
                                .kernels = scalar_prompts(),
                                .kv = BACKEND_KV_F32,
                                .activations = BACKEND_ACTIVATIONS_BF16,
                                .threads = 2};
    assert_error_below(error_of(r, &settings, 12, 7, BLOCK_ROPE_SHORT), packed ? 0.02 : 1e-5, name);
    settings.activations = BACKEND_ACTIVATIONS_W8A8;
    assert_error_below(error_of(r, &settings, 12, 7, BLOCK_ROPE_SHORT), packed ? 0.07 : 1e-5, name);
}

static void test_backend_types_near_reference(void **state)
{
    (void)state;
    for (size_t i = 0; quant_format_at(i) != NULL; i++) {
        const struct quant_format *format = quant_format_at(i);
        bool packed = format->block_weights > 1;
        struct model_shape shape = model_shape_wide;
        shape.type = format->type;
        shape.head_type = format->type;
        shape.tied = i % 2 == 0;
        struct reference r;
        reference_start(&r, &shape, 70);
        for (size_t t = 0; t < sizeof(tiers) / sizeof(tiers[0]); t++) {
            if (tier_runs(tiers[t])) {
                type_near_reference(&r, t, format->name, packed);
            } else if (i == 0) {
                print_message("no %s on this machine\n", tiers[t]);
            }
        }
        prompts_near_reference(&r, format->name, packed);
        reference_stop(&r);
    }
}

/* Heads of every kind with int8 pages: odd sizes, several queries of a group, windows. */
static void test_backend_int8_pages(void **state)
{
    (void)state;
    struct model_shape shapes[4] = {model_shape_plain, model_shape_plain, model_shape_plain,
                                    model_shape_plain};
    shapes[0].kv_heads = 1, shapes[0].rope_dims = 8;
    shapes[1].head_dim = 96, shapes[1].rope_dims = 96;
    shapes[2].head_dim = 33, shapes[2].rope_dims = 32;
    shapes[3].window = 20;
    struct settings settings = {.kv = BACKEND_KV_INT8, .threads = 2};
    for (size_t i = 0; i < 4; i++) {
        char what[32];
        snprintf(what, sizeof(what), "shape %zu", i);
        struct reference r;
        reference_start(&r, &shapes[i], 90);
        assert_error_below(error_of(&r, &settings, 90, 37, BLOCK_ROPE_SHORT), 2e-2, what);
        reference_stop(&r);
    }
}

/* A single row of n tokens, chunk by chunk, must give the same bits as any other cutting. */
static void same_bits_however_cut(const struct model_fixture *model,
                                  const struct settings *settings)
{
    enum { count = 150 };
    static const size_t chunks[] = {1, 2, 7, 64, 65, 80};
    struct fixture f;
    start(&f, model, settings);
    int32_t tokens[count];
    random_tokens(tokens, count, f.n_vocab, 3);
    float *expected = calloc(count * f.n_vocab, sizeof(*expected));
    float *logits = calloc(count * f.n_vocab, sizeof(*logits));
    run_chunks(&f, tokens, count, 50, BLOCK_ROPE_SHORT, mixed_pages, expected);
    for (size_t i = 0; i < sizeof(chunks) / sizeof(chunks[0]); i++) {
        run_chunks(&f, tokens, count, chunks[i], BLOCK_ROPE_SHORT, mixed_pages, logits);
        assert_memory_equal(logits, expected, count * f.n_vocab * sizeof(*logits));
    }
    free(logits);
    free(expected);
    stop(&f);
}

/* Without tiles it would be int8 once more. */
static bool has_bf16(size_t tier)
{
    return tier == 0 || strcmp(tiers[tier], "amx") == 0;
}

static bool has_w8(size_t tier)
{
    return tier == 0 || strcmp(tiers[tier], "avxvnni") == 0 ||
           strcmp(tiers[tier], "avx512vnni") == 0;
}

/* The tier's kernels, with which rows of prompts are rounded once more however few they are. */
static const struct cpu_kernels *w8_kernels(size_t tier)
{
    static struct cpu_kernels kernels;
    const struct cpu_kernels *own = NULL;
    if (tier == 0) {
        return scalar_prompts();
    }
    assert_int_equal(cpu_choose_kernels(tiers[tier], &own, NULL), PHID_OK);
    kernels = *own;
    kernels.w8_rows = 0;
    return &kernels;
}

static void each_ordinary(void (*check)(const struct model_fixture *, const struct settings *))
{
    static const enum quant_type types[] = {QUANT_F16, QUANT_Q4_K, QUANT_Q6_K, QUANT_Q8_0};
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        struct model_shape shape = model_shape_wide;
        shape.type = shape.head_type = types[i];
        shape.tied = true;
        shape.window = i % 2 == 0 ? 0 : 37;
        shape.kv_heads = i % 2 == 0 ? 2 : 8;
        shape.ff = types[i] == QUANT_Q8_0 ? 480 : shape.ff; /* no whole number of W8_COLS */
        if (types[i] == QUANT_Q6_K) {
            shape.head_dim = 128; /* attention makes whole spans */
            shape.heads = 2;
        }
        struct model_fixture model;
        model_fixture_init(&model, &shape, 7);
        for (size_t t = 0; t < sizeof(tiers) / sizeof(tiers[0]); t++) {
            /* The slow scalar tier: weights of both kinds, f32 and packed. */
            if (!tier_runs(tiers[t]) || (t == 0 && i > 1)) {
                continue;
            }
            struct settings settings = {.isa = tiers[t],
                                        .kv = BACKEND_KV_F16,
                                        .activations = BACKEND_ACTIVATIONS_INT8,
                                        .threads = 2};
            check(&model, &settings);
            settings.activations = BACKEND_ACTIVATIONS_INT8X2;
            settings.kv = BACKEND_KV_INT8;
            check(&model, &settings);
            if (has_bf16(t)) {
                settings.activations = BACKEND_ACTIVATIONS_BF16;
                settings.kernels = t == 0 ? scalar_prompts() : NULL;
                check(&model, &settings);
            }
            if (has_w8(t)) {
                settings.activations = BACKEND_ACTIVATIONS_W8A8;
                settings.kernels = w8_kernels(t);
                check(&model, &settings);
            }
        }
        model_fixture_fini(&model);
    }
}

static void test_backend_chunks_same_bits(void **state)
{
    (void)state;
    each_ordinary(same_bits_however_cut);
}

/* Any kernel but this one has no function for larger tiles. */
static void multiply_up_to_8(const struct r16_matrix *m, size_t first, size_t groups,
                             const struct q8_tile *x, float *y, size_t y_stride)
{
    assert_true(x->tokens <= 8);
    cpu_kernels_scalar.multiply(m, first, groups, x, y, y_stride);
}

/* Codes of activations row by row, and tiles for panels that are larger than those for direct
 * products: two of them hold more rows than two of the others. */
static void test_backend_row_codes_same_bits(void **state)
{
    (void)state;
    enum { count = 50 };
    static const size_t chunks[] = {1, 8, 9, 13, 24, 25, 50};
    struct cpu_kernels kernels = cpu_kernels_scalar;
    kernels.multiply = multiply_up_to_8;
    kernels.row_codes = true;
    kernels.tile_tokens = 12;
    kernels.direct_tokens = 8;
    kernels.direct_tiles = 2;
    kernels.panel_groups = CPU_PANEL_GROUPS;
    kernels.panel_blocks = R16_UNIT_BLOCKS;
    struct model_shape shape = model_shape_wide;
    shape.type = shape.head_type = QUANT_Q6_K;
    struct model_fixture model;
    model_fixture_init(&model, &shape, 7);
    struct settings settings = {.isa = "scalar", .kv = BACKEND_KV_F16, .threads = 1};
    float *expected = calloc(count * shape.vocab, sizeof(*expected));
    float *logits = calloc(count * shape.vocab, sizeof(*logits));
    int32_t tokens[count];
    random_tokens(tokens, count, shape.vocab, 3);
    struct fixture f;
    start(&f, &model, &settings);
    run_chunks(&f, tokens, count, count, BLOCK_ROPE_SHORT, mixed_pages, expected);
    stop(&f);
    settings.kernels = &kernels;
    start(&f, &model, &settings);
    for (size_t i = 0; i < sizeof(chunks) / sizeof(chunks[0]); i++) {
        run_chunks(&f, tokens, count, chunks[i], BLOCK_ROPE_SHORT, mixed_pages, logits);
        assert_memory_equal(logits, expected, count * shape.vocab * sizeof(*logits));
    }
    stop(&f);
    model_fixture_fini(&model);
    free(logits);
    free(expected);
}

/* Three sequences of different lengths and rotary sets, alone and in one ragged batch, the last of
 * them a prompt. */
static void same_bits_in_a_crowd(const struct model_fixture *model, const struct settings *settings)
{
    static const uint32_t pages[3][2] = {{4, 1}, {8, 2}, {6, 10}};
    static const size_t lengths[3] = {1, 30, 41};
    static const int32_t starts[3] = {63, 0, 40};
    struct fixture f;
    start(&f, model, settings);
    int32_t tokens[3][128];
    float *alone = calloc(72 * f.n_vocab, sizeof(*alone));
    float *together = calloc(72 * f.n_vocab, sizeof(*together));
    float *ignored = calloc(MAX_ROWS * f.n_vocab, sizeof(*ignored));
    struct backend_sequence sequences[3];
    int32_t batch[72];
    size_t rows = 0;
    for (size_t i = 0; i < 3; i++) {
        random_tokens(tokens[i], 128, f.n_vocab, 20 + i);
        enum block_rope_set set = i == 0 ? BLOCK_ROPE_LONG : BLOCK_ROPE_SHORT;
        f.answers = 0;
        run_chunks(&f, tokens[i], (size_t)starts[i], 64, set, pages[i], ignored);
        f.answers = i < 2 ? 1 : 0;
        sequences[i] = (struct backend_sequence){
            .rows = lengths[i], .start = starts[i], .pages = pages[i], .rope_set = set};
        run(&f, &sequences[i], 1, tokens[i] + starts[i], alone + rows * f.n_vocab);
        memcpy(batch + rows, tokens[i] + starts[i], lengths[i] * sizeof(*batch));
        sequences[i].first_row = rows;
        rows += lengths[i];
    }
    f.answers = 2;
    run(&f, sequences, 3, batch, together);
    assert_memory_equal(together, alone, rows * f.n_vocab * sizeof(*alone));
    free(ignored);
    free(together);
    free(alone);
    stop(&f);
}

static void test_backend_crowd_same_bits(void **state)
{
    (void)state;
    each_ordinary(same_bits_in_a_crowd);
}

/* Long sequences: several ranges of keys, shared ones among them. Four continuations of one text,
 * which share its whole pages, and a stranger, each with rows of its own; in one batch and alone,
 * with any number of threads. */
enum { COMMON = 9 * 64 + 20, TAILS = 5, TAIL = 300, LONG_PAGES = 15 };

static void long_pages(uint32_t pages[TAILS][LONG_PAGES])
{
    uint32_t next = 0;
    for (size_t i = 0; i < TAILS; i++) {
        for (size_t p = 0; p < LONG_PAGES; p++) {
            bool shared = i != 0 && i != 3 && p < 9;
            pages[i][p] = shared ? pages[0][p] : next++;
        }
    }
}

/* Prefills the text and what each sequence has after it, in chunks of at most `chunk` rows. */
static void long_prefill(struct fixture *f, uint32_t pages[TAILS][LONG_PAGES],
                         int32_t tokens[TAILS][COMMON + TAIL], const size_t lengths[TAILS],
                         size_t chunk)
{
    float *ignored = calloc(MAX_ROWS * f->n_vocab, sizeof(*ignored));
    for (size_t i = 0; i < TAILS; i++) {
        for (size_t done = i == 0 || i == 3 ? 0 : 9 * 64; done < lengths[i];) {
            size_t rows = lengths[i] - done < chunk ? lengths[i] - done : chunk;
            struct backend_sequence s = {.rows = rows, .start = (int32_t)done, .pages = pages[i]};
            run(f, &s, 1, tokens[i] + done, ignored);
            done += rows;
        }
    }
    free(ignored);
}

static void same_bits_when_long(const struct model_fixture *model, const struct settings *settings)
{
    static const size_t lengths[TAILS] = {COMMON + 3, COMMON + 290, COMMON, COMMON + 40, 9 * 64};
    static const size_t rows[TAILS] = {1, 1, 3, 30, 1};
    const size_t vocab = model->model.n_vocab;
    static int32_t tokens[TAILS][COMMON + TAIL];
    uint32_t pages[TAILS][LONG_PAGES];
    long_pages(pages);
    for (size_t i = 0; i < TAILS; i++) {
        random_tokens(tokens[i], COMMON + TAIL, vocab, 40 + i);
        memcpy(tokens[i], tokens[0], i == 3 ? 0 : 9 * 64 * sizeof(int32_t));
    }
    enum { total = 36 };
    float *logits[4];
    for (size_t round = 0; round < 4; round++) {
        struct settings here = *settings;
        here.threads = 1 + 2 * round;
        struct fixture f;
        start(&f, model, &here);
        long_prefill(&f, pages, tokens, lengths, round % 2 == 0 ? 80 : 77);
        logits[round] = calloc(total * vocab, sizeof(float));
        struct backend_sequence batch[TAILS];
        int32_t ids[total];
        size_t row = 0;
        for (size_t i = 0; i < TAILS; i++) {
            batch[i] = (struct backend_sequence){
                .first_row = row, .rows = rows[i], .start = (int32_t)lengths[i], .pages = pages[i]};
            memcpy(ids + row, tokens[i] + lengths[i], rows[i] * sizeof(*ids));
            struct backend_sequence alone = batch[i];
            alone.first_row = 0;
            if (round == 0) {
                run(&f, &alone, 1, ids + row, logits[0] + row * vocab);
            }
            row += rows[i];
        }
        if (round > 0) {
            run(&f, batch, TAILS, ids, logits[round]);
            assert_memory_equal(logits[round], logits[0], total * vocab * sizeof(float));
        }
        stop(&f);
    }
    for (size_t round = 0; round < 4; round++) {
        free(logits[round]);
    }
}

static void test_backend_long_same_bits(void **state)
{
    (void)state;
    static const enum backend_kv_type types[] = {BACKEND_KV_F16, BACKEND_KV_INT8, BACKEND_KV_F32};
    for (size_t i = 0; i < 3; i++) {
        struct model_shape shape = model_shape_plain;
        shape.kv_heads = i == 0 ? 2 : i == 1 ? 1 : 4;
        shape.window = i == 2 ? 400 : 0;
        shape.layers = 1;
        struct settings settings = {.kv = types[i]};
        struct model_fixture model;
        model_fixture_init(&model, &shape, 7);
        same_bits_when_long(&model, &settings);
        model_fixture_fini(&model);
    }
}

/* The same numbers as the f64 reference where there are several ranges. */
static void test_backend_long_near_reference(void **state)
{
    (void)state;
    struct settings settings = {.kv = BACKEND_KV_F32, .threads = 2};
    struct model_shape shape = model_shape_plain;
    struct reference r;
    reference_start(&r, &shape, 384);
    assert_error_below(error_of(&r, &settings, 384, 80, BLOCK_ROPE_SHORT), 1e-5, "long");
    assert_error_below(error_of(&r, &settings, 384, 3, BLOCK_ROPE_SHORT), 1e-5, "long, few rows");
    reference_stop(&r);
    shape.window = 300;
    reference_start(&r, &shape, 384);
    assert_error_below(error_of(&r, &settings, 384, 50, BLOCK_ROPE_SHORT), 1e-5, "long, window");
    reference_stop(&r);
}

/* All instruction sets give the bits of the scalar kernels; with these activations, those that have
 * kernels for them. */
static void same_bits_on_tiers(const struct model_fixture *model, enum backend_kv_type kv,
                               enum backend_activations activations)
{
    enum { count = 70 };
    const size_t bytes = count * model_shape_wide.vocab * sizeof(float);
    const bool w8 = activations == BACKEND_ACTIVATIONS_W8A8;
    int32_t tokens[count];
    random_tokens(tokens, count, model_shape_wide.vocab, 5);
    float *expected = calloc(1, bytes);
    float *logits = calloc(1, bytes);
    for (size_t t = 0; t < sizeof(tiers) / sizeof(tiers[0]); t++) {
        if (!tier_runs(tiers[t]) || (w8 && !has_w8(t))) {
            continue;
        }
        struct settings settings = {.isa = tiers[t],
                                    .kernels = w8 ? w8_kernels(t) : NULL,
                                    .kv = kv,
                                    .activations = activations,
                                    .threads = 1};
        struct fixture f;
        start(&f, model, &settings);
        run_chunks(&f, tokens, count, t == 0 ? 64 : 50, BLOCK_ROPE_SHORT, mixed_pages,
                   t == 0 ? expected : logits);
        if (t > 0) {
            assert_memory_equal(logits, expected, bytes);
        }
        stop(&f);
    }
    free(logits);
    free(expected);
}

static void test_backend_tiers_same_bits(void **state)
{
    (void)state;
    for (size_t i = 0; quant_format_at(i) != NULL; i++) {
        struct model_shape shape = model_shape_wide;
        shape.type = shape.head_type = quant_format_at(i)->type;
        struct model_fixture model;
        model_fixture_init(&model, &shape, 7);
        enum backend_kv_type kv = i % 2 == 0 ? BACKEND_KV_F16 : BACKEND_KV_INT8;
        same_bits_on_tiers(&model, kv, BACKEND_ACTIVATIONS_AUTO);
        same_bits_on_tiers(&model, kv, BACKEND_ACTIVATIONS_W8A8);
        model_fixture_fini(&model);
    }
}

/* A prompt of n tokens in w8a8: does it have the bits of auto, which for a small model are those of
 * two terms? */
static bool are_auto_bits(const struct model_fixture *model, const struct cpu_kernels *kernels,
                          size_t n)
{
    const size_t bytes = n * model->model.n_vocab * sizeof(float);
    int32_t tokens[64];
    random_tokens(tokens, n, model->model.n_vocab, 5);
    float *logits[2];
    for (size_t i = 0; i < 2; i++) {
        struct settings settings = {.isa = "scalar", .kernels = kernels, .threads = 1};
        settings.activations = i == 0 ? BACKEND_ACTIVATIONS_INT8X2 : BACKEND_ACTIVATIONS_W8A8;
        struct fixture f;
        logits[i] = calloc(1, bytes);
        start(&f, model, &settings);
        run_chunks(&f, tokens, n, n, BLOCK_ROPE_SHORT, mixed_pages, logits[i]);
        stop(&f);
    }
    bool same = memcmp(logits[0], logits[1], bytes) == 0;
    free(logits[1]);
    free(logits[0]);
    return same;
}

static void test_backend_w8a8_from_rows(void **state)
{
    (void)state;
    struct model_shape shape = model_shape_wide;
    shape.type = shape.head_type = QUANT_Q4_K;
    struct model_fixture model;
    model_fixture_init(&model, &shape, 7);
    struct cpu_kernels kernels = *scalar_prompts();
    kernels.w8_rows = 32;
    assert_true(are_auto_bits(&model, &kernels, 31));
    assert_false(are_auto_bits(&model, &kernels, 32));
    kernels.w8_multiply = NULL;
    kernels.bf16_multiply = NULL;
    assert_true(are_auto_bits(&model, &kernels, 64));
    model_fixture_fini(&model);
}

/* A copied page continues as the original does. */
static void test_backend_kv_copy(void **state)
{
    (void)state;
    static const uint32_t original[] = {3, 4};
    static const uint32_t copied[] = {3, 9};
    struct settings settings = {.kv = BACKEND_KV_F16, .threads = 2};
    struct fixture f;
    struct phid_error err;
    struct model_fixture model;
    model_fixture_init(&model, &model_shape_plain, 7);
    start(&f, &model, &settings);
    int32_t tokens[101];
    random_tokens(tokens, 101, model_shape_plain.vocab, 9);
    float *logits = calloc(101 * model_shape_plain.vocab, sizeof(*logits));
    float *again = calloc(model_shape_plain.vocab, sizeof(*again));
    run_chunks(&f, tokens, 100, 50, BLOCK_ROPE_SHORT, original, logits);
    assert_int_equal(f.api->kv_copy(f.backend, 4, 9, &err), PHID_OK);
    struct backend_sequence s = {.rows = 1, .start = 100, .pages = original};
    run(&f, &s, 1, tokens + 100, logits);
    s.pages = copied;
    run(&f, &s, 1, tokens + 100, again);
    assert_memory_equal(again, logits, model_shape_plain.vocab * sizeof(*again));
    assert_int_equal(f.api->kv_copy(f.backend, MAX_PAGES, 0, &err), PHID_ERR_ARGUMENT);
    free(again);
    free(logits);
    stop(&f);
    model_fixture_fini(&model);
}

static void test_backend_rejects(void **state)
{
    (void)state;
    struct settings settings = {.kv = BACKEND_KV_F16, .threads = 1};
    struct fixture f;
    struct phid_error err;
    struct model_fixture model;
    model_fixture_init(&model, &model_shape_plain, 7);
    start(&f, &model, &settings);
    int32_t tokens[MAX_ROWS + 1] = {0};
    float *hidden = calloc((MAX_ROWS + 1) * model_shape_plain.embd, sizeof(*hidden));
    uint32_t pages[2] = {0, MAX_PAGES};
    struct backend_sequence s = {.rows = MAX_ROWS + 1, .pages = pages};
    struct backend_batch batch = {
        .tokens = tokens, .rows = MAX_ROWS + 1, .sequences = &s, .sequence_count = 1};
    assert_int_equal(f.api->embed(f.backend, &batch, hidden, &err), PHID_ERR_ARGUMENT);
    assert_int_equal(f.api->step(f.backend, &batch, 0, 2, hidden, &err), PHID_ERR_ARGUMENT);
    batch.rows = s.rows = 65; /* reaches into the page that does not exist */
    assert_int_equal(f.api->step(f.backend, &batch, 0, 2, hidden, &err), PHID_ERR_ARGUMENT);
    batch.rows = 3; /* not the sequence's rows */
    assert_int_equal(f.api->step(f.backend, &batch, 0, 2, hidden, &err), PHID_ERR_ARGUMENT);
    batch.rows = s.rows = 2;
    batch.prompt_rows = 3;
    assert_int_equal(f.api->step(f.backend, &batch, 0, 2, hidden, &err), PHID_ERR_ARGUMENT);
    batch.prompt_rows = 1;
    assert_int_equal(f.api->step(f.backend, &batch, 0, 3, hidden, &err), PHID_ERR_ARGUMENT);
    assert_int_equal(f.api->step(f.backend, &batch, 0, 2, hidden, &err), PHID_OK);
    batch.rows = batch.sequence_count = batch.prompt_rows = 0;
    assert_int_equal(f.api->step(f.backend, &batch, 0, 2, hidden, &err), PHID_OK);
    assert_int_equal(f.api->kv_create(f.backend, BACKEND_KV_F16, 1, &err), PHID_ERR_ARGUMENT);
    struct backend_options options = {.isa = "mmx", .max_rows = 1};
    struct backend *b;
    assert_int_equal(f.api->open(&options, &b, &err), PHID_ERR_ARGUMENT);
    options = (struct backend_options){.max_rows = 0};
    assert_int_equal(f.api->open(&options, &b, &err), PHID_ERR_ARGUMENT);
    free(hidden);
    stop(&f);
    model_fixture_fini(&model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_backend_exact_shapes),
        cmocka_unit_test(test_backend_types_near_reference),
        cmocka_unit_test(test_backend_int8_pages),
        cmocka_unit_test(test_backend_chunks_same_bits),
        cmocka_unit_test(test_backend_row_codes_same_bits),
        cmocka_unit_test(test_backend_crowd_same_bits),
        cmocka_unit_test(test_backend_long_same_bits),
        cmocka_unit_test(test_backend_long_near_reference),
        cmocka_unit_test(test_backend_tiers_same_bits),
        cmocka_unit_test(test_backend_w8a8_from_rows),
        cmocka_unit_test(test_backend_kv_copy),
        cmocka_unit_test(test_backend_rejects),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

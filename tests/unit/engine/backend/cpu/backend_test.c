/* The CPU backend against a second forward pass in f64, and against itself: however rows are batched, cut into chunks
 * or paged, the same numbers must come out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "engine/backend/backend.h"
#include "engine/base/rng.h"
#include "tests/unit/engine/backend/cpu/model_fixture.h"

#define MAX_ROWS  80
#define MAX_PAGES 64

static const struct model_shape plain = {
    .layers = 2, .embd = 64, .heads = 4, .kv_heads = 2, .head_dim = 16, .ff = 96, .vocab = 70, .rope_dims = 16,
    .type = QUANT_F32, .head_type = QUANT_F32,
};

struct fixture {
    struct model_fixture model;
    struct backend *backend;
    const struct backend_api *api;
    size_t n_vocab, n_embd;
};

struct settings {
    bool exact;
    enum backend_kv_type kv;
    const char *isa;
    size_t threads;
};

static const struct settings exact = { .exact = true, .kv = BACKEND_KV_F32, .threads = 2 };

static void release_counts(void *user, const struct block_matrix *matrix)
{
    assert_non_null(matrix->data);
    ++*(size_t *)user;
}

static void start(struct fixture *f, const struct model_shape *shape, const struct settings *settings)
{
    struct phid_error err;
    f->api = backend_cpu();
    model_fixture_init(&f->model, shape, 7);
    f->n_vocab = shape->vocab;
    f->n_embd = shape->embd;
    struct backend_options options = {
        .threads = settings->threads, .isa = settings->isa, .exact = settings->exact, .max_rows = MAX_ROWS
    };
    assert_int_equal(f->api->open(&options, &f->backend, &err), PHID_OK);
    size_t released = 0;
    enum phid_status status = f->api->load(f->backend, &f->model.model, 0, shape->layers, true, true, release_counts,
                                           &released, &err);
    assert_int_equal(status, PHID_OK);
    assert_int_equal(released, 7 * shape->layers + (shape->tied ? 1 : 2));
    assert_int_equal(f->api->kv_create(f->backend, settings->kv, MAX_PAGES, &err), PHID_OK);
}

static void stop(struct fixture *f)
{
    f->api->close(f->backend);
    model_fixture_fini(&f->model);
}

/* Runs a batch and stores the logits of all its rows. */
static void run(struct fixture *f, const struct backend_sequence *sequences, size_t count, const int32_t *tokens,
                float *logits)
{
    struct phid_error err;
    size_t rows = 0;
    for (size_t i = 0; i < count; i++) {
        rows += sequences[i].rows;
    }
    struct backend_batch batch = { .tokens = tokens, .rows = rows, .sequences = sequences, .sequence_count = count };
    float *hidden = calloc(rows * f->n_embd, sizeof(float));
    size_t list[MAX_ROWS];
    for (size_t i = 0; i < rows; i++) {
        list[i] = i;
    }
    assert_int_equal(f->api->embed(f->backend, &batch, hidden, &err), PHID_OK);
    assert_int_equal(f->api->step(f->backend, &batch, 0, f->model.model.n_layers, hidden, &err), PHID_OK);
    assert_int_equal(f->api->head(f->backend, hidden, list, rows, logits, &err), PHID_OK);
    free(hidden);
}

/* One sequence in chunks of at most `chunk` rows, from its beginning. */
static void run_chunks(struct fixture *f, const int32_t *tokens, size_t count, size_t chunk, enum block_rope_set set,
                       const uint32_t *pages, float *logits)
{
    for (size_t done = 0; done < count; done += chunk) {
        size_t rows = count - done < chunk ? count - done : chunk;
        struct backend_sequence s = { .rows = rows, .start = (int32_t)done, .pages = pages, .rope_set = set };
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

static const uint32_t mixed_pages[] = { 5, 0, 9, 3, 12, 7 };

static double error_of(const struct model_shape *shape, const struct settings *settings, size_t count, size_t chunk,
                       enum block_rope_set set)
{
    struct fixture f;
    start(&f, shape, settings);
    int32_t *tokens = calloc(count, sizeof(*tokens));
    float *logits = calloc(count * shape->vocab, sizeof(*logits));
    double *expected = calloc(count * shape->vocab, sizeof(*expected));
    random_tokens(tokens, count, shape->vocab, 11);
    model_reference(&f.model.model, set, tokens, count, expected);
    model_fixture_drop_data(&f.model);
    run_chunks(&f, tokens, count, chunk, set, mixed_pages, logits);
    double error = relative_rms(logits, expected, count * shape->vocab);
    free(expected);
    free(logits);
    free(tokens);
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
        shapes[i] = plain;
    }
    shapes[1].kv_heads = 1, shapes[1].rope_dims = 8; /* MQA, partial rotary */
    shapes[2].head_dim = 96, shapes[2].rope_dims = 96, shapes[2].kv_heads = 4, shapes[2].tied = true;
    shapes[3].pairs = BLOCK_ROPE_INTERLEAVED, shapes[3].head_dim = 10, shapes[3].rope_dims = 10;
    shapes[4].window = 20;
    shapes[5].biases = true, shapes[5].ff = 50, shapes[5].embd = 40;
    shapes[6].type = QUANT_Q4_K, shapes[6].head_type = QUANT_Q6_K, shapes[6].embd = 256, shapes[6].ff = 512;
    shapes[6].heads = 8, shapes[6].head_dim = 32, shapes[6].rope_dims = 32, shapes[6].layers = 1;
    shapes[7].type = QUANT_Q8_0, shapes[7].head_type = QUANT_BF16, shapes[7].rope_dims = 0;
    for (size_t i = 0; i < 8; i++) {
        char what[32];
        snprintf(what, sizeof(what), "shape %zu", i);
        assert_error_below(error_of(&shapes[i], &exact, 90, 37, BLOCK_ROPE_SHORT), 2e-6, what);
        assert_error_below(error_of(&shapes[i], &exact, 5, 1, BLOCK_ROPE_LONG), 2e-6, what);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_backend_exact_shapes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

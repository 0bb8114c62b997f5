/* Tiny models of every variant through model_load and the CPU backend's exact path, against the f64
 * forward pass. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "engine/model/model.h"
#include "model_file.h"
#include "quant/format/format.h"
#include "reference_forward.h"

/* Sequence A crosses a page border and B does not; both go through two batches, and their pages are
 * mixed. */
enum {
    A_TOKENS = 75,
    B_TOKENS = 6,
    A_FIRST = 41,
    B_FIRST = 4,
    PAGES = 3,
    MAX_ROWS = 64,
    MAX_VOCAB = 64
};

struct variant {
    const char *what;
    struct model_shape shape;
    bool long_set;
};

#define PHI3  .arch = "phi3", .layers = 2, .embd = 32, .ff = 48, .vocab = 50, .context = 256
#define LLAMA .arch = "llama", .layers = 2, .embd = 32, .ff = 48, .vocab = 50, .context = 256

static const struct variant variants[] = {
    {"phi3 fused, all heads",
     {PHI3, .heads = 4, .kv_heads = 4, .fused_qkv = true, .fused_gate_up = true},
     false},
    {"phi3 grouped heads, partial rotary, short factors",
     {PHI3, .heads = 4, .kv_heads = 2, .rope_dims = 6, .fused_qkv = true, .fused_gate_up = true,
      .factors = true, .original = 32, .attn_factor = 1.19f},
     false},
    {"phi3 grouped heads, partial rotary, long factors",
     {PHI3, .heads = 4, .kv_heads = 2, .rope_dims = 6, .fused_qkv = true, .fused_gate_up = true,
      .factors = true, .original = 32, .attn_factor = 1.19f},
     true},
    {"phi3 derived attention factor",
     {PHI3, .heads = 2, .kv_heads = 1, .fused_qkv = true, .fused_gate_up = true, .factors = true,
      .original = 32},
     true},
    {"phi3 split, tied",
     {PHI3, .heads = 4, .kv_heads = 2, .tied = true, .freq_base = 250000},
     false},
    {"phi3 one kv head, window",
     {PHI3, .heads = 4, .kv_heads = 1, .window = 9, .fused_qkv = true, .fused_gate_up = true},
     false},
    {"phi3 window longer than a page",
     {PHI3, .heads = 4, .kv_heads = 4, .window = 66, .fused_qkv = true, .fused_gate_up = true},
     false},
    {"phi3 head size 96",
     {.arch = "phi3",
      .layers = 1,
      .embd = 192,
      .heads = 2,
      .kv_heads = 2,
      .ff = 100,
      .vocab = 50,
      .context = 256,
      .fused_qkv = true,
      .fused_gate_up = true},
     false},
    {"llama grouped heads", {LLAMA, .heads = 4, .kv_heads = 2, .tied = true}, false},
    {"llama one kv head, biases, rope_freqs",
     {LLAMA, .heads = 4, .kv_heads = 1, .biases = true, .rope_freqs = true, .freq_base = 500000},
     false},
    {"llama fused biases, window",
     {LLAMA, .heads = 4, .kv_heads = 2, .biases = true, .fused_qkv = true, .window = 17},
     false},
    {"llama own head size, partial rotary, linear scaling",
     {LLAMA, .heads = 3, .kv_heads = 3, .head_dim = 20, .rope_dims = 8, .linear = 4},
     false},
    {"llama three heads on one",
     {.arch = "llama",
      .layers = 3,
      .embd = 48,
      .heads = 3,
      .kv_heads = 1,
      .ff = 40,
      .vocab = 50,
      .context = 256,
      .biases = true},
     false},
    {"phi3 f16",
     {PHI3, .heads = 4, .kv_heads = 2, .fused_qkv = true, .fused_gate_up = true, .type = QUANT_F16},
     false},
    {"llama q8_0",
     {.arch = "llama",
      .layers = 2,
      .embd = 64,
      .heads = 4,
      .kv_heads = 2,
      .ff = 96,
      .vocab = 50,
      .context = 256,
      .type = QUANT_Q8_0},
     false},
    {"phi3 q4_k",
     {.arch = "phi3",
      .layers = 1,
      .embd = 256,
      .heads = 4,
      .kv_heads = 2,
      .ff = 256,
      .vocab = 50,
      .context = 256,
      .fused_qkv = true,
      .fused_gate_up = true,
      .type = QUANT_Q4_K},
     false},
};

/* What the file's values are once they are in their tensor type. */
static void round_values(struct model_file *f)
{
    for (size_t i = 0; i < f->tensor_count; i++) {
        struct file_tensor *t = &f->tensors[i];
        const struct quant_format *format = quant_format_find(t->type);
        void *encoded = malloc(t->count / format->block_weights * format->block_bytes);
        assert_non_null(encoded);
        format->encode(t->values, encoded, t->count);
        format->decode(encoded, t->values, t->count);
        free(encoded);
    }
}

struct run {
    const struct backend_api *api;
    struct backend *backend;
    const struct model *model;
    enum block_rope_set set;
    int32_t ids[2][A_TOKENS];
    float logits[2][A_TOKENS][MAX_VOCAB];
};

static void must(enum phid_status status, const struct phid_error *err, const char *what)
{
    if (status != PHID_OK) {
        fail_msg("%s: %s", what, err->message);
    }
}

/* Runs tokens [from[s], to[s]) of both sequences as one batch and takes the logits of all of them.
 */
static void run_batch(struct run *r, const size_t from[2], const size_t to[2])
{
    static const uint32_t pages[2][2] = {{2, 0}, {1, 0}};
    static float hidden[MAX_ROWS * 256], logits[MAX_ROWS * MAX_VOCAB];
    struct backend_sequence sequences[2];
    int32_t ids[MAX_ROWS];
    size_t rows[MAX_ROWS];
    struct backend_batch batch = {.tokens = ids, .sequences = sequences};
    for (size_t s = 0; s < 2; s++) {
        if (to[s] == from[s]) {
            continue;
        }
        sequences[batch.sequence_count++] = (struct backend_sequence){.first_row = batch.rows,
                                                                      .rows = to[s] - from[s],
                                                                      .start = (int32_t)from[s],
                                                                      .pages = pages[s],
                                                                      .rope_set = r->set};
        memcpy(ids + batch.rows, r->ids[s] + from[s], (to[s] - from[s]) * sizeof(*ids));
        batch.rows += to[s] - from[s];
    }
    for (size_t i = 0; i < batch.rows; i++) {
        rows[i] = i;
    }
    struct phid_error err = {0};
    const struct block_model *m = &r->model->block;
    must(r->api->embed(r->backend, &batch, hidden, &err), &err, "embed");
    /* Layer by layer, as a placement over several devices would. */
    for (size_t layer = 0; layer < m->n_layers; layer++) {
        must(r->api->step(r->backend, &batch, layer, layer + 1, hidden, &err), &err, "step");
    }
    must(r->api->head(r->backend, hidden, rows, batch.rows, logits, &err), &err, "head");
    size_t row = 0;
    for (size_t s = 0; s < 2; s++) {
        for (size_t t = from[s]; t < to[s]; t++) {
            memcpy(r->logits[s][t], logits + row * m->n_vocab, m->n_vocab * sizeof(float));
            row++;
        }
    }
}

static double relative_rms(const struct run *r, const struct model_shape *s, size_t sequence,
                           const double *expected, size_t count)
{
    double difference = 0, size = 0;
    for (size_t t = 0; t < count; t++) {
        for (size_t i = 0; i < s->vocab; i++) {
            double e = expected[t * s->vocab + i];
            double d = (double)r->logits[sequence][t][i] - e;
            difference += d * d;
            size += e * e;
        }
    }
    return sqrt(difference / size);
}

static void check_variant(const struct variant *v)
{
    static struct run r;
    static double expected[A_TOKENS * MAX_VOCAB];
    static struct model_file f;
    struct gguf_file *file = NULL;
    struct model *model = NULL;
    struct phid_error err = {0};
    model_file_init(&f);
    model_file_make(&f, &v->shape, 99);
    round_values(&f);
    must(model_file_open(&f, &file, &err), &err, "gguf_open_memory");
    must(model_load(file, &model, &err), &err, "model_load");

    memset(&r, 0, sizeof(r));
    r.api = backend_cpu();
    r.model = model;
    r.set = v->long_set ? BLOCK_ROPE_LONG : BLOCK_ROPE_SHORT;
    struct rng rng;
    rng_init(&rng, 4);
    for (size_t i = 0; i < A_TOKENS; i++) {
        r.ids[0][i] = (int32_t)rng_below(&rng, v->shape.vocab);
        r.ids[1][i] = (int32_t)rng_below(&rng, v->shape.vocab);
    }
    struct backend_options options = {
        .threads = 1, .isa = "scalar", .exact = true, .max_rows = MAX_ROWS};
    must(r.api->open(&options, &r.backend, &err), &err, "open");
    must(r.api->load(r.backend, &model->block, 0, model->block.n_layers, true, true, NULL, NULL,
                     &err),
         &err, "load");
    must(r.api->kv_create(r.backend, BACKEND_KV_F32, PAGES, &err), &err, "kv_create");
    run_batch(&r, (const size_t[2]){0, 0}, (const size_t[2]){A_FIRST, B_FIRST});
    run_batch(&r, (const size_t[2]){A_FIRST, B_FIRST}, (const size_t[2]){A_TOKENS - 1, B_TOKENS});
    run_batch(&r, (const size_t[2]){A_TOKENS - 1, B_TOKENS}, (const size_t[2]){A_TOKENS, B_TOKENS});
    r.api->close(r.backend);

    static const size_t counts[2] = {A_TOKENS, B_TOKENS};
    for (size_t s = 0; s < 2; s++) {
        reference_forward(&f, &v->shape, r.ids[s], counts[s], v->long_set, expected);
        double rms = relative_rms(&r, &v->shape, s, expected, counts[s]);
        if (!(rms <= 1e-5)) {
            fail_msg("%s: sequence %zu differs by %g relative RMS", v->what, s, rms);
        }
    }
    model_free(model);
    gguf_close(file);
    model_file_fini(&f);
}

static void test_forward_equals_the_reference(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(variants) / sizeof(variants[0]); i++) {
        check_variant(&variants[i]);
    }
}

/* The reference can tell the variants apart: with the other factor set the logits are far away. */
static void test_reference_sees_the_factor_set(void **state)
{
    (void)state;
    const struct model_shape *s = &variants[1].shape;
    struct model_file *f = calloc(1, sizeof(*f));
    double *a = calloc(2 * 40 * MAX_VOCAB, sizeof(*a)), *b = a + 40 * MAX_VOCAB;
    int32_t ids[40];
    model_file_init(f);
    model_file_make(f, s, 99);
    for (int32_t i = 0; i < 40; i++) {
        ids[i] = i;
    }
    reference_forward(f, s, ids, 40, false, a);
    reference_forward(f, s, ids, 40, true, b);
    double difference = 0, size = 0;
    for (size_t i = 0; i < 40 * s->vocab; i++) {
        difference += (a[i] - b[i]) * (a[i] - b[i]);
        size += a[i] * a[i];
    }
    assert_true(sqrt(difference / size) > 0.01);
    model_file_fini(f);
    free(f);
    free(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forward_equals_the_reference),
        cmocka_unit_test(test_reference_sees_the_factor_set),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

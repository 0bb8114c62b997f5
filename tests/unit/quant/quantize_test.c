#include "quant/quantize.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <math.h>
#include <unistd.h>

#include "engine/base/rng.h"
#include "engine/gguf/gguf.h"
#include "engine/gguf/writer.h"
#include "quant/format/format.h"
#include "quant/mixture.h"

static char folder[] = "/tmp/quantize_test_XXXXXX";
static char in[128];
static char out[128];

static int make_folder(void **state)
{
    bool made = mkdtemp(folder) != NULL;
    snprintf(in, sizeof in, "%s/in.gguf", folder);
    snprintf(out, sizeof out, "%s/out.gguf", folder);
    return !made;
}

static int remove_folder(void **state)
{
    return rmdir(folder); /* fails when a temporary file was left behind */
}

enum { LAYERS = 8, TENSORS = 6 + 4 * LAYERS };

struct plan {
    char name[64];
    uint32_t n_dims;
    uint64_t ne[3];
};

static void plan_add(struct plan *plan, size_t *count, const char *format, int layer,
                     uint32_t n_dims, const uint64_t ne[3])
{
    struct plan *p = &plan[(*count)++];
    if (layer >= 0) {
        int size = snprintf(p->name, sizeof p->name, "blk.%d", layer);
        snprintf(p->name + size, sizeof p->name - (size_t)size, "%s", format);
    } else {
        snprintf(p->name, sizeof p->name, "%s", format);
    }
    p->n_dims = n_dims;
    memcpy(p->ne, ne, sizeof p->ne);
}

/* A model in f32; weight k of all is `bad` when bad_at is not SIZE_MAX. */
static void write_model(bool tied, size_t bad_at, float bad)
{
    struct plan plan[TENSORS];
    size_t count = 0;
    plan_add(plan, &count, "token_embd.weight", -1, 2, (const uint64_t[]){256, 8, 1});
    if (!tied) {
        plan_add(plan, &count, "output.weight", -1, 2, (const uint64_t[]){256, 8, 1});
    }
    plan_add(plan, &count, "output_norm.weight", -1, 1, (const uint64_t[]){256, 1, 1});
    plan_add(plan, &count, "rope_factors_long.weight", -1, 1, (const uint64_t[]){32, 1, 1});
    for (int layer = 0; layer < LAYERS; layer++) {
        plan_add(plan, &count, ".attn_qkv.weight", layer, 2, (const uint64_t[]){256, 4, 1});
        plan_add(plan, &count, ".ffn_down.weight", layer, 2, (const uint64_t[]){96, 4, 1});
        plan_add(plan, &count, ".attn_norm.weight", layer, 1, (const uint64_t[]){256, 1, 1});
    }
    plan_add(plan, &count, ".ffn_up_exps.weight", 0, 3, (const uint64_t[]){256, 2, 3});
    plan_add(plan, &count, ".ffn_gate_inp.weight", 0, 2, (const uint64_t[]){256, 3, 1});

    struct gguf_writer *writer;
    assert_int_equal(gguf_writer_new(&writer, NULL), PHID_OK);
    gguf_writer_add_str(writer, "general.architecture", STR("phi3"));
    gguf_writer_add_u32(writer, "general.file_type", 0);
    gguf_writer_add_u32(writer, "split.count", 1);
    for (size_t i = 0; i < count; i++) {
        gguf_writer_add_tensor(writer, str_of(plan[i].name), QUANT_F32, plan[i].n_dims, plan[i].ne);
    }
    assert_int_equal(gguf_writer_begin(writer, in, NULL), PHID_OK);
    struct rng rng;
    rng_init(&rng, 11);
    size_t at = 0;
    for (size_t i = 0; i < count; i++) {
        for (uint64_t k = 0; k < plan[i].ne[0] * plan[i].ne[1] * plan[i].ne[2]; k++, at++) {
            float x = at == bad_at ? bad : rng_normal(&rng);
            assert_int_equal(gguf_writer_data(writer, &x, sizeof x, NULL), PHID_OK);
        }
    }
    assert_int_equal(gguf_writer_end(writer, NULL), PHID_OK);
    gguf_writer_free(writer);
}

static struct gguf_file *open_file(const char *path)
{
    struct gguf_file *file = NULL;
    struct phid_error error = {.message = ""};
    if (gguf_open(path, &file, &error) != PHID_OK) {
        fail_msg("%s", error.message);
    }
    return file;
}

/* The copy's weights against the original's; returns the relative root mean square error. */
static double error_of(const struct gguf_tensor *a, const struct gguf_tensor *b)
{
    size_t n = (size_t)(a->ne[0] * a->ne[1] * a->ne[2] * a->ne[3]);
    float *x = malloc(n * sizeof(float));
    float *y = malloc(n * sizeof(float));
    assert_true(x != NULL && y != NULL);
    quant_format_find(a->type)->decode(a->data, x, n);
    quant_format_find(b->type)->decode(b->data, y, n);
    double error = 0;
    double square = 0;
    for (size_t i = 0; i < n; i++) {
        error += ((double)x[i] - (double)y[i]) * ((double)x[i] - (double)y[i]);
        square += (double)x[i] * (double)x[i];
    }
    free(x);
    free(y);
    return sqrt(error / square);
}

static const struct gguf_tensor *find(const struct gguf_file *file, const char *name)
{
    const struct gguf_tensor *tensor = gguf_tensor_find(file, str_of(name));
    assert_non_null(tensor);
    return tensor;
}

static struct quantize_report quantize(const char *target)
{
    struct quantize_report report = {0};
    struct phid_error error = {.message = ""};
    struct quantize_options options = {.target = str_of(target), .threads = 2};
    if (quantize_file(in, out, &options, &report, &error) != PHID_OK) {
        fail_msg("%s: %s", target, error.message);
    }
    return report;
}

static void test_quantize_every_target(void **state)
{
    static const struct {
        const char *target;
        enum quant_type matrix, narrow, output; /* narrow: rows of 96 */
        double error;
        size_t fallbacks;
    } cases[] = {
        {"f32", QUANT_F32, QUANT_F32, QUANT_F32, 0, 0},
        {"f16", QUANT_F16, QUANT_F16, QUANT_F16, 0.001, 0},
        {"BF16", QUANT_BF16, QUANT_BF16, QUANT_BF16, 0.01, 0},
        {"q8_0", QUANT_Q8_0, QUANT_Q8_0, QUANT_Q8_0, 0.01, 0},
        {"q4_0", QUANT_Q4_0, QUANT_Q4_0, QUANT_Q6_K, 0.1, 0},
        {"q4_1", QUANT_Q4_1, QUANT_Q4_1, QUANT_Q6_K, 0.1, 0},
        {"q5_0", QUANT_Q5_0, QUANT_Q5_0, QUANT_Q6_K, 0.06, 0},
        {"q5_1", QUANT_Q5_1, QUANT_Q5_1, QUANT_Q6_K, 0.06, 0},
        {"q2_k", QUANT_Q2_K, QUANT_Q4_0, QUANT_Q6_K, 0.35, LAYERS},
        {"q3_k", QUANT_Q3_K, QUANT_Q4_0, QUANT_Q6_K, 0.2, LAYERS},
        {"Q4_K", QUANT_Q4_K, QUANT_Q5_0, QUANT_Q6_K, 0.1, LAYERS},
        {"q5_k", QUANT_Q5_K, QUANT_Q5_1, QUANT_Q6_K, 0.06, LAYERS},
        {"q6_k", QUANT_Q6_K, QUANT_Q8_0, QUANT_Q6_K, 0.03, LAYERS},
        {"iq4_nl", QUANT_IQ4_NL, QUANT_IQ4_NL, QUANT_Q6_K, 0.1, 0},
        {"iq4_xs", QUANT_IQ4_XS, QUANT_IQ4_NL, QUANT_Q6_K, 0.1, LAYERS},
        {"iq3_s", QUANT_IQ3_S, QUANT_IQ4_NL, QUANT_Q6_K, 0.15, LAYERS},
        {"iq3_xxs", QUANT_IQ3_XXS, QUANT_IQ4_NL, QUANT_Q6_K, 0.2, LAYERS},
        {"iq2_s", QUANT_IQ2_S, QUANT_Q4_0, QUANT_Q6_K, 0.27, LAYERS},
        {"iq2_xs", QUANT_IQ2_XS, QUANT_Q4_0, QUANT_Q6_K, 0.32, LAYERS},
        {"iq2_xxs", QUANT_IQ2_XXS, QUANT_Q4_0, QUANT_Q6_K, 0.36, LAYERS},
        {"iq1_m", QUANT_IQ1_M, QUANT_Q4_0, QUANT_Q6_K, 0.45, LAYERS},
        {"iq1_s", QUANT_IQ1_S, QUANT_Q4_0, QUANT_Q6_K, 0.5, LAYERS},
        {"tq2_0", QUANT_TQ2_0, QUANT_Q4_0, QUANT_Q6_K, 0.5, LAYERS},
        {"tq1_0", QUANT_TQ1_0, QUANT_Q4_0, QUANT_Q6_K, 0.5, LAYERS},
        {"mxfp4", QUANT_MXFP4, QUANT_MXFP4, QUANT_Q6_K, 0.13, 0},
    };
    write_model(false, SIZE_MAX, 0);
    struct gguf_file *original = open_file(in);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct quantize_report report = quantize(cases[i].target);
        assert_int_equal(report.tensors, gguf_tensor_count(original));
        assert_int_equal(report.fallbacks, cases[i].fallbacks);
        struct gguf_file *copy = open_file(out);
        uint64_t bytes = 0;
        for (size_t t = 0; t < gguf_tensor_count(copy); t++) {
            const struct gguf_tensor *tensor = gguf_tensor_at(copy, t);
            const struct gguf_tensor *before = gguf_tensor_at(original, t);
            assert_true(str_equal(tensor->name, before->name)); /* the order stays */
            assert_memory_equal(tensor->ne, before->ne, sizeof tensor->ne);
            assert_true(error_of(before, tensor) <= cases[i].error);
            bytes += tensor->size_bytes;
        }
        assert_int_equal(report.bytes_written, bytes);
        assert_int_equal(find(copy, "token_embd.weight")->type, cases[i].matrix);
        assert_int_equal(find(copy, "blk.3.attn_qkv.weight")->type, cases[i].matrix);
        assert_int_equal(find(copy, "blk.0.ffn_up_exps.weight")->type, cases[i].matrix);
        assert_int_equal(find(copy, "blk.3.ffn_down.weight")->type, cases[i].narrow);
        assert_int_equal(find(copy, "output.weight")->type, cases[i].output);
        assert_int_equal(find(copy, "output_norm.weight")->type, QUANT_F32);
        assert_int_equal(find(copy, "blk.0.attn_norm.weight")->type, QUANT_F32);
        assert_int_equal(find(copy, "blk.0.ffn_gate_inp.weight")->type, QUANT_F32);
        assert_int_equal(find(copy, "rope_factors_long.weight")->type, QUANT_F32);
        gguf_close(copy);
    }
    gguf_close(original);
    unlink(in);
    unlink(out);
}

static void test_quantize_mixture_raises_some_layers(void **state)
{
    write_model(false, SIZE_MAX, 0);
    quantize("q4_k_m");
    struct gguf_file *file = open_file(out);
    /* Of 8 layers: the first eighth, the last, and where (n - 1) mod 3 is 2. */
    static const bool raised[LAYERS] = {true, false, false, true, false, false, true, true};
    for (int layer = 0; layer < LAYERS; layer++) {
        char name[64];
        snprintf(name, sizeof name, "blk.%d.attn_qkv.weight", layer);
        assert_int_equal(find(file, name)->type, raised[layer] ? QUANT_Q6_K : QUANT_Q4_K);
        snprintf(name, sizeof name, "blk.%d.ffn_down.weight", layer);
        assert_int_equal(find(file, name)->type, raised[layer] ? QUANT_Q8_0 : QUANT_Q5_0);
    }
    assert_int_equal(find(file, "token_embd.weight")->type, QUANT_Q4_K);
    uint32_t value;
    assert_int_equal(gguf_get_u32(file, "general.file_type", &value, NULL), PHID_OK);
    assert_int_equal(value, 15);
    assert_int_equal(gguf_get_u32(file, "general.quantization_version", &value, NULL), PHID_OK);
    assert_int_equal(value, 2);
    assert_null(gguf_find(file, STR("split.count")));
    struct str architecture;
    assert_int_equal(gguf_get_str(file, "general.architecture", &architecture, NULL), PHID_OK);
    assert_true(str_equal_c(architecture, "phi3"));
    gguf_close(file);
    unlink(in);
    unlink(out);
}

static void test_quantize_tied_embedding_is_the_output(void **state)
{
    write_model(true, SIZE_MAX, 0);
    quantize("q4_k");
    struct gguf_file *file = open_file(out);
    assert_int_equal(find(file, "token_embd.weight")->type, QUANT_Q6_K);
    gguf_close(file);
    unlink(in);
    unlink(out);
}

static void test_quantize_again_and_in_place(void **state)
{
    write_model(false, SIZE_MAX, 0);
    quantize("q8_0");
    assert_int_equal(rename(out, in), 0);
    struct quantize_report report;
    struct quantize_options options = {.target = STR("q4_k"), .threads = 1};
    assert_int_equal(quantize_file(in, in, &options, &report, NULL), PHID_OK); /* onto itself */
    struct gguf_file *file = open_file(in);
    assert_int_equal(find(file, "blk.1.attn_qkv.weight")->type, QUANT_Q4_K);
    gguf_close(file);
    assert_int_equal(quantize_file(in, in, &options, &report, NULL), PHID_OK);
    assert_int_equal(report.converted, 0); /* the same type again copies */
    assert_int_equal(report.bytes_read, report.bytes_written);
    unlink(in);
}

static void expect_failure(const char *target, enum phid_status status, const char *fragment)
{
    struct quantize_report report = {.tensors = 77};
    struct phid_error error = {.message = ""};
    struct quantize_options options = {.target = str_of(target), .threads = 2};
    enum phid_status got = quantize_file(in, out, &options, &report, &error);
    if (got != status || strstr(error.message, fragment) == NULL) {
        fail_msg("%s '%s', expected '%s'", phid_status_name(got), error.message, fragment);
    }
    assert_int_equal(report.tensors, 77);
    assert_int_not_equal(access(out, F_OK), 0);
}

static void test_quantize_failures(void **state)
{
    expect_failure("q4_k", PHID_ERR_NOT_FOUND, "in.gguf: No such file");
    write_model(false, SIZE_MAX, 0);
    expect_failure("q4_x", PHID_ERR_ARGUMENT, "unknown target type 'q4_x'; the types are f32, f16");
    expect_failure("", PHID_ERR_ARGUMENT, "unknown target type ''");
    write_model(false, 700, NAN);
    expect_failure("q4_k", PHID_ERR_FORMAT, "tensor 'token_embd.weight' at offset");
    write_model(false, 256 * 8 + 1, -INFINITY);
    expect_failure("q8_0", PHID_ERR_FORMAT, "tensor 'output.weight' at offset");
    unlink(in);
}

struct seen {
    size_t calls;
    size_t total;
};

static void note_progress(void *context, const struct quantize_progress *progress)
{
    struct seen *seen = context;
    seen->calls++;
    assert_int_equal(progress->done, seen->calls);
    seen->total = progress->total;
    assert_string_equal(progress->from, "F32");
    assert_non_null(progress->to);
    assert_true(progress->tensor.size > 0);
}

static void test_quantize_reports_progress(void **state)
{
    write_model(false, SIZE_MAX, 0);
    struct seen seen = {0};
    struct quantize_options options = {
        .target = STR("q8_0"), .progress = note_progress, .context = &seen};
    struct quantize_report report;
    assert_int_equal(quantize_file(in, out, &options, &report, NULL), PHID_OK);
    assert_int_equal(seen.calls, report.tensors);
    assert_int_equal(seen.total, report.tensors);
    unlink(in);
    unlink(out);
}

static void test_quantize_layer_numbers(void **state)
{
    uint64_t layer = 77;
    assert_true(mixture_layer(STR("blk.0.x"), &layer));
    assert_int_equal(layer, 0);
    assert_true(mixture_layer(STR("blk.31.attn_v.weight"), &layer));
    assert_int_equal(layer, 31);
    static const char *const none[] = {"blk.",   "blk.x",         "blk.12",
                                       "blk..x", "output.weight", "blk.99999999999999999999.x"};
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++) {
        assert_false(mixture_layer(str_of(none[i]), &layer));
    }
    assert_int_equal(layer, 31);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quantize_every_target),
        cmocka_unit_test(test_quantize_mixture_raises_some_layers),
        cmocka_unit_test(test_quantize_tied_embedding_is_the_output),
        cmocka_unit_test(test_quantize_again_and_in_place),
        cmocka_unit_test(test_quantize_failures),
        cmocka_unit_test(test_quantize_reports_progress),
        cmocka_unit_test(test_quantize_layer_numbers),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}

/* What a load takes, and what it refuses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "engine/backend/backend.h"
#include "engine/backend/cpu/backend.h"
#include "quant/format/block.h"
#include "tests/unit/engine/backend/cpu/model_fixture.h"

static void test_load_out_of_memory(void **state)
{
    (void)state;
    struct model_fixture model;
    struct phid_error err;
    const struct backend_api *api = backend_cpu();
    model_fixture_init(&model, &model_shape_plain, 1);
    struct backend *b;
    struct backend_options options = {.threads = 1, .max_rows = 8};
    assert_int_equal(api->open(&options, &b, &err), PHID_OK);
    assert_int_equal(api->kv_page_bytes(b, BACKEND_KV_F16), 0); /* before the load */
    assert_int_equal(api->load(b, &model.model, 0, 2, true, true, NULL, NULL, &err), PHID_OK);
    size_t page = api->kv_page_bytes(b, BACKEND_KV_F16);
    assert_int_equal(page, 2 * 2 * 64 * 16 * 2 * 2);
    assert_int_equal(api->kv_page_bytes(b, BACKEND_KV_F32), 2 * page);
    assert_int_equal(api->kv_page_bytes(b, BACKEND_KV_INT8),
                     page / 2 + 2 * 2 * 64 * 2 * sizeof(float));
    assert_int_equal(api->kv_create(b, BACKEND_KV_F16, (size_t)1 << 60, &err), PHID_ERR_MEMORY);
    assert_int_equal(api->kv_create(b, BACKEND_KV_F16, UINT32_MAX, &err), PHID_ERR_MEMORY);
    assert_int_equal(api->kv_create(b, BACKEND_KV_F16, 4, &err), PHID_OK);
    assert_true(api->memory_bytes(b) > 4 * page);
    struct backend_costs costs;
    api->costs(b, &costs);
    assert_int_equal(costs.head_macs, model_shape_plain.vocab * model_shape_plain.embd);
    assert_int_equal(costs.kv_token_bytes, page / 64);
    api->close(b);

    /* The scratch memory of a million rows of a model as wide as this one's claims to be. */
    options.max_rows = 1 << 20;
    assert_int_equal(api->open(&options, &b, &err), PHID_OK);
    model.model.n_ff = (size_t)1 << 28;
    assert_int_equal(api->load(b, &model.model, 0, 2, true, true, NULL, NULL, &err),
                     PHID_ERR_MEMORY);
    model.model.n_ff = SIZE_MAX / 8;
    assert_int_equal(api->load(b, &model.model, 0, 2, true, true, NULL, NULL, &err),
                     PHID_ERR_MEMORY);
    api->close(b);
    api->close(NULL);
    model_fixture_fini(&model);
}

/* A scale of MXFP4 may be larger than what kernels can multiply by, up to the byte that stands for
 * NaN; the exact path decodes it, as far as the weights are numbers. */
static void test_load_huge_scales(void **state)
{
    (void)state;
    static const struct {
        unsigned char e;
        bool exact, fine;
    } cases[] = {{232, false, true}, {233, false, false}, {255, false, false},
                 {233, true, true},  {252, true, true},   {255, true, false}};
    const struct backend_api *api = backend_cpu();
    struct model_shape shape = model_shape_wide;
    shape.type = QUANT_MXFP4;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct model_fixture model;
        struct phid_error err = {0};
        struct backend *b;
        model_fixture_init(&model, &shape, 1);
        struct block_mxfp4 *block = (void *)(uintptr_t)model.layers[0].down.data;
        block[37].e = cases[i].e;
        struct backend_options options = {.threads = 1, .max_rows = 1, .exact = cases[i].exact};
        assert_int_equal(api->open(&options, &b, &err), PHID_OK);
        enum phid_status status =
            api->load(b, &model.model, 0, shape.layers, true, true, NULL, NULL, &err);
        assert_int_equal(status, cases[i].fine ? PHID_OK : PHID_ERR_FORMAT);
        assert_true(cases[i].fine || strstr(err.message, "tensor down") != NULL);
        api->close(b);
        model_fixture_fini(&model);
    }
}

/* What is reckoned beforehand is what a load takes, in every type a matrix can have. */
static void test_load_weight_bytes(void **state)
{
    (void)state;
    const struct backend_api *api = backend_cpu();
    struct model_shape shape = model_shape_wide;
    for (size_t i = 0; quant_format_at(i) != NULL; i++) {
        struct model_fixture model;
        struct phid_error err;
        struct backend *b;
        struct backend_costs costs;
        size_t reckoned;
        shape.type = quant_format_at(i)->type;
        shape.tied = i % 2 == 0;
        model_fixture_init(&model, &shape, 1);
        assert_int_equal(api->weight_bytes(&model.model, &reckoned, &err), PHID_OK);
        struct backend_options options = {.threads = 1, .max_rows = 1};
        assert_int_equal(api->open(&options, &b, &err), PHID_OK);
        assert_int_equal(api->load(b, &model.model, 0, shape.layers, true, true, NULL, NULL, &err),
                         PHID_OK);
        api->costs(b, &costs);
        size_t norms = (2 * shape.layers + 1) * shape.embd * sizeof(float);
        size_t embedding =
            shape.tied ? 0 : costs.head_weight_bytes; /* of the head's shape and type */
        assert_int_equal(reckoned,
                         costs.layer_weight_bytes + costs.head_weight_bytes + embedding + norms);
        api->close(b);
        model_fixture_fini(&model);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_load_out_of_memory),
        cmocka_unit_test(test_load_huge_scales),
        cmocka_unit_test(test_load_weight_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

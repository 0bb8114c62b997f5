#include "server/metrics/exposition.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "server/metrics/metrics.h"
#include "tests/unit/server/fake_phid.h"

static void test_samples(void **state)
{
    struct buf out;
    buf_init(&out, 1u << 16);
    exposition_family(&out, "a_total", "counter", "Some help.");
    exposition_sample(&out, "a_total", "", UINT64_MAX);
    exposition_sample(&out, "a_total", "x=\"1\"", 2);
    exposition_real(&out, "b", "", 0.25);
    exposition_real(&out, "b", "", 123456789012.0);
    assert_string_equal(out.data, "# HELP a_total Some help.\n# TYPE a_total counter\n"
                                  "a_total 18446744073709551615\na_total{x=\"1\"} 2\n"
                                  "b 0.25\nb 123456789012\n");
    buf_fini(&out);
}

static void test_labels_are_escaped(void **state)
{
    struct buf out;
    buf_init(&out, 1u << 16);
    exposition_label(&out, "a", STR("q\"b\\n\nr\r\xff\xc3\xa9"));
    exposition_label(&out, "b", STR(""));
    assert_string_equal(out.data, "a=\"q\\\"b\\\\n\\nr\xef\xbf\xbd\xef\xbf\xbd\xc3\xa9\",b=\"\"");
    buf_fini(&out);
}

static void test_histogram(void **state)
{
    static const uint64_t bounds[] = {1000000, 2500000000};
    struct phid_histogram h = {
        .is_time = true, .bounds = bounds, .bound_count = 2, .counts = {1, 2, 3}, .sum = 1500000};
    struct buf out;
    buf_init(&out, 1u << 16);
    exposition_histogram(&out, "t", "m=\"x\"", &h);
    assert_string_equal(
        out.data, "t_bucket{m=\"x\",le=\"0.001\"} 1\nt_bucket{m=\"x\",le=\"2.5\"} 3\n"
                  "t_bucket{m=\"x\",le=\"+Inf\"} 6\nt_sum{m=\"x\"} 0.0015\nt_count{m=\"x\"} 6\n");
    buf_clear(&out);
    h.is_time = false;
    h.bound_count = 0;
    exposition_histogram(&out, "t", "", &h);
    assert_string_equal(out.data, "t_bucket{le=\"+Inf\"} 1\nt_sum 1500000\nt_count 1\n");
    buf_fini(&out);
}

static const char *path_name(size_t path)
{
    static const char *const names[] = {"other", "/a"};
    return path < 2 ? names[path] : NULL;
}

static void test_page(void **state)
{
    struct metrics m = {0};
    struct fake_options fake = {.answer = ""};
    struct phid_model *model = fake_model_new();
    struct metrics_now now = {.path_name = path_name};
    struct buf out;
    buf_init(&out, 1u << 20);
    metrics_count_request(&m, 1, 200);
    metrics_count_request(&m, 1, 200);
    metrics_count_request(&m, 1, 0);
    metrics_count_request(&m, METRICS_PATHS + 5, 404);
    for (unsigned status = 1; status < 100; status++) {
        metrics_count_request(&m, 0, status); /* more than there is room for: the last shares */
    }
    metrics_count_fault(&m, API_DRAINING);
    metrics_count_fault(&m, API_OVERLOADED);
    metrics_count_answer(&m, 1, 10);
    metrics_count_answer(&m, 3, 20);
    metrics_count_answer(&m, 200, 5);
    metrics_count_fault(&m, API_OK);
    metrics_count_fault(&m, API_INVALID_JSON);
    metrics_write(&m, &now, &out); /* while the model loads */
    assert_null(strstr(out.data, "vllm:"));
    assert_non_null(strstr(out.data, "phid_ready 0\n"));
    buf_clear(&out);
    now.engine = fake_engine_new(model, &fake);
    now.model = "a \"model\"";
    now.ready = true;
    metrics_write(&m, &now, &out);
    static const char *const lines[] = {
        "phid_http_requests_total{path=\"/a\",status=\"200\"} 2\n",
        "phid_http_requests_total{path=\"/a\",status=\"499\"} 1\n",
        "phid_http_requests_total{path=\"other\",status=\"404\"} 1\n",
        "phid_errors_total{code=\"overloaded\"} 1\n",
        "phid_errors_total{code=\"shutting_down\"} 1\n",
        "phid_errors_total{code=\"invalid_json\"} 1\n",
        "vllm:admission_rejections_total{model_name=\"a \\\"model\\\"\",engine=\"0\","
        "reason=\"overloaded\"} 1\n",
        "vllm:admission_rejections_total{model_name=\"a \\\"model\\\"\",engine=\"0\","
        "reason=\"shutting_down\"} 1\n",
        "phid_request_params_n_bucket{le=\"1\"} 1\n",
        "phid_request_params_n_bucket{le=\"5\"} 2\n",
        "phid_request_params_n_sum 204\n",
        "phid_request_params_n_bucket{le=\"+Inf\"} 3\n",
        "vllm:request_max_num_generation_tokens_sum{model_name=\"a \\\"model\\\"\",engine=\"0\"} "
        "35\n",
        "phid_spec_decode_num_accepted_tokens_per_pos_total{position=\"0\"} 4\n",
        "position=\"7\"} 1\n",
        "phid_corrupted_requests_total 6\n",
        "vllm:kv_cache_usage_perc{model_name=\"a \\\"model\\\"\",engine=\"0\"} 0.75\n",
        "vllm:request_success_total{model_name=\"a \\\"model\\\"\",engine=\"0\","
        "finished_reason=\"stop\"} 7\n",
        "\nphid_generation_tokens_total 123\n",
        "phid_time_to_first_token_seconds_bucket{le=\"0.1\"} 1\n",
        "\nphid_ready 1\n",
    };
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        if (strstr(out.data, lines[i]) == NULL) {
            fail_msg("missing: %s", lines[i]);
        }
    }
    assert_null(strstr(strstr(out.data, "reason=\"overloaded\""), "reason=\"invalid_json\""));
    assert_false(out.failed);
    phid_engine_free(now.engine);
    phid_model_close(model);
    buf_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_samples),
        cmocka_unit_test(test_labels_are_escaped),
        cmocka_unit_test(test_histogram),
        cmocka_unit_test(test_page),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

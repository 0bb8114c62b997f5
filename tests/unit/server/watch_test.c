/* What those who watch the server are told, over real sockets: probes, metrics, loading. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "engine/base/clock.h"
#include "tests/unit/server/wire.h"

/* The whole answer to one GET, in `all`. */
static void get(const struct world *w, const char *path, struct buf *all)
{
    char request[256];
    int fd = dial(w);
    snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
             path);
    buf_clear(all);
    say(fd, request);
    assert_true(hear(fd, all, NULL));
    close(fd);
}

static void expect_get(const struct world *w, const char *path, unsigned status, const char *text)
{
    struct buf all;
    char line[32];
    buf_init(&all, 1u << 20);
    get(w, path, &all);
    snprintf(line, sizeof line, "HTTP/1.1 %u ", status);
    if (count_of(&all, line) != 1 || strstr(all.data, text) == NULL) {
        fail_msg("%s: expected %u and %s, got %s", path, status, text, all.data);
    }
    buf_fini(&all);
}

static void test_probes(void **state)
{
    static const char *const live[] = {"/health", "/healthz", "/livez", "/ping", "/v2/health/live"};
    static const char *const ready[] = {"/ready", "/readyz", "/v2/health/ready"};
    struct world w;
    open_world(&w, quick, (struct server_options){0});
    for (size_t i = 0; i < sizeof live / sizeof live[0]; i++) {
        expect_get(&w, live[i], 200, "\"status\":\"ok\"");
    }
    for (size_t i = 0; i < sizeof ready / sizeof ready[0]; i++) {
        expect_get(&w, ready[i], 200, "{\"ready\":true}");
    }
    expect_get(&w, "/metrics", 404, "unknown_url"); /* not asked for in the options */
    close_world(&w);
}

static void test_a_hanging_step_is_seen(void **state)
{
    struct world w;
    struct fake_options fake = quick;
    fake.stalled_ns = 9 * (uint64_t)CLOCK_NS_PER_S;
    open_world(&w, fake, (struct server_options){0});
    expect_get(&w, "/health", 200, "\"status\":\"ok\"");
    close_world(&w);
    fake.stalled_ns = 11 * (uint64_t)CLOCK_NS_PER_S;
    open_world(&w, fake, (struct server_options){0});
    expect_get(&w, "/health", 503, "\"status\":\"stalled\"");
    expect_get(&w, "/ready", 503, "\"reason\":\"stalled\"");
    close_world(&w);
    fake = quick;
    fake.failed = true;
    open_world(&w, fake, (struct server_options){0});
    expect_get(&w, "/health", 503, "\"status\":\"device_lost\"");
    expect_get(&w, "/ready", 503, "\"reason\":\"device_lost\"");
    close_world(&w);
}

static void test_loading(void **state)
{
    const struct server_options options = {.metrics = true, .drain_timeout_ms = 1000};
    struct world w = {0};
    struct buf all;
    char request[1024];
    assert_int_equal(server_start(&options, NULL, NULL, &w.server, NULL), PHID_OK);
    expect_get(&w, "/health", 200, "\"status\":\"loading\"");
    expect_get(&w, "/ready", 503, "\"reason\":\"loading\"");
    expect_get(&w, "/metrics", 200, "phid_ready 0\n");
    expect_get(&w, "/v1/models", 503, "\"code\":\"model_loading\"");
    expect_get(&w, "/", 503, "Retry-After: ");
    buf_init(&all, 1u << 20);
    int fd = dial(&w);
    post(request, sizeof request, BODY(""), "");
    say(fd, request);
    assert_true(hear(fd, &all, NULL));
    assert_int_equal(count_of(&all, "HTTP/1.1 503"), 1);
    close(fd);
    w.model = fake_model_new();
    w.engine = fake_engine_new(w.model, &quick);
    assert_int_equal(server_attach(w.server, &options, w.engine, w.model, NULL), PHID_OK);
    expect_get(&w, "/health", 200, "\"status\":\"ok\"");
    expect_get(&w, "/ready", 200, "{\"ready\":true}");
    expect_get(&w, "/metrics", 200, "vllm:num_requests_running{model_name=\"fake\",");
    expect_get(&w, "/v1/models", 200, "\"fake\"");
    buf_clear(&all);
    fd = dial(&w);
    say(fd, request);
    assert_true(hear(fd, &all, "\"finish_reason\":\"stop\""));
    close(fd);
    buf_fini(&all);
    close_world(&w);
}

static void test_a_server_that_never_loads(void **state)
{
    const struct server_options options = {.drain_timeout_ms = 1000};
    struct server *server = NULL;
    assert_int_equal(server_start(&options, NULL, NULL, &server, NULL), PHID_OK);
    server_drain(server);
    assert_true(server_wait(server, 3000));
    server_free(server);
    assert_int_equal(server_start(&options, NULL, NULL, &server, NULL), PHID_OK);
    server_free(server);
}

static void test_metrics_and_keys(void **state)
{
    static const char *const keys[] = {"sk-test"};
    struct server_options options = {.api_keys = keys, .api_key_count = 1, .metrics = true};
    struct world w;
    struct buf all;
    open_world(&w, quick, options);
    buf_init(&all, 1u << 20);
    expect_get(&w, "/metrics", 401, "invalid_api_key");
    int fd = dial(&w);
    say(fd, "GET /metrics HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sk-test\r\nConnection: "
            "close\r\n\r\n");
    assert_true(hear(fd, &all, NULL));
    assert_int_equal(count_of(&all, "HTTP/1.1 200"), 1);
    assert_int_equal(count_of(&all, "text/plain; version=0.0.4"), 1);
    assert_non_null(strstr(all.data, "phid_errors_total{code=\"invalid_api_key\"} 1\n"));
    close(fd);
    close_world(&w);
    options.metrics_open = true;
    open_world(&w, quick, options);
    expect_get(&w, "/metrics", 200, "phid_ready 1\n");
    buf_fini(&all);
    close_world(&w);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_probes),           cmocka_unit_test(test_a_hanging_step_is_seen),
        cmocka_unit_test(test_loading),          cmocka_unit_test(test_a_server_that_never_loads),
        cmocka_unit_test(test_metrics_and_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

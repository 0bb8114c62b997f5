/* Routes, CORS decisions and keys: what is decided from a head. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

#include "server/http/cors.h"
#include "server/http/keys.h"
#include "server/http/route.h"

static void test_routes(void **state)
{
    static const struct {
        const char *method, *path;
        enum api_fault fault;
        enum route_id id;
        const char *model;
    } cases[] = {
        {"GET", "/", API_OK, ROUTE_ROOT, ""},
        {"GET", "//", API_OK, ROUTE_ROOT, ""},
        {"GET", "/health", API_OK, ROUTE_HEALTH, ""},
        {"HEAD", "/health", API_OK, ROUTE_HEALTH, ""},
        {"GET", "/healthz", API_OK, ROUTE_HEALTH, ""},
        {"GET", "/livez", API_OK, ROUTE_HEALTH, ""},
        {"GET", "/ping", API_OK, ROUTE_HEALTH, ""},
        {"GET", "/v2/health/live", API_OK, ROUTE_HEALTH, ""},
        {"GET", "/ready", API_OK, ROUTE_READY, ""},
        {"GET", "/readyz", API_OK, ROUTE_READY, ""},
        {"GET", "/v2/health/ready", API_OK, ROUTE_READY, ""},
        {"GET", "/metrics", API_OK, ROUTE_METRICS, ""},
        {"POST", "/metrics", API_WRONG_METHOD, 0, ""},
        {"GET", "/v1/models", API_OK, ROUTE_MODELS, ""},
        {"GET", "/models/", API_OK, ROUTE_MODELS, ""},
        {"GET", "//v1///models//", API_OK, ROUTE_MODELS, ""},
        {"GET", "/v1/models/a%2Fb", API_OK, ROUTE_MODEL, "a/b"},
        {"GET", "/v1/models/a/b", API_OK, ROUTE_MODEL, "a/b"},
        {"POST", "/v1/completions", API_OK, ROUTE_COMPLETIONS, ""},
        {"POST", "/completions", API_OK, ROUTE_COMPLETIONS, ""},
        {"POST", "/v1/chat/completions/", API_OK, ROUTE_CHAT, ""},
        {"GET", "/v1/chat/completions", API_WRONG_METHOD, 0, ""},
        {"POST", "/v1/models", API_WRONG_METHOD, 0, ""},
        {"DELETE", "/v1/models/x", API_WRONG_METHOD, 0, ""},
        {"get", "/health", API_WRONG_METHOD, 0, ""},
        {"GET", "/v1", API_UNKNOWN_URL, 0, ""},
        {"GET", "/v2/models", API_UNKNOWN_URL, 0, ""},
        {"GET", "/v1/v1/models", API_UNKNOWN_URL, 0, ""},
        {"GET", "/Health", API_UNKNOWN_URL, 0, ""},
        {"GET", "/%68ealth", API_UNKNOWN_URL, 0, ""},
        {"GET", "/v1/../health", API_UNKNOWN_URL, 0, ""},
        {"GET", "/v1/chat/completions/abc", API_UNKNOWN_URL, 0, ""},
        {"GET", "/health;x", API_UNKNOWN_URL, 0, ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct route route;
        struct api_error err;
        enum api_fault fault =
            route_find(str_of(cases[i].method), str_of(cases[i].path), &route, &err);
        if (fault != cases[i].fault || (fault == API_OK && route.id != cases[i].id) ||
            !str_equal_c(buf_view(&route.model), cases[i].model)) {
            fail_msg("%s %s: fault %d, route %d", cases[i].method, cases[i].path, fault, route.id);
        }
        assert_true(fault != API_WRONG_METHOD || route.allow != NULL);
        buf_fini(&route.model);
    }
    assert_int_equal(route_use_of(STR("//health/")), ROUTE_FOR_PROBES);
    assert_int_equal(route_use_of(STR("/readyz")), ROUTE_FOR_PROBES);
    assert_int_equal(route_use_of(STR("/metrics")), ROUTE_FOR_WATCHERS);
    assert_int_equal(route_use_of(STR("/v1/models")), ROUTE_FOR_CLIENTS);
    assert_int_equal(route_use_of(STR("/nowhere")), ROUTE_FOR_CLIENTS);
    assert_string_equal(route_name(ROUTE_NONE), "other");
    assert_string_equal(route_name(ROUTE_CHAT), "/v1/chat/completions");
    assert_null(route_name((enum route_id)1000));
}

static const char *header(const struct reply *r, const char *name)
{
    for (size_t i = 0; i < r->header_count; i++) {
        if (strcmp(r->headers[i].name, name) == 0) {
            return r->headers[i].value;
        }
    }
    return NULL;
}

static void test_cors_is_off_by_default(void **state)
{
    const struct head head = {.origin = STR("http://a.example")};
    struct cors cors;
    struct reply reply;
    assert_int_equal(cors_init(&cors, NULL, 0, NULL), PHID_OK);
    reply_init(&reply);
    cors_add_headers(&cors, &head, &reply);
    assert_int_equal(reply.header_count, 0);
    cors_preflight(&cors, &head, &reply);
    assert_int_equal(reply.status, 204);
    assert_null(header(&reply, "Access-Control-Allow-Origin"));
    reply_fini(&reply);
    cors_fini(&cors);
}

static void test_cors_list(void **state)
{
    static const char *const origins[] = {"http://a.example", "app://obsidian.md"};
    const struct head good = {.origin = STR("app://obsidian.md"),
                              .cors_headers = STR("authorization, x-new"),
                              .cors_private_network = true};
    const struct head bad = {.origin = STR("http://a.example.evil")};
    struct cors cors;
    struct reply reply;
    assert_int_equal(cors_init(&cors, origins, 2, NULL), PHID_OK);
    reply_init(&reply);
    cors_preflight(&cors, &good, &reply);
    assert_string_equal(header(&reply, "Access-Control-Allow-Origin"), "app://obsidian.md");
    assert_string_equal(header(&reply, "Access-Control-Allow-Headers"), "authorization, x-new");
    assert_string_equal(header(&reply, "Access-Control-Allow-Private-Network"), "true");
    assert_string_equal(header(&reply, "Access-Control-Max-Age"), "86400");
    reply_fini(&reply);
    reply_init(&reply);
    cors_add_headers(&cors, &good, &reply);
    assert_non_null(strstr(header(&reply, "Access-Control-Expose-Headers"), "x-request-id"));
    assert_string_equal(header(&reply, "Vary"), "Origin");
    reply_fini(&reply);
    reply_init(&reply);
    cors_add_headers(&cors, &bad, &reply);
    assert_null(header(&reply, "Access-Control-Allow-Origin"));
    reply_fini(&reply);
    cors_fini(&cors);
}

static void test_cors_any(void **state)
{
    static const char *const origins[] = {"*"};
    const struct head head = {.origin = STR("null")};
    struct cors cors;
    struct reply reply;
    assert_int_equal(cors_init(&cors, origins, 1, NULL), PHID_OK);
    reply_init(&reply);
    cors_add_headers(&cors, &head, &reply);
    assert_string_equal(header(&reply, "Access-Control-Allow-Origin"), "*");
    reply_fini(&reply);
    cors_fini(&cors);
}

static void test_local_hosts(void **state)
{
    static const char *const local[] = {"",         "localhost",   "localhost:8080", "127.0.0.1:1",
                                        "[::1]:80", "a.localhost", "box:8080"};
    static const char *const foreign[] = {"evil.example", "localhost.evil.example:80",
                                          "127.0.0.1.evil.example"};
    for (size_t i = 0; i < sizeof local / sizeof local[0]; i++) {
        assert_true(cors_host_is_local(str_of(local[i])));
    }
    for (size_t i = 0; i < sizeof foreign / sizeof foreign[0]; i++) {
        assert_false(cors_host_is_local(str_of(foreign[i])));
    }
}

static void test_keys(void **state)
{
    static const char *const texts[] = {"sk-one", "sk-two"};
    static const char *const empty[] = {""};
    static const char *const names[] = {"al ice", NULL};
    const struct str none = {"", 0};
    struct keys keys;
    struct caller caller;
    keys_init(&keys);
    assert_true(keys_allow(&keys, none, none, &caller));
    assert_true(keys_allow(&keys, STR("Bearer anything"), none, &caller));
    assert_int_equal(caller.id, 0);
    assert_int_equal(keys_set(&keys, texts, names, 2, NULL), PHID_OK);
    assert_true(keys_allow(&keys, STR("Bearer sk-one"), none, &caller));
    assert_string_equal(caller.name, "al_ice"); /* a log line is split at blanks */
    uint64_t first = caller.id;
    assert_true(first != 0);
    assert_true(keys_allow(&keys, STR("bearer  sk-two"), none, &caller));
    assert_string_equal(caller.name, "key-2");
    assert_true(caller.id != 0 && caller.id != first);
    assert_true(keys_allow(&keys, none, STR("sk-two"), &caller));
    static const char *const wrong[] = {"",
                                        "Bearer",
                                        "Bearer ",
                                        "Bearer sk-on",
                                        "Bearer sk-onee",
                                        "Bearer SK-ONE",
                                        "Basic sk-one",
                                        "sk-one",
                                        "Bearer\tsk-one"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_false(keys_allow(&keys, str_of(wrong[i]), none, &caller));
    }
    assert_int_equal(keys_set(&keys, empty, NULL, 1, NULL), PHID_ERR_ARGUMENT);
    assert_true(keys_allow(&keys, STR("Bearer sk-one"), none,
                           &caller)); /* a failed change changes nothing */
    assert_int_equal(keys_set(&keys, NULL, NULL, 0, NULL), PHID_OK);
    assert_true(keys_allow(&keys, none, none, &caller));
    keys_fini(&keys);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_routes),      cmocka_unit_test(test_cors_is_off_by_default),
        cmocka_unit_test(test_cors_list),   cmocka_unit_test(test_cors_any),
        cmocka_unit_test(test_local_hosts), cmocka_unit_test(test_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

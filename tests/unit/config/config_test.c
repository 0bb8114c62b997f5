/* The YAML reader and the flags: a table of documents that are accepted with their effect, and of
 * documents that are refused with the words of the message. */
#include "config/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "config/options.h"
#include "config/scalar.h"

static enum phid_status load(struct config *config, const char *text, struct phid_error *err)
{
    return config_load_memory(config, "phid.yaml", text, strlen(text), err);
}

/* ------------------------------------------------------------- refusals */

struct refusal {
    const char *yaml;
    const char *message; /* part of it */
};

static const struct refusal refusals[] = {
    /* shape of the document */
    {"", "phid.yaml: the file is empty"},
    {"- a\n- b\n", "phid.yaml:1: expected a mapping of options, found a list"},
    {"hello\n", "expected a mapping of options, found a single value"},
    {"server: {port: 1}\n---\nserver: {port: 2}\n",
     "phid.yaml:2: expected one YAML document, found a second one"},
    {"server: [\n", "server: expected a mapping, found a list"},
    {"model: {alias: [a\n", "not valid YAML"},
    {"server:\n\tport: 1\n", "phid.yaml:2: not valid YAML"},
    {"server: {port: 1\n", "not valid YAML"},
    {"server:\n  host: b: c\n", "phid.yaml:2: not valid YAML"},
    {"server: \"unclosed\n", "not valid YAML"},
    {"server:\n  host: \"a\xff\"\n", "phid.yaml:2: not valid YAML"},
    {"server:\n\n  host: a\x01\n", "phid.yaml:3: not valid YAML"},
    {"server:\n  host: \"a\\0b\"\n", "without control characters"},
    {"[[[[[[[[[[[[[[[[[[", "expected a mapping of options, found a list"},
    {"{a: {b: {c: 1}}}", "unknown key a"},
    {"? {port: 1}\n: 2\n", "expected a key, found a mapping"},
    /* what YAML can and a configuration must not */
    {"server: &anchor {port: 1}\n", "phid.yaml:1: anchors (&name) are not accepted"},
    {"server: {port: &p 1}\n", "anchors (&name) are not accepted"},
    {"server: {port: *p}\n", "aliases (*name) are not accepted"},
    {"model: {alias: &x [*x]}\n", "anchors (&name) are not accepted"},
    {"server: !!python/object {port: 1}\n", "tags (!name) are not accepted"},
    {"server: {port: !!int 1}\n", "tags (!name) are not accepted"},
    {"%TAG ! tag:example.org,2026:\n---\nserver: {port: 1}\n", "%TAG directives are not accepted"},
    {"<<: {port: 1}\n", "unknown key <<"},
    /* keys */
    {"server:\n  port: 1\n  port: 2\n", "phid.yaml:3: server.port: given twice (first on line 2)"},
    {"server: {port: 1}\nserver: {host: a}\n",
     "phid.yaml:2: server: given twice (first on line 1)"},
    {"sever: {port: 1}\n", "phid.yaml:1: unknown key sever; did you mean server?"},
    {"server:\n  prot: 1\n", "phid.yaml:2: unknown key server.prot; did you mean server.port?"},
    {"port: 1\n", "unknown key port; did you mean server.port?"},
    {"engine: {kv: {typ: f16}}\n", "unknown key engine.kv.typ; did you mean engine.kv.type?"},
    {"engine: {thread: 2}\n", "did you mean engine.threads?"},
    {"log: {colour: red}\n", "unknown key log.colour; known here: level, format"},
    {"server.port: 1\n", "unknown key server.port"},
    {"server: {\"\": 1}\n", "unknown key server."},
    {"Server: {port: 1}\n", "did you mean server?"},
    {"server: 8080\n", "server: expected a mapping, found a single value"},
    {"server: {port: {number: 1}}\n", "server.port: expected a single value, found a mapping"},
    {"server: {port: [1]}\n", "server.port: expected a single value, found a list"},
    {"model: {alias: phi}\n", "model.alias: expected a list, [...], found a single value"},
    {"model: {alias: [[a]]}\n", "model.alias: expected strings in the list, found a list"},
    {"model: {alias: [1]}\n",
     "model.alias: expected a string (put it in quotes), found the integer 1"},
    {"model: {alias: [null]}\n", "model.alias: expected a string, found null"},
    {"model: {alias: [\"\"]}\n", "expected a string of 1 to 256 bytes, found 0"},
    /* integers */
    {"server: {port: 0}\n",
     "server.port: expected an integer from 1 to 65535, found the integer 0"},
    {"server: {port: 65536}\n", "found the integer 65536"},
    {"server: {port: -1}\n", "found the integer -1"},
    {"server: {port: \"8080\"}\n", "found the string \"8080\""},
    {"server: {port: 0o17}\n", "found 0o17"},
    {"server: {port: 0x50}\n", "found 0x50"},
    {"server: {port: 017}\n", "found the integer 017"},
    {"server: {port: 1_000}\n", "found 1_000"},
    {"server: {port: 1e3}\n", "found the number 1e3"},
    {"server: {port: 80.0}\n", "found the number 80.0"},
    {"server: {port: +80}\n", "found the integer +80"},
    {"server: {port: yes}\n", "found yes"},
    {"server: {port: null}\n", "found null"},
    {"server: {port: }\n", "found null"},
    {"server: {port: auto}\n", "found auto"},
    {"server: {port: 99999999999999999999999}\n", "found the integer 99999999999999999999999"},
    {"engine: {threads: 0}\n", "an integer from 1 to 1024, or auto"},
    {"engine: {context: 7}\n", "engine.context: expected an integer from 8 to 16777216, or auto"},
    {"engine: {max_running: 1025}\n", "from 1 to 1024"},
    {"engine: {step_tokens: 65537}\n", "from 1 to 65536"},
    {"engine: {itl_target: 0s}\n", "engine.itl_target: expected a duration"},
    {"limits: {queue: 0}\n", "limits.queue: expected an integer from 1"},
    {"limits: {queue_tokens: 0}\n", "limits.queue_tokens: expected"},
    /* booleans */
    {"engine: {prefix_cache: yes}\n", "engine.prefix_cache: expected true or false, found yes"},
    {"engine: {prefix_cache: True}\n", "found the boolean True"},
    {"engine: {prefix_cache: 1}\n", "found the integer 1"},
    {"engine: {prefix_cache: \"true\"}\n", "found the string \"true\""},
    {"engine: {prefix_cache: null}\n", "found null"},
    /* sizes and durations */
    {"server: {max_body: 64MB}\n",
     "server.max_body: expected a size from 1KiB to 1GiB, found 64MB"},
    {"server: {max_body: 64 MiB}\n", "found 64 MiB"},
    {"server: {max_body: 1023}\n", "found the integer 1023"},
    {"server: {max_body: 1025MiB}\n", "found 1025MiB"},
    {"server: {max_body: 1.5GiB}\n", "found 1.5GiB"},
    {"server: {max_body: 99999999999999TiB}\n", "found 99999999999999TiB"},
    {"server: {max_body: auto}\n", "found auto"},
    {"server: {sse_ping: 15}\n", "server.sse_ping: expected a duration with its unit"},
    {"server: {sse_ping: -1s}\n", "found -1s"},
    {"server: {sse_ping: 2h}\n", "from 0s to 1h, found 2h"},
    {"server: {drain: {timeout: 1d}}\n", "server.drain.timeout: expected a duration"},
    {"limits: {max_wait: 1.5s}\n", "limits.max_wait: expected a duration"},
    /* words and strings */
    {"engine: {kv: {type: int4}}\n", "engine.kv.type: expected f16, f32 or int8, found int4"},
    {"log: {level: verbose}\n", "log.level: expected debug, info, warn or error, found verbose"},
    {"log: {format: xml}\n", "expected text or json, found xml"},
    {"server: {host: 8080}\n",
     "server.host: expected a string (put it in quotes), found the integer 8080"},
    {"server: {host: true}\n", "found the boolean true"},
    {"server: {host: null}\n", "server.host: expected a string, found null"},
    {"server: {host: \"\"}\n", "expected a string of 1 to 255 bytes"},
    {"model: {template: 1.5}\n", "found the number 1.5"},
    /* placement */
    {"placement: {gpu_layers: -1}\n", "placement.gpu_layers: expected an integer from 0"},
    {"placement: {layers: [0-9]}\n",
     "placement.layers: expected mappings like {range: 0-9, device: cpu}"},
    {"placement: {layers: [{range: 9-0, device: cpu}]}\n",
     "expected a range of layers such as 0-9 or 3, found 9-0"},
    {"placement: {layers: [{range: a, device: cpu}]}\n", "expected a range of layers"},
    {"placement: {layers: [{range: 0-3}]}\n", "expected both `range` and `device`"},
    {"placement: {layers: [{range: 0-3, range: 4, device: cpu}]}\n",
     "expected `range` and `device`, once each"},
    {"placement: {layers: [{range: 0-3, devise: cpu}]}\n",
     "expected `range` and `device`, once each"},
    {"placement: {layers: [{range: 0-3, device: [cpu]}]}\n", "expected a device, found a list"},
    {"placement: {layers: [{range: 0-3, device: tpu}]}\n",
     "expected the device cpu or cuda:N, found tpu"},
    {"placement:\n  layers:\n    - {range: 0-3, device: cpu}\n    - {range: 3-5, device: cpu}\n",
     "phid.yaml:4: placement.layers: the range 3-5 overlaps 0-3"},
};

static void test_config_refusals(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
        struct config config;
        struct phid_error err = {0};
        assert_int_equal(config_init(&config, NULL), PHID_OK);
        enum phid_status status = load(&config, refusals[i].yaml, &err);
        if (status == PHID_OK || strstr(err.message, refusals[i].message) == NULL) {
            fail_msg("%s\ngave: %s\nexpected: %s", refusals[i].yaml,
                     status == PHID_OK ? "no error" : err.message, refusals[i].message);
        }
        assert_int_equal(err.status, status);
        config_fini(&config);
    }
}

/* What is well-formed and contradicts itself or this build. */
static const struct refusal contradictions[] = {
    {"server: {tls: {cert: a.pem}}\n", "server.tls: cert and key are needed together"},
    {"server: {cors_origins: [example.org]}\n",
     "server.cors_origins[0]: expected \"*\" or an origin"},
    {"server: {cors_origins: [\"*\", \"https://a.org/path\"]}\n",
     "server.cors_origins[1]: expected"},
    {"server: {cors_origins: [\"https://\"]}\n", "server.cors_origins[0]: expected"},
    {"placement: {gpu_layers: 1}\n", "placement.gpu_layers: this build has no GPU backend"},
    {"placement: {vram_limit: 8GiB}\n", "placement.vram_limit: this build has no GPU backend"},
    {"placement: {layers: [{range: 0-3, device: cuda:0}]}\n",
     "placement.layers[0]: this build has no GPU backend"},
};

static void test_config_contradictions(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(contradictions) / sizeof(contradictions[0]); i++) {
        struct config config;
        struct phid_error err = {0};
        assert_int_equal(config_init(&config, NULL), PHID_OK);
        assert_int_equal(load(&config, contradictions[i].yaml, &err), PHID_OK);
        if (config_check(&config, &err) == PHID_OK ||
            strstr(err.message, contradictions[i].message) == NULL) {
            fail_msg("%s\ngave: %s", contradictions[i].yaml, err.message);
        }
        assert_true(err.where[0] != 0);
        config_fini(&config);
    }
}

/* --------------------------------------------------------------- values */

static void test_config_defaults(void **state)
{
    (void)state;
    struct config c;
    struct phid_error err = {0};
    assert_int_equal(config_init(&c, &err), PHID_OK);
    assert_int_equal(config_check(&c, &err), PHID_OK);
    assert_string_equal(c.server.host, "127.0.0.1");
    assert_int_equal(c.server.port, 8080);
    assert_null(c.server.api_keys_file);
    assert_int_equal(c.server.cors_origins.count, 0);
    assert_null(c.server.tls_cert);
    assert_int_equal(c.server.max_body_bytes, 64 << 20);
    assert_int_equal(c.server.sse_ping_ms, 15000);
    assert_int_equal(c.server.drain_delay_ms, 0);
    assert_int_equal(c.server.drain_timeout_ms, 30000);
    assert_true(c.server.metrics);
    assert_false(c.server.metrics_open);
    assert_null(c.model.path);
    assert_string_equal(c.model.chat_template, "auto");
    assert_int_equal(c.engine.threads, 0);
    assert_string_equal(config_isas[c.engine.isa], "auto");
    assert_false(c.engine.pin_threads);
    assert_true(c.engine.huge_pages);
    assert_int_equal(c.engine.numa, CONFIG_NUMA_INTERLEAVE);
    assert_int_equal(c.engine.context, 0);
    assert_int_equal(c.engine.max_running, 32);
    assert_int_equal(c.engine.step_tokens, 512);
    assert_int_equal(c.engine.itl_target_ms, 0);
    assert_int_equal(c.engine.kv_type, CONFIG_KV_F16);
    assert_int_equal(c.engine.kv_memory_bytes, 0);
    assert_true(c.engine.prefix_cache);
    assert_int_equal(c.engine.longrope, CONFIG_LONGROPE_HF);
    assert_int_equal(c.placement.gpu_layers, -1);
    assert_int_equal(c.placement.vram_limit_bytes, 0);
    assert_int_equal(c.limits.queue, 256);
    assert_int_equal(c.limits.queue_tokens, 200000);
    assert_int_equal(c.limits.request_timeout_ms, 600000);
    assert_int_equal(c.limits.max_wait_ms, 60000);
    assert_int_equal(c.limits.key_in_flight, 0);
    assert_int_equal(c.limits.key_requests_per_minute, 0);
    assert_int_equal(c.limits.key_tokens_per_minute, 0);
    assert_int_equal(c.engine.max_overtake_ms, 10000);
    assert_int_equal(c.log.level, CONFIG_LOG_INFO);
    config_fini(&c);
}

/* Every key once, as the reference page writes them. */
static const char everything[] =
    "# a comment\n"
    "server:   {host: 0.0.0.0, port: 65535, api_keys_file: keys.txt, cors_origins: [\"*\"], tls: "
    "{cert: null, key: null},\n"
    "           max_body: 2MiB, sse_ping: 500ms, drain: {delay: 2s, timeout: 1m},\n"
    "           metrics: false, metrics_open: true}\n"
    "model:    {path: models/a.gguf, alias: [phi-3.5-mini, \"123\"], template: phi-3}\n"
    "engine:   {threads: 4, isa: avx2, pin_threads: true, huge_pages: false, numa: local, context: 2048, "
    "max_running: 8, step_tokens: 256, itl_target: 250ms, kv: {type: f32, memory: 1GiB}, "
    "prefix_cache: false, longrope: short}\n"
    "placement: {gpu_layers: 0, vram_limit: null, layers: [{range: 0-9, device: cpu}, {range: 10, "
    "device: cpu}]}\n"
    "limits:   {queue: 1, queue_tokens: 1, request_timeout: 0s, max_wait: 24h,\n"
    "           key: {in_flight: 4, requests_per_minute: 60, tokens_per_minute: 90000}}\n"
    "log:      {level: debug, format: json}\n";

static void test_config_everything(void **state)
{
    (void)state;
    struct config c;
    struct phid_error err = {0};
    assert_int_equal(config_init(&c, &err), PHID_OK);
    if (load(&c, everything, &err) != PHID_OK || config_check(&c, &err) != PHID_OK) {
        fail_msg("%s", err.message);
    }
    assert_string_equal(c.server.host, "0.0.0.0");
    assert_int_equal(c.server.port, 65535);
    assert_string_equal(c.server.api_keys_file, "keys.txt");
    assert_int_equal(c.server.cors_origins.count, 1);
    assert_string_equal(c.server.cors_origins.items[0], "*");
    assert_int_equal(c.server.max_body_bytes, 2 << 20);
    assert_int_equal(c.server.sse_ping_ms, 500);
    assert_int_equal(c.server.drain_delay_ms, 2000);
    assert_int_equal(c.server.drain_timeout_ms, 60000);
    assert_false(c.server.metrics);
    assert_true(c.server.metrics_open);
    assert_string_equal(c.model.path, "models/a.gguf");
    assert_int_equal(c.model.alias.count, 2);
    assert_string_equal(c.model.alias.items[1], "123");
    assert_string_equal(c.model.chat_template, "phi-3");
    assert_int_equal(c.engine.threads, 4);
    assert_string_equal(config_isas[c.engine.isa], "avx2");
    assert_true(c.engine.pin_threads);
    assert_false(c.engine.huge_pages);
    assert_int_equal(c.engine.numa, CONFIG_NUMA_LOCAL);
    assert_int_equal(c.engine.context, 2048);
    assert_int_equal(c.engine.itl_target_ms, 250);
    assert_int_equal(c.engine.kv_type, CONFIG_KV_F32);
    assert_int_equal(c.engine.kv_memory_bytes, 1 << 30);
    assert_false(c.engine.prefix_cache);
    assert_int_equal(c.engine.longrope, CONFIG_LONGROPE_SHORT);
    assert_int_equal(c.placement.gpu_layers, 0);
    assert_int_equal(c.placement.layers.count, 2);
    assert_int_equal(c.placement.layers.items[0].last, 9);
    assert_int_equal(c.placement.layers.items[1].first, 10);
    assert_string_equal(c.placement.layers.items[1].device, "cpu");
    assert_int_equal(c.limits.request_timeout_ms, 0);
    assert_int_equal(c.limits.max_wait_ms, 24 * 3600 * 1000);
    assert_int_equal(c.limits.key_in_flight, 4);
    assert_int_equal(c.limits.key_requests_per_minute, 60);
    assert_int_equal(c.limits.key_tokens_per_minute, 90000);
    assert_int_equal(c.log.level, CONFIG_LOG_DEBUG);
    assert_int_equal(c.log.format, CONFIG_LOG_JSON);
    config_fini(&c);
}

static void test_config_accepts(void **state)
{
    static const char *const good[] = {
        "# only a comment\n",
        "---\nserver: {port: 1}\n...\n",
        "%YAML 1.1\n---\nserver: {port: 1}\n",
        "server:\n",
        "server: {}\n",
        "model: {alias: []}\n",
        "\"server\": {\"port\": 80}\n",
        "server: {host: 'localhost'}\n",
        "server: {host: \"8080\"}\n",
        "server: {host: yes}\n",
        "server:\n  host: ::1\n",
        "engine: {threads: auto, context: auto, kv: {memory: auto}}\n",
        "placement: {gpu_layers: auto, vram_limit: null, layers: []}\n",
        "model: {path: ~}\n",
        "server: {max_body: 1048576}\n",
        "\xef\xbb\xbfserver: {port: 1}\n",
        "server:\r\n  port: 1\r\n",
        "model: {path: \"m\xc3\xb6"
        "del.gguf\"}\n",
    };
    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        struct config config;
        struct phid_error err = {0};
        assert_int_equal(config_init(&config, NULL), PHID_OK);
        if (load(&config, good[i], &err) != PHID_OK || config_check(&config, &err) != PHID_OK) {
            fail_msg("%s\ngave: %s", good[i], err.message);
        }
        config_fini(&config);
    }
}

/* ---------------------------------------------------------------- flags */

struct assignment {
    const char *text;
    const char *message; /* NULL: accepted */
};

static const struct assignment assignments[] = {
    {"server.port=1", NULL},
    {"server.port=auto", "--set: server.port: expected an integer"},
    {"server.port=", "--set: server.port: expected a value"},
    {"server.port", "expected key.path=value"},
    {"=1", "expected key.path=value"},
    {"server.prot=1", "--set: unknown key server.prot; did you mean server.port?"},
    {"nonsense=1",
     "unknown key nonsense; known here: server, model, engine, placement, limits, log"},
    {"server.host=8080", "expected a string (put it in quotes)"},
    {"server.host='8080'", NULL},
    {"server={port: 2, host: a}", NULL},
    {"server={port: 0}", "--set: server.port: expected"},
    {"server.drain.timeout=10s", NULL},
    {"model.alias=[a, b]", NULL},
    {"model.alias=a", "--set: model.alias: expected a list"},
    {"placement.layers=[{range: 0-1, device: cpu}]", NULL},
    {"server.port=1\n---\n2", "expected one YAML document"},
    {"server.port=*a", "aliases (*name) are not accepted"},
    {"server.tls.cert=null", NULL},
};

static void test_config_set(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(assignments) / sizeof(assignments[0]); i++) {
        struct config config;
        struct phid_error err = {0};
        assert_int_equal(config_init(&config, NULL), PHID_OK);
        enum phid_status status = config_set(&config, assignments[i].text, &err);
        bool as_expected =
            assignments[i].message == NULL
                ? status == PHID_OK
                : status != PHID_OK && strstr(err.message, assignments[i].message) != NULL;
        if (!as_expected) {
            fail_msg("%s\ngave: %s", assignments[i].text,
                     status == PHID_OK ? "no error" : err.message);
        }
        config_fini(&config);
    }
}

static void test_config_flags(void **state)
{
    (void)state;
    struct config c;
    struct phid_error err = {0};
    assert_int_equal(config_init(&c, NULL), PHID_OK);
    /* A flag's text is taken as it is where a string is wanted, and read strictly elsewhere. */
    assert_int_equal(config_set_text(&c, "model.path", "-m", "[a]: *b", &err), PHID_OK);
    assert_string_equal(c.model.path, "[a]: *b");
    assert_int_equal(config_set_text(&c, "server.host", "--host", "8080", &err), PHID_OK);
    assert_int_equal(config_set_text(&c, "server.port", "--port", "0", &err), PHID_OK);
    assert_int_equal(c.server.port, 0);
    assert_int_equal(config_set_text(&c, "server.port", "--port", "x", &err), PHID_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "--port: expected an integer from 1 to 65535, found x"));
    assert_int_equal(config_set_text(&c, "engine.context", "--context", "0", &err),
                     PHID_ERR_ARGUMENT);
    assert_int_equal(config_set_text(&c, "engine.threads", "--threads", "auto", &err), PHID_OK);
    assert_int_equal(config_set_text(&c, "model.path", "-m", "", &err), PHID_ERR_ARGUMENT);
    assert_int_equal(config_add_api_key(&c, "sk-1", &err), PHID_OK);
    assert_int_equal(config_add_api_key(&c, "sk-2", &err), PHID_OK);
    assert_int_equal(c.server.api_keys.count, 2);
    assert_int_equal(config_add_api_key(&c, "", &err), PHID_ERR_ARGUMENT);
    assert_int_equal(config_add_api_key(&c, "a b", &err), PHID_ERR_ARGUMENT);
    assert_int_equal(config_add_api_key(&c, "\xc3\xb6", &err), PHID_ERR_ARGUMENT);
    config_fini(&c);
}

/* Every number at its bounds and one beyond them, for every key of the table. */
static void test_config_bounds(void **state)
{
    (void)state;
    const struct option *option;
    size_t tried = 0;
    for (size_t i = 0; (option = option_at(i)) != NULL; i++) {
        if (option->type != OPTION_INT && option->type != OPTION_SIZE &&
            option->type != OPTION_DURATION) {
            continue;
        }
        const char *unit = option->type == OPTION_DURATION ? "ms" : "";
        const int64_t values[] = {option->min, option->max, option->min - 1, option->max + 1};
        for (size_t k = 0; k < 4; k++) {
            struct config config;
            struct phid_error err = {0};
            char text[160];
            snprintf(text, sizeof(text), "%s=%lld%s", option->key, (long long)values[k], unit);
            assert_int_equal(config_init(&config, NULL), PHID_OK);
            bool accepted = config_set(&config, text, &err) == PHID_OK;
            if (accepted != (k < 2)) {
                fail_msg("%s was %s", text, accepted ? "accepted" : err.message);
            }
            config_fini(&config);
            tried++;
        }
    }
    assert_true(tried >= 40);
}

/* ---------------------------------------------------------------- files */

static void test_config_files(void **state)
{
    (void)state;
    struct config c;
    struct phid_error err = {0};
    char path[] = "/tmp/phid_config_test_XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    FILE *file = fdopen(fd, "wb");
    assert_non_null(file);
    assert_int_equal(config_init(&c, NULL), PHID_OK);
    assert_int_equal(config_load_file(&c, path, &err), PHID_ERR_FORMAT);
    assert_non_null(strstr(err.message, "the file is empty"));
    fputs("server: {port: 99}\n", file);
    fflush(file);
    assert_int_equal(config_load_file(&c, path, &err), PHID_OK);
    assert_int_equal(c.server.port, 99);
    for (size_t i = 0; i < 300 * 1024; i++) {
        fputc('#', file);
    }
    fclose(file);
    assert_int_equal(config_load_file(&c, path, &err), PHID_ERR_FORMAT);
    assert_non_null(strstr(err.message, "at most 262144"));
    remove(path);
    assert_int_equal(config_load_file(&c, path, &err), PHID_ERR_NOT_FOUND);
    assert_int_equal(config_load_file(&c, "/tmp", &err), PHID_ERR_IO);
    assert_int_equal(config_load_file(&c, "/dev/zero", &err), PHID_ERR_IO);
    config_fini(&c);
}

/* A hundred thousand brackets, and as many keys, end early. */
static void test_config_bombs(void **state)
{
    (void)state;
    static char text[100001];
    const char fills[] = {'[', '{', '-', ' ', 'a', '"', '!', '&'};
    for (size_t i = 0; i < sizeof(fills); i++) {
        struct config c;
        struct phid_error err = {0};
        memset(text, fills[i], sizeof(text) - 1);
        assert_int_equal(config_init(&c, NULL), PHID_OK);
        enum phid_status status = load(&c, text, &err);
        assert_true(status != PHID_OK || fills[i] == ' ');
        config_fini(&c);
    }
}

/* A cut at every byte is either accepted or refused, and never more. */
static void test_config_cuts(void **state)
{
    (void)state;
    for (size_t size = 0; size < sizeof(everything) - 1; size++) {
        struct config c;
        struct phid_error err = {0};
        assert_int_equal(config_init(&c, NULL), PHID_OK);
        enum phid_status status = config_load_memory(&c, "cut", everything, size, &err);
        assert_true(status == PHID_OK || err.message[0] != 0);
        config_fini(&c);
    }
}

/* -------------------------------------------------------------- scalars */

static void test_scalar_numbers(void **state)
{
    (void)state;
    int64_t number = 0;
    uint64_t wide = 0;
    assert_true(scalar_parse_int(STR("9223372036854775807"), &number) && number == INT64_MAX);
    assert_false(scalar_parse_int(STR("9223372036854775808"), &number));
    assert_true(scalar_parse_int(STR("-5"), &number) && number == -5);
    assert_false(scalar_parse_int(STR("-0"), &number));
    assert_false(scalar_parse_int(STR("-"), &number));
    assert_false(scalar_parse_int(STR(""), &number));
    assert_false(scalar_parse_int(STR(" 1"), &number));
    assert_false(scalar_parse_int(STR("00"), &number));
    assert_true(scalar_parse_size(STR("3KiB"), &wide) && wide == 3072);
    assert_true(scalar_parse_size(STR("2TiB"), &wide) && wide == UINT64_C(2) << 40);
    assert_true(scalar_parse_size(STR("7"), &wide) && wide == 7);
    assert_false(scalar_parse_size(STR("16777216TiB"), &wide));
    assert_false(scalar_parse_size(STR("KiB"), &wide));
    assert_false(scalar_parse_size(STR("1kib"), &wide));
    assert_true(scalar_parse_duration(STR("500ms"), &wide) && wide == 500);
    assert_true(scalar_parse_duration(STR("2m"), &wide) && wide == 120000);
    assert_true(scalar_parse_duration(STR("0s"), &wide) && wide == 0);
    assert_false(scalar_parse_duration(STR("5"), &wide));
    assert_false(scalar_parse_duration(STR("5 s"), &wide));
    assert_false(scalar_parse_duration(STR("99999999999999999999s"), &wide));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_config_defaults),       cmocka_unit_test(test_config_everything),
        cmocka_unit_test(test_config_accepts),        cmocka_unit_test(test_config_refusals),
        cmocka_unit_test(test_config_contradictions), cmocka_unit_test(test_config_set),
        cmocka_unit_test(test_config_flags),          cmocka_unit_test(test_config_bounds),
        cmocka_unit_test(test_config_files),          cmocka_unit_test(test_config_bombs),
        cmocka_unit_test(test_config_cuts),           cmocka_unit_test(test_scalar_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

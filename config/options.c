#include "config/options.h"

#include "engine/base/nearest.h"

#define AT(field) offsetof(struct config, field)

static const char *const activations[] = {"auto", "int8", "int8x2", "bf16", "w8a8", NULL};
static const char *const speculations[] = {"auto", "always", "off", NULL};
static const char *const numas[] = {"interleave", "local", NULL};
const char *const config_isas[] = {"auto", "scalar", "avx2",    "avxvnni", "avx512", "avx512vnni",
                                   "amx",  "neon",   "dotprod", "i8mm",    NULL};
static const char *const kv_types[] = {"f16", "f32", "int8", NULL};
static const char *const longropes[] = {"hf", "long", "short", NULL};
static const char *const log_levels[] = {"debug", "info", "warn", "error", NULL};
static const char *const log_formats[] = {"text", "json", NULL};

#define KIB        (INT64_C(1) << 10)
#define GIB        (INT64_C(1) << 30)
#define TIB        (INT64_C(1) << 40)
#define STRING_MAX 4096
#define DAY_MS     (INT64_C(24) * 3600 * 1000)

static const struct option options[] = {
    {.key = "server.host",
     .type = OPTION_STRING,
     .offset = AT(server.host),
     .default_text = "127.0.0.1",
     .min = 1,
     .max = 255,
     .flag = "--host",
     .metavar = "HOST",
     .help = "address to listen on; 0.0.0.0 is every interface (set a key then)"},
    {.key = "server.port",
     .type = OPTION_INT,
     .offset = AT(server.port),
     .default_text = "8080",
     .min = 1,
     .max = 65535,
     .flag = "--port",
     .metavar = "PORT",
     .flag_slack = 1,
     .help = "TCP port to listen on; the flag also takes 0, any free one"},
    {.key = "server.api_keys_file",
     .type = OPTION_STRING,
     .offset = AT(server.api_keys_file),
     .default_text = "null",
     .min = 1,
     .max = STRING_MAX,
     .takes_null = true,
     .help = "file of API keys, `key` or `name:key` a line, not readable by others; SIGHUP reads "
             "it again"},
    {.key = "server.cors_origins",
     .type = OPTION_LIST,
     .offset = AT(server.cors_origins),
     .min = 1,
     .max = 512,
     .help = "web origins that may call the API from a browser; \"*\" is every one"},
    {.key = "server.tls.cert",
     .type = OPTION_STRING,
     .offset = AT(server.tls_cert),
     .default_text = "null",
     .min = 1,
     .max = STRING_MAX,
     .takes_null = true,
     .help = "certificate chain (PEM): serve HTTPS; needs server.tls.key; SIGHUP reads both again"},
    {.key = "server.tls.key",
     .type = OPTION_STRING,
     .offset = AT(server.tls_key),
     .default_text = "null",
     .min = 1,
     .max = STRING_MAX,
     .takes_null = true,
     .help = "private key (PEM), not readable by others"},
    {.key = "server.max_body",
     .type = OPTION_SIZE,
     .offset = AT(server.max_body_bytes),
     .default_text = "64MiB",
     .min = KIB,
     .max = GIB,
     .help = "largest request body; longer ones are answered 413"},
    {.key = "server.sse_ping",
     .type = OPTION_DURATION,
     .offset = AT(server.sse_ping_ms),
     .default_text = "15s",
     .min = 0,
     .max = 3600 * 1000,
     .help = "a stream silent for this long gets a comment line; 0s is never"},
    {.key = "server.drain.delay",
     .type = OPTION_DURATION,
     .offset = AT(server.drain_delay_ms),
     .default_text = "0s",
     .min = 0,
     .max = 3600 * 1000,
     .help = "after SIGTERM, keep accepting for this long so that load balancers notice"},
    {.key = "server.drain.timeout",
     .type = OPTION_DURATION,
     .offset = AT(server.drain_timeout_ms),
     .default_text = "30s",
     .min = 0,
     .max = DAY_MS,
     .help = "running requests get this long to finish, then they are ended"},
    {.key = "server.metrics",
     .type = OPTION_BOOL,
     .offset = AT(server.metrics),
     .default_text = "true",
     .help = "answer GET /metrics for Prometheus; needs an API key when there are keys"},
    {.key = "server.metrics_open",
     .type = OPTION_BOOL,
     .offset = AT(server.metrics_open),
     .default_text = "false",
     .help = "answer GET /metrics without an API key, whoever asks"},

    {.key = "model.path",
     .type = OPTION_STRING,
     .offset = AT(model.path),
     .default_text = "null",
     .min = 1,
     .max = STRING_MAX,
     .takes_null = true,
     .flag = "--model",
     .letter = 'm',
     .metavar = "MODEL",
     .help = "GGUF file, or a name that `phid pull` knows"},
    {.key = "model.alias",
     .type = OPTION_LIST,
     .offset = AT(model.alias),
     .min = 1,
     .max = 256,
     .help = "names clients may use for the model, the first one shown; none: the file's name"},
    {.key = "model.template",
     .type = OPTION_STRING,
     .offset = AT(model.chat_template),
     .default_text = "auto",
     .min = 1,
     .max = 64,
     .help = "chat template: auto (the file's, recognised), none, or a built-in one's name"},

    {.key = "engine.threads",
     .type = OPTION_INT,
     .offset = AT(engine.threads),
     .default_text = "auto",
     .min = 1,
     .max = 1024,
     .takes_auto = true,
     .auto_value = 0,
     .flag = "--threads",
     .metavar = "N",
     .help = "compute threads; auto is every core this process may use"},
    {.key = "engine.isa",
     .type = OPTION_ENUM,
     .offset = AT(engine.isa),
     .default_text = "auto",
     .names = config_isas,
     .flag = "--isa",
     .metavar = "NAME",
     .help =
         "kernels of this instruction set, which the processor must have; auto is the best; all "
         "give the same numbers, but for engine.activations: bf16 and w8a8"},
    {.key = "engine.pin_threads",
     .type = OPTION_BOOL,
     .offset = AT(engine.pin_threads),
     .default_text = "false",
     .help = "each compute thread keeps to one core; for machines that do nothing else"},
    {.key = "engine.huge_pages",
     .type = OPTION_BOOL,
     .offset = AT(engine.huge_pages),
     .default_text = "true",
     .help =
         "ask the system for 2 MiB pages for weights, keys and values (transparent huge pages)"},
    {.key = "engine.numa",
     .type = OPTION_ENUM,
     .offset = AT(engine.numa),
     .default_text = "interleave",
     .names = numas,
     .help =
         "memory of weights, keys and values on machines with several memory nodes: spread over "
         "all, or local to the thread that writes it first"},
    {.key = "engine.context",
     .type = OPTION_INT,
     .offset = AT(engine.context),
     .default_text = "auto",
     .min = 8,
     .max = 1 << 24,
     .takes_auto = true,
     .auto_value = 0,
     .flag = "--context",
     .metavar = "N",
     .help =
         "tokens a sequence may hold, prompt and answer; auto is the model's own, at most 4096"},
    {.key = "engine.max_running",
     .type = OPTION_INT,
     .offset = AT(engine.max_running),
     .default_text = "32",
     .min = 1,
     .max = 1024,
     .help = "requests computed in one batch, at most"},
    {.key = "engine.step_tokens",
     .type = OPTION_INT,
     .offset = AT(engine.step_tokens),
     .default_text = "512",
     .min = 1,
     .max = 65536,
     .help = "tokens computed in one step, at most; a longer prompt takes several"},
    {.key = "engine.itl_target",
     .type = OPTION_DURATION,
     .offset = AT(engine.itl_target_ms),
     .default_text = "auto",
     .min = 1,
     .max = 3600 * 1000,
     .takes_auto = true,
     .auto_value = 0,
     .help =
         "gap between two tokens of an answer that prompts beside it may cause; auto is twice a "
         "lone step, at least 100ms; 1h is no limit"},
    {.key = "engine.max_overtake",
     .type = OPTION_DURATION,
     .offset = AT(engine.max_overtake_ms),
     .default_text = "10s",
     .min = 1,
     .max = DAY_MS,
     .help = "a request that has waited so long is overtaken by no better priority and no longer "
             "cached prefix any more"},
    {.key = "engine.activations",
     .type = OPTION_ENUM,
     .offset = AT(engine.activations),
     .default_text = "auto",
     .names = activations,
     .help =
         "rounding of activations; int8x2 has 16 bits at twice the arithmetic; bf16, with AMX, is "
         "for prompts in steps of their own, int8 for the rest: then an answer may differ with "
         "what else was running; auto: int8x2 for small models, bf16 for others; w8a8: as auto, "
         "but with VNNI the weights of such prompts are rounded once more, in steps of at least 48 "
         "tokens of them: a tenth to a half faster than int8 by type, twice its error"},
    {.key = "engine.speculation",
     .type = OPTION_ENUM,
     .offset = AT(engine.speculation),
     .default_text = "auto",
     .names = speculations,
     .help =
         "compute guesses at the next tokens, taken from the text so far, in one step; changes no "
         "token; auto: when few requests run and it pays"},
    {.key = "engine.kv.type",
     .type = OPTION_ENUM,
     .offset = AT(engine.kv_type),
     .default_text = "f16",
     .names = kv_types,
     .help = "number format of keys and values; int8 takes half the memory of f16, with a scale "
             "for each token and head"},
    {.key = "engine.kv.memory",
     .type = OPTION_SIZE,
     .offset = AT(engine.kv_memory_bytes),
     .default_text = "auto",
     .min = KIB * KIB,
     .max = 64 * TIB,
     .takes_auto = true,
     .auto_value = 0,
     .help = "memory for keys and values, taken as it is used; auto is what is free after the "
             "weights less a tenth (at least 1 GiB), at most twice max_running whole contexts"},
    {.key = "engine.prefix_cache",
     .type = OPTION_BOOL,
     .offset = AT(engine.prefix_cache),
     .default_text = "true",
     .help = "keep what was computed, and share it between requests of one API key that begin with "
             "the same tokens; changes no answer"},
    {.key = "engine.longrope",
     .type = OPTION_ENUM,
     .offset = AT(engine.longrope),
     .default_text = "hf",
     .names = longropes,
     .help = "rotary factors of models with two lists: hf takes the long ones for what is longer "
             "than the original context, computing it again once; long always; short never, and "
             "the context ends there"},

    {.key = "placement.gpu_layers",
     .type = OPTION_INT,
     .offset = AT(placement.gpu_layers),
     .default_text = "auto",
     .min = 0,
     .max = 100000,
     .takes_auto = true,
     .auto_value = -1,
     .flag = "--gpu-layers",
     .metavar = "N",
     .help = "layers computed on a GPU; this build has none, so auto or 0"},
    {.key = "placement.vram_limit",
     .type = OPTION_SIZE,
     .offset = AT(placement.vram_limit_bytes),
     .default_text = "null",
     .min = KIB * KIB,
     .max = 64 * TIB,
     .takes_null = true,
     .help = "GPU memory to use at most; needs a GPU"},
    {.key = "placement.layers",
     .type = OPTION_LAYERS,
     .offset = AT(placement.layers),
     .help = "layers by device, e.g. [{range: 0-31, device: cpu}]"},

    {.key = "limits.queue",
     .type = OPTION_INT,
     .offset = AT(limits.queue),
     .default_text = "256",
     .min = 1,
     .max = 1 << 20,
     .help = "requests that may wait; more are answered 503"},
    {.key = "limits.queue_tokens",
     .type = OPTION_INT,
     .offset = AT(limits.queue_tokens),
     .default_text = "200000",
     .min = 1,
     .max = INT64_C(1) << 40,
     .help = "prompt tokens that may wait, all requests together; more are answered 503"},
    {.key = "limits.request_timeout",
     .type = OPTION_DURATION,
     .offset = AT(limits.request_timeout_ms),
     .default_text = "600s",
     .min = 0,
     .max = DAY_MS,
     .help = "a request may take this long in all; 0s is for ever"},
    {.key = "limits.max_wait",
     .type = OPTION_DURATION,
     .offset = AT(limits.max_wait_ms),
     .default_text = "60s",
     .min = 0,
     .max = DAY_MS,
     .help =
         "a request may wait this long for its first step, then it ends with 503; one that would "
         "wait longer, as far as is known, is answered 503 at once; 0s is for ever"},
    {.key = "limits.key.in_flight",
     .type = OPTION_INT,
     .offset = AT(limits.key_in_flight),
     .default_text = "0",
     .min = 0,
     .max = 1 << 20,
     .help =
         "requests one API key may have running and waiting; more are answered 429; 0 is no limit"},
    {.key = "limits.key.requests_per_minute",
     .type = OPTION_INT,
     .offset = AT(limits.key_requests_per_minute),
     .default_text = "0",
     .min = 0,
     .max = 1 << 30,
     .help =
         "requests one API key may send, evenly filled up; more are answered 429; 0 is no limit"},
    {.key = "limits.key.tokens_per_minute",
     .type = OPTION_INT,
     .offset = AT(limits.key_tokens_per_minute),
     .default_text = "0",
     .min = 0,
     .max = INT64_C(1) << 40,
     .help =
         "tokens of prompts and answers one API key may use, counted afterwards; 0 is no limit"},

    {.key = "log.level",
     .type = OPTION_ENUM,
     .offset = AT(log.level),
     .default_text = "info",
     .names = log_levels,
     .help = "least important lines to write"},
    {.key = "log.format",
     .type = OPTION_ENUM,
     .offset = AT(log.format),
     .default_text = "text",
     .names = log_formats,
     .help = "text is key=value, json is one object a line"},
};

#define OPTION_COUNT (sizeof(options) / sizeof(options[0]))

const struct option *option_at(size_t index)
{
    return index < OPTION_COUNT ? &options[index] : NULL;
}

const struct option *option_find(struct str key)
{
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        if (str_equal_c(key, options[i].key)) {
            return &options[i];
        }
    }
    return NULL;
}

bool option_is_group(struct str prefix)
{
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        struct str key = str_of(options[i].key);
        if (key.size > prefix.size && key.data[prefix.size] == '.' &&
            memcmp(key.data, prefix.data, prefix.size) == 0) {
            return true;
        }
    }
    return prefix.size == 0;
}

void *option_value(const struct option *option, struct config *config)
{
    return (char *)config + option->offset;
}

/* ------------------------------------------------------------ suggestions */

static struct str last_part(struct str key)
{
    for (size_t i = key.size; i > 0; i--) {
        if (key.data[i - 1] == '.') {
            return (struct str){key.data + i, key.size - i};
        }
    }
    return key;
}

/* How far `key` is from `candidate`: whole paths, or only the last words when the path was wrong.
 */
static size_t key_distance(struct str key, struct str candidate)
{
    size_t whole = nearest_distance(key, candidate);
    size_t word = nearest_distance(last_part(key), last_part(candidate));
    word = word == SIZE_MAX ? word : word + 1;
    return word < whole ? word : whole;
}

/* The group words directly below `parent`, each once ("host, port, tls"). */
static void list_children(struct str parent, struct buf *out)
{
    struct str previous = {NULL, 0};
    size_t skip = parent.size == 0 ? 0 : parent.size + 1;
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        struct str key = str_of(options[i].key);
        if (key.size <= skip || memcmp(key.data, parent.data, parent.size) != 0 ||
            (parent.size > 0 && key.data[parent.size] != '.')) {
            continue;
        }
        struct str word = {key.data + skip, 0};
        while (skip + word.size < key.size && word.data[word.size] != '.') {
            word.size++;
        }
        if (!str_equal(word, previous)) {
            buf_append_c(out, previous.size > 0 ? ", " : "");
            buf_append_str(out, word);
            previous = word;
        }
    }
}

void option_hint(struct str key, struct buf *out)
{
    struct nearest nearest = {0};
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        struct str candidate = str_of(options[i].key);
        /* The key itself and the groups above it. */
        while (true) {
            nearest_offer(&nearest, candidate, key_distance(key, candidate));
            struct str word = last_part(candidate);
            if (word.size == candidate.size) {
                break;
            }
            candidate.size -= word.size + 1;
        }
    }
    if (nearest_found(&nearest, last_part(key).size)) {
        buf_append_c(out, "; did you mean ");
        buf_append_str(out, nearest.word);
        buf_append_c(out, "?");
        return;
    }
    struct str parent = {key.data, key.size - last_part(key).size};
    parent.size -= parent.size > 0 ? 1 : 0;
    if (!option_is_group(parent)) {
        parent.size = 0;
    }
    buf_append_c(out, "; known here: ");
    list_children(parent, out);
}

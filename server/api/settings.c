#include "server/api/settings.h"

#include <inttypes.h>
#include <openssl/rand.h>
#include <stdlib.h>

#include "server/api/fields.h"

#define AT(member)  offsetof(struct settings, member)
#define COUNT_OF(a) (sizeof(a) / sizeof((a)[0]))

/* top_k: -1 and 0 are "off" in the clients that send it. */
static const struct field fields[] = {
    {.name = "temperature", .kind = FIELD_NUMBER, .offset = AT(temperature), .numbers = {0, 2}},
    {.name = "top_p", .kind = FIELD_NUMBER, .offset = AT(top_p), .numbers = {0, 1}},
    {.name = "min_p", .kind = FIELD_NUMBER, .offset = AT(min_p), .numbers = {0, 1}},
    {.name = "top_k", .kind = FIELD_INTEGER, .offset = AT(top_k), .ints = {-1, INT32_MAX}},
    {.name = "repetition_penalty",
     .kind = FIELD_NUMBER,
     .offset = AT(repetition_penalty),
     .numbers = {0.01, 10}},
    {.name = "frequency_penalty",
     .kind = FIELD_NUMBER,
     .offset = AT(frequency_penalty),
     .numbers = {-2, 2}},
    {.name = "presence_penalty",
     .kind = FIELD_NUMBER,
     .offset = AT(presence_penalty),
     .numbers = {-2, 2}},
    {.name = "seed", .kind = FIELD_INTEGER, .offset = AT(seed), .ints = {INT64_MIN, INT64_MAX}},
    {.name = "n", .kind = FIELD_INTEGER, .offset = AT(n), .ints = {1, SETTINGS_N_MAX}},
    {.name = "min_tokens", .kind = FIELD_INTEGER, .offset = AT(min_tokens), .ints = {0, INT32_MAX}},
    {.name = "priority",
     .kind = FIELD_INTEGER,
     .offset = AT(priority),
     .ints = {INT32_MIN, INT32_MAX}},
    {.name = "ignore_eos", .kind = FIELD_BOOL, .offset = AT(ignore_eos)},
    {.name = "stream", .kind = FIELD_BOOL, .offset = AT(stream)},
    {.name = "cache_salt",
     .kind = FIELD_STRING,
     .offset = AT(cache_salt),
     .max_size = SETTINGS_SALT_BYTES_MAX},
    {.name = "user", .kind = FIELD_STRING, .offset = FIELD_UNUSED},
};

static const struct field stream_fields[] = {
    {.name = "include_usage", .kind = FIELD_BOOL, .offset = AT(include_usage)},
    {.name = "include_obfuscation", .kind = FIELD_BOOL, .offset = FIELD_UNUSED},
};

static enum api_fault read_stop(const json_t *value, const char *param, struct settings *s,
                                struct api_error *err)
{
    size_t size = json_string_length(value);
    if (size == 0) {
        return api_fail(err, API_INVALID_VALUE, param,
                        "Invalid '%s': a stop string must not be empty.", param);
    }
    if (size > SETTINGS_STOP_BYTES_MAX) {
        return api_fail(err, API_STRING_TOO_LONG, param,
                        "Invalid '%s': a stop string holds at most %d bytes.", param,
                        SETTINGS_STOP_BYTES_MAX);
    }
    s->stops[s->stop_count++] = (struct phid_stop){json_string_value(value), size};
    return API_OK;
}

static enum api_fault read_stops(const json_t *body, struct settings *s, struct api_error *err)
{
    const json_t *value = field_get(body, "stop");
    char param[API_PARAM_MAX];
    if (value == NULL) {
        return API_OK;
    }
    if (!json_is_string(value) && !json_is_array(value)) {
        return field_wrong_type(value, "stop", "a string or an array of strings", err);
    }
    size_t count = json_is_array(value) ? json_array_size(value) : 1;
    if (count > SETTINGS_STOPS_MAX) {
        return api_fail(err, API_ARRAY_TOO_LONG, "stop",
                        "Invalid 'stop': array too long. Expected at most %d strings.",
                        SETTINGS_STOPS_MAX);
    }
    s->stops = calloc(count + 1, sizeof *s->stops);
    if (s->stops == NULL) {
        return api_fail(err, API_OVERLOADED, NULL, "The server is out of memory.");
    }
    if (json_is_string(value)) {
        return read_stop(value, "stop", s, err);
    }
    for (size_t i = 0; i < count; i++) {
        const json_t *item = json_array_get(value, i);
        field_path_index(param, "stop", i);
        if (!json_is_string(item)) {
            return field_wrong_type(item, param, "a string", err);
        }
        enum api_fault fault = read_stop(item, param, s, err);
        if (fault != API_OK) {
            return fault;
        }
    }
    return API_OK;
}

/* A token id written in decimal, without sign, space or leading zeros. */
static bool parse_id(const char *text, size_t vocab_size, int32_t *ret)
{
    size_t id = 0;
    if (text[0] == '\0' || (text[0] == '0' && text[1] != '\0')) {
        return false;
    }
    for (const char *c = text; *c != '\0'; c++) {
        if (*c < '0' || *c > '9') {
            return false;
        }
        id = id * 10 + (size_t)(*c - '0');
        if (id >= vocab_size) {
            return false;
        }
    }
    *ret = (int32_t)id;
    return true;
}

static enum api_fault read_biases(const struct api *api, const json_t *body, struct settings *s,
                                  struct api_error *err)
{
    const json_t *object = field_get(body, "logit_bias");
    const char *key;
    json_t *value;
    if (object == NULL) {
        return API_OK;
    }
    if (!json_is_object(object)) {
        return field_wrong_type(object, "logit_bias", "an object", err);
    }
    if (json_object_size(object) > SETTINGS_BIASES_MAX) {
        return api_fail(err, API_INVALID_VALUE, "logit_bias",
                        "Invalid 'logit_bias': at most %d entries.", SETTINGS_BIASES_MAX);
    }
    s->biases = calloc(json_object_size(object) + 1, sizeof *s->biases);
    if (s->biases == NULL) {
        return api_fail(err, API_OVERLOADED, NULL, "The server is out of memory.");
    }
    json_object_foreach((json_t *)(uintptr_t)object, key, value)
    {
        struct phid_logit_bias *bias = &s->biases[s->bias_count];
        if (!parse_id(key, api->vocab_size, &bias->id)) {
            return api_fail(
                err, API_INVALID_VALUE, "logit_bias",
                "Invalid key in 'logit_bias': '%.32s'. Expected a token id from 0 to %zu.", key,
                api->vocab_size - 1);
        }
        if (!json_is_number(value)) {
            return field_wrong_type(value, "logit_bias", "numbers", err);
        }
        double number = json_number_value(value);
        if (number < -100 || number > 100) {
            return api_fail(err, API_INVALID_VALUE, "logit_bias",
                            "Invalid value in 'logit_bias' for token %s: expected a number from "
                            "-100 to 100, got %g.",
                            key, number);
        }
        bias->bias = (float)number;
        s->bias_count++;
    }
    return API_OK;
}

static enum api_fault read_stream_options(const json_t *body, struct settings *s,
                                          struct api_error *err)
{
    const json_t *options = field_get(body, "stream_options");
    if (options == NULL) {
        return API_OK;
    }
    if (!json_is_object(options)) {
        return field_wrong_type(options, "stream_options", "an object", err);
    }
    if (!s->stream) {
        return api_fail(err, API_INVALID_VALUE, "stream_options",
                        "The 'stream_options' parameter is only allowed when 'stream' is true.");
    }
    return fields_read(options, "stream_options", stream_fields, COUNT_OF(stream_fields), s, err);
}

/* max_completion_tokens is the newer name and wins. */
static enum api_fault read_max_tokens(const json_t *body, int64_t min, struct settings *s,
                                      struct api_error *err)
{
    const struct field limits[] = {
        {.name = "max_tokens",
         .kind = FIELD_INTEGER,
         .offset = AT(max_tokens),
         .ints = {min, INT64_MAX}},
        {.name = "max_completion_tokens",
         .kind = FIELD_INTEGER,
         .offset = AT(max_tokens),
         .ints = {min, INT64_MAX}},
    };
    return fields_read(body, "", limits, COUNT_OF(limits), s, err);
}

enum api_fault settings_read(const struct api *api, const json_t *body, int64_t max_tokens_default,
                             int64_t max_tokens_min, struct settings *ret, struct api_error *err)
{
    struct settings s = {.temperature = 1,
                         .top_p = 1,
                         .repetition_penalty = 1,
                         .n = 1,
                         .max_tokens = max_tokens_default};
    enum api_fault fault = fields_read(body, "", fields, COUNT_OF(fields), &s, err);
    if (fault == API_OK) {
        fault = read_max_tokens(body, max_tokens_min, &s, err);
    }
    if (fault == API_OK) {
        fault = read_stream_options(body, &s, err);
    }
    if (fault == API_OK) {
        fault = read_stops(body, &s, err);
    }
    if (fault == API_OK) {
        fault = read_biases(api, body, &s, err);
    }
    if (fault == API_OK && s.cache_salt != NULL && json_string_length(s.cache_salt) == 0) {
        fault = api_fail(err, API_INVALID_VALUE, "cache_salt",
                         "Invalid 'cache_salt': it must not be empty.");
    }
    s.priority_given = field_get(body, "priority") != NULL;
    s.seed_given = field_get(body, "seed") != NULL;
    if (fault == API_OK && !s.seed_given &&
        RAND_bytes((unsigned char *)&s.seed, sizeof s.seed) != 1) {
        fault = api_fail(err, API_INTERNAL, NULL, "The server has no source of randomness.");
    }
    if (fault != API_OK) {
        settings_fini(&s);
        return fault;
    }
    *ret = s;
    return API_OK;
}

void settings_fini(struct settings *s)
{
    free(s->stops);
    free(s->biases);
    s->stops = NULL;
    s->biases = NULL;
}

/* The finalizer of splitmix64 (Steele, Lea, Flood 2014) over the seed advanced by its own
 * increment. */
uint64_t settings_seed(uint64_t seed, uint64_t index)
{
    uint64_t z = seed + (index + 1) * 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

#include "server/api/api.h"

#include <openssl/rand.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "server/api/json_scan.h"

/* Everything that may change what the same request answers. */
static void make_fingerprint(struct api *api)
{
    const struct phid_model_info *model = phid_model_info(api->model);
    const struct phid_engine_info *engine = phid_engine_info(api->engine);
    unsigned char digest[SHA256_DIGEST_LENGTH];
    char text[512];
    int n = snprintf(text, sizeof text, "%s %s %s %s %s %llu %llu", phid_version(), phid_commit(),
                     engine->isa != NULL ? engine->isa : "", model->architecture, model->name,
                     (unsigned long long)model->parameters, (unsigned long long)model->file_bytes);
    size_t size = n < 0 ? 0 : (size_t)n < sizeof text ? (size_t)n : sizeof text - 1;
    SHA256((const unsigned char *)text, size, digest);
    snprintf(api->fingerprint, sizeof api->fingerprint, "fp_%02x%02x%02x%02x%02x", digest[0],
             digest[1], digest[2], digest[3], digest[4]);
}

static bool add_name(struct api *api, const char *name)
{
    for (size_t i = 0; i < api->name_count; i++) {
        if (strcmp(api->names[i], name) == 0) {
            return true;
        }
    }
    api->names[api->name_count] = str_dup(str_of(name));
    if (api->names[api->name_count] == NULL) {
        return false;
    }
    api->name_count++;
    return true;
}

static bool make_names(struct api *api, const struct server_options *options)
{
    const char *id = options->model_id;
    if (id == NULL || id[0] == '\0') {
        id = phid_model_info(api->model)->name;
    }
    if (id == NULL || id[0] == '\0') {
        id = "default";
    }
    api->names = calloc(options->alias_count + 1, sizeof *api->names);
    if (api->names == NULL || !add_name(api, id)) {
        return false;
    }
    for (size_t i = 0; i < options->alias_count; i++) {
        if (!add_name(api, options->aliases[i])) {
            return false;
        }
    }
    return true;
}

static size_t longest_token(const struct phid_model *model, size_t vocab_size)
{
    size_t longest = 4; /* an unknown character */
    for (size_t i = 0; i < vocab_size; i++) {
        const unsigned char *bytes;
        size_t size = 0;
        phid_token_bytes(model, (int32_t)i, &bytes, &size);
        longest = size > longest ? size : longest;
    }
    return longest;
}

enum phid_status api_init(struct api *api, const struct server_options *options,
                          struct phid_engine *engine, struct phid_model *model,
                          struct phid_error *err)
{
    *api = (struct api){
        .engine = engine, .model = model, .allow_special = options->allow_special_in_prompt};
    api->created = (int64_t)time(NULL);
    api->context = phid_engine_info(engine)->context;
    api->vocab_size = phid_model_info(model)->vocab_size;
    api->token_bytes_max = longest_token(model, api->vocab_size);
    make_fingerprint(api);
    if (!make_names(api, options)) {
        api_fini(api);
        return phid_fail(err, PHID_ERR_MEMORY, "out of memory for the model's names");
    }
    return PHID_OK;
}

void api_fini(struct api *api)
{
    for (size_t i = 0; i < api->name_count; i++) {
        free(api->names[i]);
    }
    free(api->names);
    *api = (struct api){0};
}

enum api_fault api_check_model(const struct api *api, struct str name, struct api_error *err)
{
    if (name.size == 0) {
        return api_fail(err, API_INVALID_VALUE, "model",
                        "Invalid 'model': expected the name of a model, got ''.");
    }
    for (size_t i = 0; i < api->name_count; i++) {
        if (str_equal_c(name, api->names[i])) {
            return API_OK;
        }
    }
    return api_fail(err, API_MODEL_NOT_FOUND, "model",
                    "The model '%.*s' does not exist; GET /v1/models lists those that do.",
                    (int)(name.size < 128 ? name.size : 128), name.data);
}

enum api_fault api_check_prompt_size(const struct api *api, size_t bytes, const char *param,
                                     struct api_error *err)
{
    size_t least = bytes / api->token_bytes_max;
    if (least <= api->context) {
        return API_OK;
    }
    return api_fail(err, API_CONTEXT_LENGTH, param,
                    "This model's maximum context length is %zu tokens. However, your %s resulted "
                    "in at least %zu tokens.",
                    api->context, param, least);
}

enum api_fault api_parse_body(struct str body, json_t **ret, struct api_error *err)
{
    json_error_t where;
    if (body.size == 0) {
        return api_fail(err, API_INVALID_JSON, NULL,
                        "The request body is empty; expected a JSON object.");
    }
    enum api_fault fault = json_scan(body, err);
    if (fault != API_OK) {
        return fault;
    }
    json_t *parsed = json_loadb(body.data, body.size, JSON_DECODE_ANY, &where);
    if (parsed == NULL && json_error_code(&where) == json_error_numeric_overflow) {
        /* An integer beyond 64 bits: as a float it is at least a number, and the field's own range
         * refuses it by name. */
        parsed =
            json_loadb(body.data, body.size, JSON_DECODE_ANY | JSON_DECODE_INT_AS_REAL, &where);
    }
    if (parsed == NULL) {
        /* The library's own words for this name a flag of its interface. */
        bool nul = json_error_code(&where) == json_error_null_character;
        return api_fail(err, API_INVALID_JSON, NULL,
                        "The request body is not valid JSON: %s (line %d, column %d).",
                        nul ? "the character \\u0000 is not allowed" : where.text, where.line,
                        where.column);
    }
    if (!json_is_object(parsed)) {
        json_decref(parsed);
        return api_fail(err, API_INVALID_JSON, NULL, "The request body must be a JSON object.");
    }
    *ret = parsed;
    return API_OK;
}

bool api_random_id(char *out, size_t out_size, const char *prefix, size_t size)
{
    static const char letters[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    unsigned char random[64];
    size_t used = strlen(prefix);
    if (size > sizeof random || used + size + 1 > out_size || RAND_bytes(random, (int)size) != 1) {
        return false;
    }
    memcpy(out, prefix, used);
    for (size_t i = 0; i < size; i++) {
        out[used + i] = letters[random[i] % (sizeof letters - 1)];
    }
    out[used + size] = '\0';
    return true;
}

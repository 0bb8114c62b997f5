#include "server/api/generation.h"

#include <stdlib.h>

#include "server/api/fields.h"
#include "server/api/json_write.h"
#include "server/api/stream.h"

/* ------------------------------------------------------------------ format */

static void put_choice(const struct generation *g, const struct choice *c, size_t index,
                       struct buf *out)
{
    const char *finish = generation_finish_name(c->finish);
    buf_printf(out, "{\"index\":%zu,\"text\":", index);
    json_put_string(out, buf_view(&c->text));
    buf_append_c(out, ",\"logprobs\":");
    logprobs_write(&c->logprobs, out);
    buf_append_c(out, ",\"finish_reason\":");
    if (finish != NULL) {
        json_put_string(out, str_of(finish));
    } else {
        buf_append_c(out, "null");
    }
    buf_append_byte(out, '}');
}

/* An echoed prompt comes at once, unless its log-probabilities must come with it. */
static void write_first(struct generation *g, struct choice *c)
{
    if (!g->echo || g->logprobs >= 0) {
        return;
    }
    const struct prompt *prompt = &g->prompts[c->prompt];
    buf_append(&c->text, prompt->text, prompt->text_size);
    c->echoed = true;
    stream_chunk_begin(g);
    put_choice(g, c, c->index, &g->out);
    stream_chunk_end(g);
    buf_clear(&c->text);
}

static void write_pending(struct generation *g, struct choice *c)
{
    if (c->text.size == 0 && !logprobs_pending(&c->logprobs) && c->finish == PHID_FINISH_NONE) {
        return;
    }
    stream_chunk_begin(g);
    put_choice(g, c, c->index, &g->out);
    stream_chunk_end(g);
}

/* ------------------------------------------------------------------ prompt */

static enum api_fault out_of_memory(struct api_error *err)
{
    return api_fail(err, API_OVERLOADED, NULL, "The server is out of memory.");
}

/* An empty prompt still needs a token to start from: the begin token, or the end token where there
 * is none. */
static enum api_fault begin_only(const struct api *api, struct prompt *prompt,
                                 struct api_error *err)
{
    const struct phid_model_info *info = phid_model_info(api->model);
    int32_t id = info->bos >= 0 ? info->bos : info->eos;
    if (id < 0) {
        return api_fail(err, API_INVALID_VALUE, "prompt",
                        "This model has no begin token: the prompt must not be empty.");
    }
    prompt->ids = malloc(sizeof *prompt->ids);
    if (prompt->ids == NULL) {
        return out_of_memory(err);
    }
    prompt->ids[0] = id;
    prompt->count = 1;
    return API_OK;
}

static enum api_fault read_text(const struct api *api, struct str text, const char *param,
                                struct prompt *prompt, struct api_error *err)
{
    struct phid_error engine_error;
    enum api_fault fault = api_check_prompt_size(api, text.size, param, err);
    if (fault != API_OK) {
        return fault;
    }
    prompt->text = str_dup(text);
    prompt->text_size = text.size;
    if (prompt->text == NULL) {
        return out_of_memory(err);
    }
    enum phid_status status =
        phid_tokenize(api->model, text.data, text.size, api->allow_special,
                      phid_model_adds_bos(api->model), &prompt->ids, &prompt->count, &engine_error);
    if (status != PHID_OK) {
        engine_error.status = status;
        return api_fail_engine(err, &engine_error, param);
    }
    if (prompt->count == 0) {
        free(prompt->ids);
        prompt->ids = NULL;
        return begin_only(api, prompt, err);
    }
    return API_OK;
}

static enum api_fault read_ids(const struct api *api, const json_t *array, const char *param,
                               bool echo, struct prompt *prompt, struct api_error *err)
{
    size_t count = json_array_size(array);
    char item_param[API_PARAM_MAX];
    if (count == 0) {
        return api_fail(err, API_EMPTY_ARRAY, param,
                        "Invalid '%s': empty array. Expected at least one token id.", param);
    }
    prompt->ids = calloc(count, sizeof *prompt->ids);
    if (prompt->ids == NULL) {
        return out_of_memory(err);
    }
    prompt->count = count;
    for (size_t i = 0; i < count; i++) {
        const json_t *item = json_array_get(array, i);
        int64_t id;
        if (!field_integer(item, &id)) {
            field_path_index(item_param, param, i);
            return field_wrong_type(item, item_param, "a token id, as the others", err);
        }
        if (id < 0 || (uint64_t)id >= api->vocab_size) {
            field_path_index(item_param, param, i);
            return api_fail(err, API_INVALID_VALUE, item_param,
                            "Invalid '%s': expected a token id from 0 to %zu.", item_param,
                            api->vocab_size - 1);
        }
        prompt->ids[i] = (int32_t)id;
    }
    if (echo) {
        struct phid_error engine_error;
        enum phid_status status = phid_detokenize(api->model, prompt->ids, count, false,
                                                  &prompt->text, &prompt->text_size, &engine_error);
        if (status != PHID_OK) {
            engine_error.status = status;
            return api_fail_engine(err, &engine_error, param);
        }
    }
    return API_OK;
}

/* Elements are all texts or all arrays of ids; the first one decides. */
static enum api_fault read_list(struct generation *g, const json_t *array, struct api_error *err)
{
    size_t count = json_array_size(array);
    bool texts = json_is_string(json_array_get(array, 0));
    char param[API_PARAM_MAX];
    if (count > GENERATION_CHOICES_MAX) {
        return api_fail(err, API_ARRAY_TOO_LONG, "prompt",
                        "Invalid 'prompt': array too long. Expected at most %d prompts.",
                        GENERATION_CHOICES_MAX);
    }
    struct prompt *prompts = generation_add_prompts(g, count);
    if (prompts == NULL) {
        return out_of_memory(err);
    }
    for (size_t i = 0; i < count; i++) {
        const json_t *item = json_array_get(array, i);
        enum api_fault fault;
        field_path_index(param, "prompt", i);
        if (texts ? !json_is_string(item) : !json_is_array(item)) {
            return field_wrong_type(
                item, param,
                texts ? "a string, as the others" : "an array of token ids, as the others", err);
        }
        if (texts) {
            fault = read_text(g->api, field_text(item), param, &prompts[i], err);
        } else {
            fault = read_ids(g->api, item, param, g->echo, &prompts[i], err);
        }
        if (fault != API_OK) {
            return fault;
        }
    }
    return API_OK;
}

static enum api_fault read_prompts(struct generation *g, const json_t *body, struct api_error *err)
{
    const json_t *value = json_object_get(body, "prompt");
    if (value == NULL) {
        return field_missing("prompt", err);
    }
    if (json_is_array(value)) {
        const json_t *first = json_array_get(value, 0);
        if (first == NULL) {
            return api_fail(err, API_EMPTY_ARRAY, "prompt", "Invalid 'prompt': empty array.");
        }
        if (json_is_string(first) || json_is_array(first)) {
            return read_list(g, value, err);
        }
    }
    if (!json_is_null(value) && !json_is_string(value) && !json_is_array(value)) {
        return field_wrong_type(value, "prompt",
                                "a string, an array of strings or an array of token ids", err);
    }
    struct prompt *prompt = generation_add_prompts(g, 1);
    if (prompt == NULL) {
        return out_of_memory(err);
    }
    if (json_is_array(value)) {
        return read_ids(g->api, value, "prompt", g->echo, prompt, err);
    }
    return read_text(g->api, json_is_null(value) ? STR("") : field_text(value), "prompt", prompt,
                     err);
}

/* ------------------------------------------------------------------ fields */

struct completion_fields {
    const json_t *model, *suffix;
    int64_t logprobs, best_of;
    bool echo;
};

#define AT(member) offsetof(struct completion_fields, member)

static const struct field fields[] = {
    {.name = "model", .kind = FIELD_STRING, .offset = AT(model), .required = true},
    {.name = "suffix", .kind = FIELD_STRING, .offset = AT(suffix)},
    {.name = "logprobs",
     .kind = FIELD_INTEGER,
     .offset = AT(logprobs),
     .ints = {0, SETTINGS_LOGPROBS_MAX}},
    {.name = "best_of", .kind = FIELD_INTEGER, .offset = AT(best_of), .ints = {0, 20}},
    {.name = "echo", .kind = FIELD_BOOL, .offset = AT(echo)},
};

static enum api_fault read_fields(struct generation *g, const json_t *body, struct api_error *err)
{
    struct completion_fields f = {.logprobs = -1};
    enum api_fault fault = fields_read(body, "", fields, sizeof fields / sizeof fields[0], &f, err);
    if (fault == API_OK) {
        fault = api_check_model(g->api, field_text(f.model), err);
    }
    if (fault == API_OK) {
        fault = settings_read(g->api, body, 16, 0, &g->settings, err);
    }
    if (fault != API_OK) {
        return fault;
    }
    if (f.suffix != NULL && json_string_length(f.suffix) > 0) {
        return api_fail(err, API_UNSUPPORTED_PARAMETER, "suffix",
                        "This model cannot fill in the middle: 'suffix' is not supported.");
    }
    int64_t n = g->settings.n;
    if (f.best_of > 0 && f.best_of < n) {
        return api_fail(err, API_INVALID_VALUE, "best_of",
                        "Invalid 'best_of': must be at least 'n' (%d).", (int)n);
    }
    if (f.best_of > 1 && g->settings.stream) {
        return api_fail(err, API_INVALID_VALUE, "best_of",
                        "Invalid 'best_of': more than one candidate cannot be streamed.");
    }
    g->best_of = (size_t)(f.best_of > 0 ? f.best_of : n);
    g->logprobs = f.logprobs;
    g->echo = f.echo;
    return API_OK;
}

static const struct generation_format completion_format = {
    .id_prefix = "cmpl-",
    .object = "text_completion",
    .chunk_object = "text_completion",
    .prompt_field = "prompt",
    .logprobs = LOGPROBS_COMPLETION,
    .continues_text = true,
    .write_first = write_first,
    .write_pending = write_pending,
    .write_choice = put_choice,
    .read_fields = read_fields,
    .read_prompts = read_prompts,
};

enum api_fault generation_start_completion(const struct generation_request *r,
                                           struct generation **ret, struct api_error *err)
{
    return generation_start(&completion_format, r, ret, err);
}

#include "server/api/generation.h"

#include <stdlib.h>

#include "server/api/fields.h"
#include "server/api/json_write.h"
#include "server/api/messages.h"
#include "server/api/prediction.h"
#include "server/api/stream.h"

/* ------------------------------------------------------------------ format */

/* {"index":i,"delta":<delta>,"logprobs":..,"finish_reason":..} in a chunk of its own. */
static void put_chunk(struct generation *g, const struct choice *c, struct str delta, bool logprobs,
                      const char *finish)
{
    stream_chunk_begin(g);
    buf_printf(&g->out, "{\"index\":%zu,\"delta\":", c->index);
    buf_append_str(&g->out, delta);
    buf_append_c(&g->out, ",\"logprobs\":");
    if (logprobs) {
        logprobs_write(&c->logprobs, &g->out);
    } else {
        buf_append_c(&g->out, "null");
    }
    buf_append_c(&g->out, ",\"finish_reason\":");
    if (finish != NULL) {
        json_put_string(&g->out, str_of(finish));
    } else {
        buf_append_c(&g->out, "null");
    }
    buf_append_byte(&g->out, '}');
    stream_chunk_end(g);
}

/* The role comes once, before any content, choice 0 first: the clients add up what they get. */
static void write_first(struct generation *g, struct choice *c)
{
    put_chunk(g, c, STR("{\"role\":\"assistant\",\"content\":\"\",\"refusal\":null}"), true, NULL);
}

static void write_pending(struct generation *g, struct choice *c)
{
    if (c->text.size > 0 || logprobs_pending(&c->logprobs)) {
        struct buf delta;
        buf_init(&delta, GENERATION_TEXT_MAX);
        buf_append_c(&delta, "{\"content\":");
        json_put_string(&delta, buf_view(&c->text));
        buf_append_byte(&delta, '}');
        g->out.failed |= delta.failed;
        put_chunk(g, c, buf_view(&delta), true, NULL);
        buf_fini(&delta);
    }
    if (c->finish != PHID_FINISH_NONE) {
        put_chunk(g, c, STR("{}"), false, generation_finish_name(c->finish));
    }
}

static void write_choice(const struct generation *g, const struct choice *c, size_t index,
                         struct buf *out)
{
    const char *finish = generation_finish_name(c->finish);
    buf_printf(out, "{\"index\":%zu,\"message\":{\"role\":\"assistant\",\"content\":", index);
    json_put_string(out, buf_view(&c->text));
    buf_append_c(out, ",\"refusal\":null,\"annotations\":[]},\"logprobs\":");
    logprobs_write(&c->logprobs, out);
    buf_append_c(out, ",\"finish_reason\":");
    json_put_string(out, str_of(finish != NULL ? finish : "stop"));
    buf_append_byte(out, '}');
}

/* ------------------------------------------------------------------ fields */

struct chat_fields {
    const json_t *model, *service_tier;
    const json_t *tools, *tool_choice, *functions, *function_call, *response_format, *modalities,
        *metadata, *prediction;
    int64_t top_logprobs;
    bool logprobs;
};

#define AT(member)  offsetof(struct chat_fields, member)
#define COUNT_OF(a) (sizeof(a) / sizeof((a)[0]))

static const char *const tiers[] = {"auto", "default", "flex", "scale", "priority", "fast", NULL};
static const char *const efforts[] = {"none", "minimal", "low", "medium",
                                      "high", "xhigh",   "max", NULL};
static const char *const verbosities[] = {"low", "medium", "high", NULL};

static const struct field fields[] = {
    {.name = "model", .kind = FIELD_STRING, .offset = AT(model), .required = true},
    {.name = "logprobs", .kind = FIELD_BOOL, .offset = AT(logprobs)},
    {.name = "top_logprobs",
     .kind = FIELD_INTEGER,
     .offset = AT(top_logprobs),
     .ints = {0, SETTINGS_LOGPROBS_MAX}},
    {.name = "tools", .kind = FIELD_ARRAY, .offset = AT(tools)},
    {.name = "tool_choice", .kind = FIELD_ANY, .offset = AT(tool_choice)},
    {.name = "functions", .kind = FIELD_ARRAY, .offset = AT(functions)},
    {.name = "function_call", .kind = FIELD_ANY, .offset = AT(function_call)},
    {.name = "response_format", .kind = FIELD_OBJECT, .offset = AT(response_format)},
    {.name = "modalities", .kind = FIELD_ARRAY, .offset = AT(modalities)},
    {.name = "metadata", .kind = FIELD_OBJECT, .offset = AT(metadata)},
    {.name = "prediction", .kind = FIELD_OBJECT, .offset = AT(prediction)},
    {.name = "service_tier", .kind = FIELD_STRING, .offset = AT(service_tier), .values = tiers},
    /* Checked, then ignored: they cannot change the text of this answer. */
    {.name = "parallel_tool_calls", .kind = FIELD_BOOL, .offset = FIELD_UNUSED},
    {.name = "reasoning_effort", .kind = FIELD_STRING, .offset = FIELD_UNUSED, .values = efforts},
    {.name = "verbosity", .kind = FIELD_STRING, .offset = FIELD_UNUSED, .values = verbosities},
    {.name = "store", .kind = FIELD_BOOL, .offset = FIELD_UNUSED},
    {.name = "prompt_cache_key", .kind = FIELD_STRING, .offset = FIELD_UNUSED},
    {.name = "prompt_cache_retention", .kind = FIELD_STRING, .offset = FIELD_UNUSED},
    {.name = "prompt_cache_options", .kind = FIELD_OBJECT, .offset = FIELD_UNUSED},
    {.name = "safety_identifier", .kind = FIELD_STRING, .offset = FIELD_UNUSED, .max_size = 64},
    /* Ignoring these would silently give another answer than asked for. */
    {.name = "audio", .kind = FIELD_REFUSED},
    {.name = "web_search_options", .kind = FIELD_REFUSED},
    {.name = "moderation", .kind = FIELD_REFUSED},
};

static enum api_fault unsupported(const char *param, struct api_error *err)
{
    return api_fail(err, API_UNSUPPORTED_PARAMETER, param,
                    "Unsupported parameter: '%s' is not supported with this model.", param);
}

/* tool_choice and function_call: without tools only "none" and "auto" make sense. */
static enum api_fault check_choice(const json_t *value, const char *param, struct api_error *err)
{
    if (value == NULL) {
        return API_OK;
    }
    if (json_is_object(value)) {
        return unsupported(param, err);
    }
    if (!json_is_string(value)) {
        return field_wrong_type(value, param, "a string or an object", err);
    }
    const char *name = json_string_value(value);
    if (strcmp(name, "none") == 0 || strcmp(name, "auto") == 0) {
        return API_OK;
    }
    if (strcmp(name, "required") == 0) {
        return unsupported(param, err);
    }
    return api_fail(err, API_INVALID_VALUE, param,
                    "Invalid value for '%s': '%.64s'. Expected 'none' or 'auto'.", param, name);
}

static enum api_fault check_tools(const struct chat_fields *f, struct api_error *err)
{
    if (f->tools != NULL && json_array_size(f->tools) > 0) {
        return unsupported("tools", err);
    }
    if (f->functions != NULL && json_array_size(f->functions) > 0) {
        return unsupported("functions", err);
    }
    enum api_fault fault = check_choice(f->tool_choice, "tool_choice", err);
    return fault != API_OK ? fault : check_choice(f->function_call, "function_call", err);
}

static enum api_fault check_response_format(const json_t *format, struct api_error *err)
{
    static const char *const types[] = {"text", "json_object", "json_schema", NULL};
    static const struct field type_field[] = {
        {.name = "type", .kind = FIELD_STRING, .offset = 0, .required = true, .values = types},
    };
    const json_t *type = NULL;
    if (format == NULL) {
        return API_OK;
    }
    enum api_fault fault = fields_read(format, "response_format", type_field, 1, &type, err);
    if (fault != API_OK) {
        return fault;
    }
    return strcmp(json_string_value(type), "text") == 0 ? API_OK
                                                        : unsupported("response_format", err);
}

static enum api_fault check_modalities(const json_t *list, struct api_error *err)
{
    if (list != NULL && json_array_size(list) == 0) {
        return api_fail(err, API_EMPTY_ARRAY, "modalities",
                        "Invalid 'modalities': empty array. Expected at least 'text'.");
    }
    for (size_t i = 0; list != NULL && i < json_array_size(list); i++) {
        const json_t *item = json_array_get(list, i);
        if (!json_is_string(item)) {
            return field_wrong_type(item, "modalities", "strings", err);
        }
        if (strcmp(json_string_value(item), "text") != 0) {
            return api_fail(
                err, API_UNSUPPORTED_VALUE, "modalities",
                "Unsupported value for 'modalities': '%.64s'. This model answers with text only.",
                json_string_value(item));
        }
    }
    return API_OK;
}

static size_t character_count(const char *text, size_t size)
{
    size_t count = 0;
    for (size_t i = 0; i < size; i++) {
        count += ((unsigned char)text[i] & 0xC0) != 0x80; /* not a byte that goes on */
    }
    return count;
}

/* At most 16 pairs of texts, keys up to 64 and values up to 512 characters. */
static enum api_fault check_metadata(const json_t *object, struct api_error *err)
{
    const char *key;
    json_t *value;
    if (object == NULL) {
        return API_OK;
    }
    if (json_object_size(object) > 16) {
        return api_fail(err, API_INVALID_VALUE, "metadata",
                        "Invalid 'metadata': at most 16 pairs.");
    }
    json_object_foreach((json_t *)(uintptr_t)object, key, value)
    {
        if (!json_is_string(value)) {
            return field_wrong_type(value, "metadata", "string values", err);
        }
        if (character_count(key, strlen(key)) > 64 ||
            character_count(json_string_value(value), json_string_length(value)) > 512) {
            return api_fail(
                err, API_STRING_TOO_LONG, "metadata",
                "Invalid 'metadata': keys hold at most 64 characters, values at most 512.");
        }
    }
    return API_OK;
}

static enum api_fault check_fields(const struct chat_fields *f, struct api_error *err)
{
    enum api_fault fault = check_tools(f, err);
    if (fault == API_OK) {
        fault = check_response_format(f->response_format, err);
    }
    if (fault == API_OK) {
        fault = check_modalities(f->modalities, err);
    }
    if (fault == API_OK) {
        fault = check_metadata(f->metadata, err);
    }
    if (fault == API_OK && f->top_logprobs > 0 && !f->logprobs) {
        fault = api_fail(err, API_INVALID_VALUE, "top_logprobs",
                         "The 'top_logprobs' parameter is only allowed when 'logprobs' is true.");
    }
    return fault;
}

static enum api_fault read_fields(struct generation *g, const json_t *body, struct api_error *err)
{
    struct chat_fields f = {.top_logprobs = -1};
    enum api_fault fault = fields_read(body, "", fields, COUNT_OF(fields), &f, err);
    if (fault == API_OK) {
        fault = api_check_model(g->api, field_text(f.model), err);
    }
    if (fault == API_OK) {
        fault = check_fields(&f, err);
    }
    if (fault == API_OK) {
        fault = prediction_read(g->api, f.prediction, &g->prediction, &g->prediction_count, err);
    }
    if (fault == API_OK) {
        fault = settings_read(g->api, body, -1, 1, &g->settings, err);
    }
    if (fault != API_OK) {
        return fault;
    }
    g->best_of = (size_t)g->settings.n;
    g->logprobs = !f.logprobs ? -1 : f.top_logprobs > 0 ? f.top_logprobs : 0;
    g->service_tier = f.service_tier != NULL;
    return API_OK;
}

static enum api_fault read_prompt(struct generation *g, const json_t *body, struct api_error *err)
{
    struct messages messages;
    struct phid_error engine_error;
    enum api_fault fault = messages_read(body, &messages, err);
    if (fault != API_OK) {
        return fault;
    }
    fault = api_check_prompt_size(g->api, messages.bytes, "messages", err);
    struct prompt *prompt = fault == API_OK ? generation_add_prompts(g, 1) : NULL;
    if (fault == API_OK && prompt == NULL) {
        fault = api_fail(err, API_OVERLOADED, NULL, "The server is out of memory.");
    }
    if (fault == API_OK) {
        enum phid_status status = phid_chat_tokens(g->api->model, messages.items, messages.count,
                                                   &prompt->ids, &prompt->count, &engine_error);
        if (status != PHID_OK) {
            engine_error.status = status;
            fault = api_fail_engine(err, &engine_error, "messages");
        }
    }
    messages_fini(&messages);
    return fault;
}

static const struct generation_format chat_format = {
    .id_prefix = "chatcmpl-",
    .object = "chat.completion",
    .chunk_object = "chat.completion.chunk",
    .prompt_field = "messages",
    .logprobs = LOGPROBS_CHAT,
    .continues_text = false,
    .write_first = write_first,
    .write_pending = write_pending,
    .write_choice = write_choice,
    .read_fields = read_fields,
    .read_prompts = read_prompt,
};

enum api_fault generation_start_chat(const struct generation_request *r, struct generation **ret,
                                     struct api_error *err)
{
    return generation_start(&chat_format, r, ret, err);
}

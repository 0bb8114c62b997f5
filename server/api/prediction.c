#include "server/api/prediction.h"

#include "server/api/fields.h"

#define COUNT_OF(a) (sizeof(a) / sizeof((a)[0]))

/* A string, or an array of parts that are text. */
static enum api_fault read_content(const json_t *content, struct buf *text, struct api_error *err)
{
    static const char *const types[] = {"text", NULL};
    static const struct field part_fields[] = {
        {.name = "type",
         .kind = FIELD_STRING,
         .offset = FIELD_UNUSED,
         .required = true,
         .values = types},
        {.name = "text", .kind = FIELD_STRING, .offset = 0, .required = true},
    };
    char param[API_PARAM_MAX];
    if (!json_is_string(content) && !json_is_array(content)) {
        return field_wrong_type(content, "prediction.content", "a string or an array of parts",
                                err);
    }
    if (json_is_string(content)) {
        buf_append_str(text, field_text(content));
    }
    for (size_t i = 0; i < json_array_size(content); i++) {
        const json_t *part = json_array_get(content, i), *part_text = NULL;
        field_path_index(param, "prediction.content", i);
        enum api_fault fault =
            json_is_object(part)
                ? fields_read(part, param, part_fields, COUNT_OF(part_fields), &part_text, err)
                : field_wrong_type(part, param, "an object", err);
        if (fault != API_OK) {
            return fault;
        }
        buf_append_str(text, field_text(part_text));
    }
    return API_OK;
}

static enum api_fault tokenize(const struct api *api, const struct buf *text, int32_t **ret_ids,
                               size_t *ret_count, struct api_error *err)
{
    struct phid_error engine_error;
    enum api_fault fault = api_check_prompt_size(api, text->size, "prediction.content", err);
    if (fault != API_OK || text->size == 0) {
        return fault;
    }
    if (text->failed) {
        return api_fail(err, API_OVERLOADED, NULL, "The server is out of memory.");
    }
    enum phid_status status = phid_tokenize(api->model, text->data, text->size, false, false,
                                            ret_ids, ret_count, &engine_error);
    if (status != PHID_OK) {
        engine_error.status = status;
        return api_fail_engine(err, &engine_error, "prediction.content");
    }
    return API_OK;
}

enum api_fault prediction_read(const struct api *api, const json_t *object, int32_t **ret_ids,
                               size_t *ret_count, struct api_error *err)
{
    static const char *const types[] = {"content", NULL};
    static const struct field prediction_fields[] = {
        {.name = "type",
         .kind = FIELD_STRING,
         .offset = FIELD_UNUSED,
         .required = true,
         .values = types},
        {.name = "content", .kind = FIELD_ANY, .offset = 0, .required = true},
    };
    const json_t *content = NULL;
    if (object == NULL) {
        return API_OK;
    }
    enum api_fault fault = fields_read(object, "prediction", prediction_fields,
                                       COUNT_OF(prediction_fields), &content, err);
    if (fault != API_OK) {
        return fault;
    }
    struct buf text;
    buf_init(&text, (size_t)1 << 30);
    fault = read_content(content, &text, err);
    if (fault == API_OK) {
        fault = tokenize(api, &text, ret_ids, ret_count, err);
    }
    buf_fini(&text);
    return fault;
}

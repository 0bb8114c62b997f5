#include "server/api/messages.h"

#include <stdlib.h>

#include "server/api/fields.h"
#include "server/api/json_scan.h"
#include "server/api/json_write.h"

#define JOINED_MAX (1u << 28) /* bytes; a body is smaller */

enum message_role {
    ROLE_SYSTEM,
    ROLE_DEVELOPER,
    ROLE_USER,
    ROLE_ASSISTANT,
    ROLE_TOOL,
    ROLE_FUNCTION
};

static const char *const role_names[] = {"system", "developer", "user", "assistant",
                                         "tool",   "function",  NULL};

static const enum phid_role engine_roles[] = {
    [ROLE_SYSTEM] = PHID_ROLE_SYSTEM, [ROLE_DEVELOPER] = PHID_ROLE_SYSTEM,
    [ROLE_USER] = PHID_ROLE_USER,     [ROLE_ASSISTANT] = PHID_ROLE_ASSISTANT,
    [ROLE_TOOL] = PHID_ROLE_TOOL,     [ROLE_FUNCTION] = PHID_ROLE_TOOL,
};

struct message_fields {
    const json_t *role, *content, *tool_calls;
};

#define AT(member)  offsetof(struct message_fields, member)
#define COUNT_OF(a) (sizeof(a) / sizeof((a)[0]))

static const struct field fields[] = {
    {.name = "role",
     .kind = FIELD_STRING,
     .offset = AT(role),
     .required = true,
     .values = role_names},
    {.name = "content", .kind = FIELD_ANY, .offset = AT(content)},
    {.name = "name", .kind = FIELD_STRING, .offset = FIELD_UNUSED},
    {.name = "tool_calls", .kind = FIELD_ARRAY, .offset = AT(tool_calls)},
    {.name = "tool_call_id", .kind = FIELD_STRING, .offset = FIELD_UNUSED},
};

static enum message_role role_of(const json_t *name)
{
    enum message_role role = ROLE_SYSTEM;
    while (!str_equal_c(field_text(name), role_names[role])) {
        role++;
    }
    return role;
}

/* ----------------------------------------------------------------- content */

/* One part's text; assistants may also have refused. */
static enum api_fault read_part(const json_t *part, const char *path, bool assistant,
                                struct str *ret, struct api_error *err)
{
    char param[API_PARAM_MAX];
    if (!json_is_object(part)) {
        return field_wrong_type(part, path, "an object", err);
    }
    const json_t *type = field_get(part, "type");
    field_path(param, path, "type");
    if (type == NULL) {
        return field_missing(param, err);
    }
    if (!json_is_string(type)) {
        return field_wrong_type(type, param, "a string", err);
    }
    const char *name = json_string_value(type);
    bool refusal = assistant && strcmp(name, "refusal") == 0;
    if (strcmp(name, "text") != 0 && !refusal) {
        return api_fail(err, API_UNSUPPORTED_VALUE, param,
                        "Unsupported value for '%s': '%.64s'. This model reads text only.", param,
                        name);
    }
    const json_t *text = field_get(part, refusal ? "refusal" : "text");
    field_path(param, path, refusal ? "refusal" : "text");
    if (text == NULL) {
        return field_missing(param, err);
    }
    if (!json_is_string(text)) {
        return field_wrong_type(text, param, "a string", err);
    }
    *ret = field_text(text);
    return API_OK;
}

static enum api_fault join_parts(const json_t *parts, const char *path, bool assistant,
                                 struct buf *joined, struct api_error *err)
{
    char param[API_PARAM_MAX];
    if (json_array_size(parts) == 0) {
        return api_fail(err, API_EMPTY_ARRAY, path,
                        "Invalid '%s': empty array. Expected at least one part.", path);
    }
    for (size_t i = 0; i < json_array_size(parts); i++) {
        struct str text;
        field_path_index(param, path, i);
        enum api_fault fault = read_part(json_array_get(parts, i), param, assistant, &text, err);
        if (fault != API_OK) {
            return fault;
        }
        if (i > 0) {
            buf_append_byte(joined, '\n');
        }
        buf_append_str(joined, text);
    }
    return API_OK;
}

/* -------------------------------------------------------------- tool calls */

/* {"name": .., "arguments": ..} of one earlier call, on a line of its own: arguments that are not
 * JSON stay text. */
static void put_call(struct buf *joined, struct str name, struct str arguments)
{
    struct api_error ignored;
    json_t *parsed = NULL;
    if (json_scan(arguments, &ignored) == API_OK) {
        parsed = json_loadb(arguments.data, arguments.size, JSON_DECODE_ANY, NULL);
    }
    if (joined->size > 0) {
        buf_append_byte(joined, '\n');
    }
    buf_append_c(joined, "{\"name\": ");
    json_put_string(joined, name);
    buf_append_c(joined, ", \"arguments\": ");
    if (parsed != NULL) {
        buf_append_str(joined, arguments);
    } else {
        json_put_string(joined, arguments);
    }
    buf_append_byte(joined, '}');
    json_decref(parsed);
}

static enum api_fault read_call(const json_t *call, const char *path, struct buf *joined,
                                struct api_error *err)
{
    static const char *const types[] = {"function", "custom", NULL};
    static const struct field call_fields[] = {
        {.name = "id", .kind = FIELD_STRING, .offset = FIELD_UNUSED},
        {.name = "type", .kind = FIELD_STRING, .offset = FIELD_UNUSED, .values = types},
    };
    const json_t *inner[2] = {NULL, NULL};
    char param[API_PARAM_MAX];
    if (!json_is_object(call)) {
        return field_wrong_type(call, path, "an object", err);
    }
    enum api_fault fault = fields_read(call, path, call_fields, COUNT_OF(call_fields), NULL, err);
    if (fault != API_OK) {
        return fault;
    }
    const json_t *type = field_get(call, "type");
    bool custom = type != NULL && strcmp(json_string_value(type), "custom") == 0;
    const json_t *body = field_get(call, custom ? "custom" : "function");
    field_path(param, path, custom ? "custom" : "function");
    if (body == NULL) {
        return field_missing(param, err);
    }
    if (!json_is_object(body)) {
        return field_wrong_type(body, param, "an object", err);
    }
    const struct field body_fields[] = {
        {.name = "name", .kind = FIELD_STRING, .offset = 0, .required = true},
        {.name = custom ? "input" : "arguments",
         .kind = FIELD_STRING,
         .offset = sizeof inner[0],
         .required = true},
    };
    fault = fields_read(body, param, body_fields, COUNT_OF(body_fields), inner, err);
    if (fault == API_OK) {
        put_call(joined, field_text(inner[0]), field_text(inner[1]));
    }
    return fault;
}

static enum api_fault read_calls(const json_t *calls, const char *path, struct buf *joined,
                                 struct api_error *err)
{
    char list[API_PARAM_MAX];
    char param[API_PARAM_MAX];
    field_path(list, path, "tool_calls");
    for (size_t i = 0; i < json_array_size(calls); i++) {
        field_path_index(param, list, i);
        enum api_fault fault = read_call(json_array_get(calls, i), param, joined, err);
        if (fault != API_OK) {
            return fault;
        }
    }
    return API_OK;
}

/* ---------------------------------------------------------------- messages */

/* Everything of a message as one text in `joined`; only for those that are not a plain string. */
static enum api_fault join_content(const struct message_fields *f, bool assistant, const char *path,
                                   struct buf *joined, struct api_error *err)
{
    char param[API_PARAM_MAX];
    enum api_fault fault = API_OK;
    field_path(param, path, "content");
    if (json_is_string(f->content)) {
        buf_append_str(joined, field_text(f->content));
    } else if (json_is_array(f->content)) {
        fault = join_parts(f->content, param, assistant, joined, err);
    } else if (f->content != NULL) {
        return field_wrong_type(f->content, param, "a string or an array of parts", err);
    }
    if (fault == API_OK && assistant && f->tool_calls != NULL) {
        fault = read_calls(f->tool_calls, path, joined, err);
    }
    return fault;
}

static enum api_fault read_message(const json_t *object, const char *path,
                                   struct phid_message *message, char **joined,
                                   struct api_error *err)
{
    struct message_fields f = {0};
    char param[API_PARAM_MAX];
    if (!json_is_object(object)) {
        return field_wrong_type(object, path, "an object", err);
    }
    enum api_fault fault = fields_read(object, path, fields, COUNT_OF(fields), &f, err);
    if (fault != API_OK) {
        return fault;
    }
    enum message_role role = role_of(f.role);
    bool assistant = role == ROLE_ASSISTANT;
    message->role = engine_roles[role];
    if (role == ROLE_TOOL && field_get(object, "tool_call_id") == NULL) {
        field_path(param, path, "tool_call_id");
        return field_missing(param, err);
    }
    if (role == ROLE_FUNCTION && field_get(object, "name") == NULL) {
        field_path(param, path, "name");
        return field_missing(param, err);
    }
    if (f.content == NULL && !assistant && role != ROLE_FUNCTION) {
        field_path(param, path, "content");
        return field_missing(param, err);
    }
    if (json_is_string(f.content) && !(assistant && f.tool_calls != NULL)) {
        message->content = json_string_value(f.content);
        message->content_size = json_string_length(f.content);
        return API_OK;
    }
    struct buf text;
    buf_init(&text, JOINED_MAX);
    buf_append_c(&text, ""); /* so that there is something to take */
    fault = join_content(&f, assistant, path, &text, err);
    if (fault == API_OK && buf_take(&text, joined, &message->content_size, NULL) != PHID_OK) {
        fault = api_fail(err, API_OVERLOADED, NULL, "The server is out of memory.");
    }
    message->content = *joined;
    buf_fini(&text);
    return fault;
}

enum api_fault messages_read(const json_t *body, struct messages *ret, struct api_error *err)
{
    const json_t *list = field_get(body, "messages");
    struct messages m = {0};
    char path[API_PARAM_MAX];
    if (list == NULL) {
        return field_missing("messages", err);
    }
    if (!json_is_array(list)) {
        return field_wrong_type(list, "messages", "an array of messages", err);
    }
    size_t count = json_array_size(list);
    if (count == 0) {
        return api_fail(err, API_EMPTY_ARRAY, "messages",
                        "Invalid 'messages': empty array. Expected at least one message.");
    }
    if (count > MESSAGES_MAX) {
        return api_fail(err, API_ARRAY_TOO_LONG, "messages",
                        "Invalid 'messages': array too long. Expected at most %d messages.",
                        MESSAGES_MAX);
    }
    m.items = calloc(count, sizeof *m.items);
    m.joined = calloc(count, sizeof *m.joined);
    m.count = count;
    if (m.items == NULL || m.joined == NULL) {
        messages_fini(&m);
        return api_fail(err, API_OVERLOADED, NULL, "The server is out of memory.");
    }
    for (size_t i = 0; i < count; i++) {
        field_path_index(path, "messages", i);
        enum api_fault fault =
            read_message(json_array_get(list, i), path, &m.items[i], &m.joined[i], err);
        if (fault != API_OK) {
            messages_fini(&m);
            return fault;
        }
        m.bytes += m.items[i].content_size;
    }
    *ret = m;
    return API_OK;
}

void messages_fini(struct messages *m)
{
    for (size_t i = 0; i < m->count && m->joined != NULL; i++) {
        free(m->joined[i]);
    }
    free(m->joined);
    free(m->items);
    *m = (struct messages){0};
}

#include "tests/bench/sse.h"

void sse_init(struct sse *s)
{
    buf_init(&s->line, SSE_LINE_MAX);
}

void sse_fini(struct sse *s)
{
    buf_fini(&s->line);
}

void sse_clear(struct sse *s)
{
    buf_clear(&s->line);
}

/* What follows the member `name`, which is written with its quotes and colon; empty when it is not
 * there. */
static struct str after_name(struct str json, struct str name)
{
    const char *end = json.data + json.size;
    const char *at = json.size > 0 ? memmem(json.data, json.size, name.data, name.size) : NULL;
    if (at == NULL) {
        return (struct str){end, 0};
    }
    at += name.size;
    while (at < end && *at == ' ') {
        at++;
    }
    return (struct str){at, (size_t)(end - at)};
}

/* The inside of the string that `json` begins with, still escaped. */
static struct str string_at(struct str json)
{
    if (json.size == 0 || json.data[0] != '"') {
        return (struct str){json.data, 0};
    }
    size_t i = 1;
    while (i < json.size && json.data[i] != '"') {
        i += json.data[i] == '\\' ? 2 : 1;
    }
    return (struct str){json.data + 1, (i < json.size ? i : json.size) - 1};
}

static uint32_t number_at(struct str json)
{
    uint32_t value = 0;
    for (size_t i = 0; i < json.size && json.data[i] >= '0' && json.data[i] <= '9' && i < 9; i++) {
        value = value * 10 + (uint32_t)(json.data[i] - '0');
    }
    return value;
}

static struct str find_text(struct str json)
{
    static const struct str names[] = {
        {"\"content\":", 10}, {"\"text\":", 7}, {"\"reasoning_content\":", 20}};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct str text = string_at(after_name(json, names[i]));
        if (text.size > 0) {
            return text;
        }
    }
    return STR("");
}

static void scan(struct str json, struct sse_event *event)
{
    if (str_equal_c(json, "[DONE]")) {
        event->done = true;
        return;
    }
    struct str usage = after_name(json, STR("\"usage\":"));
    if (usage.size > 0 && usage.data[0] == '{') {
        event->has_usage = true;
        event->usage.prompt_tokens = number_at(after_name(usage, STR("\"prompt_tokens\":")));
        event->usage.completion_tokens =
            number_at(after_name(usage, STR("\"completion_tokens\":")));
        event->usage.cached_tokens = number_at(after_name(usage, STR("\"cached_tokens\":")));
    }
    event->text = find_text(json);
    struct str error = event->text.size == 0 ? after_name(json, STR("\"error\":")) : STR("");
    if (error.size > 0 && error.data[0] == '{') {
        event->error = true;
        event->error_code = string_at(after_name(error, STR("\"code\":")));
    }
}

/* True when the line is an event. */
static bool read_line(struct str line, struct sse_event *event)
{
    if (line.size > 0 && line.data[line.size - 1] == '\r') {
        line.size--;
    }
    if (!str_starts_with(line, STR("data:"))) {
        return false;
    }
    line = (struct str){line.data + 5, line.size - 5};
    if (line.size > 0 && line.data[0] == ' ') {
        line = (struct str){line.data + 1, line.size - 1};
    }
    *event = (struct sse_event){.text = STR(""), .error_code = STR("")};
    scan(line, event);
    return true;
}

bool sse_next(struct sse *s, struct str *bytes, struct sse_event *ret)
{
    /* A line that was put together last time has been looked at by now. */
    if (s->line.size > 0 && s->line.data[s->line.size - 1] == '\n') {
        buf_clear(&s->line);
    }
    while (bytes->size > 0) {
        const char *end = memchr(bytes->data, '\n', bytes->size);
        size_t size = end != NULL ? (size_t)(end - bytes->data) : bytes->size;
        struct str line = {bytes->data, size};
        if (end == NULL || s->line.size > 0) {
            buf_append(&s->line, bytes->data, size + (end != NULL ? 1 : 0));
            line = (struct str){s->line.data, s->line.size - (end != NULL ? 1 : 0)};
        }
        size += end != NULL ? 1 : 0;
        *bytes = (struct str){bytes->data + size, bytes->size - size};
        if (end != NULL && !s->line.failed && read_line(line, ret)) {
            return true;
        }
        if (end != NULL) {
            buf_clear(&s->line);
        }
    }
    return false;
}

#include "config/options.h"

#include <inttypes.h>

static void describe_bytes(uint64_t bytes, struct buf *out)
{
    static const char *const units[] = {"", "KiB", "MiB", "GiB", "TiB"};
    size_t unit = 0;
    while (bytes >= 1024 && bytes % 1024 == 0 && unit < 4) {
        bytes /= 1024;
        unit++;
    }
    buf_printf(out, "%" PRIu64 "%s", bytes, units[unit]);
}

static void describe_ms(uint64_t ms, struct buf *out)
{
    if (ms > 0 && ms % 3600000 == 0) {
        buf_printf(out, "%" PRIu64 "h", ms / 3600000);
    } else if (ms % 1000 == 0) {
        buf_printf(out, "%" PRIu64 "s", ms / 1000);
    } else {
        buf_printf(out, "%" PRIu64 "ms", ms);
    }
}

void option_describe(const struct option *option, struct buf *out)
{
    switch (option->type) {
    case OPTION_BOOL:
        buf_append_c(out, "true or false");
        break;
    case OPTION_INT:
        buf_printf(out, "an integer from %" PRId64 " to %" PRId64, option->min, option->max);
        break;
    case OPTION_SIZE:
        buf_append_c(out, "a size from ");
        describe_bytes((uint64_t)option->min, out);
        buf_append_c(out, " to ");
        describe_bytes((uint64_t)option->max, out);
        break;
    case OPTION_DURATION:
        buf_append_c(out, "a duration with its unit (500ms, 15s, 2m) from ");
        describe_ms((uint64_t)option->min, out);
        buf_append_c(out, " to ");
        describe_ms((uint64_t)option->max, out);
        break;
    case OPTION_STRING:
        buf_append_c(out, "a string");
        break;
    case OPTION_ENUM:
        for (size_t i = 0; option->names[i] != NULL; i++) {
            buf_printf(out, "%s%s",
                       i == 0                         ? ""
                       : option->names[i + 1] == NULL ? " or "
                                                      : ", ",
                       option->names[i]);
        }
        break;
    case OPTION_LIST:
        buf_append_c(out, "a list of strings");
        break;
    case OPTION_LAYERS:
        buf_append_c(out, "a list of {range, device}");
        break;
    }
    buf_append_c(out, option->takes_auto ? ", or auto" : "");
    buf_append_c(out, option->takes_null ? ", or null" : "");
}

/* Bytes of a key before its first dot. */
static size_t group_size(const char *key)
{
    size_t n = 0;
    while (key[n] != '.' && key[n] != 0) {
        n++;
    }
    return n;
}

void option_reference(struct buf *out)
{
    const struct option *option;
    struct str group = {NULL, 0};
    for (size_t i = 0; (option = option_at(i)) != NULL; i++) {
        struct str now = {option->key, group_size(option->key)};
        if (!str_equal(now, group)) {
            buf_printf(out,
                       "%s### %.*s\n\n| key | value | default | meaning |\n|---|---|---|---|\n",
                       group.size > 0 ? "\n" : "", (int)now.size, now.data);
            group = now;
        }
        buf_printf(out, "| `%s`", option->key);
        if (option->letter != 0) {
            buf_printf(out, " `-%c`", option->letter);
        }
        if (option->flag != NULL) {
            buf_printf(out, " `%s`", option->flag);
        }
        buf_append_c(out, " | ");
        option_describe(option, out);
        buf_printf(out, " | `%s` | %s |\n",
                   option->default_text != NULL ? option->default_text : "[]", option->help);
    }
}

/* The option table: each configuration key once, with its type, default, range and one line of
 * help.
 *
 * The YAML reader, `--set`, the flags, `--help` and the reference page all walk this table. Static
 * and immutable. */
#ifndef PHID_CONFIG_OPTIONS_H
#define PHID_CONFIG_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config/config.h"
#include "engine/base/buf.h"
#include "engine/base/str.h"

enum option_type {
    OPTION_BOOL,     /* bool */
    OPTION_INT,      /* int64_t */
    OPTION_SIZE,     /* uint64_t, bytes */
    OPTION_DURATION, /* uint64_t, milliseconds */
    OPTION_STRING,   /* char *, heap */
    OPTION_ENUM,     /* int, index into names */
    OPTION_LIST,     /* struct config_list of strings */
    OPTION_LAYERS,   /* struct config_layers */
};

struct option {
    const char *key; /* dotted: "server.drain.timeout" */
    enum option_type type;
    size_t offset;            /* of the value in struct config */
    const char *default_text; /* as YAML; NULL for an empty list */
    int64_t min, max;         /* numbers: the value; strings and list items: bytes */
    int64_t flag_slack;       /* the flag's text may be this much below min */
    bool takes_auto;          /* `auto` stores auto_value */
    bool takes_null;          /* `null` stores 0 or NULL */
    int64_t auto_value;
    const char *const *names; /* enum: the words, NULL-terminated */
    const char *flag;         /* "--port", or NULL */
    char letter;              /* 'm' for -m, or 0 */
    const char *metavar;      /* "PORT", with a flag */
    const char *help;         /* one line */
};

const struct option *option_at(size_t index); /* NULL past the end */
const struct option *option_find(struct str key);

/* Whether some option lies below `prefix` ("server", "server.tls"). */
bool option_is_group(struct str prefix);

/* Appends a hint for an unknown dotted key: the nearest one, or what is known beside it. */
void option_hint(struct str key, struct buf *out);

/* "integer, 1 to 65535, or auto": for the reference page and --help. */
void option_describe(const struct option *option, struct buf *out);

/* Where the option's value lies in `config`. */
void *option_value(const struct option *option, struct config *config);

/* The page that config/README.md holds (Markdown), and a plain sample file. */
void option_reference(struct buf *out);

#endif

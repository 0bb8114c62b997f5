/* Typed readers for one configuration value: a YAML scalar, or a flag's text. Strict: one spelling
 * for each thing.
 *
 * Integers are decimal without sign, leading zero, `_`, `0x`, `0o` or exponent; sizes are bytes or
 * KiB, MiB, GiB, TiB; durations end in ms, s, m or h; booleans are true and false. Stateless, any
 * thread. */
#ifndef PHID_CONFIG_SCALAR_H
#define PHID_CONFIG_SCALAR_H

#include <stdbool.h>

#include "config/options.h"

struct scalar {
    struct str text; /* UTF-8, may hold NUL */
    bool quoted;     /* in the file: a string whatever it looks like */
    bool literal;    /* from a flag: taken as it is where a string is wanted */
};

/* Reads `scalar` as the option wants it and stores it in config. Errors (PHID_ERR_ARGUMENT) say
 * what was expected and found, without the place. */
enum phid_status scalar_store(const struct option *option, struct scalar scalar,
                              struct config *config, struct phid_error *err);

/* One string under the option's rules for strings: heap copy. */
enum phid_status scalar_read_string(const struct option *option, struct scalar scalar, char **ret,
                                    struct phid_error *err);

bool scalar_is_null(struct scalar scalar);

/* Decimal, 0..INT64_MAX, a leading '-' allowed; false when it is anything else. */
bool scalar_parse_int(struct str text, int64_t *ret);
bool scalar_parse_size(struct str text, uint64_t *ret);     /* bytes */
bool scalar_parse_duration(struct str text, uint64_t *ret); /* milliseconds */

#endif

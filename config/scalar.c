#include "config/scalar.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/checked.h"

/* ------------------------------------------------------------------ texts */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static size_t digits_of(struct str text)
{
    size_t n = 0;
    while (n < text.size && is_digit(text.data[n])) {
        n++;
    }
    return n;
}

/* Digits only, no leading zero unless it is the only one. */
static bool parse_digits(struct str text, uint64_t *ret)
{
    if (text.size == 0 || digits_of(text) != text.size || (text.size > 1 && text.data[0] == '0')) {
        return false;
    }
    uint64_t value = 0;
    for (size_t i = 0; i < text.size; i++) {
        if (!checked_mul_u64(value, 10, &value) ||
            !checked_add_u64(value, (uint64_t)(text.data[i] - '0'), &value)) {
            return false;
        }
    }
    *ret = value;
    return true;
}

bool scalar_parse_int(struct str text, int64_t *ret)
{
    bool negative = text.size > 0 && text.data[0] == '-';
    uint64_t value;
    if (negative) {
        text = (struct str){text.data + 1, text.size - 1};
    }
    if (!parse_digits(text, &value) || value > INT64_MAX || (negative && value == 0)) {
        return false;
    }
    *ret = negative ? -(int64_t)value : (int64_t)value;
    return true;
}

struct unit {
    const char *name;
    uint64_t factor;
};

/* Digits and one of the units (the list ends with a NULL name). */
static bool parse_with_unit(struct str text, const struct unit *units, uint64_t *ret)
{
    size_t digits = digits_of(text);
    struct str suffix = {text.data + digits, text.size - digits};
    uint64_t value;
    if (!parse_digits((struct str){text.data, digits}, &value)) {
        return false;
    }
    for (; units->name != NULL; units++) {
        if (str_equal_c(suffix, units->name)) {
            return checked_mul_u64(value, units->factor, ret);
        }
    }
    return false;
}

bool scalar_parse_size(struct str text, uint64_t *ret)
{
    static const struct unit units[] = {{"", 1},
                                        {"KiB", UINT64_C(1) << 10},
                                        {"MiB", UINT64_C(1) << 20},
                                        {"GiB", UINT64_C(1) << 30},
                                        {"TiB", UINT64_C(1) << 40},
                                        {NULL, 0}};
    return parse_with_unit(text, units, ret);
}

bool scalar_parse_duration(struct str text, uint64_t *ret)
{
    static const struct unit units[] = {
        {"ms", 1}, {"s", 1000}, {"m", 60 * 1000}, {"h", 3600 * 1000}, {NULL, 0}};
    return parse_with_unit(text, units, ret);
}

bool scalar_is_null(struct scalar scalar)
{
    return !scalar.quoted && (scalar.text.size == 0 || str_equal_c(scalar.text, "null") ||
                              str_equal_c(scalar.text, "~"));
}

/* --------------------------------------------------------------- messages */

#define FOUND_MAX 48

/* What a plain scalar would be to a YAML reader, for messages and to keep `host: 8080` from being a
 * string. */
static const char *plain_kind(struct str text)
{
    static const char *const booleans[] = {"true", "false", "True", "False", "TRUE", "FALSE"};
    for (size_t i = 0; i < sizeof(booleans) / sizeof(booleans[0]); i++) {
        if (str_equal_c(text, booleans[i])) {
            return "the boolean ";
        }
    }
    struct str rest = text;
    if (rest.size > 0 && (rest.data[0] == '-' || rest.data[0] == '+')) {
        rest = (struct str){rest.data + 1, rest.size - 1};
    }
    size_t digits = digits_of(rest);
    if (digits == 0) {
        return "";
    }
    if (digits == rest.size) {
        return "the integer ";
    }
    /* 1.5, 1e3: one dot, digits, an exponent. Not 127.0.0.1. */
    size_t i = digits;
    if (rest.data[i] == '.') {
        i++;
        while (i < rest.size && is_digit(rest.data[i])) {
            i++;
        }
    }
    if (i < rest.size && (rest.data[i] == 'e' || rest.data[i] == 'E')) {
        i++;
        if (i < rest.size && (rest.data[i] == '-' || rest.data[i] == '+')) {
            i++;
        }
        size_t exponent = i;
        while (i < rest.size && is_digit(rest.data[i])) {
            i++;
        }
        if (i == exponent) {
            return "";
        }
    }
    return i == rest.size ? "the number " : "";
}

/* "expected WHAT, found ...". `what` may be NULL: the option's own description. */
static enum phid_status wrong(const struct option *option, const char *what, struct scalar scalar,
                              struct phid_error *err)
{
    struct buf expected;
    buf_init(&expected, 1024);
    if (what != NULL) {
        buf_append_c(&expected, what);
    } else {
        option_describe(option, &expected);
    }
    size_t shown = scalar.text.size < FOUND_MAX ? scalar.text.size : FOUND_MAX;
    while (shown < scalar.text.size && shown > 0 &&
           ((unsigned char)scalar.text.data[shown] & 0xc0) == 0x80) {
        shown--;
    }
    const char *dots = shown < scalar.text.size ? "..." : "";
    const char *expected_text =
        expected.failed || expected.size == 0 ? "another value" : expected.data;
    if (scalar_is_null(scalar) && !scalar.literal) {
        phid_fail(err, PHID_ERR_ARGUMENT, "expected %s, found null", expected_text);
    } else if (scalar.quoted) {
        phid_fail(err, PHID_ERR_ARGUMENT, "expected %s, found the string \"%.*s%s\"", expected_text,
                  (int)shown, scalar.text.data, dots);
    } else {
        const char *kind = plain_kind(scalar.text);
        phid_fail(err, PHID_ERR_ARGUMENT, "expected %s, found %s%.*s%s", expected_text, kind,
                  (int)shown, scalar.text.data, dots);
    }
    buf_fini(&expected);
    return PHID_ERR_ARGUMENT;
}

/* ----------------------------------------------------------------- values */

enum phid_status scalar_read_string(const struct option *option, struct scalar scalar, char **ret,
                                    struct phid_error *err)
{
    if (!scalar.quoted && !scalar.literal) {
        if (scalar_is_null(scalar)) {
            return wrong(option, "a string", scalar, err);
        }
        if (plain_kind(scalar.text)[0] != 0) {
            return wrong(option, "a string (put it in quotes)", scalar, err);
        }
    }
    for (size_t i = 0; i < scalar.text.size; i++) {
        unsigned char c = (unsigned char)scalar.text.data[i];
        if (c < 0x20 || c == 0x7f) {
            return phid_fail(err, PHID_ERR_ARGUMENT,
                             "expected a string without control characters, found byte 0x%02x", c);
        }
    }
    if (scalar.text.size < (size_t)option->min || scalar.text.size > (size_t)option->max) {
        return phid_fail(err, PHID_ERR_ARGUMENT,
                         "expected a string of %" PRId64 " to %" PRId64 " bytes, found %zu",
                         option->min, option->max, scalar.text.size);
    }
    char *copy = str_dup(scalar.text);
    if (copy == NULL) {
        return phid_fail(err, PHID_ERR_MEMORY, "out of memory");
    }
    *ret = copy;
    return PHID_OK;
}

static enum phid_status store_string(const struct option *option, struct scalar scalar,
                                     struct config *config, struct phid_error *err)
{
    char **slot = option_value(option, config);
    char *copy = NULL;
    if (!option->takes_null || scalar.literal || !scalar_is_null(scalar)) {
        enum phid_status status = scalar_read_string(option, scalar, &copy, err);
        if (status != PHID_OK) {
            return status;
        }
    }
    free(*slot);
    *slot = copy;
    return PHID_OK;
}

static enum phid_status store_enum(const struct option *option, struct scalar scalar,
                                   struct config *config, struct phid_error *err)
{
    for (int i = 0; option->names[i] != NULL; i++) {
        if (str_equal_c(scalar.text, option->names[i])) {
            *(int *)option_value(option, config) = i;
            return PHID_OK;
        }
    }
    return wrong(option, NULL, scalar, err);
}

/* Integers, sizes and durations: the same rules for range, auto and null. */
static enum phid_status store_number(const struct option *option, struct scalar scalar,
                                     struct config *config, struct phid_error *err)
{
    int64_t value = 0;
    uint64_t wide = 0;
    bool found = false, in_range = true;
    if (!scalar.quoted && option->takes_auto && str_equal_c(scalar.text, "auto")) {
        value = option->auto_value;
        found = true;
    } else if (!scalar.quoted && option->takes_null && scalar_is_null(scalar)) {
        found = true;
    } else if (!scalar.quoted) {
        switch (option->type) {
        case OPTION_SIZE:
            found = scalar_parse_size(scalar.text, &wide);
            break;
        case OPTION_DURATION:
            found = scalar_parse_duration(scalar.text, &wide);
            break;
        default:
            found = scalar_parse_int(scalar.text, &value);
            break;
        }
        if (found && option->type != OPTION_INT) {
            in_range = wide <= INT64_MAX;
            value = in_range ? (int64_t)wide : 0;
        }
        int64_t min = option->min - (scalar.literal ? option->flag_slack : 0);
        in_range = in_range && value >= min && value <= option->max;
    }
    if (!found || !in_range) {
        return wrong(option, NULL, scalar, err);
    }
    if (option->type == OPTION_INT) {
        *(int64_t *)option_value(option, config) = value;
    } else {
        *(uint64_t *)option_value(option, config) = (uint64_t)value;
    }
    return PHID_OK;
}

static enum phid_status store_bool(const struct option *option, struct scalar scalar,
                                   struct config *config, struct phid_error *err)
{
    bool is_true = str_equal_c(scalar.text, "true");
    if (scalar.quoted || (!is_true && !str_equal_c(scalar.text, "false"))) {
        return wrong(option, NULL, scalar, err);
    }
    *(bool *)option_value(option, config) = is_true;
    return PHID_OK;
}

enum phid_status scalar_store(const struct option *option, struct scalar scalar,
                              struct config *config, struct phid_error *err)
{
    switch (option->type) {
    case OPTION_BOOL:
        return store_bool(option, scalar, config, err);
    case OPTION_INT:
    case OPTION_SIZE:
    case OPTION_DURATION:
        return store_number(option, scalar, config, err);
    case OPTION_STRING:
        return store_string(option, scalar, config, err);
    case OPTION_ENUM:
        return store_enum(option, scalar, config, err);
    case OPTION_LIST:
    case OPTION_LAYERS:
        break;
    }
    return wrong(option, NULL, scalar, err);
}

#include "server/api/fields.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

void field_path(char out[API_PARAM_MAX], const char *path, const char *name)
{
    snprintf(out, API_PARAM_MAX, "%s%s%s", path, path[0] != '\0' ? "." : "", name);
}

void field_path_index(char out[API_PARAM_MAX], const char *path, size_t index)
{
    snprintf(out, API_PARAM_MAX, "%s[%zu]", path, index);
}

const json_t *field_get(const json_t *object, const char *name)
{
    const json_t *value = json_object_get(object, name);
    return json_is_null(value) ? NULL : value;
}

struct str field_text(const json_t *string)
{
    return (struct str){json_string_value(string), json_string_length(string)};
}

static const char *type_name(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
        return "an integer";
    case JSON_REAL:
        return "a decimal number";
    case JSON_TRUE:
    case JSON_FALSE:
        return "a boolean";
    case JSON_NULL:
        break;
    }
    return "null";
}

enum api_fault field_wrong_type(const json_t *value, const char *param, const char *expected,
                                struct api_error *err)
{
    return api_fail(err, API_INVALID_TYPE, param,
                    "Invalid type for '%s': expected %s, but got %s instead.", param, expected,
                    type_name(value));
}

enum api_fault field_missing(const char *param, struct api_error *err)
{
    return api_fail(err, API_MISSING_PARAMETER, param, "Missing required parameter: '%s'.", param);
}

bool field_integer(const json_t *value, int64_t *ret)
{
    if (json_is_integer(value)) {
        *ret = json_integer_value(value);
        return true;
    }
    double real = json_real_value(value);
    if (json_is_real(value) && real == trunc(real) && fabs(real) < 0x1p63) {
        *ret = (int64_t)real;
        return true;
    }
    return false;
}

static enum api_fault read_integer(const struct field *f, const json_t *value, const char *param,
                                   int64_t *ret, struct api_error *err)
{
    int64_t integer;
    if (!field_integer(value, &integer)) {
        /* 1e30 is a whole number, only too large. */
        if (json_is_real(value) && fabs(json_real_value(value)) >= 0x1p63) {
            integer = json_real_value(value) > 0 ? INT64_MAX : INT64_MIN;
            if (integer == f->ints.max || integer == f->ints.min) {
                return api_fail(err, API_INVALID_VALUE, param,
                                "Invalid '%s': does not fit 64 bits.", param);
            }
        } else {
            return field_wrong_type(value, param, "an integer", err);
        }
    }
    if (integer < f->ints.min) {
        return api_fail(err, API_INTEGER_BELOW, param,
                        "Invalid '%s': integer below minimum value. Expected a value >= %" PRId64
                        ", but got %" PRId64 " instead.",
                        param, f->ints.min, integer);
    }
    if (integer > f->ints.max) {
        return api_fail(err, API_INTEGER_ABOVE, param,
                        "Invalid '%s': integer above maximum value. Expected a value <= %" PRId64
                        ", but got %" PRId64 " instead.",
                        param, f->ints.max, integer);
    }
    *ret = integer;
    return API_OK;
}

static enum api_fault read_number(const struct field *f, const json_t *value, const char *param,
                                  double *ret, struct api_error *err)
{
    if (!json_is_number(value)) {
        return field_wrong_type(value, param, "a number", err);
    }
    double number = json_number_value(value);
    if (number < f->numbers.min) {
        return api_fail(err, API_DECIMAL_BELOW, param,
                        "Invalid '%s': decimal below minimum value. Expected a value >= %g, but "
                        "got %g instead.",
                        param, f->numbers.min, number);
    }
    if (number > f->numbers.max) {
        return api_fail(err, API_DECIMAL_ABOVE, param,
                        "Invalid '%s': decimal above maximum value. Expected a value <= %g, but "
                        "got %g instead.",
                        param, f->numbers.max, number);
    }
    *ret = number;
    return API_OK;
}

static enum api_fault check_string(const struct field *f, const json_t *value, const char *param,
                                   struct api_error *err)
{
    if (!json_is_string(value)) {
        return field_wrong_type(value, param, "a string", err);
    }
    if (f->max_size > 0 && json_string_length(value) > f->max_size) {
        return api_fail(err, API_STRING_TOO_LONG, param,
                        "Invalid '%s': string too long. Expected at most %zu bytes.", param,
                        f->max_size);
    }
    if (f->values == NULL) {
        return API_OK;
    }
    char known[256] = "";
    size_t used = 0;
    for (size_t i = 0; f->values[i] != NULL; i++) {
        if (str_equal_c(field_text(value), f->values[i])) {
            return API_OK;
        }
        int n =
            snprintf(known + used, sizeof known - used, "%s'%s'", i > 0 ? ", " : "", f->values[i]);
        used += n > 0 && (size_t)n < sizeof known - used ? (size_t)n : 0;
    }
    return api_fail(err, API_INVALID_VALUE, param,
                    "Invalid value for '%s': '%.64s'. Supported values are: %s.", param,
                    json_string_value(value), known);
}

static enum api_fault read_field(const struct field *f, const json_t *value, const char *param,
                                 char *out, struct api_error *err)
{
    int64_t integer = 0;
    double number = 0;
    enum api_fault fault = API_OK;
    bool store = f->offset != FIELD_UNUSED;
    switch (f->kind) {
    case FIELD_BOOL:
        if (!json_is_boolean(value)) {
            return field_wrong_type(value, param, "a boolean", err);
        }
        if (store) {
            *(bool *)(out + f->offset) = json_is_true(value);
        }
        return API_OK;
    case FIELD_INTEGER:
        fault = read_integer(f, value, param, &integer, err);
        if (fault == API_OK && store) {
            memcpy(out + f->offset, &integer, sizeof integer);
        }
        return fault;
    case FIELD_NUMBER:
        fault = read_number(f, value, param, &number, err);
        if (fault == API_OK && store) {
            memcpy(out + f->offset, &number, sizeof number);
        }
        return fault;
    case FIELD_STRING:
        fault = check_string(f, value, param, err);
        break;
    case FIELD_ARRAY:
        fault = json_is_array(value) ? API_OK : field_wrong_type(value, param, "an array", err);
        break;
    case FIELD_OBJECT:
        fault = json_is_object(value) ? API_OK : field_wrong_type(value, param, "an object", err);
        break;
    case FIELD_ANY:
        break;
    case FIELD_REFUSED:
        return api_fail(err, API_UNSUPPORTED_PARAMETER, param,
                        "Unsupported parameter: '%s' is not supported here.", param);
    }
    if (fault == API_OK && store) {
        memcpy(out + f->offset, &value, sizeof value);
    }
    return fault;
}

enum api_fault fields_read(const json_t *object, const char *path, const struct field *table,
                           size_t count, void *out, struct api_error *err)
{
    char param[API_PARAM_MAX];
    for (size_t i = 0; i < count; i++) {
        const json_t *value = field_get(object, table[i].name);
        field_path(param, path, table[i].name);
        if (value == NULL) {
            if (table[i].required) {
                return field_missing(param, err);
            }
            continue;
        }
        enum api_fault fault = read_field(&table[i], value, param, out, err);
        if (fault != API_OK) {
            return fault;
        }
    }
    return API_OK;
}

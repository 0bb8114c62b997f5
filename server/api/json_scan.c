#include "server/api/json_scan.h"

/* Skips a string; `i` is behind its opening quote. Returns the index behind the closing one (or the
 * end). */
static size_t skip_string(struct str text, size_t i)
{
    while (i < text.size && text.data[i] != '"') {
        i += text.data[i] == '\\' ? 2 : 1;
    }
    return i < text.size ? i + 1 : text.size;
}

static bool is_scalar_byte(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' ||
           c == '+' || c == '.';
}

enum api_fault json_scan(struct str text, struct api_error *err)
{
    size_t depth = 0;
    size_t values = 0;
    size_t numbers = 0;
    size_t i = 0;
    while (i < text.size) {
        char c = text.data[i];
        if (c == '"') {
            values++;
            i = skip_string(text, i + 1);
        } else if (c == '{' || c == '[') {
            values++;
            depth++;
            i++;
        } else if (c == '}' || c == ']') {
            depth -= depth > 0;
            i++;
        } else if (is_scalar_byte(c)) {
            numbers++;
            while (i < text.size && is_scalar_byte(text.data[i])) {
                i++;
            }
        } else {
            i++;
        }
        if (depth > JSON_DEPTH_MAX) {
            return api_fail(err, API_INVALID_JSON, NULL,
                            "The JSON body nests deeper than %d levels, at byte %zu.",
                            JSON_DEPTH_MAX, i);
        }
        if (values > JSON_VALUES_MAX || numbers > JSON_NUMBERS_MAX) {
            return api_fail(err, API_INVALID_JSON, NULL,
                            "The JSON body holds too many values (at most %d strings, arrays and "
                            "objects and %d numbers).",
                            JSON_VALUES_MAX, JSON_NUMBERS_MAX);
        }
    }
    return API_OK;
}

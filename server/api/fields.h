/* Reading the members of a JSON object by a table: types, ranges, defaults, and errors that name
 * the path.
 *
 * The rules are the same for every field: null is absent, an integral float is an integer, booleans
 * are strict, numeric strings are not numbers, unknown members are ignored. Members are stored into
 * the caller's struct at the row's offset; an absent member leaves what the caller put there. */
#ifndef PHID_SERVER_API_FIELDS_H
#define PHID_SERVER_API_FIELDS_H

#include <jansson.h>
#include <stdint.h>

#include "server/api/error.h"

enum field_kind {
    FIELD_BOOL,    /* bool */
    FIELD_INTEGER, /* int64_t, in ints.min .. ints.max */
    FIELD_NUMBER,  /* double, in numbers.min .. numbers.max */
    FIELD_STRING, /* const json_t *, at most max_size bytes (0: any), one of `values` (NULL: any) */
    FIELD_ARRAY,  /* const json_t * */
    FIELD_OBJECT, /* const json_t * */
    FIELD_ANY,    /* const json_t *: the caller checks */
    FIELD_REFUSED, /* present at all: unsupported_parameter */
};

#define FIELD_UNUSED SIZE_MAX /* as offset: check the type, store nothing */

struct field {
    const char *name;
    enum field_kind kind;
    size_t offset;
    bool required;
    struct {
        int64_t min, max;
    } ints;
    struct {
        double min, max;
    } numbers;
    size_t max_size;
    const char *const *values; /* NULL-terminated */
};

/* path is the object's own: "" for the body, "messages[1]" for a message. */
enum api_fault fields_read(const json_t *object, const char *path, const struct field *table,
                           size_t count, void *out, struct api_error *err);

/* "path.name", or "name" when path is empty. */
void field_path(char out[API_PARAM_MAX], const char *path, const char *name);
void field_path_index(char out[API_PARAM_MAX], const char *path, size_t index);

/* The member's value; NULL when absent or null. */
const json_t *field_get(const json_t *object, const char *name);

/* "Invalid type for 'param': expected X, but got Y instead." */
enum api_fault field_wrong_type(const json_t *value, const char *param, const char *expected,
                                struct api_error *err);

/* A JSON integer, or a float without a fraction that an int64_t holds. */
bool field_integer(const json_t *value, int64_t *ret);

enum api_fault field_missing(const char *param, struct api_error *err);

/* A borrowed view of a JSON string. */
struct str field_text(const json_t *string);

#endif

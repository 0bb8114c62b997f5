/* Typed reads of metadata. The reader has checked that values lie inside the file; here only their
 * types are. */
#include "engine/gguf/file.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "engine/base/checked.h"
#include "engine/gguf/little_endian.h"

/* Any integer of the format. */
struct integer {
    bool negative;
    uint64_t magnitude; /* of the two's complement: -1 is UINT64_MAX with negative set */
};

static struct integer signed_integer(int64_t value)
{
    return (struct integer){.negative = value < 0, .magnitude = (uint64_t)value};
}

/* False when the type is not an integer one. */
static bool integer_read(enum gguf_type type, const unsigned char *data, struct integer *ret)
{
    switch (type) {
    case GGUF_U8:
        *ret = (struct integer){.magnitude = data[0]};
        return true;
    case GGUF_I8:
        *ret = signed_integer((int8_t)data[0]);
        return true;
    case GGUF_U16:
        *ret = (struct integer){.magnitude = little_u16(data)};
        return true;
    case GGUF_I16:
        *ret = signed_integer((int16_t)little_u16(data));
        return true;
    case GGUF_U32:
        *ret = (struct integer){.magnitude = little_u32(data)};
        return true;
    case GGUF_I32:
        *ret = signed_integer((int32_t)little_u32(data));
        return true;
    case GGUF_U64:
        *ret = (struct integer){.magnitude = little_u64(data)};
        return true;
    case GGUF_I64:
        *ret = signed_integer((int64_t)little_u64(data));
        return true;
    default:
        return false;
    }
}

static bool integer_fits(struct integer x, int64_t min, uint64_t max)
{
    return x.negative ? (int64_t)x.magnitude >= min : x.magnitude <= max;
}

static enum phid_status fail_type(const struct gguf_entry *entry, const char *expected,
                                  struct phid_error *err)
{
    bool array = entry->type == GGUF_ARRAY;
    return gguf_fail(err, PHID_ERR_FORMAT, "key", entry->key, entry->offset,
                     "expected %s, found %s%s", expected, array ? "an array of " : "",
                     gguf_type_name(array ? entry->element_type : entry->type));
}

static enum phid_status fail_range(const struct gguf_entry *entry, struct integer x,
                                   const char *expected, struct phid_error *err)
{
    if (x.negative) {
        return gguf_fail(err, PHID_ERR_FORMAT, "key", entry->key, entry->offset,
                         "expected %s, found %" PRId64, expected, (int64_t)x.magnitude);
    }
    return gguf_fail(err, PHID_ERR_FORMAT, "key", entry->key, entry->offset,
                     "expected %s, found %" PRIu64, expected, x.magnitude);
}

static enum phid_status entry_integer(const struct gguf_entry *entry, int64_t min, uint64_t max,
                                      const char *expected, struct integer *ret,
                                      struct phid_error *err)
{
    if (!integer_read(entry->type, entry->data, ret)) {
        return fail_type(entry, expected, err);
    }
    return integer_fits(*ret, min, max) ? PHID_OK : fail_range(entry, *ret, expected, err);
}

enum phid_status entry_u64(const struct gguf_entry *entry, uint64_t *ret, struct phid_error *err)
{
    struct integer x = {0};
    enum phid_status status = entry_integer(entry, 0, UINT64_MAX, "an unsigned integer", &x, err);
    if (status == PHID_OK) {
        *ret = x.magnitude;
    }
    return status;
}

/* The entry, or NULL with the error set. */
static const struct gguf_entry *require(const struct gguf_file *file, const char *key,
                                        struct phid_error *err)
{
    const struct gguf_entry *entry = gguf_find(file, str_of(key));
    if (entry == NULL) {
        phid_fail_at(err, PHID_ERR_NOT_FOUND, key, "key '%s' is missing", key);
    }
    return entry;
}

enum phid_status gguf_get_u64(const struct gguf_file *file, const char *key, uint64_t *ret,
                              struct phid_error *err)
{
    const struct gguf_entry *entry = require(file, key, err);
    return entry != NULL ? entry_u64(entry, ret, err) : PHID_ERR_NOT_FOUND;
}

enum phid_status gguf_get_u32(const struct gguf_file *file, const char *key, uint32_t *ret,
                              struct phid_error *err)
{
    const struct gguf_entry *entry = require(file, key, err);
    if (entry == NULL) {
        return PHID_ERR_NOT_FOUND;
    }
    struct integer x = {0};
    enum phid_status status =
        entry_integer(entry, 0, UINT32_MAX, "an unsigned 32-bit integer", &x, err);
    if (status == PHID_OK) {
        *ret = (uint32_t)x.magnitude;
    }
    return status;
}

enum phid_status gguf_get_i32(const struct gguf_file *file, const char *key, int32_t *ret,
                              struct phid_error *err)
{
    const struct gguf_entry *entry = require(file, key, err);
    if (entry == NULL) {
        return PHID_ERR_NOT_FOUND;
    }
    struct integer x = {0};
    enum phid_status status =
        entry_integer(entry, INT32_MIN, INT32_MAX, "a 32-bit integer", &x, err);
    if (status == PHID_OK) {
        *ret = (int32_t)(int64_t)x.magnitude;
    }
    return status;
}

enum phid_status gguf_get_f32(const struct gguf_file *file, const char *key, float *ret,
                              struct phid_error *err)
{
    const struct gguf_entry *entry = require(file, key, err);
    if (entry == NULL) {
        return PHID_ERR_NOT_FOUND;
    }
    if (entry->type == GGUF_F32) {
        *ret = little_f32(entry->data);
        return PHID_OK;
    }
    if (entry->type != GGUF_F64) {
        return fail_type(entry, "a float", err);
    }
    double value = little_f64(entry->data);
    float narrow = (float)value;
    if (isfinite(value) && !isfinite(narrow)) {
        return gguf_fail(err, PHID_ERR_FORMAT, "key", entry->key, entry->offset,
                         "expected a number that fits 32 bits, found %g", value);
    }
    *ret = narrow;
    return PHID_OK;
}

enum phid_status gguf_get_bool(const struct gguf_file *file, const char *key, bool *ret,
                               struct phid_error *err)
{
    const struct gguf_entry *entry = require(file, key, err);
    if (entry == NULL) {
        return PHID_ERR_NOT_FOUND;
    }
    if (entry->type != GGUF_BOOL) {
        return fail_type(entry, "a boolean", err);
    }
    *ret = entry->data[0] != 0;
    return PHID_OK;
}

/* A string whose length field is at `data`; checked when the file was opened. */
static struct str string_at(const unsigned char *data)
{
    return (struct str){.data = (const char *)data + sizeof(uint64_t),
                        .size = (size_t)little_u64(data)};
}

enum phid_status gguf_get_str(const struct gguf_file *file, const char *key, struct str *ret,
                              struct phid_error *err)
{
    const struct gguf_entry *entry = require(file, key, err);
    if (entry == NULL) {
        return PHID_ERR_NOT_FOUND;
    }
    if (entry->type != GGUF_STRING) {
        return fail_type(entry, "a string", err);
    }
    *ret = string_at(entry->data);
    return PHID_OK;
}

/* Heap memory for the elements; *ret_items is NULL for an empty array. */
static enum phid_status array_alloc(const struct gguf_entry *entry, size_t element_bytes,
                                    void **ret_items, struct phid_error *err)
{
    *ret_items = NULL;
    if (entry->count == 0) {
        return PHID_OK;
    }
    size_t bytes;
    if (!checked_mul((size_t)entry->count, element_bytes, &bytes) ||
        (*ret_items = malloc(bytes)) == NULL) {
        return gguf_fail(err, PHID_ERR_MEMORY, "key", entry->key, entry->offset,
                         "out of memory for %" PRIu64 " elements", entry->count);
    }
    return PHID_OK;
}

enum phid_status gguf_get_strings(const struct gguf_file *file, const char *key, struct str **ret,
                                  size_t *ret_count, struct phid_error *err)
{
    const struct gguf_entry *entry = require(file, key, err);
    if (entry == NULL) {
        return PHID_ERR_NOT_FOUND;
    }
    if (entry->type != GGUF_ARRAY || entry->element_type != GGUF_STRING) {
        return fail_type(entry, "an array of string", err);
    }
    void *memory;
    enum phid_status status = array_alloc(entry, sizeof(struct str), &memory, err);
    if (status != PHID_OK) {
        return status;
    }
    struct str *strings = memory;
    const unsigned char *at = entry->data;
    for (size_t i = 0; i < entry->count; i++) {
        strings[i] = string_at(at);
        at += sizeof(uint64_t) + strings[i].size;
    }
    *ret = strings;
    *ret_count = (size_t)entry->count;
    return PHID_OK;
}

enum phid_status gguf_get_i32s(const struct gguf_file *file, const char *key, int32_t **ret,
                               size_t *ret_count, struct phid_error *err)
{
    const struct gguf_entry *entry = require(file, key, err);
    if (entry == NULL) {
        return PHID_ERR_NOT_FOUND;
    }
    static const unsigned char zero[sizeof(uint64_t)] = {0};
    struct integer x = {0};
    if (entry->type != GGUF_ARRAY || !integer_read(entry->element_type, zero, &x)) {
        return fail_type(entry, "an array of integers", err);
    }
    void *memory;
    enum phid_status status = array_alloc(entry, sizeof(int32_t), &memory, err);
    if (status != PHID_OK) {
        return status;
    }
    int32_t *items = memory;
    size_t step = gguf_type_bytes(entry->element_type);
    for (size_t i = 0; i < entry->count; i++) {
        integer_read(entry->element_type, entry->data + i * step, &x);
        if (!integer_fits(x, INT32_MIN, INT32_MAX)) {
            free(items);
            return fail_range(entry, x, "32-bit integers", err);
        }
        items[i] = (int32_t)(int64_t)x.magnitude;
    }
    *ret = items;
    *ret_count = (size_t)entry->count;
    return PHID_OK;
}

enum phid_status gguf_get_f32s(const struct gguf_file *file, const char *key, float **ret,
                               size_t *ret_count, struct phid_error *err)
{
    const struct gguf_entry *entry = require(file, key, err);
    if (entry == NULL) {
        return PHID_ERR_NOT_FOUND;
    }
    bool wide = entry->element_type == GGUF_F64;
    if (entry->type != GGUF_ARRAY || (entry->element_type != GGUF_F32 && !wide)) {
        return fail_type(entry, "an array of floats", err);
    }
    void *memory;
    enum phid_status status = array_alloc(entry, sizeof(float), &memory, err);
    if (status != PHID_OK) {
        return status;
    }
    float *items = memory;
    for (size_t i = 0; i < entry->count; i++) {
        items[i] = wide ? (float)little_f64(entry->data + i * sizeof(double))
                        : little_f32(entry->data + i * sizeof(float));
    }
    *ret = items;
    *ret_count = (size_t)entry->count;
    return PHID_OK;
}

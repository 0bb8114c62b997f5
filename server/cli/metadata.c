#include "server/cli/metadata.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "server/cli/cli.h"

#define FIRST_SHOWN 8

static void put_float(double value, int digits, struct buf *out)
{
    if (isfinite(value)) {
        buf_printf(out, "%.*g", digits, value);
    } else {
        buf_append_c(out, "null");
    }
}

/* One number at `data`, little endian and unaligned. */
static void put_number(enum gguf_type type, const unsigned char *data, struct buf *out)
{
    uint64_t bits = 0;
    size_t bytes = gguf_type_bytes(type);
    memcpy(&bits, data, bytes);
    /* Moves the sign to bit 63 and back. */
    int64_t extended =
        bytes == 8 ? (int64_t)bits : (int64_t)(bits << (64 - 8 * bytes)) >> (64 - 8 * bytes);
    float single;
    double wide;
    switch (type) {
    case GGUF_U8:
    case GGUF_U16:
    case GGUF_U32:
    case GGUF_U64:
        buf_printf(out, "%" PRIu64, bits);
        return;
    case GGUF_I8:
    case GGUF_I16:
    case GGUF_I32:
    case GGUF_I64:
        buf_printf(out, "%" PRId64, extended);
        return;
    case GGUF_F32:
        memcpy(&single, data, sizeof(single));
        put_float((double)single, 9, out);
        return;
    case GGUF_F64:
        memcpy(&wide, data, sizeof(wide));
        put_float(wide, 17, out);
        return;
    case GGUF_BOOL:
        buf_append_c(out, bits != 0 ? "true" : "false");
        return;
    case GGUF_STRING:
    case GGUF_ARRAY:
        break;
    }
    buf_append_c(out, "null");
}

static enum phid_status put_strings(const struct gguf_file *file, const char *key, size_t shown,
                                    struct buf *out, struct phid_error *err)
{
    struct str *items = NULL;
    size_t count = 0;
    enum phid_status status = gguf_get_strings(file, key, &items, &count, err);
    if (status != PHID_OK) {
        return status;
    }
    for (size_t i = 0; i < count && i < shown; i++) {
        buf_append_c(out, i > 0 ? "," : "");
        cli_json_string(out, items[i].data, items[i].size);
    }
    free(items);
    return PHID_OK;
}

static enum phid_status put_array(const struct gguf_file *file, const struct gguf_entry *entry,
                                  size_t array_max, struct buf *out, struct phid_error *err)
{
    bool whole = entry->count <= array_max;
    size_t shown = whole ? (size_t)entry->count : FIRST_SHOWN;
    enum phid_status status = PHID_OK;
    if (!whole) {
        buf_printf(out, "{\"type\":\"%s\",\"count\":%" PRIu64 ",\"first\":",
                   gguf_type_name(entry->element_type), entry->count);
    }
    buf_append_byte(out, '[');
    if (entry->element_type == GGUF_STRING) {
        char *key = str_dup(entry->key);
        status = key != NULL ? put_strings(file, key, shown, out, err)
                             : phid_fail(err, PHID_ERR_MEMORY, "out of memory");
        free(key);
    } else {
        size_t bytes = gguf_type_bytes(entry->element_type);
        for (size_t i = 0; i < shown && i < entry->count; i++) {
            buf_append_c(out, i > 0 ? "," : "");
            put_number(entry->element_type, entry->data + i * bytes, out);
        }
    }
    buf_append_c(out, whole ? "]" : "]}");
    return status;
}

enum phid_status metadata_put(const struct gguf_file *file, const struct gguf_entry *entry,
                              size_t array_max, struct buf *out, struct phid_error *err)
{
    if (entry->type == GGUF_ARRAY) {
        return put_array(file, entry, array_max, out, err);
    }
    if (entry->type == GGUF_STRING) {
        char *key = str_dup(entry->key);
        struct str value = {NULL, 0};
        enum phid_status status = key != NULL ? gguf_get_str(file, key, &value, err)
                                              : phid_fail(err, PHID_ERR_MEMORY, "out of memory");
        free(key);
        if (status == PHID_OK) {
            cli_json_string(out, value.data, value.size);
        }
        return status;
    }
    put_number(entry->type, entry->data, out);
    return PHID_OK;
}

/* Header and metadata of one GGUF file. */
#include "engine/gguf/file.h"

#include <inttypes.h>
#include <stdlib.h>

#include "engine/base/utf8.h"
#include "engine/gguf/cursor.h"
#include "engine/gguf/little_endian.h"

/* The least that one of them takes in the file: a key of one byte (8 + 1), its type (4) and a value
 * of one byte; a name of one byte, n_dims (4), one dimension (8), type (4), offset (8). */
enum { MIN_ENTRY_BYTES = 14, MIN_TENSOR_BYTES = 33, MAGIC_BYTES = 4, COUNTS_OFFSET = 8 };

static enum phid_status fail_truncated(const struct cursor *c, struct str key,
                                       struct phid_error *err)
{
    return gguf_fail(err, PHID_ERR_FORMAT, "key", key, c->failed_at,
                     "wants %" PRIu64 " bytes, but only %" PRIu64 " are left of the file",
                     c->failed_need, c->size - c->failed_at);
}

static enum phid_status read_header(struct gguf_part *part, struct cursor *c, uint64_t *ret_entries,
                                    struct phid_error *err)
{
    const unsigned char *magic = cursor_take(c, MAGIC_BYTES);
    if (magic == NULL) {
        return phid_fail(err, PHID_ERR_FORMAT,
                         "not a GGUF file: %" PRIu64
                         " bytes long, the magic number at offset 0 is missing",
                         c->size);
    }
    if (memcmp(magic, "FUGG", MAGIC_BYTES) == 0) {
        return phid_fail(
            err, PHID_ERR_UNSUPPORTED,
            "a big-endian GGUF file (magic number at offset 0); only little-endian ones are read");
    }
    if (memcmp(magic, "GGUF", MAGIC_BYTES) != 0) {
        return phid_fail(
            err, PHID_ERR_FORMAT,
            "not a GGUF file: the magic number at offset 0 is %02x %02x %02x %02x, not 'GGUF'",
            magic[0], magic[1], magic[2], magic[3]);
    }
    part->version = cursor_u32(c);
    uint64_t tensors = cursor_u64(c);
    uint64_t entries = cursor_u64(c);
    if (c->failed) {
        return phid_fail(err, PHID_ERR_FORMAT,
                         "the file ends within the header, at offset %" PRIu64, c->size);
    }
    uint32_t swapped = __builtin_bswap32(part->version);
    if (swapped >= 1 && swapped <= 3) {
        return phid_fail(
            err, PHID_ERR_UNSUPPORTED,
            "a big-endian GGUF file (version at offset 4); only little-endian ones are read");
    }
    if (part->version != 2 && part->version != 3) {
        return phid_fail(err, part->version == 0 ? PHID_ERR_FORMAT : PHID_ERR_UNSUPPORTED,
                         "GGUF version %" PRIu32 " at offset 4; versions 2 and 3 are read",
                         part->version);
    }
    if (tensors > cursor_left(c) / MIN_TENSOR_BYTES || tensors > GGUF_MAX_TENSORS) {
        return phid_fail(err, PHID_ERR_FORMAT,
                         "the header claims %" PRIu64 " tensors at offset %d; %" PRIu64
                         " bytes follow, and the limit is %d",
                         tensors, COUNTS_OFFSET, cursor_left(c), GGUF_MAX_TENSORS);
    }
    if (entries > cursor_left(c) / MIN_ENTRY_BYTES || entries > GGUF_MAX_ENTRIES) {
        return phid_fail(err, PHID_ERR_FORMAT,
                         "the header claims %" PRIu64 " metadata keys at offset %d; %" PRIu64
                         " bytes follow, and the limit is %d",
                         entries, COUNTS_OFFSET + 8, cursor_left(c), GGUF_MAX_ENTRIES);
    }
    part->tensor_count = tensors;
    *ret_entries = entries;
    return PHID_OK;
}

static enum phid_status check_bools(const struct gguf_entry *entry, struct phid_error *err)
{
    for (uint64_t i = 0; i < entry->count; i++) {
        if (entry->data[i] > 1) {
            return gguf_fail(err, PHID_ERR_FORMAT, "key", entry->key, entry->offset,
                             "a boolean must be 0 or 1, found %d", entry->data[i]);
        }
    }
    return PHID_OK;
}

static enum phid_status read_string(struct cursor *c, struct gguf_entry *entry,
                                    struct phid_error *err)
{
    uint64_t start = c->at;
    struct str value = cursor_string(c, GGUF_MAX_STRING_BYTES);
    if (c->failed && c->failed_need > GGUF_MAX_STRING_BYTES) {
        return gguf_fail(err, PHID_ERR_FORMAT, "key", entry->key, start,
                         "a string of %" PRIu64 " bytes; %" PRIu64
                         " are left of the file, and the limit is %u",
                         c->failed_need, cursor_left(c), GGUF_MAX_STRING_BYTES);
    }
    if (c->failed) {
        return fail_truncated(c, entry->key, err);
    }
    if (!utf8_valid(value)) {
        return gguf_fail(err, PHID_ERR_FORMAT, "key", entry->key, start,
                         "the string is not valid UTF-8");
    }
    entry->size_bytes = c->at - start;
    return PHID_OK;
}

/* Walks the strings once, so that later readers need no checks. */
static enum phid_status read_string_elements(struct cursor *c, const struct gguf_entry *entry,
                                             struct phid_error *err)
{
    for (uint64_t i = 0; i < entry->count; i++) {
        uint64_t start = c->at;
        cursor_string(c, GGUF_MAX_STRING_BYTES);
        if (c->failed) {
            return gguf_fail(err, PHID_ERR_FORMAT, "key", entry->key, start,
                             "element %" PRIu64 " of %" PRIu64 " wants %" PRIu64 " bytes; %" PRIu64
                             " are left of the file, and the limit of a string is %u",
                             i, entry->count, c->failed_need, c->size - c->failed_at,
                             GGUF_MAX_STRING_BYTES);
        }
    }
    return PHID_OK;
}

static enum phid_status read_array(struct cursor *c, struct gguf_entry *entry,
                                   struct phid_error *err)
{
    uint64_t start = c->at;
    uint32_t type = cursor_u32(c);
    uint64_t count = cursor_u64(c);
    if (c->failed) {
        return fail_truncated(c, entry->key, err);
    }
    if (type == GGUF_ARRAY) {
        return gguf_fail(err, PHID_ERR_UNSUPPORTED, "key", entry->key, start,
                         "an array of arrays is not supported");
    }
    uint64_t least = type == GGUF_STRING ? sizeof(uint64_t) : gguf_type_bytes(type);
    if (least == 0) {
        return gguf_fail(err, PHID_ERR_FORMAT, "key", entry->key, start,
                         "unknown type %" PRIu32 " of array elements", type);
    }
    if (count > cursor_left(c) / least || count > GGUF_MAX_ARRAY_COUNT) {
        return gguf_fail(err, PHID_ERR_FORMAT, "key", entry->key, start,
                         "an array of %" PRIu64 " elements; %" PRIu64
                         " bytes are left of the file, and the limit is %u elements",
                         count, cursor_left(c), GGUF_MAX_ARRAY_COUNT);
    }
    entry->element_type = (enum gguf_type)type;
    entry->count = count;
    entry->data = c->bytes + c->at;
    uint64_t data_start = c->at;
    if (type == GGUF_STRING) {
        enum phid_status status = read_string_elements(c, entry, err);
        if (status != PHID_OK) {
            return status;
        }
    } else {
        cursor_take(c, count * least); /* fits: compared with what is left above */
    }
    entry->size_bytes = c->at - data_start;
    return type == GGUF_BOOL ? check_bools(entry, err) : PHID_OK;
}

static enum phid_status read_entry(struct cursor *c, struct gguf_entry *entry, size_t index,
                                   struct phid_error *err)
{
    entry->offset = c->at;
    entry->count = 1;
    entry->key = cursor_string(c, GGUF_MAX_KEY_BYTES);
    if (c->failed) {
        return phid_fail(err, PHID_ERR_FORMAT,
                         "key %zu at offset %" PRIu64 ": a key of %" PRIu64 " bytes; %" PRIu64
                         " are left of the file, and the limit is %u",
                         index, entry->offset, c->failed_need, c->size - c->failed_at,
                         GGUF_MAX_KEY_BYTES);
    }
    if (!gguf_name_valid(entry->key)) {
        return phid_fail(
            err, PHID_ERR_FORMAT, "key %zu at offset %" PRIu64 ": %s", index, entry->offset,
            entry->key.size == 0 ? "the key is empty" : "the key is not printable UTF-8");
    }
    uint64_t type_offset = c->at;
    uint32_t type = cursor_u32(c);
    if (c->failed) {
        return fail_truncated(c, entry->key, err);
    }
    entry->type = (enum gguf_type)type;
    entry->element_type = entry->type;
    entry->data = c->bytes + c->at;
    if (type == GGUF_STRING) {
        return read_string(c, entry, err);
    }
    if (type == GGUF_ARRAY) {
        return read_array(c, entry, err);
    }
    entry->size_bytes = gguf_type_bytes(type);
    if (entry->size_bytes == 0) {
        return gguf_fail(err, PHID_ERR_FORMAT, "key", entry->key, type_offset,
                         "unknown value type %" PRIu32, type);
    }
    if (cursor_take(c, entry->size_bytes) == NULL) {
        return fail_truncated(c, entry->key, err);
    }
    return type == GGUF_BOOL ? check_bools(entry, err) : PHID_OK;
}

static enum phid_status read_alignment(struct gguf_part *part, struct phid_error *err)
{
    part->alignment = GGUF_DEFAULT_ALIGNMENT;
    const struct gguf_entry *entry = part_find(part, "general.alignment");
    if (entry == NULL) {
        return PHID_OK;
    }
    uint64_t alignment = 0;
    enum phid_status status = entry_u64(entry, &alignment, err);
    if (status != PHID_OK) {
        return status;
    }
    bool power_of_two = (alignment & (alignment - 1)) == 0;
    if (!power_of_two || alignment < GGUF_MIN_ALIGNMENT || alignment > GGUF_MAX_ALIGNMENT) {
        return gguf_fail(err, PHID_ERR_FORMAT, "key", entry->key, entry->offset,
                         "the alignment must be a power of two from %u to %u, found %" PRIu64,
                         GGUF_MIN_ALIGNMENT, GGUF_MAX_ALIGNMENT, alignment);
    }
    part->alignment = (uint32_t)alignment;
    return PHID_OK;
}

static enum phid_status read_entries(struct gguf_part *part, struct cursor *c, size_t count,
                                     struct phid_error *err)
{
    part->entries = calloc(count > 0 ? count : 1, sizeof part->entries[0]);
    if (part->entries == NULL || !map_reserve(&part->keys, count)) {
        return phid_fail(err, PHID_ERR_MEMORY, "out of memory for %zu metadata keys", count);
    }
    for (size_t i = 0; i < count; i++) {
        struct gguf_entry *entry = &part->entries[i];
        enum phid_status status = read_entry(c, entry, i, err);
        if (status != PHID_OK) {
            return status;
        }
        if (c->at > GGUF_MAX_METADATA_BYTES) {
            return gguf_fail(err, PHID_ERR_FORMAT, "key", entry->key, entry->offset,
                             "the metadata is larger than %u bytes", GGUF_MAX_METADATA_BYTES);
        }
        switch (map_put(&part->keys, entry->key, i)) {
        case MAP_ADDED:
            break;
        case MAP_EXISTS:
            return gguf_fail(err, PHID_ERR_FORMAT, "key", entry->key, entry->offset,
                             "the key is there twice");
        case MAP_NO_MEMORY:
            return phid_fail(err, PHID_ERR_MEMORY, "out of memory for %zu metadata keys", count);
        }
        part->entry_count = i + 1;
    }
    return PHID_OK;
}

enum phid_status part_read(struct gguf_part *part, struct phid_error *err)
{
    map_init(&part->keys);
    struct cursor c = {.bytes = part->bytes, .size = part->size};
    uint64_t count = 0;
    enum phid_status status = read_header(part, &c, &count, err);
    if (status != PHID_OK) {
        return status;
    }
    status = read_entries(part, &c, (size_t)count, err);
    if (status != PHID_OK) {
        return status;
    }
    part->infos_at = c.at;
    return read_alignment(part, err);
}

void part_close(struct gguf_part *part)
{
    free(part->entries);
    map_fini(&part->keys);
    file_map_close(&part->map);
    *part = (struct gguf_part){0};
}

const struct gguf_entry *part_find(const struct gguf_part *part, const char *key)
{
    uint64_t index;
    return map_find(&part->keys, str_of(key), &index) ? &part->entries[index] : NULL;
}

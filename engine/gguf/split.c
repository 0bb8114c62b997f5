/* A model in several files: NAME-00001-of-0000N.gguf and so on. The first has all metadata; each
 * says which it is. */
#include "engine/gguf/file.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* "-00001-of-00003.gguf" */
enum { SUFFIX_BYTES = 20 };

static void suffix_write(char out[SUFFIX_BYTES + 1], uint64_t number, uint64_t count)
{
    snprintf(out, SUFFIX_BYTES + 1, "-%05" PRIu64 "-of-%05" PRIu64 ".gguf", number % 100000,
             count % 100000);
}

/* The path of part `number` (from 1); NULL when the path does not end as part `own` of `count`
 * does, or when out of memory. Free with free(). */
static char *part_path(const char *path, uint64_t own, uint64_t number, uint64_t count)
{
    char suffix[SUFFIX_BYTES + 1];
    suffix_write(suffix, own, count);
    size_t size = strlen(path);
    if (size < SUFFIX_BYTES || strcmp(path + size - SUFFIX_BYTES, suffix) != 0) {
        return NULL;
    }
    char *other = str_dup((struct str){.data = path, .size = size});
    if (other != NULL) {
        suffix_write(suffix, number, count);
        memcpy(other + size - SUFFIX_BYTES, suffix, SUFFIX_BYTES);
    }
    return other;
}

/* An integer key of one part; absent is `missing`. */
static enum phid_status part_u64(const struct gguf_part *part, const char *key, uint64_t missing,
                                 uint64_t *ret, struct phid_error *err)
{
    const struct gguf_entry *entry = part_find(part, key);
    if (entry == NULL) {
        *ret = missing;
        return PHID_OK;
    }
    return entry_u64(entry, ret, err);
}

static enum phid_status open_part(struct gguf_file *file, size_t index, uint64_t count,
                                  struct phid_error *err)
{
    char *path = part_path(file->path, 1, index + 1, count);
    if (path == NULL) {
        return phid_fail(err, PHID_ERR_MEMORY, "out of memory for the name of part %zu", index + 1);
    }
    struct gguf_part *part = &file->parts[index];
    uint64_t number = 0;
    uint64_t own_count = 0;
    struct phid_error detail = {.message = ""};
    enum phid_status status = file_map_open(path, &part->map, &detail);
    if (status != PHID_OK) {
        status = phid_fail(err, status, "part %zu of %" PRIu64 " is missing: %s", index + 1, count,
                           detail.message);
        goto done;
    }
    part->bytes = part->map.data;
    part->size = part->map.size;
    file->part_count = index + 1;
    status = part_read(part, &detail);
    if (status == PHID_OK) {
        status = part_u64(part, "split.no", UINT64_MAX, &number, &detail);
    }
    if (status == PHID_OK) {
        status = part_u64(part, "split.count", 0, &own_count, &detail);
    }
    if (status == PHID_OK && (number != index || own_count != count)) {
        const struct gguf_entry *entry = part_find(part, "split.no");
        status = gguf_fail(
            &detail, PHID_ERR_FORMAT, "key", STR("split.no"), entry != NULL ? entry->offset : 0,
            "expected part %zu of %" PRIu64 " (split.no counts from 0)", index + 1, count);
    }
    if (status == PHID_OK) {
        status = tensors_read(file, index, &detail);
    }
    if (status != PHID_OK) {
        status =
            phid_fail_at(err, status, detail.where, "%s: %s", file_map_shown(path), detail.message);
    }

done:
    free(path);
    return status;
}

static enum phid_status check_total(const struct gguf_file *file, struct phid_error *err)
{
    const struct gguf_entry *entry = part_find(&file->parts[0], "split.tensors.count");
    if (entry == NULL) {
        return gguf_fail(err, PHID_ERR_FORMAT, "key", STR("split.tensors.count"), 0,
                         "is missing from a split model");
    }
    uint64_t total = 0;
    enum phid_status status = entry_u64(entry, &total, err);
    if (status == PHID_OK && total != file->tensor_count) {
        status = gguf_fail(err, PHID_ERR_FORMAT, "key", entry->key, entry->offset,
                           "says %" PRIu64 " tensors, but the %zu parts have %zu", total,
                           file->part_count, file->tensor_count);
    }
    return status;
}

/* A path for the message about a part opened by itself. */
static enum phid_status fail_not_first(const struct gguf_file *file, const struct gguf_entry *entry,
                                       uint64_t number, uint64_t count, struct phid_error *err)
{
    char *first = number < count ? part_path(file->path, number + 1, 1, count) : NULL;
    enum phid_status status =
        gguf_fail(err, PHID_ERR_FORMAT, "key", STR("split.no"), entry != NULL ? entry->offset : 0,
                  "this is part %" PRIu64 " of %" PRIu64 "; open part 1%s%s%s", number + 1, count,
                  first != NULL ? " ('" : "", first != NULL ? file_map_shown(first) : "",
                  first != NULL ? "')" : "");
    free(first);
    return status;
}

enum phid_status split_open(struct gguf_file *file, struct phid_error *err)
{
    uint64_t count = 0;
    uint64_t number = 0;
    enum phid_status status = part_u64(&file->parts[0], "split.count", 0, &count, err);
    if (status == PHID_OK) {
        status = part_u64(&file->parts[0], "split.no", 0, &number, err);
    }
    if (status != PHID_OK) {
        return status;
    }
    if (count <= 1 && number == 0) {
        return PHID_OK;
    }
    const struct gguf_entry *count_entry = part_find(&file->parts[0], "split.count");
    uint64_t count_offset = count_entry != NULL ? count_entry->offset : 0;
    if (count > GGUF_MAX_PARTS || count == 0) {
        return gguf_fail(err, PHID_ERR_FORMAT, "key", STR("split.count"), count_offset,
                         "%" PRIu64 " parts; 1 to %d are possible", count, GGUF_MAX_PARTS);
    }
    if (number != 0) {
        return fail_not_first(file, part_find(&file->parts[0], "split.no"), number, count, err);
    }
    char suffix[SUFFIX_BYTES + 1];
    suffix_write(suffix, 1, count);
    size_t path_size = strlen(file->path);
    if (path_size < SUFFIX_BYTES || strcmp(file->path + path_size - SUFFIX_BYTES, suffix) != 0) {
        return gguf_fail(err, PHID_ERR_FORMAT, "key", STR("split.count"), count_offset,
                         "the model has %" PRIu64
                         " parts, so the name of this one must end in '%s'",
                         count, suffix);
    }
    struct gguf_part *parts = realloc(file->parts, (size_t)count * sizeof parts[0]);
    if (parts == NULL) {
        return phid_fail(err, PHID_ERR_MEMORY, "out of memory for %" PRIu64 " parts", count);
    }
    file->parts = parts;
    memset(parts + 1, 0, (size_t)(count - 1) * sizeof parts[0]);
    for (size_t i = 1; i < count; i++) {
        status = open_part(file, i, count, err);
        if (status != PHID_OK) {
            return status;
        }
    }
    return check_total(file, err);
}

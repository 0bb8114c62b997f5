/* Opening, closing and looking things up. */
#include "engine/gguf/gguf.h"

#include <stdlib.h>
#include <string.h>

#include "engine/gguf/file.h"

/* A file with room for one part. */
static struct gguf_file *file_new(const char *path)
{
    struct gguf_file *file = calloc(1, sizeof *file);
    if (file == NULL) {
        return NULL;
    }
    map_init(&file->names);
    file->path = str_dup(str_of(path));
    file->parts = calloc(1, sizeof file->parts[0]);
    if (file->path == NULL || file->parts == NULL) {
        gguf_close(file);
        return NULL;
    }
    return file;
}

/* Reads part 1, whose bytes are set. */
static enum phid_status read_first(struct gguf_file *file, struct phid_error *err)
{
    file->part_count = 1;
    enum phid_status status = part_read(&file->parts[0], err);
    return status == PHID_OK ? tensors_read(file, 0, err) : status;
}

enum phid_status gguf_open(const char *path, struct gguf_file **ret_file, struct phid_error *err)
{
    struct gguf_file *file = file_new(path);
    if (file == NULL) {
        return phid_fail(err, PHID_ERR_MEMORY, "%s: out of memory", file_map_shown(path));
    }
    struct gguf_part *part = &file->parts[0];
    enum phid_status status = file_map_open(path, &part->map, err);
    if (status != PHID_OK) {
        goto fail; /* the message names the path already */
    }
    part->bytes = part->map.data;
    part->size = part->map.size;
    struct phid_error detail = {.message = ""};
    status = read_first(file, &detail);
    if (status == PHID_OK) {
        status = split_open(file, &detail);
    }
    if (status != PHID_OK) {
        phid_fail_at(err, status, detail.where, "%s: %s", file_map_shown(path), detail.message);
        goto fail;
    }
    *ret_file = file;
    return PHID_OK;

fail:
    gguf_close(file);
    return status;
}

enum phid_status gguf_open_memory(const void *bytes, size_t size, struct gguf_file **ret_file,
                                  struct phid_error *err)
{
    struct gguf_file *file = file_new("<memory>");
    if (file == NULL) {
        return phid_fail(err, PHID_ERR_MEMORY, "out of memory");
    }
    file->parts[0].bytes = bytes;
    file->parts[0].size = size;
    enum phid_status status = read_first(file, err);
    if (status == PHID_OK) {
        status = split_open(file, err);
    }
    if (status != PHID_OK) {
        gguf_close(file);
        return status;
    }
    *ret_file = file;
    return PHID_OK;
}

void gguf_close(struct gguf_file *file)
{
    if (file == NULL) {
        return;
    }
    for (size_t i = 0; i < file->part_count; i++) {
        part_close(&file->parts[i]);
    }
    free(file->parts);
    free(file->tensors);
    map_fini(&file->names);
    free(file->path);
    free(file);
}

uint32_t gguf_version(const struct gguf_file *file)
{
    return file->parts[0].version;
}

uint64_t gguf_file_bytes(const struct gguf_file *file)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < file->part_count; i++) {
        bytes += file->parts[i].size;
    }
    return bytes;
}

size_t gguf_part_count(const struct gguf_file *file)
{
    return file->part_count;
}

struct str gguf_path(const struct gguf_file *file)
{
    return str_of(file->path);
}

size_t gguf_entry_count(const struct gguf_file *file)
{
    return file->parts[0].entry_count;
}

const struct gguf_entry *gguf_entry_at(const struct gguf_file *file, size_t index)
{
    return index < file->parts[0].entry_count ? &file->parts[0].entries[index] : NULL;
}

const struct gguf_entry *gguf_find(const struct gguf_file *file, struct str key)
{
    uint64_t index;
    return map_find(&file->parts[0].keys, key, &index) ? &file->parts[0].entries[index] : NULL;
}

size_t gguf_tensor_count(const struct gguf_file *file)
{
    return file->tensor_count;
}

const struct gguf_tensor *gguf_tensor_at(const struct gguf_file *file, size_t index)
{
    return index < file->tensor_count ? &file->tensors[index] : NULL;
}

const struct gguf_tensor *gguf_tensor_find(const struct gguf_file *file, struct str name)
{
    uint64_t index;
    return map_find(&file->names, name, &index) ? &file->tensors[index] : NULL;
}

void gguf_tensor_release(const struct gguf_file *file, const struct gguf_tensor *tensor)
{
    file_map_release(&file->parts[tensor->part].map, (size_t)tensor->offset,
                     (size_t)tensor->size_bytes);
}

bool gguf_read(const struct gguf_file *file, const void *data, size_t size, void *to)
{
    uintptr_t at = (uintptr_t)data;
    for (size_t i = 0; i < file->part_count; i++) {
        const struct gguf_part *part = &file->parts[i];
        uintptr_t begin = (uintptr_t)part->bytes;
        if (at < begin || at - begin > part->size || size > part->size - (at - begin)) {
            continue;
        }
        if (part->map.mapping != NULL) {
            return file_map_read(&part->map, at - begin, size, to);
        }
        memcpy(to, data, size);
        return true;
    }
    return false;
}

const char *gguf_type_name(enum gguf_type type)
{
    static const char *const names[] = {
        [GGUF_U8] = "u8",         [GGUF_I8] = "i8",       [GGUF_U16] = "u16", [GGUF_I16] = "i16",
        [GGUF_U32] = "u32",       [GGUF_I32] = "i32",     [GGUF_F32] = "f32", [GGUF_BOOL] = "bool",
        [GGUF_STRING] = "string", [GGUF_ARRAY] = "array", [GGUF_U64] = "u64", [GGUF_I64] = "i64",
        [GGUF_F64] = "f64",
    };
    return (unsigned)type < sizeof names / sizeof names[0] ? names[type] : "unknown";
}

size_t gguf_type_bytes(uint32_t type)
{
    static const uint8_t bytes[] = {
        [GGUF_U8] = 1,  [GGUF_I8] = 1,  [GGUF_BOOL] = 1, [GGUF_U16] = 2,
        [GGUF_I16] = 2, [GGUF_U32] = 4, [GGUF_I32] = 4,  [GGUF_F32] = 4,
        [GGUF_U64] = 8, [GGUF_I64] = 8, [GGUF_F64] = 8,  [GGUF_ARRAY] = 0,
    };
    return type < sizeof bytes ? bytes[type] : 0;
}

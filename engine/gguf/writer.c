#include "engine/gguf/writer.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/base/arena.h"
#include "engine/base/buf.h"
#include "engine/base/checked.h"
#include "engine/gguf/file.h"
#include "engine/gguf/little_endian.h"
#include "quant/format/format.h"

enum { VERSION = 3, FILE_BUFFER_BYTES = 1 << 20 };

struct gguf_writer {
    struct buf entries; /* as they go into the file */
    struct buf infos;
    struct map names; /* keys and tensor names given so far, kept in name_bytes */
    struct arena name_bytes;
    uint64_t entry_count;
    uint64_t tensor_count;
    uint64_t *sizes; /* heap; bytes of each tensor */
    size_t sizes_capacity;
    uint64_t data_bytes; /* of all tensors so far, padded */

    enum phid_status status; /* of the first add that went wrong */
    struct phid_error error;

    FILE *out;
    char *path;      /* heap; where the file goes */
    char *temporary; /* heap; where it is until then; NULL when there is none to remove */
    uint64_t tensor; /* the one being written */
    uint64_t tensor_done;
};

enum phid_status gguf_writer_new(struct gguf_writer **ret_writer, struct phid_error *err)
{
    struct gguf_writer *writer = calloc(1, sizeof *writer);
    if (writer == NULL) {
        return phid_fail(err, PHID_ERR_MEMORY, "out of memory");
    }
    buf_init(&writer->entries, GGUF_MAX_METADATA_BYTES);
    buf_init(&writer->infos, GGUF_MAX_METADATA_BYTES);
    map_init(&writer->names);
    arena_init(&writer->name_bytes, 2 * (size_t)GGUF_MAX_METADATA_BYTES);
    *ret_writer = writer;
    return PHID_OK;
}

void gguf_writer_free(struct gguf_writer *writer)
{
    if (writer == NULL) {
        return;
    }
    if (writer->out != NULL) {
        fclose(writer->out);
    }
    if (writer->temporary != NULL) {
        unlink(writer->temporary);
    }
    free(writer->temporary);
    free(writer->path);
    map_fini(&writer->names);
    arena_fini(&writer->name_bytes);
    buf_fini(&writer->entries);
    buf_fini(&writer->infos);
    free(writer->sizes);
    free(writer);
}

static void remember(struct gguf_writer *writer, enum phid_status status, const char *what,
                     struct str name, const char *reason)
{
    if (writer->status == PHID_OK) {
        writer->status = phid_fail(&writer->error, status, "%s '%.*s': %s", what, (int)name.size,
                                   name.data, reason);
    }
}

/* Takes note of a key or tensor name. The two have separate spaces, so the map's key begins with
 * which it is. */
static bool name_take(struct gguf_writer *writer, const char *what, struct str name, uint64_t count,
                      uint64_t max, size_t max_bytes)
{
    if (writer->status != PHID_OK) {
        return false;
    }
    if (!gguf_name_valid(name) || name.size > max_bytes || count >= max) {
        remember(writer, PHID_ERR_ARGUMENT, what, name,
                 "not a name the format allows, or too many");
        return false;
    }
    size_t size = name.size + 1;
    char *own = arena_alloc(&writer->name_bytes, size);
    if (own == NULL) {
        remember(writer, PHID_ERR_MEMORY, what, name, "out of memory");
        return false;
    }
    own[0] = what[0];
    memcpy(own + 1, name.data, name.size);
    switch (map_put(&writer->names, (struct str){.data = own, .size = size}, 0)) {
    case MAP_ADDED:
        return true;
    case MAP_EXISTS:
        remember(writer, PHID_ERR_ARGUMENT, what, name, "given twice");
        break;
    case MAP_NO_MEMORY:
        remember(writer, PHID_ERR_MEMORY, what, name, "out of memory");
        break;
    }
    return false;
}

static void append_u32(struct buf *b, uint32_t value)
{
    buf_append(b, &value, sizeof value);
}

static void append_u64(struct buf *b, uint64_t value)
{
    buf_append(b, &value, sizeof value);
}

static void append_string(struct buf *b, struct str s)
{
    append_u64(b, s.size);
    buf_append_str(b, s);
}

/* Key and type; false when the value must not follow. */
static bool entry_open(struct gguf_writer *writer, struct str key, enum gguf_type type)
{
    if (!name_take(writer, "key", key, writer->entry_count, GGUF_MAX_ENTRIES, GGUF_MAX_KEY_BYTES)) {
        return false;
    }
    writer->entry_count++;
    append_string(&writer->entries, key);
    append_u32(&writer->entries, (uint32_t)type);
    return true;
}

static bool array_open(struct gguf_writer *writer, struct str key, enum gguf_type element_type,
                       uint64_t count)
{
    if (!entry_open(writer, key, GGUF_ARRAY)) {
        return false;
    }
    append_u32(&writer->entries, (uint32_t)element_type);
    append_u64(&writer->entries, count);
    return true;
}

static void add_scalar(struct gguf_writer *writer, const char *key, enum gguf_type type,
                       const void *value, size_t size)
{
    if (entry_open(writer, str_of(key), type)) {
        buf_append(&writer->entries, value, size);
    }
}

void gguf_writer_add_u32(struct gguf_writer *writer, const char *key, uint32_t value)
{
    add_scalar(writer, key, GGUF_U32, &value, sizeof value);
}

void gguf_writer_add_i32(struct gguf_writer *writer, const char *key, int32_t value)
{
    add_scalar(writer, key, GGUF_I32, &value, sizeof value);
}

void gguf_writer_add_u64(struct gguf_writer *writer, const char *key, uint64_t value)
{
    add_scalar(writer, key, GGUF_U64, &value, sizeof value);
}

void gguf_writer_add_f32(struct gguf_writer *writer, const char *key, float value)
{
    add_scalar(writer, key, GGUF_F32, &value, sizeof value);
}

void gguf_writer_add_bool(struct gguf_writer *writer, const char *key, bool value)
{
    uint8_t byte = value ? 1 : 0;
    add_scalar(writer, key, GGUF_BOOL, &byte, sizeof byte);
}

void gguf_writer_add_str(struct gguf_writer *writer, const char *key, struct str value)
{
    if (entry_open(writer, str_of(key), GGUF_STRING)) {
        append_string(&writer->entries, value);
    }
}

void gguf_writer_add_strs(struct gguf_writer *writer, const char *key, const struct str *values,
                          size_t count)
{
    if (array_open(writer, str_of(key), GGUF_STRING, count)) {
        for (size_t i = 0; i < count; i++) {
            append_string(&writer->entries, values[i]);
        }
    }
}

void gguf_writer_add_i32s(struct gguf_writer *writer, const char *key, const int32_t *values,
                          size_t count)
{
    if (array_open(writer, str_of(key), GGUF_I32, count)) {
        buf_append(&writer->entries, values, count * sizeof values[0]);
    }
}

void gguf_writer_add_f32s(struct gguf_writer *writer, const char *key, const float *values,
                          size_t count)
{
    if (array_open(writer, str_of(key), GGUF_F32, count)) {
        buf_append(&writer->entries, values, count * sizeof values[0]);
    }
}

void gguf_writer_add_entry(struct gguf_writer *writer, const struct gguf_entry *entry)
{
    if (str_equal_c(entry->key, "general.alignment")) {
        return;
    }
    bool open = entry->type == GGUF_ARRAY
                    ? array_open(writer, entry->key, entry->element_type, entry->count)
                    : entry_open(writer, entry->key, entry->type);
    if (open) {
        buf_append(&writer->entries, entry->data, (size_t)entry->size_bytes);
    }
}

/* Bytes of a tensor; false when it has no size. */
static bool tensor_bytes(uint32_t type, uint32_t n_dims, const uint64_t *ne, uint64_t *ret)
{
    const struct quant_format *format = quant_format_find(type);
    if (format == NULL || n_dims == 0 || n_dims > GGUF_MAX_DIMS) {
        return false;
    }
    uint64_t bytes = quant_row_bytes(format, (size_t)ne[0]);
    for (uint32_t i = 1; i < n_dims; i++) {
        if (!checked_mul_u64(bytes, ne[i], &bytes)) {
            return false;
        }
    }
    *ret = bytes;
    return bytes > 0 && bytes < UINT64_MAX / 2;
}

static bool sizes_push(struct gguf_writer *writer, uint64_t bytes)
{
    if (writer->tensor_count == writer->sizes_capacity) {
        size_t capacity = writer->sizes_capacity == 0
                              ? 64
                              : writer->sizes_capacity * 2; /* at most 2 * MAX_TENSORS */
        uint64_t *sizes = realloc(writer->sizes, capacity * sizeof sizes[0]);
        if (sizes == NULL) {
            return false;
        }
        writer->sizes = sizes;
        writer->sizes_capacity = capacity;
    }
    writer->sizes[writer->tensor_count] = bytes;
    return true;
}

static uint64_t padded(uint64_t bytes)
{
    return (bytes + GGUF_DEFAULT_ALIGNMENT - 1) / GGUF_DEFAULT_ALIGNMENT * GGUF_DEFAULT_ALIGNMENT;
}

void gguf_writer_add_tensor(struct gguf_writer *writer, struct str name, uint32_t type,
                            uint32_t n_dims, const uint64_t *ne)
{
    if (!name_take(writer, "tensor", name, writer->tensor_count, GGUF_MAX_TENSORS,
                   GGUF_MAX_NAME_BYTES)) {
        return;
    }
    uint64_t bytes;
    uint64_t total;
    if (!tensor_bytes(type, n_dims, ne, &bytes) ||
        !checked_add_u64(writer->data_bytes, padded(bytes), &total)) {
        remember(writer, PHID_ERR_ARGUMENT, "tensor", name, "this type and shape give no size");
        return;
    }
    if (!sizes_push(writer, bytes)) {
        remember(writer, PHID_ERR_MEMORY, "tensor", name, "out of memory");
        return;
    }
    append_string(&writer->infos, name);
    append_u32(&writer->infos, n_dims);
    for (uint32_t i = 0; i < n_dims; i++) {
        append_u64(&writer->infos, ne[i]);
    }
    append_u32(&writer->infos, type);
    append_u64(&writer->infos, writer->data_bytes);
    writer->tensor_count++;
    writer->data_bytes = total;
}

static enum phid_status fail_io(const struct gguf_writer *writer, struct phid_error *err)
{
    char text[128];
    return phid_fail(err, PHID_ERR_IO, "%s: %s", file_map_shown(writer->path),
                     strerror_r(errno, text, sizeof text));
}

static enum phid_status write_bytes(struct gguf_writer *writer, const void *bytes, size_t size,
                                    struct phid_error *err)
{
    if (size > 0 && fwrite(bytes, 1, size, writer->out) != size) {
        return fail_io(writer, err);
    }
    return PHID_OK;
}

static enum phid_status write_padding(struct gguf_writer *writer, uint64_t at,
                                      struct phid_error *err)
{
    static const unsigned char zeros[GGUF_DEFAULT_ALIGNMENT] = {0};
    return write_bytes(writer, zeros, (size_t)(padded(at) - at), err);
}

/* A new file beside the final one; not mkstemp, whose files only their owner may read. */
static enum phid_status open_temporary(struct gguf_writer *writer, struct phid_error *err)
{
    struct stat info;
    if (stat(writer->path, &info) == 0 && !S_ISREG(info.st_mode)) {
        return phid_fail(err, PHID_ERR_IO, "%s: is not a regular file, it will not be replaced",
                         file_map_shown(writer->path));
    }
    struct buf name;
    buf_init(&name, 8192);
    buf_printf(&name, "%s.%ld.part", writer->path, (long)getpid());
    size_t size;
    enum phid_status status = buf_take(&name, &writer->temporary, &size, err);
    buf_fini(&name);
    if (status != PHID_OK) {
        return status;
    }
    int fd = open(writer->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0) {
        status = fail_io(writer, err);
        free(writer->temporary); /* not ours to remove */
        writer->temporary = NULL;
        return status;
    }
    writer->out = fdopen(fd, "wb");
    if (writer->out == NULL) {
        status = fail_io(writer, err);
        close(fd);
        return status;
    }
    /* Without a larger buffer rows of a few kilobytes cost a system call each. Failure leaves the
     * usual one. */
    (void)setvbuf(writer->out, NULL, _IOFBF, FILE_BUFFER_BYTES);
    return PHID_OK;
}

enum phid_status gguf_writer_begin(struct gguf_writer *writer, const char *path,
                                   struct phid_error *err)
{
    if (writer->status != PHID_OK) {
        return phid_fail(err, writer->status, "%s", writer->error.message);
    }
    if (writer->entries.failed || writer->infos.failed) {
        return phid_fail(err, PHID_ERR_MEMORY,
                         "the metadata does not fit memory or the limit of %u bytes",
                         GGUF_MAX_METADATA_BYTES);
    }
    if (writer->path != NULL) {
        return phid_fail(err, PHID_ERR_ARGUMENT, "%s: begun already", file_map_shown(writer->path));
    }
    writer->path = str_dup(str_of(path));
    if (writer->path == NULL) {
        return phid_fail(err, PHID_ERR_MEMORY, "out of memory");
    }
    enum phid_status status = open_temporary(writer, err);
    if (status != PHID_OK) {
        return status;
    }
    unsigned char header[24];
    uint32_t version = VERSION;
    memcpy(header, "GGUF", 4);
    memcpy(header + 4, &version, 4);
    memcpy(header + 8, &writer->tensor_count, 8);
    memcpy(header + 16, &writer->entry_count, 8);
    status = write_bytes(writer, header, sizeof header, err);
    if (status == PHID_OK) {
        status = write_bytes(writer, writer->entries.data, writer->entries.size, err);
    }
    if (status == PHID_OK) {
        status = write_bytes(writer, writer->infos.data, writer->infos.size, err);
    }
    if (status == PHID_OK) {
        status =
            write_padding(writer, sizeof header + writer->entries.size + writer->infos.size, err);
    }
    return status;
}

enum phid_status gguf_writer_data(struct gguf_writer *writer, const void *bytes, size_t size,
                                  struct phid_error *err)
{
    const unsigned char *at = bytes;
    while (size > 0) {
        if (writer->out == NULL || writer->tensor == writer->tensor_count) {
            return phid_fail(err, PHID_ERR_ARGUMENT,
                             "%zu bytes more than the %" PRIu64 " tensors hold", size,
                             writer->tensor_count);
        }
        uint64_t tensor_size = writer->sizes[writer->tensor];
        uint64_t left = tensor_size - writer->tensor_done;
        size_t now = size < left ? size : (size_t)left;
        enum phid_status status = write_bytes(writer, at, now, err);
        if (status != PHID_OK) {
            return status;
        }
        at += now;
        size -= now;
        writer->tensor_done += now;
        if (writer->tensor_done == tensor_size) {
            status = write_padding(writer, tensor_size, err);
            if (status != PHID_OK) {
                return status;
            }
            writer->tensor++;
            writer->tensor_done = 0;
        }
    }
    return PHID_OK;
}

enum phid_status gguf_writer_end(struct gguf_writer *writer, struct phid_error *err)
{
    if (writer->out == NULL || writer->tensor != writer->tensor_count) {
        return phid_fail(err, PHID_ERR_ARGUMENT,
                         "data of %" PRIu64 " of %" PRIu64 " tensors is missing",
                         writer->tensor_count - writer->tensor, writer->tensor_count);
    }
    /* On the disk before it has the name: a crash must not leave a whole name on half a file. */
    bool written = fflush(writer->out) == 0 && fsync(fileno(writer->out)) == 0;
    enum phid_status status = written ? PHID_OK : fail_io(writer, err);
    if (fclose(writer->out) != 0 && status == PHID_OK) {
        status = fail_io(writer, err);
    }
    writer->out = NULL;
    if (status == PHID_OK && rename(writer->temporary, writer->path) != 0) {
        status = fail_io(writer, err);
    }
    if (status == PHID_OK) {
        free(writer->temporary); /* it has become the file */
        writer->temporary = NULL;
    }
    return status;
}

/* A GGUF file (version 2 or 3), opened for reading: metadata and tensor descriptions, every length,
 * count, offset and dimension checked against the file's size before use.
 *
 * gguf_open maps the file (all parts of a split one) read-only. Strings, arrays and tensor data
 * point into the mapping and live until gguf_close. Read-only afterwards, so any thread may use it.
 * Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md */
#ifndef PHID_GGUF_GGUF_H
#define PHID_GGUF_GGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"
#include "engine/base/str.h"

enum gguf_type {
    GGUF_U8 = 0,
    GGUF_I8 = 1,
    GGUF_U16 = 2,
    GGUF_I16 = 3,
    GGUF_U32 = 4,
    GGUF_I32 = 5,
    GGUF_F32 = 6,
    GGUF_BOOL = 7,
    GGUF_STRING = 8,
    GGUF_ARRAY = 9,
    GGUF_U64 = 10,
    GGUF_I64 = 11,
    GGUF_F64 = 12,
};

#define GGUF_MAX_DIMS 4

/* One metadata entry. For an array, element strings are reached by gguf_array_strings. */
struct gguf_entry {
    struct str key;
    enum gguf_type type;         /* of the value; GGUF_ARRAY for arrays */
    enum gguf_type element_type; /* of an array's elements */
    uint64_t count;              /* elements of an array, 1 otherwise */
    const unsigned char *data;   /* first byte of the value (string: its length field; array: its
                                    first element), unaligned, little endian */
    uint64_t size_bytes;         /* of the value from `data` on, checked to lie inside the file */
    uint64_t offset;             /* of the entry in its file, for messages */
};

struct gguf_tensor {
    struct str name;
    uint32_t type;              /* ggml type number; quant_format_find() says what it is */
    uint32_t n_dims;            /* 1..4 */
    uint64_t ne[GGUF_MAX_DIMS]; /* ne[0] is the row length (input dimension); unused ones are 1 */
    const void *data;           /* in the mapping; NULL in a file opened without tensor data */
    uint64_t offset;            /* of the data in its file */
    uint64_t size_bytes;
    uint32_t part; /* index of the file of a split set */
};

struct gguf_file; /* opaque */

/* Opens `path` and, when it is part 1 of a split set (`-00001-of-0000N.gguf`, split.count), all its
 * parts. Errors: PHID_ERR_NOT_FOUND, PHID_ERR_IO (not a regular file, cannot map), PHID_ERR_FORMAT
 * (the message names the key or tensor and the byte offset), PHID_ERR_UNSUPPORTED (a tensor type
 * this build has no format for, named), PHID_ERR_MEMORY. Takes under a second for a hostile file
 * and allocates no more than it can hold. */
enum phid_status gguf_open(const char *path, struct gguf_file **ret_file, struct phid_error *err);

/* The same from memory the caller keeps (fuzzing, tests). */
enum phid_status gguf_open_memory(const void *bytes, size_t size, struct gguf_file **ret_file,
                                  struct phid_error *err);

void gguf_close(struct gguf_file *file);

uint32_t gguf_version(const struct gguf_file *file);
uint64_t gguf_file_bytes(const struct gguf_file *file); /* all parts together */
size_t gguf_part_count(const struct gguf_file *file);
struct str gguf_path(const struct gguf_file *file); /* of part 1; "<memory>" for gguf_open_memory */

size_t gguf_entry_count(const struct gguf_file *file);
const struct gguf_entry *gguf_entry_at(const struct gguf_file *file, size_t index);
const struct gguf_entry *gguf_find(const struct gguf_file *file,
                                   struct str key); /* NULL: absent. O(1) */

size_t gguf_tensor_count(const struct gguf_file *file);
const struct gguf_tensor *gguf_tensor_at(const struct gguf_file *file, size_t index);
const struct gguf_tensor *gguf_tensor_find(const struct gguf_file *file,
                                           struct str name); /* NULL: absent. O(1) */

/* Typed reads. Each fails with PHID_ERR_FORMAT when the entry has another type (any integer type
 * that holds the value will do for the integer reads; f32 or f64 for floats) and PHID_ERR_NOT_FOUND
 * when the key is absent; the message names the key, what was expected, what was found, and the
 * offset. */
enum phid_status gguf_get_u64(const struct gguf_file *file, const char *key, uint64_t *ret,
                              struct phid_error *err);
enum phid_status gguf_get_u32(const struct gguf_file *file, const char *key, uint32_t *ret,
                              struct phid_error *err);
enum phid_status gguf_get_i32(const struct gguf_file *file, const char *key, int32_t *ret,
                              struct phid_error *err);
enum phid_status gguf_get_f32(const struct gguf_file *file, const char *key, float *ret,
                              struct phid_error *err);
enum phid_status gguf_get_bool(const struct gguf_file *file, const char *key, bool *ret,
                               struct phid_error *err);
enum phid_status gguf_get_str(const struct gguf_file *file, const char *key, struct str *ret,
                              struct phid_error *err);

/* Array reads into heap memory the caller frees with free(). *ret_count may be 0 (then *ret is
 * NULL). Strings are views into the mapping. Integers of any width are widened; a value that does
 * not fit is PHID_ERR_FORMAT. */
enum phid_status gguf_get_strings(const struct gguf_file *file, const char *key, struct str **ret,
                                  size_t *ret_count, struct phid_error *err);
enum phid_status gguf_get_i32s(const struct gguf_file *file, const char *key, int32_t **ret,
                               size_t *ret_count, struct phid_error *err);
enum phid_status gguf_get_f32s(const struct gguf_file *file, const char *key, float **ret,
                               size_t *ret_count, struct phid_error *err);

/* Tells the kernel that the tensor's file pages are no longer needed (after repacking), so that
 * they leave the resident set. A no-op for gguf_open_memory. */
void gguf_tensor_release(const struct gguf_file *file, const struct gguf_tensor *tensor);

/* Copies `size` bytes of tensor data, which begin at `data` in the mapping, without touching the
 * mapping. False when the file has changed or was cut off since it was opened. Any thread. */
bool gguf_read(const struct gguf_file *file, const void *data, size_t size, void *to);

const char *gguf_type_name(enum gguf_type type);

/* Of one value; 0 for strings, arrays and numbers that are no type. */
size_t gguf_type_bytes(uint32_t type);

#endif

/* Writes a GGUF file (version 3): metadata first, then the description of every tensor, then the
 * data in the same order.
 *
 *     gguf_writer_new -> gguf_writer_add_* -> gguf_writer_add_tensor -> gguf_writer_begin ->
 *     gguf_writer_data (as often as wanted) -> gguf_writer_end -> gguf_writer_free
 *
 * The file appears under its name only when it is whole: until gguf_writer_end it has a temporary
 * name beside it, and gguf_writer_free removes that. Errors before gguf_writer_begin are remembered
 * and reported there. One thread. */
#ifndef PHID_GGUF_WRITER_H
#define PHID_GGUF_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"
#include "engine/base/str.h"
#include "engine/gguf/gguf.h"

struct gguf_writer; /* opaque */

enum phid_status gguf_writer_new(struct gguf_writer **ret_writer, struct phid_error *err);
void gguf_writer_free(struct gguf_writer *writer);

/* Metadata. Keys and values are copied. A key given twice is an error. */
void gguf_writer_add_u32(struct gguf_writer *writer, const char *key, uint32_t value);
void gguf_writer_add_i32(struct gguf_writer *writer, const char *key, int32_t value);
void gguf_writer_add_u64(struct gguf_writer *writer, const char *key, uint64_t value);
void gguf_writer_add_f32(struct gguf_writer *writer, const char *key, float value);
void gguf_writer_add_bool(struct gguf_writer *writer, const char *key, bool value);
void gguf_writer_add_str(struct gguf_writer *writer, const char *key, struct str value);
void gguf_writer_add_strs(struct gguf_writer *writer, const char *key, const struct str *values,
                          size_t count);
void gguf_writer_add_i32s(struct gguf_writer *writer, const char *key, const int32_t *values,
                          size_t count);
void gguf_writer_add_f32s(struct gguf_writer *writer, const char *key, const float *values,
                          size_t count);

/* Any scalar, string or array as it stands in another file; general.alignment is left out, since
 * data is always aligned to the default here. */
void gguf_writer_add_entry(struct gguf_writer *writer, const struct gguf_entry *entry);

/* Describes the next tensor. `type` is a ggml type number this build has a format for; ne[0] is the
 * row length. */
void gguf_writer_add_tensor(struct gguf_writer *writer, struct str name, uint32_t type,
                            uint32_t n_dims, const uint64_t *ne);

/* Creates the temporary file and writes everything up to the data. Errors: what the add functions
 * met (PHID_ERR_ARGUMENT, PHID_ERR_MEMORY), PHID_ERR_IO. */
enum phid_status gguf_writer_begin(struct gguf_writer *writer, const char *path,
                                   struct phid_error *err);

/* The next `size` bytes of tensor data, across tensor borders if need be; padding is added here.
 * PHID_ERR_ARGUMENT for more than was described, PHID_ERR_IO. */
enum phid_status gguf_writer_data(struct gguf_writer *writer, const void *bytes, size_t size,
                                  struct phid_error *err);

/* Flushes and gives the file its name. PHID_ERR_ARGUMENT when data is missing, PHID_ERR_IO. */
enum phid_status gguf_writer_end(struct gguf_writer *writer, struct phid_error *err);

#endif

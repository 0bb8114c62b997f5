/* A growing byte buffer with a stated maximum and a sticky error, so that a writer reads straight
 * down and checks once at the end. The caller owns the struct and the heap memory in it. Not
 * thread-safe. */
#ifndef PHID_BASE_BUF_H
#define PHID_BASE_BUF_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#include "engine/base/status.h"
#include "engine/base/str.h"

struct buf {
    char *data;      /* heap; data[size] is always 0 once anything was appended */
    size_t size;     /* bytes in use */
    size_t capacity; /* bytes allocated */
    size_t max;      /* appending beyond this sets failed */
    bool failed;     /* an append did not fit or could not be allocated; the content stays as it was
                        before */
};

void buf_init(struct buf *b, size_t max);
void buf_fini(struct buf *b);

/* Empties without giving memory back; clears failed. */
void buf_clear(struct buf *b);

void buf_append(struct buf *b, const void *bytes, size_t size);
void buf_append_str(struct buf *b, struct str s);
void buf_append_c(struct buf *b, const char *c_string);
void buf_append_byte(struct buf *b, char byte);
void buf_printf(struct buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Appends `size` uninitialised bytes and returns where they start, NULL when failed. */
void *buf_extend(struct buf *b, size_t size);

/* Drops the first `size` bytes (at most all). */
void buf_drop(struct buf *b, size_t size);

struct str buf_view(const struct buf *b);

/* Moves the bytes out as a NUL-terminated heap string (never NULL on success); the buffer is empty
 * afterwards. */
enum phid_status buf_take(struct buf *b, char **ret, size_t *ret_size, struct phid_error *err);

#endif

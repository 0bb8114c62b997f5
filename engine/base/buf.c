#include "engine/base/buf.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/checked.h"

enum { FIRST_CAPACITY = 64 };

void buf_init(struct buf *b, size_t max)
{
    *b = (struct buf){.max = max};
}

void buf_fini(struct buf *b)
{
    free(b->data);
    *b = (struct buf){0};
}

void buf_clear(struct buf *b)
{
    b->size = 0;
    b->failed = false;
    if (b->data != NULL) {
        b->data[0] = '\0';
    }
}

/* Makes room for `size` more bytes and the NUL behind them. */
static bool make_room(struct buf *b, size_t size)
{
    size_t used;
    size_t needed;
    if (b->failed || !checked_add(b->size, size, &used) || used > b->max ||
        !checked_add(used, 1, &needed)) {
        b->failed = true;
        return false;
    }
    if (needed <= b->capacity) {
        return true;
    }
    size_t capacity = b->capacity < FIRST_CAPACITY ? FIRST_CAPACITY : b->capacity;
    while (capacity < needed) {
        if (!checked_mul(capacity, 2, &capacity)) {
            capacity = needed;
        }
    }
    /* Doubling must not ask for memory that the maximum forbids using. */
    if (b->max < SIZE_MAX && capacity > b->max + 1) {
        capacity = b->max + 1;
    }
    char *data = realloc(b->data, capacity);
    if (data == NULL) {
        b->failed = true;
        return false;
    }
    b->data = data;
    b->capacity = capacity;
    return true;
}

void *buf_extend(struct buf *b, size_t size)
{
    if (!make_room(b, size)) {
        return NULL;
    }
    char *start = b->data + b->size;
    b->size += size;
    b->data[b->size] = '\0';
    return start;
}

void buf_append(struct buf *b, const void *bytes, size_t size)
{
    char *start = buf_extend(b, size);
    if (start != NULL && size > 0) {
        memcpy(start, bytes, size);
    }
}

void buf_append_str(struct buf *b, struct str s)
{
    buf_append(b, s.data, s.size);
}

void buf_append_c(struct buf *b, const char *c_string)
{
    buf_append(b, c_string, strlen(c_string));
}

void buf_append_byte(struct buf *b, char byte)
{
    buf_append(b, &byte, 1);
}

void buf_printf(struct buf *b, const char *format, ...)
{
    va_list arguments;
    va_list again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int size = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    if (size < 0) {
        b->failed = true;
    } else if (make_room(b, (size_t)size)) {
        vsnprintf(b->data + b->size, (size_t)size + 1, format, again);
        b->size += (size_t)size;
    }
    va_end(again);
}

void buf_drop(struct buf *b, size_t size)
{
    if (size >= b->size) {
        b->size = 0;
    } else {
        memmove(b->data, b->data + size, b->size - size);
        b->size -= size;
    }
    if (b->data != NULL) {
        b->data[b->size] = '\0';
    }
}

struct str buf_view(const struct buf *b)
{
    return (struct str){.data = b->data != NULL ? b->data : "", .size = b->size};
}

enum phid_status buf_take(struct buf *b, char **ret, size_t *ret_size, struct phid_error *err)
{
    if (!b->failed && b->data == NULL) {
        make_room(b, 0);
        if (b->data != NULL) {
            b->data[0] = '\0';
        }
    }
    if (b->failed) {
        return phid_fail(err, PHID_ERR_MEMORY, "out of memory: %zu bytes in use of at most %zu",
                         b->size, b->max);
    }
    *ret = b->data;
    *ret_size = b->size;
    *b = (struct buf){.max = b->max};
    return PHID_OK;
}

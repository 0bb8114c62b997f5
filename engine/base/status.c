#include "engine/base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "engine/base/utf8.h"

/* One character of the message at a time: what a log line or a terminal must not see becomes '?'.
 * Text that comes from a file may be cut in the middle of a character by the size limit; the cut
 * character is dropped. */
static void make_printable(char *text, size_t capacity)
{
    size_t size = strlen(text);
    size_t out = 0;
    for (size_t i = 0; i < size;) {
        struct str rest = {.data = text + i, .size = size - i};
        uint32_t code_point = 0;
        size_t length = utf8_decode(rest, &code_point);
        if (length == 0) {
            bool cut_by_limit = size == capacity - 1 && utf8_complete_prefix(rest) == 0;
            if (cut_by_limit) {
                break;
            }
            text[out++] = '?';
            i++;
        } else if (code_point < 0x20 || (code_point >= 0x7f && code_point <= 0x9f) ||
                   code_point == 0x2028 || code_point == 0x2029) {
            text[out++] = '?';
            i += length;
        } else {
            memmove(text + out, text + i, length);
            out += length;
            i += length;
        }
    }
    text[out] = '\0';
}

static void fill(struct phid_error *err, enum phid_status status, const char *where,
                 const char *format, va_list arguments)
{
    /* The old message may be among the arguments, so the new one is built beside it. */
    char message[PHID_ERROR_MESSAGE_MAX];
    int written = vsnprintf(message, sizeof message, format, arguments);
    if (written < 0) {
        message[0] = '\0';
    }
    make_printable(message, sizeof message);

    char place[PHID_ERROR_WHERE_MAX];
    snprintf(place, sizeof place, "%s", where);
    make_printable(place, sizeof place);

    err->status = status;
    memcpy(err->message, message, sizeof message);
    memcpy(err->where, place, sizeof place);
}

enum phid_status phid_fail(struct phid_error *err, enum phid_status status, const char *format, ...)
{
    if (err != NULL) {
        va_list arguments;
        va_start(arguments, format);
        fill(err, status, "", format, arguments);
        va_end(arguments);
    }
    return status;
}

enum phid_status phid_fail_at(struct phid_error *err, enum phid_status status, const char *where,
                              const char *format, ...)
{
    if (err != NULL) {
        va_list arguments;
        va_start(arguments, format);
        fill(err, status, where, format, arguments);
        va_end(arguments);
    }
    return status;
}

enum phid_status phid_prefix(struct phid_error *err, enum phid_status status, const char *format,
                             ...)
{
    if (err == NULL) {
        return status;
    }
    char message[PHID_ERROR_MESSAGE_MAX];
    va_list arguments;
    va_start(arguments, format);
    int written = vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    if (written < 0) {
        message[0] = '\0';
    }
    /* What was found matters more than who passes it on, but the prefix is short; the end is cut.
     */
    size_t used = strlen(message);
    size_t room = sizeof message - 1 - used;
    if (room > 2) {
        memcpy(message + used, ": ", 2);
        size_t size = strnlen(err->message, room - 2);
        memcpy(message + used + 2, err->message, size);
        message[used + 2 + size] = '\0';
    }
    make_printable(message, sizeof message);
    memcpy(err->message, message, sizeof message);
    err->status = status;
    return status;
}

const char *phid_status_name(enum phid_status status)
{
    switch (status) {
    case PHID_OK:
        return "ok";
    case PHID_ERR_ARGUMENT:
        return "argument";
    case PHID_ERR_MEMORY:
        return "memory";
    case PHID_ERR_IO:
        return "io";
    case PHID_ERR_FORMAT:
        return "format";
    case PHID_ERR_UNSUPPORTED:
        return "unsupported";
    case PHID_ERR_CONTEXT:
        return "context";
    case PHID_ERR_NOT_FOUND:
        return "not_found";
    case PHID_ERR_BUSY:
        return "busy";
    case PHID_ERR_CLOSED:
        return "closed";
    case PHID_ERR_TIMEOUT:
        return "timeout";
    case PHID_ERR_DEVICE:
        return "device";
    case PHID_ERR_INTERNAL:
        return "internal";
    }
    return "unknown";
}

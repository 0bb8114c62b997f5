#include "engine/gguf/file.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "engine/base/utf8.h"

/* Enough of a name to find it by. */
enum { NAME_SHOWN_BYTES = 80 };

enum phid_status gguf_fail(struct phid_error *err, enum phid_status status, const char *what,
                           struct str name, uint64_t offset, const char *format, ...)
{
    if (err == NULL) {
        return status;
    }
    char reason[PHID_ERROR_MESSAGE_MAX / 2];
    va_list arguments;
    va_start(arguments, format);
    if (vsnprintf(reason, sizeof reason, format, arguments) < 0) {
        reason[0] = '\0';
    }
    va_end(arguments);

    size_t shown = name.size;
    const char *rest = "";
    if (shown > NAME_SHOWN_BYTES) {
        shown = utf8_complete_prefix((struct str){.data = name.data, .size = NAME_SHOWN_BYTES});
        rest = "...";
    }
    char where[NAME_SHOWN_BYTES + 1];
    snprintf(where, sizeof where, "%.*s", (int)shown, name.data);
    return phid_fail_at(err, status, where, "%s '%.*s%s' at offset %" PRIu64 ": %s", what,
                        (int)shown, name.data, rest, offset, reason);
}

bool gguf_name_valid(struct str name)
{
    if (name.size == 0 || !utf8_valid(name)) {
        return false;
    }
    for (size_t i = 0; i < name.size; i++) {
        unsigned char byte = (unsigned char)name.data[i];
        if (byte < 0x20 || byte == 0x7f) {
            return false;
        }
    }
    return true;
}

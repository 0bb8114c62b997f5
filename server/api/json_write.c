#include "server/api/json_write.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/base/utf8.h"

static void put_escape(struct buf *out, unsigned char c)
{
    switch (c) {
    case '"':
        buf_append_c(out, "\\\"");
        break;
    case '\\':
        buf_append_c(out, "\\\\");
        break;
    case '\n':
        buf_append_c(out, "\\n");
        break;
    case '\r':
        buf_append_c(out, "\\r");
        break;
    case '\t':
        buf_append_c(out, "\\t");
        break;
    default:
        buf_printf(out, "\\u%04x", c);
        break;
    }
}

void json_put_string(struct buf *out, struct str text)
{
    size_t plain = 0; /* start of the run not yet written */
    size_t i = 0;
    uint32_t code_point;
    buf_append_byte(out, '"');
    while (i < text.size) {
        unsigned char c = (unsigned char)text.data[i];
        size_t size = utf8_decode((struct str){text.data + i, text.size - i}, &code_point);
        if (size > 0 && c >= 0x20 && c != '"' && c != '\\' && c != 0x7f) {
            i += size;
            continue;
        }
        buf_append(out, text.data + plain, i - plain);
        if (size == 0) {
            buf_append_c(out, "\xef\xbf\xbd");
        } else {
            put_escape(out, c);
        }
        i++;
        plain = i;
    }
    if (plain < text.size) {
        buf_append(out, text.data + plain, text.size - plain);
    }
    buf_append_byte(out, '"');
}

void json_put_int(struct buf *out, int64_t value)
{
    buf_printf(out, "%" PRId64, value);
}

void json_put_float(struct buf *out, float value)
{
    char digits[32];
    if (!isfinite(value)) {
        buf_append_c(out, "-9999.0");
        return;
    }
    /* Nine significant digits always identify a float; most need fewer. */
    for (int precision = 6; precision <= 9; precision++) {
        snprintf(digits, sizeof digits, "%.*g", precision, (double)value);
        if (strtof(digits, NULL) == value) {
            break;
        }
    }
    buf_append_c(out, digits);
    if (strpbrk(digits, ".e") == NULL) {
        buf_append_c(out, ".0");
    }
}

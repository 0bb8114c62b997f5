#include "server/metrics/exposition.h"

#include <stdio.h>

#include "engine/base/clock.h"
#include "engine/base/utf8.h"

void exposition_family(struct buf *out, const char *name, const char *type, const char *help)
{
    buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void put_name(struct buf *out, const char *name, const char *labels)
{
    buf_append_c(out, name);
    if (labels[0] != '\0') {
        buf_append_byte(out, '{');
        buf_append_c(out, labels);
        buf_append_byte(out, '}');
    }
}

/* By hand: a page has a thousand of these. */
static void put_number(struct buf *out, uint64_t value)
{
    char text[24];
    size_t at = sizeof text;
    do {
        text[--at] = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    buf_append(out, text + at, sizeof text - at);
}

/* Nanoseconds as seconds, all digits, no zeros behind the last. */
static void put_seconds(struct buf *out, uint64_t ns)
{
    char text[10];
    uint64_t rest = ns % CLOCK_NS_PER_S;
    size_t digits = 9;
    put_number(out, ns / CLOCK_NS_PER_S);
    if (rest == 0) {
        return;
    }
    text[0] = '.';
    for (size_t i = 9; i > 0; i--) {
        text[i] = (char)('0' + rest % 10);
        rest /= 10;
    }
    while (text[digits] == '0') {
        digits--;
    }
    buf_append(out, text, digits + 1);
}

static void put_value(struct buf *out, uint64_t value, bool is_time)
{
    if (is_time) {
        put_seconds(out, value);
    } else {
        put_number(out, value);
    }
}

void exposition_sample(struct buf *out, const char *name, const char *labels, uint64_t value)
{
    put_name(out, name, labels);
    buf_append_byte(out, ' ');
    put_number(out, value);
    buf_append_byte(out, '\n');
}

void exposition_real(struct buf *out, const char *name, const char *labels, double value)
{
    put_name(out, name, labels);
    buf_printf(out, " %.15g\n", value);
}

/* What every bucket's line begins with, up to the bound. */
static void put_bucket_head(struct buf *out, const char *name, const char *labels)
{
    buf_append_c(out, name);
    buf_append_c(out, "_bucket{");
    buf_append_c(out, labels);
    buf_append_c(out, labels[0] != '\0' ? ",le=\"" : "le=\"");
}

static void put_bucket_end(struct buf *out, uint64_t count)
{
    buf_append_c(out, "\"} ");
    put_number(out, count);
    buf_append_byte(out, '\n');
}

void exposition_histogram(struct buf *out, const char *name, const char *labels,
                          const struct phid_histogram *h)
{
    char longer[128];
    uint64_t count = 0;
    for (size_t i = 0; i < h->bound_count; i++) {
        count += h->counts[i];
        put_bucket_head(out, name, labels);
        put_value(out, h->bounds[i], h->is_time);
        put_bucket_end(out, count);
    }
    count += h->counts[h->bound_count];
    put_bucket_head(out, name, labels);
    buf_append_c(out, "+Inf");
    put_bucket_end(out, count);
    snprintf(longer, sizeof longer, "%s_sum", name);
    put_name(out, longer, labels);
    buf_append_byte(out, ' ');
    put_value(out, h->sum, h->is_time);
    buf_append_byte(out, '\n');
    snprintf(longer, sizeof longer, "%s_count", name);
    exposition_sample(out, longer, labels, count);
}

void exposition_label(struct buf *labels, const char *name, struct str value)
{
    uint32_t code_point;
    buf_printf(labels, "%s%s=\"", labels->size > 0 ? "," : "", name);
    for (size_t i = 0; i < value.size;) {
        size_t size = utf8_decode((struct str){value.data + i, value.size - i}, &code_point);
        char c = value.data[i];
        if (c == '\n') {
            buf_append_c(labels, "\\n");
        } else if (size == 0 || (unsigned char)c < 0x20) {
            buf_append_c(labels, "\xef\xbf\xbd");
        } else {
            if (c == '"' || c == '\\') {
                buf_append_byte(labels, '\\');
            }
            buf_append(labels, value.data + i, size);
        }
        i += size > 0 ? size : 1;
    }
    buf_append_byte(labels, '"');
}

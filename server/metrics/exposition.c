#include "server/metrics/exposition.h"

#include <stdio.h>

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

void exposition_sample(struct buf *out, const char *name, const char *labels, uint64_t value)
{
    put_name(out, name, labels);
    buf_printf(out, " %llu\n", (unsigned long long)value);
}

void exposition_real(struct buf *out, const char *name, const char *labels, double value)
{
    put_name(out, name, labels);
    buf_printf(out, " %.15g\n", value);
}

static void put_bucket(struct buf *out, const char *name, const char *labels, const char *bound,
                       uint64_t count)
{
    buf_printf(out, "%s_bucket{%s%sle=\"%s\"} %llu\n", name, labels, labels[0] != '\0' ? "," : "",
               bound, (unsigned long long)count);
}

void exposition_histogram(struct buf *out, const char *name, const char *labels,
                          const struct phid_histogram *h)
{
    double unit = h->is_time ? 1e-9 : 1;
    uint64_t count = 0;
    char text[48];
    for (size_t i = 0; i < h->bound_count; i++) {
        count += h->counts[i];
        snprintf(text, sizeof text, "%.9g", (double)h->bounds[i] * unit);
        put_bucket(out, name, labels, text, count);
    }
    count += h->counts[h->bound_count];
    put_bucket(out, name, labels, "+Inf", count);
    char longer[128];
    snprintf(longer, sizeof longer, "%s_sum", name);
    exposition_real(out, longer, labels, (double)h->sum * unit);
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

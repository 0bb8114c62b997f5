#include "server/http/feed.h"

#include <time.h>

#include "server/api/stream.h"
#include "server/http/conn.h"

#define PULL_MAX 65536 /* bytes of events taken from the engine at once */

static void put_date(struct buf *out)
{
    char date[64];
    struct tm parts;
    time_t now = time(NULL);
    if (gmtime_r(&now, &parts) != NULL &&
        strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", &parts) > 0) {
        buf_printf(out, "Date: %s\r\n", date);
    }
}

bool feed_open(struct exchange *x, struct buf *out)
{
    const struct head *head = &x->conn->head;
    const struct reply *r = &x->reply;
    buf_printf(out, "HTTP/1.1 %u %s\r\n", r->status, reply_reason(r->status));
    put_date(out);
    for (size_t i = 0; i < r->header_count; i++) {
        buf_printf(out, "%s: %s\r\n", r->headers[i].name, r->headers[i].value);
    }
    if (!head->version_1_0) {
        buf_append_c(out, "Transfer-Encoding: chunked\r\n");
    }
    buf_append_c(out, "\r\n");
    return !r->failed && !out->failed;
}

/* A client of HTTP/1.0 knows no chunks; its body ends with the connection. */
static void put_chunk(const struct exchange *x, struct str bytes, struct buf *out)
{
    static const char digits[] = "0123456789abcdef";
    char size[20];
    size_t at = sizeof size;
    if (x->conn->head.version_1_0) {
        buf_append_str(out, bytes);
        return;
    }
    size[--at] = '\n';
    size[--at] = '\r';
    for (size_t rest = bytes.size; rest > 0; rest /= 16) {
        size[--at] = digits[rest % 16];
    }
    buf_append(out, size + at, sizeof size - at);
    buf_append_str(out, bytes);
    buf_append(out, "\r\n", 2);
}

bool feed_write(struct exchange *x, struct buf *out)
{
    struct generation *g = x->generation;
    size_t before = out->size;
    if (x->fresh) {
        generation_pull(g, PULL_MAX);
        x->fresh = g->out.size > PULL_MAX; /* then it may have left some */
    }
    if (g->out.size > 0) {
        put_chunk(x, buf_view(&g->out), out);
        buf_clear(&g->out);
    } else if (x->ping_due && !g->done) {
        put_chunk(x, STR(STREAM_PING), out);
    }
    if (out->size > before) {
        x->ping_due = false;
        x->last_sent_ms = x->io->now_ms;
    }
    if (!g->done) {
        return false;
    }
    if (!x->conn->head.version_1_0) {
        buf_append_c(out, "0\r\n\r\n");
    }
    return true;
}

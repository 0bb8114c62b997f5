#include "server/http/reply.h"

#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>

bool reply_make_id(char out[REPLY_ID_SIZE])
{
    unsigned char random[16];
    out[0] = '\0';
    if (RAND_bytes(random, sizeof random) != 1) {
        return false;
    }
    memcpy(out, "req_", 4);
    for (size_t i = 0; i < sizeof random; i++) {
        snprintf(out + 4 + 2 * i, 3, "%02x", random[i]);
    }
    return true;
}

void reply_init(struct reply *r)
{
    *r = (struct reply){.status = 200};
    buf_init(&r->body, REPLY_BODY_MAX);
}

void reply_fini(struct reply *r)
{
    for (size_t i = 0; i < r->header_count; i++) {
        free(r->headers[i].value);
    }
    r->header_count = 0;
    buf_fini(&r->body);
}

void reply_header(struct reply *r, const char *name, struct str value)
{
    char *copy = r->header_count < REPLY_HEADERS_MAX ? str_dup(value) : NULL;
    if (copy == NULL) {
        r->failed = true;
        return;
    }
    r->headers[r->header_count++] = (struct reply_header){name, copy};
}

void reply_error(struct reply *r, const struct api_error *err)
{
    char seconds[16];
    unsigned retry_after = api_error_retry_after(err);
    r->status = api_error_status(err->fault);
    buf_clear(&r->body);
    api_error_write(err, &r->body);
    reply_header(r, "Content-Type", STR("application/json"));
    if (retry_after > 0) {
        int size = snprintf(seconds, sizeof seconds, "%u", retry_after);
        reply_header(r, "Retry-After", (struct str){seconds, (size_t)size});
    }
    if (!api_error_retryable(err->fault)) {
        reply_header(r, "x-should-retry", STR("false"));
    }
}

const char *reply_reason(unsigned status)
{
    static const struct {
        unsigned status;
        const char *reason;
    } reasons[] = {
        {200, "OK"},
        {204, "No Content"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {413, "Content Too Large"},
        {415, "Unsupported Media Type"},
        {417, "Expectation Failed"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {503, "Service Unavailable"},
        {505, "HTTP Version Not Supported"},
    };
    for (size_t i = 0; i < sizeof reasons / sizeof reasons[0]; i++) {
        if (reasons[i].status == status) {
            return reasons[i].reason;
        }
    }
    return "Unknown";
}

void reply_write(const struct reply *r, struct buf *out)
{
    buf_printf(out, "HTTP/1.1 %u %s\r\n", r->status, reply_reason(r->status));
    for (size_t i = 0; i < r->header_count; i++) {
        buf_printf(out, "%s: %s\r\n", r->headers[i].name, r->headers[i].value);
    }
    buf_printf(out, "Content-Length: %zu\r\nConnection: close\r\n\r\n", r->body.size);
    if (!r->head_only) {
        buf_append_str(out, buf_view(&r->body));
    }
}

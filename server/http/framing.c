#include "server/http/framing.h"

static enum api_fault too_large(const struct framing *f, struct api_error *err)
{
    return api_fail(err, API_BODY_TOO_LARGE, NULL, "The request body is larger than %llu bytes.",
                    (unsigned long long)f->max);
}

enum api_fault framing_init(struct framing *f, const struct head *head, uint64_t max,
                            struct api_error *err)
{
    *f = (struct framing){.chunked = head->chunked, .max = max};
    if (head->chunked) {
        f->state = FRAMING_SIZE;
        return API_OK;
    }
    f->left = f->total = head->content_length;
    f->state = f->left > 0 ? FRAMING_DATA : FRAMING_END;
    return f->total > max ? too_large(f, err) : API_OK;
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The size line has ended: data, or the trailers behind the last chunk. */
static enum api_fault begin_chunk(struct framing *f, struct api_error *err)
{
    if (__builtin_add_overflow(f->total, f->left, &f->total) || f->total > f->max) {
        return too_large(f, err);
    }
    f->state = f->left > 0 ? FRAMING_DATA : FRAMING_TRAILER_START;
    f->digits = 0;
    return API_OK;
}

/* One byte of framing. */
static enum api_fault step(struct framing *f, char c, struct api_error *err)
{
    bool extra = f->state == FRAMING_EXTENSION || f->state == FRAMING_TRAILER ||
                 f->state == FRAMING_TRAILER_START;
    if (extra && c != '\r' &&
        (((unsigned char)c < 0x20 && c != '\t') || c == 0x7f || ++f->extra > FRAMING_EXTRA_MAX)) {
        return api_fail(err, API_BAD_REQUEST, NULL,
                        "A chunk extension or trailer is malformed or too long.");
    }
    switch (f->state) {
    case FRAMING_SIZE:
        if (hex_value(c) >= 0 && f->digits < 16) {
            f->left = f->left << 4 | (uint64_t)hex_value(c);
            f->digits++;
            return API_OK;
        }
        if (f->digits == 0 || (c != '\r' && c != ';')) {
            break;
        }
        f->state = c == '\r' ? FRAMING_SIZE_LF : FRAMING_EXTENSION;
        return API_OK;
    case FRAMING_EXTENSION:
        f->state = c == '\r' ? FRAMING_SIZE_LF : FRAMING_EXTENSION;
        return API_OK;
    case FRAMING_SIZE_LF:
        if (c != '\n') {
            break;
        }
        return begin_chunk(f, err);
    case FRAMING_DATA_CR:
        if (c != '\r') {
            break;
        }
        f->state = FRAMING_DATA_LF;
        return API_OK;
    case FRAMING_DATA_LF:
        if (c != '\n') {
            break;
        }
        f->state = FRAMING_SIZE;
        return API_OK;
    case FRAMING_TRAILER_START:
        f->state = c == '\r' ? FRAMING_LAST_LF : FRAMING_TRAILER;
        return API_OK;
    case FRAMING_TRAILER:
        f->state = c == '\r' ? FRAMING_TRAILER_LF : FRAMING_TRAILER;
        return API_OK;
    case FRAMING_TRAILER_LF:
    case FRAMING_LAST_LF:
        if (c != '\n') {
            break;
        }
        f->state = f->state == FRAMING_LAST_LF ? FRAMING_END : FRAMING_TRAILER_START;
        return API_OK;
    case FRAMING_DATA:
    case FRAMING_END:
        break;
    }
    return api_fail(err, API_BAD_REQUEST, NULL, "The chunked request body is malformed.");
}

enum api_fault framing_next(struct framing *f, struct str bytes, size_t *ret_used,
                            struct str *ret_body, struct api_error *err)
{
    size_t used = 0;
    *ret_body = (struct str){bytes.data, 0};
    while (used < bytes.size && f->state != FRAMING_DATA && f->state != FRAMING_END) {
        enum api_fault fault = step(f, bytes.data[used++], err);
        if (fault != API_OK) {
            return fault;
        }
    }
    if (f->state == FRAMING_DATA && used < bytes.size) {
        size_t here = bytes.size - used < f->left ? bytes.size - used : (size_t)f->left;
        *ret_body = (struct str){bytes.data + used, here};
        used += here;
        f->left -= here;
        if (f->left == 0) {
            f->state = f->chunked ? FRAMING_DATA_CR : FRAMING_END;
        }
    }
    *ret_used = used;
    return API_OK;
}

#include "tests/bench/response.h"

#include <strings.h>

void response_init(struct response *r)
{
    *r = (struct response){.keep_alive = true};
    buf_init(&r->line, RESPONSE_LINE_MAX);
}

void response_fini(struct response *r)
{
    buf_fini(&r->line);
}

void response_clear(struct response *r)
{
    struct buf line = r->line;
    *r = (struct response){.keep_alive = true, .line = line};
    buf_clear(&r->line);
}

/* Digits of `base`; what follows them does not matter. */
static bool read_number(struct str text, unsigned base, uint64_t *ret)
{
    uint64_t value = 0;
    size_t i = 0;
    for (; i < text.size && i < 15; i++) {
        char c = text.data[i];
        unsigned digit = c >= '0' && c <= '9'   ? (unsigned)(c - '0')
                         : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a') + 10
                         : c >= 'A' && c <= 'F' ? (unsigned)(c - 'A') + 10
                                                : base;
        if (digit >= base) {
            break;
        }
        value = value * base + digit;
    }
    *ret = value;
    return i > 0;
}

static void read_status_line(struct response *r, struct str line)
{
    uint64_t status = 0;
    bool good = line.size >= 12 && str_starts_with(line, STR("HTTP/1.")) &&
                read_number((struct str){line.data + 9, 3}, 10, &status) && status >= 100;
    r->status = (unsigned)status;
    r->keep_alive = good && line.data[7] == '1';
    r->state = good ? RESPONSE_HEADERS : RESPONSE_BAD;
}

/* What follows the name, when the line is that header field. */
static bool is_field(struct str line, struct str name, struct str *ret_value)
{
    if (line.size <= name.size || line.data[name.size] != ':' ||
        strncasecmp(line.data, name.data, name.size) != 0) {
        return false;
    }
    size_t i = name.size + 1;
    while (i < line.size && line.data[i] == ' ') {
        i++;
    }
    *ret_value = (struct str){line.data + i, line.size - i};
    return true;
}

static bool equal_any_case(struct str value, struct str word)
{
    return value.size == word.size && strncasecmp(value.data, word.data, word.size) == 0;
}

static void end_head(struct response *r)
{
    if (r->status < 200) {
        r->state = RESPONSE_STATUS_LINE;
    } else if (r->chunked) {
        r->state = RESPONSE_CHUNK_SIZE;
    } else if (r->has_length) {
        r->state = r->left > 0 ? RESPONSE_LENGTH : RESPONSE_END;
    } else {
        r->state = RESPONSE_UNTIL_CLOSE;
        r->keep_alive = false;
    }
}

static void read_header(struct response *r, struct str line)
{
    struct str value;
    if (line.size == 0) {
        end_head(r);
    } else if (is_field(line, STR("Content-Length"), &value)) {
        r->has_length = read_number(value, 10, &r->left);
    } else if (is_field(line, STR("Transfer-Encoding"), &value)) {
        r->chunked = equal_any_case(value, STR("chunked"));
    } else if (is_field(line, STR("Connection"), &value)) {
        r->keep_alive = equal_any_case(value, STR("keep-alive"));
    } else if (is_field(line, STR("Retry-After"), &value)) {
        r->has_retry_after = value.size > 0;
    }
}

static void read_line(struct response *r, struct str line)
{
    if (line.size > 0 && line.data[line.size - 1] == '\r') {
        line.size--;
    }
    switch (r->state) {
    case RESPONSE_STATUS_LINE:
        read_status_line(r, line);
        break;
    case RESPONSE_HEADERS:
        read_header(r, line);
        break;
    case RESPONSE_CHUNK_SIZE:
        r->state = !read_number(line, 16, &r->left) ? RESPONSE_BAD
                   : r->left > 0                    ? RESPONSE_CHUNK
                                                    : RESPONSE_TRAILER;
        break;
    case RESPONSE_CHUNK_END:
        r->state = line.size == 0 ? RESPONSE_CHUNK_SIZE : RESPONSE_BAD;
        break;
    case RESPONSE_TRAILER:
        r->state = line.size == 0 ? RESPONSE_END : RESPONSE_TRAILER;
        break;
    default:
        break;
    }
}

static void take_line(struct response *r, struct str *bytes)
{
    const char *end = memchr(bytes->data, '\n', bytes->size);
    size_t size = end != NULL ? (size_t)(end - bytes->data) : bytes->size;
    struct str line = {bytes->data, size};
    if (end == NULL || r->line.size > 0) {
        buf_append(&r->line, bytes->data, size);
        line = buf_view(&r->line);
    }
    size += end != NULL ? 1 : 0;
    *bytes = (struct str){bytes->data + size, bytes->size - size};
    if (r->line.failed) {
        r->state = RESPONSE_BAD;
    } else if (end != NULL) {
        read_line(r, line);
        buf_clear(&r->line);
    }
}

bool response_next(struct response *r, struct str *bytes, struct str *ret_body)
{
    while (bytes->size > 0 && r->state != RESPONSE_END && r->state != RESPONSE_BAD) {
        if (r->state != RESPONSE_LENGTH && r->state != RESPONSE_CHUNK &&
            r->state != RESPONSE_UNTIL_CLOSE) {
            take_line(r, bytes);
            continue;
        }
        size_t size = bytes->size;
        if (r->state != RESPONSE_UNTIL_CLOSE) {
            size = r->left < size ? (size_t)r->left : size;
            r->left -= size;
        }
        *ret_body = (struct str){bytes->data, size};
        *bytes = (struct str){bytes->data + size, bytes->size - size};
        if (r->left == 0 && r->state != RESPONSE_UNTIL_CLOSE) {
            r->state = r->state == RESPONSE_CHUNK ? RESPONSE_CHUNK_END : RESPONSE_END;
        }
        return true;
    }
    return false;
}

bool response_close(struct response *r)
{
    if (r->state == RESPONSE_UNTIL_CLOSE) {
        r->state = RESPONSE_END;
    }
    return r->state == RESPONSE_END;
}

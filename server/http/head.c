#include "server/http/head.h"

#include <strings.h>

/* -------------------------------------------------------------------- scan */

void head_scan_init(struct head_scan *s)
{
    *s = (struct head_scan){.line_is_empty = true};
}

static enum head_state scan_fault(struct api_error *err, enum api_fault fault, const char *message)
{
    api_fail(err, fault, NULL, "%s", message);
    return HEAD_BAD;
}

size_t head_blank_lines(struct str bytes)
{
    size_t i = 0;
    while (i + 2 <= bytes.size && i < 2 * (size_t)HEAD_BLANKS_MAX &&
           memcmp(bytes.data + i, "\r\n", 2) == 0) {
        i += 2;
    }
    return i;
}

enum head_state head_scan(struct head_scan *s, struct str bytes, struct api_error *err)
{
    while (s->at < bytes.size) {
        unsigned char c = (unsigned char)bytes.data[s->at];
        if (c == '\r') {
            if (s->at + 1 == bytes.size) {
                return HEAD_MORE; /* look at the pair once it is whole */
            }
            if (bytes.data[s->at + 1] != '\n') {
                return scan_fault(err, API_BAD_REQUEST,
                                  "The request head has a carriage return without a line feed.");
            }
            s->at += 2;
            s->lines++;
            if (s->line_is_empty) {
                return HEAD_COMPLETE;
            }
            s->line_is_empty = true;
        } else if (c == '\n') {
            return scan_fault(err, API_BAD_REQUEST,
                              "The request head has a line feed without a carriage return.");
        } else if ((c < 0x20 && c != '\t') || c == 0x7f || (s->lines == 0 && c >= 0x7f)) {
            return scan_fault(err, API_BAD_REQUEST,
                              "The request head has a byte that is not allowed in HTTP.");
        } else {
            s->line_is_empty = false;
            s->at++;
        }
        if (s->at > HEAD_BYTES_MAX || (s->lines == 0 && s->at > HEAD_TARGET_MAX + 64)) {
            return scan_fault(err, API_HEAD_TOO_LARGE, "The request head is too large.");
        }
        if (s->lines > HEAD_HEADERS_MAX + 1) {
            return scan_fault(err, API_HEAD_TOO_LARGE, "The request has too many headers.");
        }
    }
    return HEAD_MORE;
}

/* ------------------------------------------------------------------- parts */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* RFC 9110: the characters of methods and header names. */
static bool is_token(struct str s)
{
    for (size_t i = 0; i < s.size; i++) {
        if (!is_digit(s.data[i]) && !is_letter(s.data[i]) &&
            memchr("!#$%&'*+-.^_`|~", s.data[i], 15) == NULL) {
            return false;
        }
    }
    return s.size > 0;
}

static bool equal_ignoring_case(struct str s, const char *name)
{
    return s.size == strlen(name) && strncasecmp(s.data, name, s.size) == 0;
}

static struct str trimmed(struct str s)
{
    while (s.size > 0 && (s.data[0] == ' ' || s.data[0] == '\t')) {
        s.data++;
        s.size--;
    }
    while (s.size > 0 && (s.data[s.size - 1] == ' ' || s.data[s.size - 1] == '\t')) {
        s.size--;
    }
    return s;
}

/* Cuts *rest at the first `separator` and returns what was before it; all of it when there is none.
 */
static struct str cut(struct str *rest, char separator)
{
    const char *found = rest->size > 0 ? memchr(rest->data, separator, rest->size) : NULL;
    size_t size = found != NULL ? (size_t)(found - rest->data) : rest->size;
    struct str part = {rest->data, size};
    size_t used = found != NULL ? size + 1 : size;
    rest->data += used;
    rest->size -= used;
    return part;
}

static int hex_digit(char c)
{
    if (is_digit(c)) {
        return c - '0';
    }
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static enum api_fault bad(struct api_error *err, const char *message)
{
    return api_fail(err, API_BAD_REQUEST, NULL, "%s", message);
}

/* ------------------------------------------------------------ request line */

static enum api_fault check_target(struct str target, struct api_error *err)
{
    if (target.size > HEAD_TARGET_MAX) {
        return api_fail(err, API_HEAD_TOO_LARGE, NULL,
                        "The request target is longer than %d bytes.", HEAD_TARGET_MAX);
    }
    for (size_t i = 0; i < target.size; i++) {
        if (target.data[i] <= 0x20 || target.data[i] == '#') {
            return bad(err, "The request target has a character that is not allowed.");
        }
        if (target.data[i] != '%') {
            continue;
        }
        int high = i + 2 < target.size ? hex_digit(target.data[i + 1]) : -1;
        int low = i + 2 < target.size ? hex_digit(target.data[i + 2]) : -1;
        if (high < 0 || low < 0 || high + low == 0) { /* %00 ends strings further on */
            return bad(err, "The request target has a percent escape that is not allowed.");
        }
    }
    return API_OK;
}

static enum api_fault parse_version(struct str version, struct head *head, struct api_error *err)
{
    if (str_equal_c(version, "HTTP/1.1") || str_equal_c(version, "HTTP/1.0")) {
        head->version_1_0 = version.data[7] == '0';
        head->keep_alive = !head->version_1_0;
        return API_OK;
    }
    if (version.size == 8 && memcmp(version.data, "HTTP/", 5) == 0 && is_digit(version.data[5]) &&
        version.data[6] == '.' && is_digit(version.data[7])) {
        return api_fail(err, API_UNSUPPORTED_VERSION, NULL,
                        "Only versions 1.1 and 1.0 of HTTP are spoken here.");
    }
    return bad(err, "The request line does not end in an HTTP version.");
}

static enum api_fault parse_request_line(struct str line, struct head *head, struct api_error *err)
{
    struct str rest = line;
    head->method = cut(&rest, ' ');
    struct str target = cut(&rest, ' ');
    if (!is_token(head->method) || head->method.size > 32) {
        return bad(err, "The request line does not begin with a method.");
    }
    enum api_fault fault = parse_version(rest, head, err);
    if (fault == API_OK) {
        fault = check_target(target, err);
    }
    if (fault != API_OK) {
        return fault;
    }
    bool all = str_equal_c(target, "*") && str_equal_c(head->method, "OPTIONS");
    if (!all && (target.size == 0 || target.data[0] != '/')) {
        return bad(err, "The request target must be a path.");
    }
    head->path = cut(&target, '?');
    return API_OK;
}

/* ----------------------------------------------------------------- headers */

/* Which headers were seen; each of these may come once. */
struct seen {
    bool host, length, encoding, transfer, authorization, api_key, origin, expect;
};

static bool repeated(bool *flag)
{
    bool was = *flag;
    *flag = true;
    return was;
}

static enum api_fault parse_length(struct str value, struct head *head, struct api_error *err)
{
    uint64_t length = 0;
    if (value.size == 0 || value.size > 20) {
        return bad(err, "Content-Length is not a number.");
    }
    for (size_t i = 0; i < value.size; i++) {
        if (!is_digit(value.data[i]) || __builtin_mul_overflow(length, 10, &length) ||
            __builtin_add_overflow(length, (uint64_t)(value.data[i] - '0'), &length)) {
            return bad(err, "Content-Length is not a number.");
        }
    }
    head->has_length = true;
    head->content_length = length;
    return API_OK;
}

static enum api_fault parse_transfer(struct str value, struct head *head, struct api_error *err)
{
    if (equal_ignoring_case(value, "chunked")) {
        head->chunked = true;
        return API_OK;
    }
    return api_fail(err, API_UNSUPPORTED_FRAMING, NULL,
                    "The only Transfer-Encoding known here is 'chunked'.");
}

static void parse_connection(struct str value, struct head *head)
{
    while (value.size > 0) {
        struct str option = trimmed(cut(&value, ','));
        if (equal_ignoring_case(option, "close")) {
            head->keep_alive = false;
            return;
        }
        if (equal_ignoring_case(option, "keep-alive")) {
            head->keep_alive = true;
        }
    }
}

static enum api_fault check_host(struct str value, struct api_error *err)
{
    for (size_t i = 0; i < value.size; i++) {
        char c = value.data[i];
        if (!is_digit(c) && !is_letter(c) && memchr("-._~%!$&'()*+,;=:[]", c, 19) == NULL) {
            return bad(err, "The Host header has a character that is not allowed.");
        }
    }
    return API_OK;
}

/* The headers that frame the message. Returns true when `name` was one of them; *ret is then its
 * fault. */
static bool parse_framing_header(struct str name, struct str value, struct head *head,
                                 struct seen *seen, enum api_fault *ret, struct api_error *err)
{
    if (equal_ignoring_case(name, "content-length")) {
        *ret = repeated(&seen->length) ? bad(err, "Content-Length is given twice.")
                                       : parse_length(value, head, err);
    } else if (equal_ignoring_case(name, "transfer-encoding")) {
        *ret = repeated(&seen->transfer) ? bad(err, "Transfer-Encoding is given twice.")
                                         : parse_transfer(value, head, err);
    } else if (equal_ignoring_case(name, "host")) {
        *ret = repeated(&seen->host) ? bad(err, "Host is given twice.") : check_host(value, err);
        head->host = value;
    } else if (equal_ignoring_case(name, "connection")) {
        parse_connection(value, head);
    } else if (equal_ignoring_case(name, "expect")) {
        head->expects_continue = equal_ignoring_case(value, "100-continue");
        if (repeated(&seen->expect) || !head->expects_continue) {
            *ret = api_fail(err, API_UNSUPPORTED_EXPECT, NULL,
                            "The only expectation met here is '100-continue'.");
        }
    } else if (equal_ignoring_case(name, "content-encoding")) {
        if (value.size > 0 && !equal_ignoring_case(value, "identity")) {
            *ret = api_fail(err, API_UNSUPPORTED_ENCODING, NULL,
                            "Compressed request bodies are not accepted.");
        }
    } else {
        return false;
    }
    return true;
}

static enum api_fault parse_other_header(struct str name, struct str value, struct head *head,
                                         struct seen *seen, struct api_error *err)
{
    if (equal_ignoring_case(name, "authorization")) {
        head->authorization = value;
        return repeated(&seen->authorization) ? bad(err, "Authorization is given twice.") : API_OK;
    }
    if (equal_ignoring_case(name, "api-key")) {
        head->api_key = value;
        return repeated(&seen->api_key) ? bad(err, "Api-Key is given twice.") : API_OK;
    }
    if (equal_ignoring_case(name, "origin")) {
        head->origin = value;
        return repeated(&seen->origin) ? bad(err, "Origin is given twice.") : API_OK;
    }
    if (equal_ignoring_case(name, "access-control-request-method")) {
        head->cors_method = value;
    } else if (equal_ignoring_case(name, "access-control-request-headers")) {
        head->cors_headers = value;
    } else if (equal_ignoring_case(name, "access-control-request-private-network")) {
        head->cors_private_network = equal_ignoring_case(value, "true");
    } else if (equal_ignoring_case(name, "x-client-request-id")) {
        head->client_request_id = value;
    } else if (equal_ignoring_case(name, "x-priority")) {
        head->priority = value;
    } else if (equal_ignoring_case(name, "x-request-timeout")) {
        head->request_timeout = value;
    } else if (equal_ignoring_case(name, "timeout")) {
        head->timeout = value;
    }
    return API_OK;
}

static enum api_fault parse_header(struct str line, struct head *head, struct seen *seen,
                                   struct api_error *err)
{
    if (line.data[0] == ' ' || line.data[0] == '\t') {
        return bad(err, "Folded header lines are not accepted.");
    }
    if (memchr(line.data, ':', line.size) == NULL) {
        return bad(err, "A header line has no colon.");
    }
    struct str name = cut(&line, ':');
    struct str value = trimmed(line);
    enum api_fault fault = API_OK;
    if (!is_token(name)) {
        return bad(err, "A header name has a character that is not allowed.");
    }
    if (parse_framing_header(name, value, head, seen, &fault, err)) {
        return fault;
    }
    return parse_other_header(name, value, head, seen, err);
}

static enum api_fault check_whole(const struct head *head, const struct seen *seen,
                                  struct api_error *err)
{
    if (head->chunked && head->has_length) {
        return bad(err, "Content-Length and Transfer-Encoding exclude each other.");
    }
    if (head->chunked && head->version_1_0) {
        return bad(err, "HTTP/1.0 has no Transfer-Encoding.");
    }
    if (!seen->host && !head->version_1_0) {
        return bad(err, "The Host header is missing.");
    }
    return API_OK;
}

/* The next line without its end; bytes is known to be made of lines. */
static struct str next_line(struct str *bytes)
{
    struct str line = cut(bytes, '\n');
    line.size -= line.size > 0;
    return line;
}

enum api_fault head_parse(struct str bytes, struct head *ret, struct api_error *err)
{
    struct head head = {0};
    struct seen seen = {0};
    struct str rest = bytes;
    enum api_fault fault = parse_request_line(next_line(&rest), &head, err);
    while (fault == API_OK && rest.size > 0) {
        struct str line = next_line(&rest);
        if (line.size == 0) {
            break;
        }
        fault = parse_header(line, &head, &seen, err);
    }
    if (fault == API_OK) {
        fault = check_whole(&head, &seen, err);
    }
    if (fault == API_OK) {
        *ret = head;
    }
    return fault;
}

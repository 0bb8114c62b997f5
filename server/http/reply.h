/* One answer: status, headers and a whole body, before it goes to the wire. The caller owns the
 * struct. */
#ifndef PHID_SERVER_HTTP_REPLY_H
#define PHID_SERVER_HTTP_REPLY_H

#include "server/api/error.h"

#define REPLY_HEADERS_MAX 24
#define REPLY_BODY_MAX    ((size_t)1 << 29)

struct reply_header {
    const char *name; /* static */
    char *value;      /* heap */
};

struct reply {
    unsigned status;
    struct buf body;
    struct reply_header headers[REPLY_HEADERS_MAX];
    size_t header_count;
    bool failed;    /* out of memory: answer with a plain 500 */
    bool head_only; /* reply_write leaves the body out, but not its length */
};

#define REPLY_ID_SIZE 40

/* A fresh x-request-id: "req_" and 32 hexadecimal digits. False when the system has no randomness;
 * out is then "". */
bool reply_make_id(char out[REPLY_ID_SIZE]);

void reply_init(struct reply *r);
void reply_fini(struct reply *r);
void reply_header(struct reply *r, const char *name, struct str value);

/* Sets status, body and retry headers of an error. */
void reply_error(struct reply *r, const struct api_error *err);

/* The bytes of an HTTP/1.1 message that ends its connection. */
void reply_write(const struct reply *r, struct buf *out);

const char *reply_reason(unsigned status);

#endif

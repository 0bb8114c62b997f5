/* An HTTP/1.1 response, taken apart as its bytes come: the status, the few header fields that
 * matter to a load generator, and the body freed of its chunks. Interim answers are skipped. The
 * caller owns the struct; one per request. */
#ifndef PHID_BENCH_RESPONSE_H
#define PHID_BENCH_RESPONSE_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/base/buf.h"

#define RESPONSE_LINE_MAX ((size_t)32768)

enum response_state {
    RESPONSE_STATUS_LINE,
    RESPONSE_HEADERS,
    RESPONSE_LENGTH,     /* a body of `left` bytes */
    RESPONSE_CHUNK_SIZE, /* the line before a chunk */
    RESPONSE_CHUNK,      /* `left` bytes of it */
    RESPONSE_CHUNK_END,  /* the line break behind it */
    RESPONSE_TRAILER,
    RESPONSE_UNTIL_CLOSE, /* a body that ends with the connection */
    RESPONSE_END,
    RESPONSE_BAD, /* not HTTP */
};

struct response {
    enum response_state state;
    unsigned status; /* 0 until its line has come */
    uint64_t left;
    bool keep_alive, chunked, has_length, has_retry_after;
    struct buf line;
};

void response_init(struct response *r);
void response_fini(struct response *r);
void response_clear(struct response *r); /* for another request */

/* Takes bytes off the front of `bytes` until it has a run of the body: true. False when they are
 * used up, or the response has ended or is bad; what then is left in `bytes` does not belong to it.
 */
bool response_next(struct response *r, struct str *bytes, struct str *ret_body);

/* The connection was closed. True when that is how the body ends. */
bool response_close(struct response *r);

#endif

/* Where a request's body ends: a decoder for Content-Length and chunked bodies that lets nothing
 * ambiguous through. Trailers and chunk extensions are checked for size and dropped. Pure functions
 * over bytes; no sockets. */
#ifndef PHID_SERVER_HTTP_FRAMING_H
#define PHID_SERVER_HTTP_FRAMING_H

#include "server/http/head.h"

#define FRAMING_EXTRA_MAX 16384 /* bytes of chunk extensions and trailers in one body */

enum framing_state {
    FRAMING_DATA, /* `left` bytes of body follow */
    FRAMING_SIZE,
    FRAMING_EXTENSION,
    FRAMING_SIZE_LF,
    FRAMING_DATA_CR,
    FRAMING_DATA_LF,
    FRAMING_TRAILER_START,
    FRAMING_TRAILER,
    FRAMING_TRAILER_LF,
    FRAMING_LAST_LF,
    FRAMING_END,
};

struct framing {
    enum framing_state state;
    bool chunked;
    uint64_t left;   /* of the length, or of this chunk */
    uint64_t total;  /* body bytes announced so far */
    uint64_t max;    /* more is API_BODY_TOO_LARGE */
    unsigned digits; /* of the chunk size being read */
    size_t extra;
};

/* Refuses a Content-Length above max at once. */
enum api_fault framing_init(struct framing *f, const struct head *head, uint64_t max,
                            struct api_error *err);

/* Reads some of `bytes`: *ret_used of them, of which *ret_body (maybe empty) is body. Call again
 * until the bytes are used up or the state is FRAMING_END. */
enum api_fault framing_next(struct framing *f, struct str bytes, size_t *ret_used,
                            struct str *ret_body, struct api_error *err);

#endif

/* The strict reader of a request's head: the bytes from the request line to the empty line.
 *
 * Whatever two readers could understand differently is refused here, so that nothing behind it
 * needs to guess: both kinds of framing at once, repeated lengths or hosts, bare line feeds, folded
 * lines, spaces around names, control bytes, unknown versions and transfer codings. Pure functions
 * over bytes; no sockets. */
#ifndef PHID_SERVER_HTTP_HEAD_H
#define PHID_SERVER_HTTP_HEAD_H

#include <stdint.h>

#include "server/api/error.h"

#define HEAD_BYTES_MAX   32768
#define HEAD_TARGET_MAX  8192
#define HEAD_HEADERS_MAX 100
#define HEAD_BLANKS_MAX  4 /* empty lines tolerated before a request */

/* Looks for the end of a head as bytes arrive, and for faults that need not wait for it. */
struct head_scan {
    size_t at;    /* bytes looked at */
    size_t lines; /* line ends seen */
    bool line_is_empty;
};

enum head_state { HEAD_MORE, HEAD_COMPLETE, HEAD_BAD };

void head_scan_init(struct head_scan *s);

/* bytes is everything since the head's first byte, growing from call to call. HEAD_COMPLETE: the
 * head is the first s->at bytes. HEAD_BAD: err says why. */
enum head_state head_scan(struct head_scan *s, struct str bytes, struct api_error *err);

/* How many bytes of empty lines to drop before the request line. */
size_t head_blank_lines(struct str bytes);

/* What the server needs of a head. Views into its bytes; empty when a header is absent. */
struct head {
    struct str method;
    struct str path; /* without the query, percent-encoded */
    bool version_1_0;
    bool keep_alive;
    bool chunked;
    bool has_length;
    bool expects_continue;
    uint64_t content_length;
    struct str host, authorization, api_key, origin, client_request_id;
    struct str priority, request_timeout, timeout; /* see wishes.h */
    struct str cors_method, cors_headers;          /* Access-Control-Request-* */
    bool cors_private_network;
};

/* bytes is a complete head. err->fault tells the status to answer with. */
enum api_fault head_parse(struct str bytes, struct head *ret, struct api_error *err);

#endif

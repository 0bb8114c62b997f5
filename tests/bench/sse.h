/* A scanner of the server-sent events of an OpenAI stream, fast enough to count tens of thousands
 * of tokens a second.
 *
 * It parses no JSON. It looks for member names with their colon, which cannot occur inside a JSON
 * string: there the closing quote of the name would be escaped. Every `data:` line is one event.
 * The caller owns the struct; one per answer. */
#ifndef PHID_BENCH_SSE_H
#define PHID_BENCH_SSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/buf.h"

#define SSE_LINE_MAX ((size_t)1 << 20)

struct sse {
    struct buf line; /* the part of a line that came with earlier bytes */
};

struct sse_usage {
    uint32_t prompt_tokens, completion_tokens, cached_tokens;
};

struct sse_event {
    bool done;             /* data: [DONE] */
    bool error;            /* {"error":..} */
    bool has_usage;        /* an object, not null */
    struct str text;       /* of the answer, still escaped as JSON; empty when there is none */
    struct str error_code; /* of the error, escaped; empty when it has none */
    struct sse_usage usage;
};

void sse_init(struct sse *s);
void sse_fini(struct sse *s);
void sse_clear(struct sse *s); /* for another answer */

/* Takes bytes off the front of `bytes` until an event is complete: true. False when they are used
 * up; call again with the next ones. The event's views live until the next call. */
bool sse_next(struct sse *s, struct str *bytes, struct sse_event *ret);

#endif

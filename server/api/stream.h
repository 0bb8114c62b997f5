/* Server-sent events: the frames of a streamed answer, appended to a generation's `out`.
 *
 *   first chunk of each choice ... chunks ... finish of each choice [usage] data: [DONE]
 *
 * or, after a failure, an error frame and no [DONE]. Frames carry only `data:` lines: event names,
 * ids and retry lines break one official client or the other. */
#ifndef PHID_SERVER_API_STREAM_H
#define PHID_SERVER_API_STREAM_H

#include "server/api/generation.h"

/* Opens `data: {"id":..,"choices":[`; the caller writes the element; stream_chunk_end closes the
 * frame. */
void stream_chunk_begin(struct generation *g);
void stream_chunk_end(struct generation *g);

void stream_usage(struct generation *g); /* the extra chunk of stream_options.include_usage */
void stream_done(struct generation *g);
void stream_error(struct generation *g);

/* A comment that keeps the connection's timers quiet. */
#define STREAM_PING ": ping\n\n"

/* The members that every body and chunk begins with, up to and including `"choices":[`. */
void reply_begin(const struct generation *g, const char *object, struct buf *out);
void usage_write(const struct generation *g, struct buf *out);

#endif

/* A stream's bytes on their way to its client: head, chunks, end.
 *
 * They go straight into the connection's buffer. libmicrohttpd, which costs three system calls for
 * every write, has its connection suspended meanwhile, is given an empty answer at the end, and
 * what it says then is thrown away. I/O thread. */
#ifndef PHID_SERVER_HTTP_FEED_H
#define PHID_SERVER_HTTP_FEED_H

#include "server/http/exchange.h"

/* Writes the head of x->reply, a body of unknown length. False: out of memory. */
bool feed_open(struct exchange *x, struct buf *out);

/* Writes what the generation has, or a ping that is due. True when that was the stream's end. */
bool feed_write(struct exchange *x, struct buf *out);

#endif

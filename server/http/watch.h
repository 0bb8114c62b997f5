/* What those who watch the server are told: /health, /ready and /metrics.
 *
 * Answered on the I/O thread from counters, without a lock and without the engine's help, so that
 * they answer whatever the engine is doing. */
#ifndef PHID_SERVER_HTTP_WATCH_H
#define PHID_SERVER_HTTP_WATCH_H

#include "server/http/io.h"
#include "server/http/reply.h"

/* A step that has not moved for so long counts as hanging. */
#define WATCH_STALL_MS 10000

/* Alive: false (503) when a restart is the only thing that helps, a hanging step or a lost device.
 * True while loading and while draining. */
void watch_health(const struct io *io, struct reply *reply);

/* Whether new requests should come here: false (503) while loading, from a drain's begin on, and
 * whenever /health is. */
void watch_ready(const struct io *io, struct reply *reply);

/* The Prometheus page. */
void watch_metrics(const struct io *io, struct reply *reply);

#endif

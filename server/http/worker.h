/* Two threads that do what the I/O thread must not wait for: parsing and tokenizing request bodies.
 * One takes the large bodies, so that a megabyte of text delays nobody but its like.
 *
 * A job is memory of its owner, who must not touch it between workers_push and its `run`. */
#ifndef PHID_SERVER_HTTP_WORKER_H
#define PHID_SERVER_HTTP_WORKER_H

#include "engine/base/status.h"

#define WORKER_LARGE_BYTES 65536 /* bodies above this are large */

struct job {
    struct job *next;
    void (*run)(struct job *job); /* on a worker */
};

struct workers;

enum phid_status workers_new(struct workers **ret, struct phid_error *err);

/* Runs everything queued, then joins the threads. NULL is fine. */
void workers_free(struct workers *w);
void workers_push(struct workers *w, struct job *job, size_t body_bytes);

#endif

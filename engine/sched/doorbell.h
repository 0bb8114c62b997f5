/* The doorbell: how any thread tells the step thread that there is something to look at.
 *
 * Counted, because a request's handle may outlive its engine: the engine holds one reference, every
 * handle another. A ring is remembered until the step thread has waited for it, so none is lost. */
#ifndef PHID_SCHED_DOORBELL_H
#define PHID_SCHED_DOORBELL_H

#include <stdatomic.h>
#include <stdint.h>

#include "engine/base/status.h"

struct doorbell; /* opaque */

/* One reference, the caller's. Errors: PHID_ERR_MEMORY. */
enum phid_status doorbell_new(struct doorbell **ret_bell, struct phid_error *err);
struct doorbell *doorbell_ref(struct doorbell *bell);
void doorbell_unref(struct doorbell *bell); /* NULL is fine */

/* Any thread. */
void doorbell_ring(struct doorbell *bell);

/* Step thread: sleeps until a ring that came after the last wait returned, or until the clock
 * (clock.h) shows until_ns; UINT64_MAX: for ever. */
void doorbell_wait(struct doorbell *bell, uint64_t until_ns);

/* Any thread: when the ring came that no wait has returned for yet (clock.h); 0: there is none. */
uint64_t doorbell_rung_ns(const struct doorbell *bell);

/* Any thread: says that some request was cancelled, and rings. */
void doorbell_cancelled(struct doorbell *bell);

/* Step thread: how often that happened so far; a new number means that it is worth looking through
 * the queue. */
uint64_t doorbell_cancellations(const struct doorbell *bell);

#endif

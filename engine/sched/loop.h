/* The step loop: one thread that takes waiting sequences, computes them together and hands out
 * their tokens.
 *
 * A turn of the loop: drop what was cancelled, admit what fits (admission.c), build a batch
 * (batch.c), run it through the backend and put every new token on its way (step.c). When there is
 * nothing to do the thread sleeps on the doorbell. The engine owns the loop; its functions may be
 * called from any thread. */
#ifndef PHID_SCHED_LOOP_H
#define PHID_SCHED_LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/backend/backend.h"
#include "engine/base/status.h"
#include "engine/phid.h"
#include "engine/sched/doorbell.h"
#include "engine/sched/sequence.h"

struct loop; /* opaque; its parts are in loop_state.h */

struct loop_options {
    const struct backend_api *api;
    struct backend
        *backend; /* loaded, with KV storage for `pages` pages; the loop's alone while it lives */
    const struct block_model *block;
    const struct sequence_terms *terms; /* borrowed; a sequence's pages are at most `pages` */
    size_t max_running;                 /* at most step_tokens */
    size_t step_tokens;
    uint64_t itl_target_ns; /* see pace.h; 0: twice a lone decode step */
    enum phid_speculation speculation;
    size_t queue, queue_tokens; /* of those that wait; queue_tokens 0: no limit */
    uint64_t max_wait_ns;       /* 0: no limit */
    uint64_t max_overtake_ns;
    size_t pages;
    size_t page_bytes;                         /* what copying one moves */
    void (*log)(void *user, const char *line); /* may be NULL; called on the step thread */
    void *log_user;
};

/* Allocates everything a step takes and starts the thread. Errors: PHID_ERR_MEMORY. */
enum phid_status loop_new(const struct loop_options *options, struct loop **ret_loop,
                          struct phid_error *err);

/* Ends every sequence with PHID_ERR_CLOSED and joins the thread. */
void loop_free(struct loop *l);

/* Takes a reference on the sequence and queues it. Errors: PHID_ERR_BUSY, PHID_ERR_CLOSED, and the
 * device's error once it has failed. */
enum phid_status loop_submit(struct loop *l, struct sequence *s, struct phid_error *err);

/* See phid_engine_loaded. */
enum phid_status loop_loaded(struct loop *l, uint32_t timeout_ms, bool *ret_loaded,
                             struct phid_error *err);

void loop_drain(struct loop *l);
void loop_load(const struct loop *l, struct phid_engine_load *ret);
void loop_stats(struct loop *l, struct phid_engine_stats *ret); /* takes no lock */
void loop_histogram(const struct loop *l, enum phid_histogram_id id, struct phid_histogram *ret);
struct doorbell *loop_doorbell(struct loop *l);   /* borrowed */
uint64_t loop_memory_bytes(const struct loop *l); /* the loop's own scratch */

/* A sequence's logits, see phid_engine_logits. The step thread does it between two steps, in its
 * own pages; if there are too few, running sequences are put back and continue afterwards. Blocks.
 * Errors: PHID_ERR_CLOSED, the backend's. */
struct evaluation {
    const int32_t *ids;
    size_t count; /* 1 .. context */
    bool all;
    float *logits;
};
enum phid_status loop_evaluate(struct loop *l, const struct evaluation *evaluation,
                               struct phid_error *err);

#endif

/* The inside of the step loop, shared by its own files only: loop.c, admission.c, step.c,
 * evaluate.c. */
#ifndef PHID_SCHED_LOOP_STATE_H
#define PHID_SCHED_LOOP_STATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "engine/kv/page_pool.h"
#include "engine/kv/prefix.h"
#include "engine/sched/batch.h"
#include "engine/sched/demand.h"
#include "engine/sched/loop.h"
#include "engine/sched/meter.h"
#include "engine/sched/pace.h"
#include "engine/sched/queue.h"
#include "engine/sched/turns.h"

/* Written by the step thread, read by any; each number is true by itself. */
struct loop_counters {
    atomic_size_t
        live; /* submitted and not finished; release by who finishes one, acquire by loop_stats */
    atomic_size_t running, pages_free, pages_cached;
    _Atomic uint64_t prefix_queries, prefix_hits, prefix_evictions;
    atomic_size_t waiting, waiting_tokens, parked; /* by who holds the loop's mutex */
    atomic_bool blocked; /* somebody waits whose turn it is, and there is no place */
    _Atomic uint64_t steps, tokens_prefilled, tokens_decoded, finished, cancelled, preemptions;
    _Atomic uint64_t drafts, draft_tokens, draft_accepted;
    _Atomic uint64_t draft_accepted_at[PHID_DRAFT_PLACES];
    _Atomic uint64_t corrupted;
    _Atomic uint64_t host_ns, sample_ns, device_ns; /* where the time of turns with a step went */
};

/* An evaluation that somebody waits for. */
struct evaluation_job {
    const struct evaluation *wanted;
    enum phid_status status;
    struct phid_error error;
    bool done;
};

struct loop {
    struct loop_options options;
    struct doorbell *bell;
    pthread_t thread;
    bool has_thread;
    struct loop_counters counters;
    struct meter meter;
    atomic_bool device_lost; /* for loop_stats */

    pthread_mutex_t mu;
    pthread_cond_t evaluated;
    pthread_cond_t loading_ended; /* loaded, or failed */
    struct turns waiting;         /* guarded by mu; new ones */
    struct queue parked;          /* guarded by mu; those that ran and gave their pages up */
    uint64_t arrivals;            /* guarded by mu */
    uint64_t first_expiry_ns;     /* guarded by mu; no one that waits or is parked ends before */
    bool draining, stopping;      /* guarded by mu */
    bool loaded;             /* guarded by mu; all weights are there. Written by the step thread */
    enum phid_status failed; /* guarded by mu; the device is lost */
    struct phid_error failure;  /* guarded by mu */
    struct evaluation_job *job; /* guarded by mu */

    /* Step thread. */
    struct page_pool pool;
    struct prefix_tree prefixes; /* without pages when nothing is shared */
    struct sequence **running;   /* [max_running], oldest first */
    size_t running_count;
    struct batch batch;
    struct pace pace;
    uint64_t guess_turns; /* in which guesses could be made */
    struct demand demand;
    uint64_t device_ns, sample_ns; /* of this turn */
    float *hidden;                 /* [step_tokens, n_embd] */
    float *logits;                 /* [logit_rows, n_vocab] */
    size_t logit_rows;
    uint64_t last_parked; /* its ordinal */
    size_t copies_left;   /* pages that may still be copied before this step */
    bool unsettled;       /* preparing has parked somebody or lets somebody wait: look again */
    uint64_t cancellations_seen;
};

/* loop.c */
void loop_log(struct loop *l, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* A matrix that no step has needed yet, when there is nothing else to do. False: all are there. */
bool loop_load_more(struct loop *l);
/* Ends a sequence that is in no queue (any more): out of the running ones, pages back, output
 * finished. */
void loop_finish(struct loop *l, struct sequence *s, enum phid_finish finish,
                 const struct phid_error *error);
void loop_remove_running(struct loop *l, struct sequence *s);
void loop_lose_device(struct loop *l, enum phid_status status, const struct phid_error *error);
void loop_count_pages(struct loop *l);

/* waiting.c */
void loop_drop_gone(struct loop *l); /* ends those that were cancelled or whose time is over */
struct sequence *loop_next_waiting(struct loop *l); /* whose turn is next; NULL: nobody's */
void loop_take_waiting(struct loop *l,
                       struct sequence *s); /* that one, out of the queue to a seat */
void loop_put_back(struct loop *l,
                   struct sequence *s);              /* it gave its seat up and waits for another */
void loop_leave(struct loop *l, struct sequence *s); /* it has ended */
struct sequence *loop_take_any_waiting(struct loop *l); /* to end it; NULL: nobody waits */
bool loop_has_work(struct loop *l); /* somebody waits for a step, not only for its reader */
uint64_t
loop_first_expiry(struct loop *l); /* when somebody's time will be over if nothing happens */

/* admission.c */
void loop_admit(struct loop *l);
void loop_prepare(
    struct loop *l); /* decides who takes part in the next step, and gives them their pages */
void loop_park(struct loop *l,
               struct sequence *s); /* a running one gives its pages and its seat up */

/* speculate.c */
void loop_speculate(struct loop *l); /* between loop_prepare and batch_build */

/* sharing.c */
void loop_share_begin(struct loop *l); /* of a turn */
/* Takes the whole pages that the tree has. */
void loop_share_found(struct loop *l, struct sequence *s);
/* The same, and part of a page. false: wait, another one computes in this step what s needs, or
 * enough is copied for one turn. */
bool loop_share(struct loop *l, struct sequence *s);
/* Whole pages that it would find now or soon; *ret_idle of them nobody else reads. */
size_t loop_found_pages(const struct loop *l, const struct sequence *s, size_t *ret_idle);
void loop_publish(struct loop *l, struct sequence *s); /* what it has computed, after a step */

/* step.c */
void loop_step(struct loop *l); /* runs l->batch */
/* Memory for about so many tokens more of the pages that will be taken next. False: there is enough
 * for now. */
bool loop_warm(struct loop *l, size_t tokens);

/* evaluate.c */
bool loop_run_job(struct loop *l); /* false: there was none */
void loop_refuse_job(struct loop *l);

#endif

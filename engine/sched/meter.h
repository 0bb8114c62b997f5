/* The meter: what the step loop counts about requests and steps, for phid_engine_stats and
 * phid_engine_histogram.
 *
 * Lives in the loop. The step thread adds where a number becomes known; any thread reads without a
 * lock, so that watching an engine never waits for a step. */
#ifndef PHID_SCHED_METER_H
#define PHID_SCHED_METER_H

#include <stdatomic.h>
#include <stdbool.h>

#include "engine/base/histogram.h"
#include "engine/phid.h"
#include "engine/sched/sequence.h"

struct meter {
    struct histogram histograms[PHID_HISTOGRAMS];
    _Atomic uint64_t finished[PHID_FINISHES]; /* by reason */
    _Atomic uint64_t prompt_tokens;
    uint64_t step; /* step thread: how many there were */
    /* When something last moved, or the step thread woke to something new. */
    _Atomic uint64_t moved_ns;
    atomic_bool idle; /* it sleeps and has nothing to do; release by it, acquire by who watches */
};

void meter_init(struct meter *m);

/* Step thread. */
void meter_step(struct meter *m, size_t rows);
void meter_token(struct meter *m, struct sequence *s); /* s has just got one more */
void meter_finish(struct meter *m, const struct sequence *s, enum phid_finish finish);

/* Step thread: something has moved (a layer, a step, weights; the end of a request counts by
 * itself); it begins a turn; it goes to sleep, and whether it leaves work undone. Looking and
 * sleeping again beside work is no move. */
void meter_beat(struct meter *m);
void meter_wake(struct meter *m);
void meter_rest(struct meter *m, bool has_work);

/* Any thread: for how long nothing has moved although there is work, or the step thread sleeps on
 * although it was called at rung_ns (0: it was not); else 0. */
uint64_t meter_stalled_ns(const struct meter *m, uint64_t rung_ns);
void meter_read(const struct meter *m, enum phid_histogram_id id, struct phid_histogram *ret);

#endif

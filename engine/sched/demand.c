#include "engine/sched/demand.h"

#define FADE_SECONDS 20.0 /* older turns count a third and less */
#define SURE_SECONDS 0.5  /* of full turns, before they say anything */
#define SURE_ENDS    4    /* ended requests, likewise */
#define SHARE        0.1  /* of a new request in the running means */

void demand_init(struct demand *d)
{
    *d = (struct demand){0};
}

void demand_turn(struct demand *d, size_t rows, uint64_t ns, bool full)
{
    if (!full) {
        return;
    }
    double seconds = (double)ns * 1e-9;
    double keep = 1 / (1 + seconds / FADE_SECONDS);
    d->rows = d->rows * keep + (double)rows;
    d->seconds = d->seconds * keep + seconds;
    if (d->seconds >= SURE_SECONDS) {
        double rate = d->rows / d->seconds;
        atomic_store_explicit(&d->rows_per_second, rate > 1 ? (uint64_t)rate : 1,
                              memory_order_relaxed);
    }
}

void demand_end(struct demand *d, size_t rows, size_t answer)
{
    double share = d->requests < 1 / SHARE ? 1 / (double)(d->requests + 1) : SHARE;
    d->requests++;
    d->request_rows += share * ((double)rows - d->request_rows);
    d->answer_rows += share * ((double)answer - d->answer_rows);
    if (d->requests >= SURE_ENDS) {
        atomic_store_explicit(&d->rows_per_request, (uint64_t)d->request_rows + 1,
                              memory_order_relaxed);
        atomic_store_explicit(&d->rows_per_answer, (uint64_t)d->answer_rows, memory_order_relaxed);
    }
}

/* Each waiting request needs a seat, and a seat is free when a request's worth of rows is done. */
uint64_t demand_wait_ns(const struct demand *d, const struct demand_queue *queue)
{
    uint64_t rate = atomic_load_explicit(&d->rows_per_second, memory_order_relaxed);
    uint64_t rows = atomic_load_explicit(&d->rows_per_request, memory_order_relaxed);
    uint64_t answer = atomic_load_explicit(&d->rows_per_answer, memory_order_relaxed);
    if (rate == 0 || rows == 0 || queue->waiting < queue->seats) {
        return 0;
    }
    if (queue->waiting > 0) { /* those that wait now may have longer prompts */
        uint64_t mean = queue->tokens / queue->waiting + answer;
        rows = mean > rows ? mean : rows;
    }
    double ends = (double)(queue->waiting + 1 - queue->seats);
    return (uint64_t)(ends * (double)rows / (double)rate * 1e9);
}

#include "engine/sched/doorbell.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#include "engine/base/clock.h"

struct doorbell {
    atomic_uint references;
    _Atomic uint64_t cancellations; /* release by who cancels, acquire by the step thread */
    pthread_mutex_t mu;
    pthread_cond_t rings;
    bool rung;                /* guarded by mu */
    _Atomic uint64_t rung_ns; /* written with it, for whoever watches; 0: it is not rung */
};

enum phid_status doorbell_new(struct doorbell **ret_bell, struct phid_error *err)
{
    struct doorbell *bell = calloc(1, sizeof(*bell));
    if (bell == NULL) {
        return phid_fail(err, PHID_ERR_MEMORY, "no memory for an engine");
    }
    atomic_init(&bell->references, 1);
    atomic_init(&bell->cancellations, 0);
    pthread_mutex_init(&bell->mu, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&bell->rings, &monotonic);
    pthread_condattr_destroy(&monotonic);
    *ret_bell = bell;
    return PHID_OK;
}

struct doorbell *doorbell_ref(struct doorbell *bell)
{
    atomic_fetch_add_explicit(&bell->references, 1, memory_order_relaxed);
    return bell;
}

void doorbell_unref(struct doorbell *bell)
{
    if (bell == NULL || atomic_fetch_sub_explicit(&bell->references, 1, memory_order_acq_rel) > 1) {
        return;
    }
    pthread_cond_destroy(&bell->rings);
    pthread_mutex_destroy(&bell->mu);
    free(bell);
}

void doorbell_ring(struct doorbell *bell)
{
    pthread_mutex_lock(&bell->mu);
    if (!bell->rung) {
        bell->rung = true;
        atomic_store_explicit(&bell->rung_ns, clock_now_ns(), memory_order_relaxed);
        pthread_cond_signal(&bell->rings);
    }
    pthread_mutex_unlock(&bell->mu);
}

void doorbell_wait(struct doorbell *bell, uint64_t until_ns)
{
    const struct timespec until = {.tv_sec = (time_t)(until_ns / CLOCK_NS_PER_S),
                                   .tv_nsec = (long)(until_ns % CLOCK_NS_PER_S)};
    int problem = 0;
    pthread_mutex_lock(&bell->mu);
    while (!bell->rung && problem != ETIMEDOUT) {
        problem = until_ns == UINT64_MAX ? pthread_cond_wait(&bell->rings, &bell->mu)
                                         : pthread_cond_timedwait(&bell->rings, &bell->mu, &until);
    }
    bell->rung = false;
    atomic_store_explicit(&bell->rung_ns, 0, memory_order_relaxed);
    pthread_mutex_unlock(&bell->mu);
}

uint64_t doorbell_rung_ns(const struct doorbell *bell)
{
    return atomic_load_explicit(&bell->rung_ns, memory_order_relaxed);
}

void doorbell_cancelled(struct doorbell *bell)
{
    atomic_fetch_add_explicit(&bell->cancellations, 1, memory_order_release);
    doorbell_ring(bell);
}

uint64_t doorbell_cancellations(const struct doorbell *bell)
{
    return atomic_load_explicit(&bell->cancellations, memory_order_acquire);
}

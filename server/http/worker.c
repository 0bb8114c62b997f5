#include "server/http/worker.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#include "server/http/slice.h"

enum { SMALL, LARGE, WORKER_COUNT };

struct worker {
    pthread_t thread;
    pthread_mutex_t mu;
    pthread_cond_t changed;
    struct job *first, *last; /* guarded by mu */
    bool stopping;            /* guarded by mu */
    bool started;
};

struct workers {
    struct worker workers[WORKER_COUNT];
};

static void *work(void *user)
{
    struct worker *w = user;
    slice_shorten();
    pthread_mutex_lock(&w->mu);
    for (;;) {
        struct job *job = w->first;
        if (job == NULL) {
            if (w->stopping) {
                break;
            }
            pthread_cond_wait(&w->changed, &w->mu);
            continue;
        }
        w->first = job->next;
        pthread_mutex_unlock(&w->mu);
        job->run(job);
        pthread_mutex_lock(&w->mu);
    }
    pthread_mutex_unlock(&w->mu);
    return NULL;
}

enum phid_status workers_new(struct workers **ret, struct phid_error *err)
{
    struct workers *all = calloc(1, sizeof *all);
    if (all == NULL) {
        return phid_fail(err, PHID_ERR_MEMORY, "out of memory for the server's workers");
    }
    for (size_t i = 0; i < WORKER_COUNT; i++) {
        struct worker *w = &all->workers[i];
        pthread_mutex_init(&w->mu, NULL);
        pthread_cond_init(&w->changed, NULL);
        w->started = pthread_create(&w->thread, NULL, work, w) == 0;
        if (w->started) {
            pthread_setname_np(w->thread, i == SMALL ? "phid-read" : "phid-read-large");
        }
    }
    if (!all->workers[SMALL].started || !all->workers[LARGE].started) {
        workers_free(all);
        return phid_fail(err, PHID_ERR_IO, "cannot start the server's worker threads");
    }
    *ret = all;
    return PHID_OK;
}

void workers_free(struct workers *all)
{
    if (all == NULL) {
        return;
    }
    for (size_t i = 0; i < WORKER_COUNT; i++) {
        struct worker *w = &all->workers[i];
        pthread_mutex_lock(&w->mu);
        w->stopping = true;
        pthread_cond_signal(&w->changed);
        pthread_mutex_unlock(&w->mu);
        if (w->started) {
            pthread_join(w->thread, NULL);
        }
        pthread_mutex_destroy(&w->mu);
        pthread_cond_destroy(&w->changed);
    }
    free(all);
}

void workers_push(struct workers *all, struct job *job, size_t body_bytes)
{
    struct worker *w = &all->workers[body_bytes > WORKER_LARGE_BYTES ? LARGE : SMALL];
    job->next = NULL;
    pthread_mutex_lock(&w->mu);
    if (w->first == NULL) {
        w->first = job;
    } else {
        w->last->next = job;
    }
    w->last = job;
    pthread_cond_signal(&w->changed);
    pthread_mutex_unlock(&w->mu);
}

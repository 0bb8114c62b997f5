#include "engine/sched/loop.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "engine/base/checked.h"
#include "engine/base/clock.h"
#include "engine/sched/loop_state.h"

#define WARM_IDLE 8 /* tokens whose memory is brought in before a look at who came */

void loop_log(struct loop *l, const char *format, ...)
{
    if (l->options.log == NULL) {
        return;
    }
    char line[256];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    l->options.log(l->options.log_user, line);
}

void loop_count_pages(struct loop *l)
{
    struct loop_counters *c = &l->counters;
    atomic_store_explicit(&c->pages_free, page_pool_available(&l->pool), memory_order_relaxed);
    atomic_store_explicit(&c->pages_cached, l->prefixes.idle_count, memory_order_relaxed);
    atomic_store_explicit(&c->prefix_evictions, l->prefixes.evictions, memory_order_relaxed);
    atomic_store_explicit(&l->counters.running, l->running_count, memory_order_relaxed);
}

void loop_remove_running(struct loop *l, struct sequence *s)
{
    size_t i = 0;
    while (i < l->running_count && l->running[i] != s) {
        i++;
    }
    if (i == l->running_count) {
        return;
    }
    l->running_count--;
    for (; i < l->running_count; i++) {
        l->running[i] = l->running[i + 1];
    }
}

void loop_finish(struct loop *l, struct sequence *s, enum phid_finish finish,
                 const struct phid_error *error)
{
    s->ended = true;
    meter_finish(&l->meter, s, finish);
    if (s->started) {
        const struct output_progress *p = &s->progress;
        demand_end(&l->demand, p->prompt_tokens - p->cached_tokens + p->completion_tokens,
                   p->completion_tokens);
    }
    loop_leave(l, s);
    loop_remove_running(l, s);
    page_table_clear(&s->pages, &l->pool);
    loop_count_pages(l);
    atomic_fetch_add_explicit(finish == PHID_FINISH_CANCELLED ? &l->counters.cancelled
                                                              : &l->counters.finished,
                              1, memory_order_relaxed);
    atomic_fetch_sub_explicit(&l->counters.live, 1, memory_order_release);
    /* The pages are free and counted before anybody can know that the request has ended. */
    sequence_show(s, finish, error, NULL);
    sequence_stop(s);
    sequence_unref(s);
}

void loop_lose_device(struct loop *l, enum phid_status status, const struct phid_error *error)
{
    loop_log(l, "event=device_lost message=\"%s\"", error->message);
    pthread_mutex_lock(&l->mu);
    l->failed = status;
    l->failure = *error;
    pthread_mutex_unlock(&l->mu);
    atomic_store_explicit(&l->device_lost, true, memory_order_relaxed);
    pthread_cond_broadcast(&l->loading_ended);
}

bool loop_load_more(struct loop *l)
{
    bool done = true;
    struct phid_error err = {0};
    enum phid_status status = PHID_OK;
    if (l->loaded) {
        return false;
    }
    if (l->options.api->load_more != NULL) {
        status = l->options.api->load_more(l->options.backend, &done, &err);
    }
    meter_beat(&l->meter);
    if (status != PHID_OK) {
        loop_lose_device(l, status, &err);
    } else if (done) {
        pthread_mutex_lock(&l->mu);
        l->loaded = true;
        pthread_mutex_unlock(&l->mu);
        pthread_cond_broadcast(&l->loading_ended);
    }
    return true;
}

enum phid_status loop_loaded(struct loop *l, uint32_t timeout_ms, bool *ret_loaded,
                             struct phid_error *err)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += timeout_ms / 1000;
    until.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&l->mu);
    while (timeout_ms > 0 && !l->loaded && l->failed == PHID_OK &&
           pthread_cond_timedwait(&l->loading_ended, &l->mu, &until) == 0) {
    }
    enum phid_status status = l->loaded ? PHID_OK : l->failed;
    if (status != PHID_OK && err != NULL) {
        *err = l->failure;
    }
    *ret_loaded = l->loaded;
    pthread_mutex_unlock(&l->mu);
    return status;
}

/* Ends everything. The queues are empty afterwards and stay so, because submit looks at the same
 * flags. */
static void end_all(struct loop *l, const struct phid_error *error)
{
    while (l->running_count > 0) {
        loop_finish(l, l->running[l->running_count - 1], PHID_FINISH_ERROR, error);
    }
    for (struct sequence *s; (s = loop_take_any_waiting(l)) != NULL;) {
        loop_finish(l, s, PHID_FINISH_ERROR, error);
    }
}

static void count_time(struct loop *l, uint64_t turn_ns)
{
    struct loop_counters *c = &l->counters;
    uint64_t elsewhere = l->device_ns + l->sample_ns;
    atomic_fetch_add_explicit(&c->device_ns, l->device_ns, memory_order_relaxed);
    atomic_fetch_add_explicit(&c->host_ns, turn_ns > elsewhere ? turn_ns - elsewhere : 0,
                              memory_order_relaxed);
    /* The last: whoever sees it change sees all of the turn. */
    atomic_fetch_add_explicit(&c->sample_ns, l->sample_ns, memory_order_release);
}

/* True when something was computed, so that the next turn should follow at once. */
static bool turn(struct loop *l)
{
    bool ran_job = loop_run_job(l);
    if (ran_job) {
        meter_beat(&l->meter);
    }
    uint64_t began_ns = clock_now_ns();
    l->prefixes.now_ns = began_ns;
    l->device_ns = l->sample_ns = 0;
    loop_drop_gone(l);
    loop_admit(l);
    loop_prepare(l);
    loop_speculate(l);
    batch_build(&l->batch, l->running, l->running_count, &l->pace);
    loop_count_pages(l);
    if (l->batch.view.rows == 0) {
        return ran_job || l->unsettled;
    }
    bool full = l->running_count == l->options.max_running ||
                atomic_load_explicit(&l->counters.blocked, memory_order_relaxed);
    size_t rows = l->batch.view.rows;
    loop_step(l);
    meter_beat(&l->meter);
    uint64_t turn_ns = clock_now_ns() - began_ns;
    demand_turn(&l->demand, rows, turn_ns, full);
    count_time(l, turn_ns);
    return true;
}

static void sleep_until_rung(struct loop *l)
{
    meter_rest(&l->meter, loop_has_work(l));
    doorbell_wait(l->bell, loop_first_expiry(l));
}

static void *run(void *arg)
{
    struct loop *l = arg;
    for (;;) {
        meter_wake(&l->meter);
        pthread_mutex_lock(&l->mu);
        bool stopping = l->stopping;
        bool failed = l->failed != PHID_OK;
        pthread_mutex_unlock(&l->mu);
        if (stopping) {
            break;
        }
        if (failed) {
            end_all(l, &l->failure); /* written once, by this thread */
            loop_refuse_job(l);
            sleep_until_rung(l);
        } else if (!turn(l) && !loop_load_more(l) && !loop_warm(l, WARM_IDLE)) {
            sleep_until_rung(l);
        }
    }
    struct phid_error closed;
    phid_fail(&closed, PHID_ERR_CLOSED, "the engine was stopped");
    end_all(l, &closed);
    loop_refuse_job(l);
    return NULL;
}

/* Signals are the program's business and not this thread's. */
static bool start_thread(struct loop *l)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    bool ok = pthread_create(&l->thread, NULL, run, l) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (ok) {
        pthread_setname_np(l->thread, "phid-step");
    }
    return ok;
}

static bool allocate(struct loop *l)
{
    const struct loop_options *o = &l->options;
    l->logit_rows = o->max_running < o->step_tokens ? o->max_running : o->step_tokens;
    size_t hidden, logits;
    if (!checked_mul(o->step_tokens, o->block->n_embd, &hidden) ||
        !checked_mul(hidden, sizeof(float), &hidden) ||
        !checked_mul(l->logit_rows, o->block->n_vocab, &logits) ||
        !checked_mul(logits, sizeof(float), &logits)) {
        return false;
    }
    l->running = calloc(o->max_running, sizeof(struct sequence *));
    /* Cache lines, so that a backend may use aligned loads. */
    if (posix_memalign((void **)&l->hidden, 64, hidden) != 0) {
        l->hidden = NULL;
    }
    if (posix_memalign((void **)&l->logits, 64, logits) != 0) {
        l->logits = NULL;
    }
    return l->running != NULL && l->hidden != NULL && l->logits != NULL;
}

static void on_progress(void *user)
{
    meter_beat(user);
}

enum phid_status loop_new(const struct loop_options *options, struct loop **ret_loop,
                          struct phid_error *err)
{
    struct loop *l = calloc(1, sizeof(*l));
    if (l == NULL) {
        return phid_fail(err, PHID_ERR_MEMORY, "no memory for an engine");
    }
    l->options = *options;
    meter_init(&l->meter);
    demand_init(&l->demand);
    turns_init(&l->waiting, options->max_overtake_ns);
    l->first_expiry_ns = UINT64_MAX;
    pace_init(&l->pace, options->itl_target_ns, options->step_tokens);
    pthread_mutex_init(&l->mu, NULL);
    pthread_cond_init(&l->evaluated, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&l->loading_ended, &monotonic);
    pthread_condattr_destroy(&monotonic);
    enum phid_status status = doorbell_new(&l->bell, err);
    if (status != PHID_OK) {
        goto fail;
    }
    status = page_pool_init(&l->pool, options->pages, err);
    if (status != PHID_OK) {
        goto fail;
    }
    if (options->terms->prefix_secret != NULL) {
        status = prefix_init(&l->prefixes, options->terms->prefix_secret, options->pages, err);
        l->pool.prefixes = &l->prefixes;
    }
    if (status != PHID_OK) {
        goto fail;
    }
    status = batch_init(&l->batch, options->step_tokens, options->max_running, err);
    if (status != PHID_OK) {
        goto fail;
    }
    l->batch.view.progress = on_progress;
    l->batch.view.progress_user = &l->meter;
    if (!allocate(l)) {
        status = phid_fail(err, PHID_ERR_MEMORY, "no memory for steps of %zu rows",
                           options->step_tokens);
        goto fail;
    }
    loop_count_pages(l);
    l->has_thread = start_thread(l);
    if (!l->has_thread) {
        status = phid_fail(err, PHID_ERR_MEMORY, "cannot start the step thread");
        goto fail;
    }
    *ret_loop = l;
    return PHID_OK;
fail:
    loop_free(l);
    return status;
}

void loop_free(struct loop *l)
{
    if (l == NULL) {
        return;
    }
    if (l->has_thread) {
        pthread_mutex_lock(&l->mu);
        l->stopping = true;
        pthread_mutex_unlock(&l->mu);
        doorbell_ring(l->bell);
        pthread_join(l->thread, NULL);
    }
    turns_fini(&l->waiting);
    batch_fini(&l->batch);
    page_pool_fini(&l->pool);
    prefix_fini(&l->prefixes);
    free(l->running);
    free(l->hidden);
    free(l->logits);
    doorbell_unref(l->bell);
    pthread_cond_destroy(&l->evaluated);
    pthread_cond_destroy(&l->loading_ended);
    pthread_mutex_destroy(&l->mu);
    free(l);
}

void loop_drain(struct loop *l)
{
    pthread_mutex_lock(&l->mu);
    l->draining = true;
    pthread_mutex_unlock(&l->mu);
}

void loop_stats(struct loop *l, struct phid_engine_stats *ret)
{
    struct loop_counters *c = &l->counters;
    size_t live = atomic_load_explicit(&c->live, memory_order_acquire);
    size_t running = atomic_load_explicit(&c->running, memory_order_relaxed);
    *ret = (struct phid_engine_stats){
        .running = running,
        .waiting = live > running ? live - running : 0,
        .pages_total = l->options.pages,
        .pages_free = atomic_load_explicit(&c->pages_free, memory_order_relaxed),
        .pages_cached = atomic_load_explicit(&c->pages_cached, memory_order_relaxed),
        .prefix_queries = atomic_load_explicit(&c->prefix_queries, memory_order_relaxed),
        .prefix_hits = atomic_load_explicit(&c->prefix_hits, memory_order_relaxed),
        .prefix_evictions = atomic_load_explicit(&c->prefix_evictions, memory_order_relaxed),
        .steps = atomic_load_explicit(&c->steps, memory_order_relaxed),
        .tokens_prefilled = atomic_load_explicit(&c->tokens_prefilled, memory_order_relaxed),
        .tokens_decoded = atomic_load_explicit(&c->tokens_decoded, memory_order_relaxed),
        .requests_finished = atomic_load_explicit(&c->finished, memory_order_relaxed),
        .requests_cancelled = atomic_load_explicit(&c->cancelled, memory_order_relaxed),
        .preemptions = atomic_load_explicit(&c->preemptions, memory_order_relaxed),
        .prompt_tokens = atomic_load_explicit(&l->meter.prompt_tokens, memory_order_relaxed),
        .stalled_ns = meter_stalled_ns(&l->meter, doorbell_rung_ns(l->bell)),
        .failed = atomic_load_explicit(&l->device_lost, memory_order_relaxed),
        .drafts = atomic_load_explicit(&c->drafts, memory_order_relaxed),
        .draft_tokens = atomic_load_explicit(&c->draft_tokens, memory_order_relaxed),
        .draft_accepted = atomic_load_explicit(&c->draft_accepted, memory_order_relaxed),
        .corrupted = atomic_load_explicit(&c->corrupted, memory_order_relaxed),
        .host_ns = atomic_load_explicit(&c->host_ns, memory_order_relaxed),
        .sample_ns = atomic_load_explicit(&c->sample_ns, memory_order_acquire),
        .device_ns = atomic_load_explicit(&c->device_ns, memory_order_relaxed),
    };
    for (size_t i = 0; i < PHID_FINISHES; i++) {
        ret->finished[i] = atomic_load_explicit(&l->meter.finished[i], memory_order_relaxed);
    }
    for (size_t i = 0; i < PHID_DRAFT_PLACES; i++) {
        ret->draft_accepted_at[i] =
            atomic_load_explicit(&c->draft_accepted_at[i], memory_order_relaxed);
    }
}

void loop_histogram(const struct loop *l, enum phid_histogram_id id, struct phid_histogram *ret)
{
    meter_read(&l->meter, id, ret);
}

struct doorbell *loop_doorbell(struct loop *l)
{
    return l->bell;
}

uint64_t loop_memory_bytes(const struct loop *l)
{
    const struct loop_options *o = &l->options;
    return sizeof(*l) + batch_bytes(&l->batch) + 2 * o->pages * sizeof(uint32_t) +
           (o->terms->prefix_secret != NULL ? prefix_bytes(o->pages) : 0) +
           o->max_running * sizeof(struct sequence *) +
           o->step_tokens * o->block->n_embd * sizeof(float) +
           l->logit_rows * o->block->n_vocab * sizeof(float);
}

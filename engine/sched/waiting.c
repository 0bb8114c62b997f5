/* Who waits: taking requests in or refusing them, whose turn is next, and the end of those that
 * were cancelled or whose time is over. */
#include "engine/base/clock.h"
#include "engine/sched/loop_state.h"

static size_t load(const atomic_size_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

/* Guarded by mu: what others may see without it. */
static void count_waiting(struct loop *l)
{
    atomic_store_explicit(&l->counters.waiting, l->waiting.count, memory_order_relaxed);
    atomic_store_explicit(&l->counters.waiting_tokens, l->waiting.tokens, memory_order_relaxed);
    atomic_store_explicit(&l->counters.parked, l->parked.count, memory_order_relaxed);
}

/* -------------------------------------------------------------- admission */

static size_t free_seats(const struct loop *l)
{
    size_t running = load(&l->counters.running);
    bool blocked = atomic_load_explicit(&l->counters.blocked, memory_order_relaxed);
    return blocked || running >= l->options.max_running ? 0 : l->options.max_running - running;
}

static bool is_full(const struct loop *l, size_t waiting, size_t parked)
{
    return waiting + parked >= l->options.queue + free_seats(l);
}

/* What is expected may be a quarter too little, and who is let in should not have waited for
 * nothing. */
static bool waits_too_long(const struct loop *l, uint64_t wait_ns)
{
    return l->options.max_wait_ns > 0 && wait_ns > l->options.max_wait_ns / 4 * 3;
}

static uint64_t expected_wait(const struct loop *l, size_t waiting, size_t tokens)
{
    struct demand_queue queue = {.waiting = waiting, .tokens = tokens, .seats = free_seats(l)};
    return demand_wait_ns(&l->demand, &queue);
}

void loop_load(const struct loop *l, struct phid_engine_load *ret)
{
    const struct loop_options *o = &l->options;
    size_t waiting = load(&l->counters.waiting), tokens = load(&l->counters.waiting_tokens);
    uint64_t wait_ns = expected_wait(l, waiting, tokens);
    *ret = (struct phid_engine_load){
        .waiting = waiting,
        .waiting_tokens = tokens,
        .wait_ms = wait_ns / CLOCK_NS_PER_MS,
        .full = is_full(l, waiting, load(&l->counters.parked)) ||
                (o->queue_tokens > 0 && tokens >= o->queue_tokens) || waits_too_long(l, wait_ns),
    };
}

/* Guarded by mu. */
static enum phid_status refuse(struct loop *l, const struct sequence *s, struct phid_error *err)
{
    const struct loop_options *o = &l->options;
    size_t waiting = l->waiting.count, tokens = l->waiting.tokens;
    if (l->failed != PHID_OK) {
        return phid_fail(err, l->failed, "%s", l->failure.message);
    }
    if (l->draining || l->stopping) {
        return phid_fail(err, PHID_ERR_CLOSED, "the engine takes no new requests");
    }
    if (is_full(l, waiting, l->parked.count)) {
        return phid_fail(err, PHID_ERR_BUSY, "the queue is full: %zu requests are waiting",
                         waiting + l->parked.count);
    }
    if (o->queue_tokens > 0 && waiting > 0 && s->prompt_count + tokens > o->queue_tokens) {
        return phid_fail(err, PHID_ERR_BUSY,
                         "the queue is full: %zu requests with %zu prompt tokens are waiting",
                         waiting, tokens);
    }
    uint64_t wait_ns = expected_wait(l, waiting, tokens);
    if (waits_too_long(l, wait_ns)) {
        return phid_fail(err, PHID_ERR_BUSY,
                         "the wait would be about %.0f seconds, too long for the %.0f allowed",
                         (double)wait_ns * 1e-9, (double)o->max_wait_ns * 1e-9);
    }
    return PHID_OK;
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

enum phid_status loop_submit(struct loop *l, struct sequence *s, struct phid_error *err)
{
    uint64_t now_ns = clock_now_ns();
    pthread_mutex_lock(&l->mu);
    enum phid_status status = refuse(l, s, err);
    if (status == PHID_OK) {
        s->ordinal = l->arrivals;
        status = turns_push(&l->waiting, s, now_ns, err);
    }
    if (status == PHID_OK) {
        l->arrivals++;
        if (l->options.max_wait_ns > 0) {
            s->start_by_ns = now_ns + l->options.max_wait_ns;
        }
        l->first_expiry_ns = earlier(l->first_expiry_ns, earlier(s->deadline_ns, s->start_by_ns));
        sequence_ref(s);
        atomic_fetch_add_explicit(&l->counters.live, 1, memory_order_relaxed);
        count_waiting(l);
    }
    pthread_mutex_unlock(&l->mu);
    if (status == PHID_OK) {
        doorbell_ring(l->bell);
    }
    return status;
}

/* ---------------------------------------------------------------- leaving */

void loop_leave(struct loop *l, struct sequence *s)
{
    pthread_mutex_lock(&l->mu);
    if (s->started && l->waiting.count > 0) {
        turns_charge(s, s->tokens.count - s->charged);
    }
    turns_leave(s, clock_now_ns());
    pthread_mutex_unlock(&l->mu);
}

static uint64_t expiry(const struct sequence *s)
{
    return s->started ? s->deadline_ns : earlier(s->deadline_ns, s->start_by_ns);
}

struct search {
    uint64_t now_ns;
    uint64_t next_ns; /* of those that stay */
};

static bool is_gone(const struct sequence *s, void *user)
{
    struct search *search = user;
    if (atomic_load_explicit(&s->cancelled, memory_order_relaxed) || expiry(s) <= search->now_ns) {
        return true;
    }
    search->next_ns = earlier(search->next_ns, expiry(s));
    return false;
}

static void end_gone(struct loop *l, struct sequence *s)
{
    struct phid_error error = {0};
    double waited = (double)(clock_now_ns() - s->submitted_ns) * 1e-9;
    if (atomic_load_explicit(&s->cancelled, memory_order_relaxed)) {
        loop_finish(l, s, PHID_FINISH_CANCELLED, NULL);
        return;
    }
    if (clock_now_ns() >= s->deadline_ns) {
        phid_fail(&error, PHID_ERR_TIMEOUT, "the request was not done after %.1f seconds", waited);
    } else {
        phid_fail(&error, PHID_ERR_BUSY, "the request has waited %.1f seconds without its turn",
                  waited);
    }
    loop_log(l, "event=expired id=%s status=%s", s->id, phid_status_name(error.status));
    loop_finish(l, s, PHID_FINISH_ERROR, &error);
}

static void drop_parked(struct loop *l, struct search *search, struct queue *to)
{
    for (struct sequence *s = l->parked.first, *next; s != NULL; s = next) {
        next = s->next;
        if (is_gone(s, search)) {
            queue_remove(&l->parked, s);
            queue_push(to, s);
        }
    }
}

void loop_drop_gone(struct loop *l)
{
    struct search search = {.now_ns = clock_now_ns(), .next_ns = UINT64_MAX};
    uint64_t cancellations = doorbell_cancellations(l->bell);
    bool cancelled = cancellations != l->cancellations_seen;
    l->cancellations_seen = cancellations;
    for (size_t i = l->running_count; i-- > 0;) {
        if (is_gone(l->running[i], &search)) {
            end_gone(l, l->running[i]);
        }
    }
    struct queue gone = {0};
    pthread_mutex_lock(&l->mu);
    if (cancelled || search.now_ns >= l->first_expiry_ns) {
        search.next_ns = UINT64_MAX;
        turns_drop(&l->waiting, is_gone, &search, &gone);
        drop_parked(l, &search, &gone);
        l->first_expiry_ns = search.next_ns;
        count_waiting(l);
    }
    pthread_mutex_unlock(&l->mu);
    while (gone.first != NULL) {
        struct sequence *s = gone.first;
        queue_remove(&gone, s);
        end_gone(l, s);
    }
}

struct sequence *loop_take_any_waiting(struct loop *l)
{
    pthread_mutex_lock(&l->mu);
    struct sequence *s = l->parked.first;
    if (s != NULL) {
        queue_remove(&l->parked, s);
    } else if (l->waiting.lanes != NULL) {
        s = l->waiting.lanes->queue.first;
        turns_take(&l->waiting, s, clock_now_ns());
    }
    count_waiting(l);
    pthread_mutex_unlock(&l->mu);
    return s;
}

uint64_t loop_first_expiry(struct loop *l)
{
    pthread_mutex_lock(&l->mu);
    uint64_t first_ns = l->first_expiry_ns;
    pthread_mutex_unlock(&l->mu);
    for (size_t i = 0; i < l->running_count; i++) {
        first_ns = earlier(first_ns, l->running[i]->deadline_ns);
    }
    return first_ns;
}

/* ------------------------------------------------------------------ turns */

/* Of those that gave their seat up and whose readers read, the best priority, then the oldest. */
static struct sequence *first_parked(const struct loop *l)
{
    struct sequence *best = NULL;
    for (struct sequence *s = l->parked.first; s != NULL; s = s->next) {
        if (!sequence_is_full(s) && (best == NULL || s->priority < best->priority)) {
            best = s;
        }
    }
    return best;
}

/* What running answers have grown by, while others wait. Guarded by mu. */
static void charge_answers(struct loop *l)
{
    for (size_t i = 0; i < l->running_count; i++) {
        struct sequence *s = l->running[i];
        if (l->waiting.count > 0) {
            turns_charge(s, s->tokens.count - s->charged);
        }
        s->charged = s->tokens.count;
    }
}

static size_t cached_tokens(const struct sequence *s, void *user)
{
    size_t idle = 0;
    return loop_found_pages(user, s, &idle) * BACKEND_PAGE_TOKENS;
}

bool loop_has_work(struct loop *l)
{
    for (size_t i = 0; i < l->running_count; i++) {
        if (!sequence_is_full(l->running[i])) {
            return true;
        }
    }
    pthread_mutex_lock(&l->mu);
    bool work = l->waiting.count > 0 || l->job != NULL || first_parked(l) != NULL;
    pthread_mutex_unlock(&l->mu);
    return work;
}

struct sequence *loop_next_waiting(struct loop *l)
{
    struct turns_seats seats = {.total = l->options.max_running, .taken = l->running_count};
    uint64_t now_ns = clock_now_ns();
    for (size_t i = 0; i < l->running_count; i++) {
        seats.taken -= sequence_is_full(l->running[i]); /* it can be put back */
    }
    pthread_mutex_lock(&l->mu);
    charge_answers(l);
    struct sequence *s = first_parked(l);
    if (seats.taken < seats.total && l->waiting.count > 0) {
        if (l->waiting.count > 1) {
            turns_hint(&l->waiting, cached_tokens, l);
        }
        struct sequence *fresh = turns_next(&l->waiting, &seats, now_ns);
        if (fresh != NULL && (s == NULL || (fresh->priority < s->priority &&
                                            now_ns - s->parked_ns < l->options.max_overtake_ns))) {
            s = fresh;
        }
    }
    pthread_mutex_unlock(&l->mu);
    return s;
}

void loop_take_waiting(struct loop *l, struct sequence *s)
{
    pthread_mutex_lock(&l->mu);
    if (s->started) {
        queue_remove(&l->parked, s);
    } else {
        turns_take(&l->waiting, s, clock_now_ns());
        s->charged = s->tokens.count;
    }
    turns_sit(s, true);
    count_waiting(l);
    pthread_mutex_unlock(&l->mu);
}

void loop_put_back(struct loop *l, struct sequence *s)
{
    pthread_mutex_lock(&l->mu);
    turns_sit(s, false);
    s->parked_ns = clock_now_ns();
    l->first_expiry_ns = earlier(l->first_expiry_ns, s->deadline_ns);
    queue_insert(&l->parked, s);
    count_waiting(l);
    pthread_mutex_unlock(&l->mu);
}

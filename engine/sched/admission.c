/* Who runs: admission by free pages, giving pages up when they run out, and the change to the long
 * rotary factors. */
#include "engine/sched/loop_state.h"

static void take_cancelled(struct queue *from, struct queue *to)
{
    for (struct sequence *s = from->first, *next; s != NULL; s = next) {
        next = s->next;
        if (atomic_load_explicit(&s->cancelled, memory_order_relaxed)) {
            queue_remove(from, s);
            queue_push(to, s);
        }
    }
}

void loop_drop_cancelled(struct loop *l)
{
    uint64_t cancellations = doorbell_cancellations(l->bell);
    if (cancellations == l->cancellations_seen) {
        return;
    }
    l->cancellations_seen = cancellations;
    for (size_t i = l->running_count; i-- > 0;) {
        if (atomic_load_explicit(&l->running[i]->cancelled, memory_order_relaxed)) {
            loop_finish(l, l->running[i], PHID_FINISH_CANCELLED, NULL);
        }
    }
    struct queue cancelled = {0};
    pthread_mutex_lock(&l->mu);
    take_cancelled(&l->waiting, &cancelled);
    take_cancelled(&l->parked, &cancelled);
    pthread_mutex_unlock(&l->mu);
    while (cancelled.first != NULL) {
        struct sequence *s = cancelled.first;
        queue_remove(&cancelled, s);
        loop_finish(l, s, PHID_FINISH_CANCELLED, NULL);
    }
}

void loop_park(struct loop *l, struct sequence *s)
{
    loop_log(l, "event=preempt id=%s tokens=%zu", s->id, s->tokens.count);
    loop_remove_running(l, s);
    sequence_restart(s, &l->pool);
    s->runnable = false;
    atomic_fetch_add_explicit(&l->counters.preemptions, 1, memory_order_relaxed);
    pthread_mutex_lock(&l->mu);
    queue_insert(&l->parked, s);
    pthread_mutex_unlock(&l->mu);
}

/* The oldest that gave its pages up goes first, unless its reader still has to take what is there;
 * then the queue. None is overtaken because a younger one is smaller. */
static struct sequence *next_waiting(struct loop *l)
{
    pthread_mutex_lock(&l->mu);
    struct sequence *s = l->parked.first;
    while (s != NULL && sequence_is_full(s)) {
        s = s->next;
    }
    if (s == NULL) {
        s = l->waiting.first;
    }
    pthread_mutex_unlock(&l->mu);
    return s;
}

/* Pages for what is there and for a page's worth of answer, so that it does not stumble at once. */
static size_t pages_to_begin(const struct sequence *s)
{
    size_t tokens = s->tokens.count + BACKEND_PAGE_TOKENS;
    size_t longest = sequence_longest(s);
    return page_table_pages(tokens < longest ? tokens : longest);
}

/* Seats and pages of running sequences whose readers do not read count as free: those can wait
 * elsewhere. */
static bool has_place(const struct loop *l, const struct sequence *s)
{
    size_t seats = l->options.max_running - l->running_count;
    size_t pages = l->pool.free_count;
    for (size_t i = 0; i < l->running_count; i++) {
        if (sequence_is_full(l->running[i])) {
            seats++;
            pages += l->running[i]->pages.count;
        }
    }
    return seats > 0 && pages >= pages_to_begin(s);
}

static struct sequence *youngest_full(struct loop *l)
{
    for (size_t i = l->running_count; i-- > 0;) {
        if (sequence_is_full(l->running[i])) {
            return l->running[i];
        }
    }
    return NULL;
}

static bool make_place(struct loop *l, const struct sequence *s)
{
    while (l->running_count == l->options.max_running || l->pool.free_count < pages_to_begin(s)) {
        struct sequence *full = youngest_full(l);
        if (full == NULL) { /* its reader has just come back */
            return false;
        }
        loop_park(l, full);
    }
    return true;
}

static void insert_running(struct loop *l, struct sequence *s)
{
    size_t i = l->running_count++;
    for (; i > 0 && l->running[i - 1]->ordinal > s->ordinal; i--) {
        l->running[i] = l->running[i - 1];
    }
    l->running[i] = s;
}

static void begin(struct loop *l, struct sequence *s)
{
    pthread_mutex_lock(&l->mu);
    queue_remove(s->started ? &l->parked : &l->waiting, s);
    pthread_mutex_unlock(&l->mu);
    if (atomic_load_explicit(&s->cancelled, memory_order_relaxed)) {
        loop_finish(l, s, PHID_FINISH_CANCELLED, NULL);
        return;
    }
    if (!s->started) {
        struct phid_error error = {0};
        if (sequence_start(s, &error) != PHID_OK) {
            loop_finish(l, s, PHID_FINISH_ERROR, &error);
            return;
        }
    }
    page_table_grow(&s->pages, &l->pool, s->tokens.count); /* has_place has made sure */
    insert_running(l, s);
}

void loop_admit(struct loop *l)
{
    for (;;) {
        struct sequence *s = next_waiting(l);
        if (s == NULL || !has_place(l, s) || !make_place(l, s)) {
            return;
        }
        begin(l, s);
    }
}

/* Keys and values depend on the rotary factors of the whole sequence: the token that makes it
 * longer than the original context makes all of it be computed again, as a prompt in chunks like
 * any other. */
static void choose_rope(struct loop *l, struct sequence *s)
{
    size_t original = l->options.original_context;
    if (original == 0 || s->tokens.count <= original || s->rope_set == BLOCK_ROPE_LONG) {
        return;
    }
    s->rope_set = BLOCK_ROPE_LONG;
    if (s->done > 0) {
        loop_log(l, "event=rope_long id=%s tokens=%zu", s->id, s->tokens.count);
        sequence_restart(s, &l->pool);
    }
}

/* Who gives its pages up: one whose reader does not read, else the youngest. */
static struct sequence *choose_victim(struct loop *l)
{
    struct sequence *full = youngest_full(l);
    return full != NULL ? full : l->running[l->running_count - 1];
}

/* false: the sequence itself was the one to give up. The oldest that runs always gets its pages,
 * because the pool holds the longest sequence that there can be; so somebody always goes on. */
static bool take_pages(struct loop *l, struct sequence *s)
{
    while (!page_table_grow(&s->pages, &l->pool, s->tokens.count)) {
        struct sequence *victim = choose_victim(l);
        loop_park(l, victim);
        if (victim == s) {
            return false;
        }
    }
    return true;
}

void loop_prepare(struct loop *l)
{
    for (size_t i = 0; i < l->running_count; i++) {
        l->running[i]->runnable = false;
    }
    for (size_t i = 0; i < l->running_count;) {
        struct sequence *s = l->running[i];
        if (sequence_is_full(s)) {
            i++;
            continue;
        }
        choose_rope(l, s);
        size_t count = l->running_count;
        s->runnable = take_pages(l, s);
        i++;
        if (l->running_count < count) { /* some have left, before it or behind it, or it itself */
            i = 0;
            while (i < l->running_count && l->running[i]->ordinal <= s->ordinal) {
                i++;
            }
        }
    }
}

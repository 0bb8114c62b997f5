/* Who runs: admission by free pages, giving pages up when they run out, and the change to the long
 * rotary factors. */
#include "engine/sched/loop_state.h"

void loop_park(struct loop *l, struct sequence *s)
{
    loop_log(l, "event=preempt id=%s tokens=%zu", s->id, s->tokens.count);
    loop_remove_running(l, s);
    sequence_restart(s, &l->pool, s->rope_set);
    s->runnable = false;
    s->sharing.parked_count = s->tokens.count;
    s->sharing.reserved = 0;
    l->unsettled = true;
    l->last_parked = s->ordinal;
    atomic_fetch_add_explicit(&l->counters.preemptions, 1, memory_order_relaxed);
    loop_put_back(l, s);
}

/* Pages for what is there and for a page's worth of answer, so that it does not stumble at once.
 * One that stumbled before leaves everybody else a page to grow into, but those whose readers do
 * not read: they grow no further, and it would wait for their readers. */
static size_t pages_to_begin(const struct loop *l, const struct sequence *s)
{
    size_t tokens = s->tokens.count + BACKEND_PAGE_TOKENS;
    size_t longest = sequence_longest(s);
    size_t pages = page_table_pages(tokens < longest ? tokens : longest);
    for (size_t i = 0; i < l->running_count && s->sharing.parked_count > 0; i++) {
        pages += !sequence_is_full(l->running[i]);
    }
    return pages;
}

/* Pages that a waiting sequence would find, and those that it would have to take. */
struct need {
    size_t found, idle, own;
};

static struct need need_of(const struct loop *l, const struct sequence *s)
{
    struct need n = {0};
    size_t pages = pages_to_begin(l, s);
    n.found = loop_found_pages(l, s, &n.idle);
    n.own = pages > n.found ? pages - n.found : 0;
    return n;
}

/* Idle pages count as free, but not those that it needs itself; nor what others were promised. */
static bool pool_has(const struct loop *l, const struct need *n, size_t extra)
{
    size_t taken = n->own + n->idle;
    for (size_t i = 0; i < l->running_count; i++) {
        taken += l->running[i]->sharing.reserved;
    }
    return page_pool_available(&l->pool) + extra >= taken;
}

/* Seats and pages of running sequences whose readers do not read count as free: those can wait
 * elsewhere. */
static bool has_place(const struct loop *l, const struct sequence *s)
{
    struct need n = need_of(l, s);
    size_t seats = l->options.max_running - l->running_count;
    size_t pages = 0;
    for (size_t i = 0; i < l->running_count; i++) {
        if (sequence_is_full(l->running[i])) {
            seats++;
            pages += l->running[i]->pages.count + l->running[i]->sharing.reserved;
        }
    }
    return seats > 0 && pool_has(l, &n, pages);
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
    for (;;) {
        struct need n = need_of(l, s);
        if (l->running_count < l->options.max_running && pool_has(l, &n, 0)) {
            return true;
        }
        struct sequence *full = youngest_full(l);
        if (full == NULL) { /* its reader has just come back, or its pages are others' too */
            return false;
        }
        loop_park(l, full);
    }
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
    loop_take_waiting(l, s);
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
        atomic_fetch_add_explicit(&l->counters.prefix_queries,
                                  s->sharing.secret != NULL ? s->prompt_count : 0,
                                  memory_order_relaxed);
    }
    /* What is computed is taken now, the rest when it takes part in a step; until then it is kept
     * free. */
    struct need n = need_of(l, s);
    s->sharing.reserved = n.own;
    loop_share_found(l, s);
    insert_running(l, s);
}

void loop_admit(struct loop *l)
{
    for (;;) {
        /* None is overtaken because the next one is smaller. */
        struct sequence *s = loop_next_waiting(l);
        bool place = s != NULL && has_place(l, s) && make_place(l, s);
        atomic_store_explicit(&l->counters.blocked, s != NULL && !place, memory_order_relaxed);
        if (!place) {
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
    enum block_rope_set set = sequence_rope_set(s->terms, s->tokens.count);
    if (set == s->rope_set) {
        return;
    }
    if (s->done > 0) {
        loop_log(l, "event=rope_long id=%s tokens=%zu", s->id, s->tokens.count);
    }
    sequence_restart(s, &l->pool, set);
}

/* How much against taking a sequence's pages away; of the least the lowest priority goes, then the
 * youngest. */
static int against_parking(const struct loop *l, const struct sequence *s)
{
    size_t parked = s->sharing.parked_count;
    if (sequence_is_full(s)) {
        return 0; /* its reader does not read */
    }
    if (s->sharing.reserved > 0) {
        return 3; /* waits for another's pages, has little to give */
    }
    if (parked > 0 && s->ordinal == l->last_parked) {
        return 4; /* twice in a row */
    }
    /* It gave its pages up and has not gone on for a page since. */
    return parked > 0 && s->tokens.count < parked + BACKEND_PAGE_TOKENS ? 2 : 1;
}

static struct sequence *choose_victim(const struct loop *l)
{
    struct sequence *victim = NULL;
    for (size_t i = l->running_count; i-- > 0;) {
        struct sequence *s = l->running[i];
        int more = victim != NULL ? against_parking(l, s) - against_parking(l, victim) : -1;
        if (more < 0 || (more == 0 && s->priority > victim->priority)) {
            victim = s;
        }
    }
    return victim;
}

/* false: the sequence itself was the one to give up. Somebody always goes on: the pool holds the
 * longest sequence that there can be, and who gives up is left alone until it has gone on for a
 * page. */
static bool take_pages(struct loop *l, struct sequence *s)
{
    s->sharing.reserved = 0;
    while (!page_table_grow(&s->pages, &l->pool, s->tokens.count)) {
        struct sequence *victim = choose_victim(l);
        loop_park(l, victim);
        if (victim == s) {
            return false;
        }
    }
    return true;
}

/* Whether it takes part in the step, with pages for it. */
static bool prepare(struct loop *l, struct sequence *s)
{
    choose_rope(l, s);
    if (sequence_remaining(s) > 1 && !loop_share(l, s)) {
        l->unsettled = true;
        return false;
    }
    return take_pages(l, s);
}

void loop_prepare(struct loop *l)
{
    l->unsettled = false;
    loop_share_begin(l);
    for (size_t i = 0; i < l->running_count; i++) {
        l->running[i]->runnable = false;
    }
    for (size_t i = 0; i < l->running_count;) {
        struct sequence *s = l->running[i];
        if (sequence_is_full(s)) {
            i++;
            continue;
        }
        size_t count = l->running_count;
        s->runnable = prepare(l, s);
        i++;
        if (l->running_count < count) { /* some have left, before it or behind it, or it itself */
            i = 0;
            while (i < l->running_count && l->running[i]->ordinal <= s->ordinal) {
                i++;
            }
        }
    }
}

#include "engine/sched/turns.h"

#include <stdlib.h>

#include "engine/sched/sequence.h"

void turns_init(struct turns *t, uint64_t max_overtake_ns)
{
    *t = (struct turns){.max_overtake_ns = max_overtake_ns};
}

void turns_fini(struct turns *t)
{
    while (t->lanes != NULL) {
        struct lane *lane = t->lanes;
        t->lanes = lane->next;
        free(lane);
    }
    while (t->accounts != NULL) {
        struct account *account = t->accounts;
        t->accounts = account->next;
        free(account);
    }
}

/* --------------------------------------------------------------- accounts */

static void forget_accounts(struct turns *t, uint64_t now_ns)
{
    for (struct account **at = &t->accounts; *at != NULL;) {
        struct account *account = *at;
        if (account->holds == 0 && now_ns - account->seen_ns >= TURNS_FORGET_NS) {
            *at = account->next;
            t->account_count--;
            free(account);
        } else {
            at = &account->next;
        }
    }
}

static struct account *find_account(struct turns *t, uint64_t tenant, uint64_t now_ns)
{
    struct account *account = t->accounts;
    while (account != NULL && account->tenant != tenant) {
        account = account->next;
    }
    if (account == NULL) {
        forget_accounts(t, now_ns);
        account = calloc(1, sizeof(*account));
        if (account == NULL) {
            return NULL;
        }
        *account = (struct account){
            .tenant = tenant, .allowance = TURNS_ALLOWANCE, .seen_ns = now_ns, .next = t->accounts};
        t->accounts = account;
        t->account_count++;
    }
    return account;
}

/* Whether anybody else was here lately. */
static bool has_others(const struct turns *t, const struct account *account, uint64_t now_ns)
{
    for (const struct account *a = t->accounts; t->account_count > 1 && a != NULL; a = a->next) {
        if (a != account && (a->holds > 0 || now_ns - a->seen_ns < TURNS_FORGET_NS)) {
            return true;
        }
    }
    return false;
}

/* ------------------------------------------------------------------ lanes */

static struct lane *find_lane(struct turns *t, const struct account *account, int32_t priority)
{
    struct lane *lane = t->lanes;
    while (lane != NULL && (lane->account != account || lane->priority != priority)) {
        lane = lane->next;
    }
    return lane;
}

static void remove_if_empty(struct turns *t, struct lane *lane)
{
    struct lane **at = &t->lanes;
    if (lane->queue.count > 0) {
        return;
    }
    while (*at != lane) {
        at = &(*at)->next;
    }
    *at = lane->next;
    free(lane);
}

static void unlink_from(struct turns *t, struct lane *lane, struct sequence *s)
{
    queue_remove(&lane->queue, s);
    t->count--;
    t->tokens -= s->prompt_count;
}

enum phid_status turns_push(struct turns *t, struct sequence *s, uint64_t now_ns,
                            struct phid_error *err)
{
    struct account *account = find_account(t, s->tenant, now_ns);
    struct lane *lane = account != NULL ? find_lane(t, account, s->priority) : NULL;
    if (account != NULL && lane == NULL) {
        lane = calloc(1, sizeof(*lane));
        if (lane != NULL) {
            *lane = (struct lane){.priority = s->priority, .account = account, .next = t->lanes};
            t->lanes = lane;
        }
    }
    if (lane == NULL) {
        return phid_fail(err, PHID_ERR_MEMORY, "no memory for a waiting request");
    }
    if (account->holds == 0 && account->allowance <= 0) {
        account->allowance = 1; /* who has nothing here at all waits for nobody's round to end */
    }
    account->seen_ns = now_ns;
    account->holds++;
    s->account = account;
    queue_push(&lane->queue, s);
    t->count++;
    t->tokens += s->prompt_count;
    return PHID_OK;
}

/* ------------------------------------------------------------------ order */

static bool is_aged(const struct turns *t, const struct sequence *s, uint64_t now_ns)
{
    return now_ns - s->submitted_ns >= t->max_overtake_ns;
}

static bool may_sit(const struct turns *t, const struct lane *lane, const struct turns_seats *seats,
                    uint64_t now_ns)
{
    size_t spare = seats->total / TURNS_SPARE > 0 ? seats->total / TURNS_SPARE : seats->total > 3;
    return seats->taken + spare < seats->total || lane->account->seats < seats->total / 2 ||
           !has_others(t, lane->account, now_ns);
}

void turns_hint(struct turns *t, size_t (*cached)(const struct sequence *s, void *user), void *user)
{
    for (const struct lane *lane = t->lanes; lane != NULL; lane = lane->next) {
        struct sequence *s = lane->queue.first;
        for (size_t seen = 0; s != NULL && seen < TURNS_LOOKAHEAD; s = s->next, seen++) {
            s->cached_hint = cached(s, user);
        }
    }
}

/* Of a lane: its first if it has aged, else the longest prefix among the first ones. */
static struct sequence *first_of(const struct turns *t, const struct lane *lane, uint64_t now_ns)
{
    struct sequence *best = lane->queue.first;
    if (is_aged(t, best, now_ns)) {
        return best;
    }
    size_t seen = 0;
    for (struct sequence *s = best; s != NULL && seen < TURNS_LOOKAHEAD; s = s->next, seen++) {
        best = s->cached_hint > best->cached_hint ? s : best;
    }
    return best;
}

/* A choice between lanes; refilling goes by the same ones. */
struct field {
    const struct turns_seats *seats;
    uint64_t now_ns;
    int32_t best; /* priority */
    bool any;
};

static bool takes_part(const struct turns *t, const struct lane *lane, const struct field *f)
{
    return (lane->priority == f->best || is_aged(t, lane->queue.first, f->now_ns)) &&
           may_sit(t, lane, f->seats, f->now_ns);
}

static struct field make_field(const struct turns *t, const struct turns_seats *seats,
                               uint64_t now_ns)
{
    struct field f = {.seats = seats, .now_ns = now_ns};
    for (const struct lane *lane = t->lanes; lane != NULL; lane = lane->next) {
        if ((!f.any || lane->priority < f.best) && may_sit(t, lane, seats, now_ns)) {
            f.best = lane->priority;
            f.any = true;
        }
    }
    return f;
}

/* Gives every tenant that takes part as many allowances as it needs until somebody has some left.
 */
static void refill(struct turns *t, const struct field *f)
{
    int64_t most = INT64_MIN;
    for (const struct lane *lane = t->lanes; lane != NULL; lane = lane->next) {
        if (takes_part(t, lane, f) && lane->account->allowance > most) {
            most = lane->account->allowance;
        }
    }
    if (most > 0) {
        return;
    }
    int64_t rounds = -most / TURNS_ALLOWANCE + 1;
    for (struct account *a = t->accounts; a != NULL; a = a->next) {
        bool waits = false;
        for (const struct lane *lane = t->lanes; lane != NULL && !waits; lane = lane->next) {
            waits = lane->account == a && takes_part(t, lane, f);
        }
        if (waits) {
            a->allowance += rounds * TURNS_ALLOWANCE;
        }
    }
}

/* Whether another lane of the same tenant goes before this one, because its first has aged. */
static bool stands_behind(const struct turns *t, const struct lane *lane, const struct field *f)
{
    const struct sequence *first = lane->queue.first;
    for (const struct lane *l = t->lanes; l != NULL; l = l->next) {
        const struct sequence *other = l->queue.first;
        if (l != lane && l->account == lane->account && is_aged(t, other, f->now_ns) &&
            (!is_aged(t, first, f->now_ns) || other->ordinal < first->ordinal)) {
            return true;
        }
    }
    return false;
}

/* Whether a comes before b, of another tenant. */
static bool comes_before(const struct sequence *a, const struct sequence *b)
{
    if (a->cached_hint != b->cached_hint) {
        return a->cached_hint > b->cached_hint;
    }
    if (a->account->served != b->account->served) {
        return a->account->served < b->account->served;
    }
    return a->ordinal < b->ordinal;
}

struct sequence *turns_next(struct turns *t, const struct turns_seats *seats, uint64_t now_ns)
{
    struct field f = make_field(t, seats, now_ns);
    struct sequence *best = NULL;
    if (!f.any) {
        return NULL;
    }
    refill(t, &f);
    for (const struct lane *lane = t->lanes; lane != NULL; lane = lane->next) {
        if (lane->account->allowance <= 0 || !takes_part(t, lane, &f) ||
            stands_behind(t, lane, &f)) {
            continue;
        }
        struct sequence *s = first_of(t, lane, now_ns);
        if (best == NULL || comes_before(s, best)) {
            best = s;
        }
    }
    return best;
}

void turns_take(struct turns *t, struct sequence *s, uint64_t now_ns)
{
    struct lane *lane = find_lane(t, s->account, s->priority);
    size_t hint = s->cached_hint < s->prompt_count ? s->cached_hint : s->prompt_count;
    unlink_from(t, lane, s);
    remove_if_empty(t, lane);
    s->account->served = ++t->turn;
    s->account->seen_ns = now_ns;
    turns_charge(s, s->prompt_count - hint + TURNS_COST);
}

void turns_drop(struct turns *t, bool (*gone)(const struct sequence *s, void *user), void *user,
                struct queue *to)
{
    for (struct lane *lane = t->lanes, *next_lane; lane != NULL; lane = next_lane) {
        next_lane = lane->next;
        for (struct sequence *s = lane->queue.first, *next; s != NULL; s = next) {
            next = s->next;
            if (gone(s, user)) {
                unlink_from(t, lane, s);
                queue_push(to, s);
            }
        }
        remove_if_empty(t, lane);
    }
}

void turns_sit(struct sequence *s, bool sits)
{
    if (s->account != NULL && s->seated != sits) {
        s->seated = sits;
        s->account->seats += sits ? 1 : (size_t)-1;
    }
}

void turns_charge(struct sequence *s, size_t tokens)
{
    s->account->allowance -= (int64_t)tokens;
}

void turns_leave(struct sequence *s, uint64_t now_ns)
{
    if (s->account == NULL) {
        return;
    }
    turns_sit(s, false);
    s->account->holds--;
    s->account->seen_ns = now_ns;
    s->account = NULL;
}

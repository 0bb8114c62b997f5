/* Whose turn it is: each rule by itself, then random traffic against a twin that looks at everybody
 * each time. */
#include "engine/sched/turns.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/sched/sequence.h"

#define SECOND UINT64_C(1000000000)

static const struct turns_seats plenty = {.total = 1000, .taken = 0};

static struct sequence *make(struct turns *t, uint64_t tenant, int32_t priority, size_t tokens,
                             uint64_t now_ns)
{
    static uint64_t ordinal;
    struct sequence *s = calloc(1, sizeof(*s));
    assert_non_null(s);
    s->tenant = tenant;
    s->priority = priority;
    s->prompt_count = tokens;
    s->ordinal = ordinal++;
    s->submitted_ns = now_ns;
    assert_int_equal(turns_push(t, s, now_ns, NULL), PHID_OK);
    return s;
}

static struct sequence *take(struct turns *t, const struct turns_seats *seats, uint64_t now_ns)
{
    struct sequence *s = turns_next(t, seats, now_ns);
    if (s != NULL) {
        turns_take(t, s, now_ns);
    }
    return s;
}

static void end(struct sequence *s, uint64_t now_ns)
{
    turns_leave(s, now_ns);
    free(s);
}

static void expect(struct turns *t, struct sequence *s, uint64_t now_ns)
{
    assert_ptr_equal(turns_next(t, &plenty, now_ns), s);
    turns_take(t, s, now_ns);
    end(s, now_ns);
}

static void test_turns_one_tenant_in_order(void **state)
{
    struct turns t;
    turns_init(&t, 10 * SECOND);
    assert_null(turns_next(&t, &plenty, 0));
    struct sequence *s[5];
    for (int i = 0; i < 5; i++) {
        s[i] = make(&t, 0, 0, 100, 0);
    }
    assert_int_equal(t.count, 5);
    assert_int_equal(t.tokens, 500);
    for (int i = 0; i < 5; i++) {
        expect(&t, s[i], 0);
    }
    assert_int_equal(t.count, 0);
    assert_int_equal(t.tokens, 0);
    turns_fini(&t);
}

static void test_turns_priority_and_ageing(void **state)
{
    struct turns t;
    turns_init(&t, 10 * SECOND);
    struct sequence *late = make(&t, 1, 5, 100, 0);
    struct sequence *ordinary = make(&t, 1, 0, 100, 1 * SECOND);
    struct sequence *urgent = make(&t, 2, -1, 100, 2 * SECOND);
    expect(&t, urgent, 2 * SECOND);
    expect(&t, ordinary, 2 * SECOND);
    ordinary = make(&t, 1, 0, 100, 3 * SECOND);
    urgent = make(&t, 1, -7, 100, 9 * SECOND);
    assert_ptr_equal(turns_next(&t, &plenty, 9 * SECOND), urgent);
    /* It has waited ten seconds: no better priority of its tenant overtakes it any more. */
    expect(&t, late, 10 * SECOND);
    expect(&t, urgent, 10 * SECOND);
    expect(&t, ordinary, 10 * SECOND);
    turns_fini(&t);
}

static void test_turns_longest_prefix(void **state)
{
    struct turns t;
    turns_init(&t, 10 * SECOND);
    struct sequence *s[3];
    for (int i = 0; i < 3; i++) {
        s[i] = make(&t, 1, 0, 100, 0);
    }
    s[1]->cached_hint = 64;
    s[2]->cached_hint = 64;
    expect(&t, s[1], 0);
    struct sequence *first = make(&t, 2, 0, 100, 0);
    expect(&t, s[2], 0);
    expect(&t, first, 0); /* served longest ago: never */
    s[1] = make(&t, 1, 0, 100, 9 * SECOND);
    s[1]->cached_hint = 90;
    assert_ptr_equal(turns_next(&t, &plenty, 9 * SECOND), s[1]);
    expect(&t, s[0], 10 * SECOND); /* aged */
    expect(&t, s[1], 10 * SECOND);
    turns_fini(&t);
}

/* One floods, another comes with one at a time: it is always the next. */
static void test_turns_a_flood_waits(void **state)
{
    struct turns t;
    turns_init(&t, 10 * SECOND);
    for (int i = 0; i < 200; i++) {
        make(&t, 1, 0, 50, 0);
    }
    for (uint64_t now = 0; now < 30 * SECOND; now += SECOND) {
        for (int i = 0; i < 4; i++) {
            struct sequence *s = take(&t, &plenty, now);
            assert_int_equal(s->tenant, 1);
            end(s, now);
        }
        struct sequence *single = make(&t, 2, 0, 500, now);
        expect(&t, single, now);
    }
    struct sequence *s;
    while ((s = take(&t, &plenty, 0)) != NULL) {
        end(s, 0);
    }
    turns_fini(&t);
}

/* Tenants with small and large requests, always with some waiting: equal tokens, not equal turns.
 */
static void test_turns_shares_by_tokens(void **state)
{
    struct turns t;
    turns_init(&t, UINT64_MAX);
    const size_t sizes[] = {20, 300, 2000};
    size_t served[3] = {0};
    for (int i = 0; i < 3; i++) {
        make(&t, (uint64_t)i + 1, 0, sizes[i], 0);
    }
    for (int i = 0; i < 20000; i++) {
        struct sequence *s = take(&t, &plenty, 0);
        size_t tenant = (size_t)s->tenant - 1;
        turns_charge(s, 10); /* of its answer */
        served[tenant] += s->prompt_count + TURNS_COST + 10;
        make(&t, s->tenant, 0, sizes[tenant], 0);
        end(s, 0);
    }
    for (int i = 0; i < 3; i++) {
        assert_in_range(served[i], served[0] * 97 / 100, served[0] * 103 / 100);
    }
    struct sequence *s;
    while ((s = take(&t, &plenty, 0)) != NULL) {
        end(s, 0);
    }
    turns_fini(&t);
}

static void test_turns_leaves_seats_to_others(void **state)
{
    struct turns t;
    turns_init(&t, 10 * SECOND);
    struct turns_seats seats = {.total = 16};
    struct sequence *sitting[16];
    for (int i = 0; i < 40; i++) {
        make(&t, 1, 0, 10, 0);
    }
    /* Alone it may have all of them. */
    for (; seats.taken < 16; seats.taken++) {
        sitting[seats.taken] = take(&t, &seats, 0);
        turns_sit(sitting[seats.taken], true);
    }
    struct sequence *other = make(&t, 2, 0, 10, SECOND);
    for (int i = 0; i < 3; i++) {
        end(sitting[--seats.taken], SECOND);
    }
    assert_ptr_equal(turns_next(&t, &seats, SECOND), other);
    turns_take(&t, other, SECOND);
    end(other, SECOND);
    /* The other may come back: two seats stay free for a while. */
    assert_non_null(turns_next(&t, &seats, 2 * SECOND));
    sitting[seats.taken] = take(&t, &seats, 2 * SECOND);
    turns_sit(sitting[seats.taken++], true);
    assert_null(turns_next(&t, &seats, 2 * SECOND));
    other = make(&t, 2, 9, 10, 3 * SECOND);
    assert_ptr_equal(take(&t, &seats, 3 * SECOND), other);
    end(other, 3 * SECOND);
    assert_null(turns_next(&t, &seats, 4 * SECOND));
    assert_non_null(turns_next(&t, &seats, 3 * SECOND + TURNS_FORGET_NS));
    while (seats.taken > 0) {
        end(sitting[--seats.taken], 0);
    }
    struct sequence *s;
    while ((s = take(&t, &plenty, 0)) != NULL) {
        end(s, 0);
    }
    turns_fini(&t);
}

static bool is_odd(const struct sequence *s, void *user)
{
    (void)user;
    return s->ordinal % 2 == 1;
}

static void test_turns_drop(void **state)
{
    struct turns t;
    turns_init(&t, 10 * SECOND);
    for (uint64_t i = 0; i < 30; i++) {
        make(&t, i % 3, (int32_t)(i % 2), 10, 0);
    }
    struct queue gone = {0};
    turns_drop(&t, is_odd, NULL, &gone);
    assert_int_equal(gone.count, 15);
    assert_int_equal(t.count, 15);
    assert_int_equal(t.tokens, 150);
    while (gone.first != NULL) {
        struct sequence *s = gone.first;
        queue_remove(&gone, s);
        end(s, 0);
    }
    for (int i = 0; i < 15; i++) {
        struct sequence *s = take(&t, &plenty, 0);
        assert_int_equal(s->ordinal % 2, 0);
        end(s, 0);
    }
    assert_null(t.lanes);
    turns_fini(&t);
}

/* -------------------------------------------------------------------- twin */

enum { PEOPLE = 300, TENANTS = 5 };

struct twin {
    struct sequence *waiting[PEOPLE]; /* in order of arrival */
    size_t count;
    int64_t allowance[TENANTS];
    uint64_t served[TENANTS];
    uint64_t turn;
};

static bool twin_aged(const struct sequence *s, uint64_t now_ns)
{
    return now_ns - s->submitted_ns >= 10 * SECOND;
}

/* The candidate of a tenant and a priority: the first, or the longest prefix of the first sixteen.
 */
static struct sequence *twin_first(const struct twin *w, uint64_t tenant, int32_t priority,
                                   uint64_t now_ns)
{
    struct sequence *best = NULL;
    size_t seen = 0;
    for (size_t i = 0; i < w->count && seen < TURNS_LOOKAHEAD; i++) {
        struct sequence *s = w->waiting[i];
        if (s->tenant != tenant || s->priority != priority) {
            continue;
        }
        if (best == NULL && twin_aged(s, now_ns)) {
            return s;
        }
        best = best == NULL || s->cached_hint > best->cached_hint ? s : best;
        seen++;
    }
    return best;
}

static struct sequence *twin_oldest(const struct twin *w, uint64_t tenant, uint64_t now_ns)
{
    for (size_t i = 0; i < w->count; i++) {
        if (w->waiting[i]->tenant == tenant && twin_aged(w->waiting[i], now_ns)) {
            return w->waiting[i];
        }
    }
    return NULL;
}

/* One for each tenant that takes part: its oldest aged one, else the best priority's. */
static struct sequence *twin_next(struct twin *w, uint64_t now_ns)
{
    struct sequence *candidates[TENANTS] = {0};
    int32_t best = INT32_MAX;
    for (size_t i = 0; i < w->count; i++) {
        best = w->waiting[i]->priority < best ? w->waiting[i]->priority : best;
    }
    int64_t most = INT64_MIN;
    for (uint64_t tenant = 0; tenant < TENANTS; tenant++) {
        struct sequence *aged = twin_oldest(w, tenant, now_ns);
        candidates[tenant] = aged != NULL ? aged : twin_first(w, tenant, best, now_ns);
        if (candidates[tenant] != NULL && w->allowance[tenant] > most) {
            most = w->allowance[tenant];
        }
    }
    struct sequence *next = NULL;
    for (size_t tenant = 0; tenant < TENANTS; tenant++) {
        struct sequence *s = candidates[tenant];
        if (s == NULL) {
            continue;
        }
        for (int64_t a = most; a <= 0; a += TURNS_ALLOWANCE) {
            w->allowance[tenant] += TURNS_ALLOWANCE;
        }
        if (w->allowance[tenant] > 0 &&
            (next == NULL || s->cached_hint > next->cached_hint ||
             (s->cached_hint == next->cached_hint && w->served[tenant] < w->served[next->tenant]) ||
             (s->cached_hint == next->cached_hint && w->served[tenant] == w->served[next->tenant] &&
              s->ordinal < next->ordinal))) {
            next = s;
        }
    }
    return next;
}

static void twin_push(struct twin *w, struct sequence *s)
{
    bool any = false;
    for (size_t i = 0; i < w->count; i++) {
        any = any || w->waiting[i]->tenant == s->tenant;
    }
    if (!any && w->allowance[s->tenant] <= 0) {
        w->allowance[s->tenant] = 1;
    }
    w->waiting[w->count++] = s;
}

static void twin_take(struct twin *w, struct sequence *s)
{
    size_t i = 0;
    while (w->waiting[i] != s) {
        i++;
    }
    memmove(w->waiting + i, w->waiting + i + 1, (--w->count - i) * sizeof(struct sequence *));
    size_t hint = s->cached_hint < s->prompt_count ? s->cached_hint : s->prompt_count;
    w->allowance[s->tenant] -= (int64_t)(s->prompt_count - hint + TURNS_COST);
    w->served[s->tenant] = ++w->turn;
}

static void test_turns_like_the_twin(void **state)
{
    uint64_t random = 20251;
    for (int round = 0; round < 40; round++) {
        struct turns t;
        struct twin w = {0};
        turns_init(&t, 10 * SECOND);
        for (size_t i = 0; i < TENANTS; i++) {
            w.allowance[i] = TURNS_ALLOWANCE;
        }
        uint64_t now = 0;
        for (int step = 0; step < 600; step++) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            uint64_t dice = random >> 33;
            now += dice % 7 * SECOND / 10;
            if (dice % 5 < 3 && w.count < PEOPLE) {
                struct sequence *s = make(&t, dice / 5 % TENANTS, (int32_t)(dice / 25 % 3) - 1,
                                          1 + dice / 75 % 900, now);
                s->cached_hint = dice / 7 % 3 == 0 ? dice / 21 % 1000 : 0;
                twin_push(&w, s);
            } else {
                struct sequence *s = twin_next(&w, now);
                assert_ptr_equal(turns_next(&t, &plenty, now), s);
                if (s != NULL) {
                    turns_take(&t, s, now);
                    twin_take(&w, s);
                    end(s, now);
                }
            }
        }
        while (w.count > 0) {
            struct sequence *s = twin_next(&w, now);
            assert_ptr_equal(take(&t, &plenty, now), s);
            twin_take(&w, s);
            end(s, now);
        }
        assert_int_equal(t.count, 0);
        turns_fini(&t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_turns_one_tenant_in_order),
        cmocka_unit_test(test_turns_priority_and_ageing),
        cmocka_unit_test(test_turns_longest_prefix),
        cmocka_unit_test(test_turns_a_flood_waits),
        cmocka_unit_test(test_turns_shares_by_tokens),
        cmocka_unit_test(test_turns_leaves_seats_to_others),
        cmocka_unit_test(test_turns_drop),
        cmocka_unit_test(test_turns_like_the_twin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

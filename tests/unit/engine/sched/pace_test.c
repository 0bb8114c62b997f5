/* The pace against machines made of formulas: it must find their costs from noisy times, keep steps
 * near the target while a long prompt goes by, and never let the prompt starve. */
#include "engine/sched/pace.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

/* A step's true time: the larger of reading the weights and computing the rows, then attention. */
struct machine {
    double weights_ms, row_ms, context_ms; /* the last for 1000 tokens looked at */
    double noise;                          /* uniform, of the time, up and down */
    unsigned hiccup_odds; /* one step in so many takes five times as long; 0: none */
    double hiccup;        /* not five but so many; 0: five */
    uint64_t state;
};

static double draw(struct machine *m)
{
    m->state = m->state * 6364136223846793005u + 1442695040888963407u;
    return (double)(m->state >> 40) * 0x1p-24;
}

static uint64_t run(struct machine *m, const struct pace_step *step)
{
    double compute = m->row_ms * (double)(step->decode_rows + step->prompt_rows);
    double ms = compute > m->weights_ms ? compute : m->weights_ms;
    ms += m->context_ms * (double)step->context / 1000;
    ms *= 1 + m->noise * (2 * draw(m) - 1);
    if (m->hiccup_odds > 0 && draw(m) * m->hiccup_odds < 1) {
        ms *= m->hiccup > 0 ? m->hiccup : 5;
    }
    return (uint64_t)(ms * 1e6);
}

static void decode(struct pace *p, struct machine *m, size_t rows, size_t context, size_t steps)
{
    for (size_t i = 0; i < steps; i++) {
        struct pace_step step = {.decode_rows = rows, .context = rows * (context + i)};
        pace_learn(p, &step, run(m, &step));
    }
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

struct crossing {
    size_t steps;
    uint64_t p90_ns, p99_ns;
    double mean_ns;
};

/* A prompt goes by `rows` running answers. */
static struct crossing cross(struct pace *p, struct machine *m, size_t rows, size_t context,
                             size_t prompt)
{
    static uint64_t times[8192];
    struct crossing c = {0};
    for (size_t done = 0; done < prompt; c.steps++) {
        struct pace_step step = {.decode_rows = rows, .context = rows * (context + c.steps)};
        size_t fits = pace_prompt_rows(p, &step, done);
        assert_in_range(fits, 1, p->max_rows - rows);
        step.prompt_rows = fits < prompt - done ? fits : prompt - done;
        step.context += pace_context(done, step.prompt_rows);
        assert_true(c.steps < 8192);
        times[c.steps] = run(m, &step);
        c.mean_ns += (double)times[c.steps];
        pace_learn(p, &step, times[c.steps]);
        done += step.prompt_rows;
    }
    c.mean_ns /= (double)c.steps;
    qsort(times, c.steps, sizeof(*times), compare);
    c.p90_ns = times[c.steps * 90 / 100];
    c.p99_ns = times[c.steps * 99 / 100];
    return c;
}

static void test_pace_keeps_the_target(void **state)
{
    /* From a small model to a large one, memory-bound and compute-bound, with and without noise. */
    const struct machine machines[] = {
        {.weights_ms = 100, .row_ms = 8, .context_ms = 0.5},
        {.weights_ms = 100, .row_ms = 8, .context_ms = 6, .noise = 0.15},
        {.weights_ms = 20, .row_ms = 1, .context_ms = 0.2, .noise = 0.15, .hiccup_odds = 300},
        {.weights_ms = 5, .row_ms = 0.05, .context_ms = 0.01, .noise = 0.3},
        {.weights_ms = 30, .row_ms = 4, .context_ms = 0, .noise = 0.1},
    };
    for (size_t i = 0; i < sizeof(machines) / sizeof(machines[0]); i++) {
        struct machine m = machines[i];
        struct pace p;
        pace_init(&p, 0, 2048);
        for (size_t streams = 1; streams <= 4; streams++) {
            decode(&p, &m, streams, 200, 40);
        }
        for (int round = 0; round < 3; round++) {
            decode(&p, &m, 4, 200, 100);
            struct crossing c = cross(&p, &m, 4, 300, 4000);
            uint64_t target = pace_target(&p);
            bool idle = c.steps > 20 && c.mean_ns < 0.6 * (double)target;
            uint64_t high_ns = m.hiccup_odds > 0 ? c.p90_ns : c.p99_ns; /* not the hiccups' own */
            if (high_ns > target * 3 / 2 || idle) {
                fail_msg("machine %zu, round %d: %zu steps, p99 %.1f ms, mean %.1f ms, target %.1f",
                         i, round, c.steps, (double)c.p99_ns * 1e-6, c.mean_ns * 1e-6,
                         (double)target * 1e-6);
            }
        }
    }
}

/* The first step of all is a long prompt's, then answers begin: nothing else was ever seen. */
static void test_pace_learns_in_passing(void **state)
{
    struct machine m = {.weights_ms = 100, .row_ms = 12, .context_ms = 1, .noise = 0.1};
    struct pace p;
    pace_init(&p, 0, 512);
    struct pace_step nothing = {0};
    assert_int_equal(pace_prompt_rows(&p, &nothing, 0), PACE_ROWS_FIRST);
    for (size_t done = 0; done < 1000;) {
        struct pace_step step = {.prompt_rows = pace_prompt_rows(&p, &nothing, done)};
        step.context = pace_context(done, step.prompt_rows);
        uint64_t ns = run(&m, &step);
        assert_true(ns < PACE_ALONE_NS * 3 / 2);
        pace_learn(&p, &step, ns);
        done += step.prompt_rows;
    }
    assert_in_range(pace_prompt_rows(&p, &nothing, 0), 100, 200); /* 2 s of 12 ms each */
    decode(&p, &m, 1, 1000, 30);
    assert_in_range(pace_target(&p), 180000000, 230000000);
    struct crossing c = cross(&p, &m, 1, 1000, 4000);
    assert_true(c.p99_ns < pace_target(&p) * 3 / 2);
}

/* Where a step costs little a long one saves nothing, and makes whoever comes wait. */
static void test_pace_no_longer_than_it_pays(void **state)
{
    struct machine m = {.weights_ms = 0.2, .row_ms = 0.1, .noise = 0.1};
    struct pace p;
    pace_init(&p, 0, 512);
    decode(&p, &m, 1, 20, 20);
    decode(&p, &m, 20, 20, 20);
    (void)cross(&p, &m, 20, 100, 2000);
    struct crossing c = cross(&p, &m, 20, 100, 4000);
    assert_in_range(c.mean_ns, 7000000,
                    13000000); /* 2 ms for the answers, four times that for it */
    pace_init(&p, 100000000, 512);
    decode(&p, &m, 20, 20, 20);
    (void)cross(&p, &m, 20, 100, 2000);
    c = cross(&p, &m, 20, 100, 4000);
    assert_true(c.mean_ns > 30e6); /* 492 rows */
}

static void test_pace_fixed_target(void **state)
{
    struct machine m = {.weights_ms = 10, .row_ms = 1, .context_ms = 0.1, .noise = 0.1};
    struct pace p;
    pace_init(&p, 300000000, 4096);
    decode(&p, &m, 2, 100, 50);
    (void)cross(&p, &m, 2, 100, 2000);
    struct crossing c = cross(&p, &m, 2, 100, 8000);
    assert_int_equal(pace_target(&p), 300000000);
    assert_true(c.p99_ns < 450000000);
    assert_true(c.mean_ns > 200e6);
    pace_init(&p, PACE_OFF_NS, 4096);
    struct pace_step two = {.decode_rows = 2};
    assert_int_equal(pace_prompt_rows(&p, &two, 0), 4094);
}

static void test_pace_never_starves_a_prompt(void **state)
{
    struct machine m = {.weights_ms = 100, .row_ms = 60, .context_ms = 1};
    struct pace p;
    pace_init(&p, 0, 64);
    decode(&p, &m, 1, 100, 50);
    decode(&p, &m, 20, 100, 50);
    struct pace_step crowd = {.decode_rows = 20, .context = 2000};
    for (int i = 0; i < 100; i++) {
        struct pace_step step = crowd;
        step.prompt_rows = pace_prompt_rows(&p, &crowd, 0);
        /* The target is lost anyway: half as long again, as soon as it is known what that is. */
        assert_in_range(step.prompt_rows, i < 3 ? PACE_ROWS_LEAST : 8, 12);
        pace_learn(&p, &step, run(&m, &step));
    }
    /* A few that come near the target by themselves: the prompt gets a little, and they feel
     * little. */
    struct pace_step few = {.decode_rows = 4, .context = 400};
    decode(&p, &m, 4, 100, 50);
    for (int i = 0; i < 100; i++) {
        struct pace_step step = few;
        step.prompt_rows = pace_prompt_rows(&p, &few, 0);
        assert_in_range(step.prompt_rows, PACE_ROWS_LEAST, PACE_ROWS_MIN);
        uint64_t ns = run(&m, &step);
        assert_true(i < 20 || ns < 2 * pace_target(&p));
        pace_learn(&p, &step, ns);
    }
    crowd.decode_rows = 62; /* no more room than this */
    assert_int_equal(pace_prompt_rows(&p, &crowd, 0), 2);
    crowd.decode_rows = 64;
    assert_int_equal(pace_prompt_rows(&p, &crowd, 0), 0);
}

/* A machine on which the target leaves a prompt two or three rows, met by a prompt before it has
 * seen one beside answers: not even the first steps may be long. */
static void test_pace_begins_slowly(void **state)
{
    for (uint64_t seed = 0; seed < 50; seed++) {
        struct machine m = {
            .weights_ms = 110, .row_ms = 27, .context_ms = 1, .noise = 0.08, .state = seed};
        struct pace p;
        pace_init(&p, 0, 512);
        for (int i = 0; i < 2; i++) { /* somebody's short question, and the answer */
            struct pace_step prompt = {.prompt_rows = 16, .context = pace_context(0, 16)};
            pace_learn(&p, &prompt, run(&m, &prompt));
            decode(&p, &m, 1, 17, 15);
        }
        for (size_t streams = 1; streams <= 4; streams++) {
            decode(&p, &m, streams, 20, 1);
        }
        uint64_t longest = 0;
        for (size_t done = 0, i = 0; i < 40; i++) {
            struct pace_step step = {.decode_rows = 4, .context = 4 * (40 + i)};
            step.prompt_rows = pace_prompt_rows(&p, &step, done);
            step.context += pace_context(done, step.prompt_rows);
            uint64_t ns = run(&m, &step);
            pace_learn(&p, &step, ns);
            longest = ns > longest ? ns : longest;
            done += step.prompt_rows;
        }
        if (longest > pace_target(&p) * 3 / 2) {
            fail_msg("seed %llu: a step of %.0f ms, the target is %.0f", (unsigned long long)seed,
                     (double)longest * 1e-6, (double)pace_target(&p) * 1e-6);
        }
    }
}

/* On a shared machine one step in thirty takes half as long again, and of those that carry a prompt
 * too it must not break the promise; where all steps are alike they are used to the full. */
static void test_pace_leaves_room_for_noise(void **state)
{
    double mean_ns[2];
    for (int noisy = 0; noisy < 2; noisy++) {
        struct machine m = {.weights_ms = 110, .row_ms = 27, .noise = 0.03};
        m.hiccup_odds = noisy ? 30 : 0;
        m.hiccup = 1.5;
        struct pace p;
        pace_init(&p, 0, 512);
        decode(&p, &m, 1, 100, 200);
        decode(&p, &m, 4, 100, 200);
        struct crossing c = cross(&p, &m, 4, 300, 4000);
        mean_ns[noisy] = c.mean_ns;
        if (c.p99_ns > pace_target(&p) * 3 / 2) {
            fail_msg("noisy %d: p99 %.0f ms, the target is %.0f", noisy, (double)c.p99_ns * 1e-6,
                     (double)pace_target(&p) * 1e-6);
        }
    }
    assert_true(mean_ns[1] < mean_ns[0]);
    assert_true(mean_ns[0] > 1.1 * 220e6);
}

/* Hours of decoding alone, then prompts; a machine that slows down for good; one wild step. */
static void test_pace_adapts(void **state)
{
    struct machine m = {.weights_ms = 50, .row_ms = 2, .context_ms = 0.3, .noise = 0.05};
    struct pace p;
    pace_init(&p, 0, 512);
    for (int i = 0; i < 50; i++) {
        decode(&p, &m, 1, 100, 1000);
    }
    (void)cross(&p, &m, 1, 500, 1000);
    struct crossing before = cross(&p, &m, 1, 500, 4000);
    assert_true(before.p99_ns < pace_target(&p) * 3 / 2);
    struct pace_step step = {.decode_rows = 1, .prompt_rows = 20, .context = 5000};
    uint64_t expected = pace_predict(&p, &step);
    pace_learn(&p, &step, 100 * expected);
    assert_true(pace_predict(&p, &step) < expected * 3 / 2);
    decode(&p, &m, 1, 100, 100);
    m.weights_ms *= 3;
    m.row_ms *= 3;
    decode(&p, &m, 1, 100, 100);
    (void)cross(&p, &m, 1, 500, 1000);
    struct crossing after = cross(&p, &m, 1, 500, 4000);
    assert_in_range(pace_target(&p), 270000000, 340000000);
    assert_true(after.p99_ns < pace_target(&p) * 3 / 2);
    /* Nothing and no time teach nothing. */
    struct pace same = p;
    pace_learn(&p, &(struct pace_step){0}, 1000);
    pace_learn(&p, &step, 0);
    assert_memory_equal(&p, &same, sizeof(p));
}

static void test_pace_context_counts(void **state)
{
    for (size_t start = 0; start < 5; start++) {
        for (size_t rows = 0; rows < 6; rows++) {
            uint64_t sum = 0;
            for (size_t i = 0; i < rows; i++) {
                sum += start + i + 1;
            }
            assert_int_equal(pace_context(start, rows), sum);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pace_keeps_the_target),
        cmocka_unit_test(test_pace_learns_in_passing),
        cmocka_unit_test(test_pace_fixed_target),
        cmocka_unit_test(test_pace_no_longer_than_it_pays),
        cmocka_unit_test(test_pace_never_starves_a_prompt),
        cmocka_unit_test(test_pace_begins_slowly),
        cmocka_unit_test(test_pace_leaves_room_for_noise),
        cmocka_unit_test(test_pace_adapts),
        cmocka_unit_test(test_pace_context_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

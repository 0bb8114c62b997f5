#include "engine/sched/meter.h"

#include "engine/base/clock.h"

#define MS(n) (UINT64_C(n) * CLOCK_NS_PER_MS)

/* Nanoseconds. Fine where people feel the difference, then up to what a patient batch job takes. */
static const uint64_t first_token_bounds[] = {
    MS(1),     MS(5),     MS(10),    MS(20),     MS(40),     MS(60),     MS(80),   MS(100),
    MS(250),   MS(500),   MS(750),   MS(1000),   MS(2500),   MS(5000),   MS(7500), MS(10000),
    MS(20000), MS(40000), MS(80000), MS(160000), MS(640000), MS(2560000)};
static const uint64_t token_bounds[] = {
    MS(1),    MS(2),    MS(5),     MS(10),    MS(25),    MS(50),   MS(75),   MS(100),
    MS(150),  MS(200),  MS(300),   MS(400),   MS(500),   MS(750),  MS(1000), MS(2500),
    MS(5000), MS(7500), MS(10000), MS(20000), MS(40000), MS(80000)};
static const uint64_t request_bounds[] = {
    MS(10),    MS(50),    MS(100),    MS(300),    MS(500),    MS(800),    MS(1000),    MS(1500),
    MS(2000),  MS(2500),  MS(5000),   MS(10000),  MS(15000),  MS(20000),  MS(30000),   MS(40000),
    MS(50000), MS(60000), MS(120000), MS(240000), MS(480000), MS(960000), MS(1920000), MS(7680000)};
static const uint64_t count_bounds[] = {1,    2,    5,    10,    20,    50,    100,    200,   500,
                                        1000, 2000, 5000, 10000, 20000, 50000, 100000, 200000};
static const uint64_t row_bounds[] = {1,   2,   4,    8,    16,   32,   64,   128,
                                      256, 512, 1024, 2048, 4096, 8192, 16384};

#define BOUNDS(table) .bounds = table, .count = sizeof(table) / sizeof(table[0])

static const struct shape {
    const uint64_t *bounds;
    size_t count;
    bool is_time;
} shapes[PHID_HISTOGRAMS] = {
    [PHID_HISTOGRAM_FIRST_TOKEN] = {BOUNDS(first_token_bounds), .is_time = true},
    [PHID_HISTOGRAM_INTER_TOKEN] = {BOUNDS(token_bounds), .is_time = true},
    [PHID_HISTOGRAM_PER_TOKEN] = {BOUNDS(token_bounds), .is_time = true},
    [PHID_HISTOGRAM_WHOLE] = {BOUNDS(request_bounds), .is_time = true},
    [PHID_HISTOGRAM_QUEUE] = {BOUNDS(request_bounds), .is_time = true},
    [PHID_HISTOGRAM_PREFILL] = {BOUNDS(request_bounds), .is_time = true},
    [PHID_HISTOGRAM_DECODE] = {BOUNDS(request_bounds), .is_time = true},
    [PHID_HISTOGRAM_INFERENCE] = {BOUNDS(request_bounds), .is_time = true},
    [PHID_HISTOGRAM_PROMPT_TOKENS] = {BOUNDS(count_bounds)},
    [PHID_HISTOGRAM_COMPUTED_TOKENS] = {BOUNDS(count_bounds)},
    [PHID_HISTOGRAM_ANSWER_TOKENS] = {BOUNDS(count_bounds)},
    [PHID_HISTOGRAM_MAX_TOKENS] = {BOUNDS(count_bounds)},
    [PHID_HISTOGRAM_STEP_ROWS] = {BOUNDS(row_bounds)},
};

void meter_init(struct meter *m)
{
    for (size_t i = 0; i < PHID_HISTOGRAMS; i++) {
        histogram_init(&m->histograms[i], shapes[i].bounds, shapes[i].count);
    }
    for (size_t i = 0; i < PHID_FINISHES; i++) {
        atomic_init(&m->finished[i], 0);
    }
    atomic_init(&m->prompt_tokens, 0);
    atomic_init(&m->moved_ns, 0);
    atomic_init(&m->idle, true);
}

static void add(struct meter *m, enum phid_histogram_id id, uint64_t value)
{
    histogram_add(&m->histograms[id], value);
}

void meter_step(struct meter *m, size_t rows)
{
    m->step++;
    add(m, PHID_HISTOGRAM_STEP_ROWS, rows);
}

void meter_token(struct meter *m, struct sequence *s)
{
    uint64_t now = clock_now_ns();
    if (s->last_token_ns == 0) {
        atomic_fetch_add_explicit(&m->prompt_tokens, s->prompt_count, memory_order_relaxed);
        add(m, PHID_HISTOGRAM_FIRST_TOKEN, now - s->arrived_ns);
    } else if (s->last_token_step != m->step) { /* guesses that came true arrive together */
        add(m, PHID_HISTOGRAM_INTER_TOKEN, now - s->last_token_ns);
    }
    s->last_token_ns = now;
    s->last_token_step = m->step;
}

/* Times of requests that were answered to their end; of the others they would say nothing. */
static void add_answered(struct meter *m, const struct sequence *s)
{
    const struct output_progress *p = &s->progress;
    uint64_t now = clock_now_ns();
    uint64_t started_ns = s->submitted_ns + p->queue_ns;
    add(m, PHID_HISTOGRAM_WHOLE, now - s->arrived_ns);
    add(m, PHID_HISTOGRAM_QUEUE, p->queue_ns);
    add(m, PHID_HISTOGRAM_INFERENCE, now - started_ns);
    add(m, PHID_HISTOGRAM_PROMPT_TOKENS, p->prompt_tokens);
    add(m, PHID_HISTOGRAM_COMPUTED_TOKENS, p->prompt_tokens - p->cached_tokens);
    add(m, PHID_HISTOGRAM_ANSWER_TOKENS, p->completion_tokens);
    add(m, PHID_HISTOGRAM_MAX_TOKENS, s->max_tokens);
    if (p->completion_tokens == 0) {
        atomic_fetch_add_explicit(&m->prompt_tokens, s->prompt_count, memory_order_relaxed);
        add(m, PHID_HISTOGRAM_PREFILL, now - started_ns);
        return;
    }
    uint64_t first_ns = s->submitted_ns + p->first_token_ns;
    add(m, PHID_HISTOGRAM_PREFILL, p->first_token_ns - p->queue_ns);
    add(m, PHID_HISTOGRAM_DECODE, s->last_token_ns > first_ns ? s->last_token_ns - first_ns : 0);
    if (p->completion_tokens > 1) {
        add(m, PHID_HISTOGRAM_PER_TOKEN, (now - first_ns) / (p->completion_tokens - 1));
    }
}

void meter_finish(struct meter *m, const struct sequence *s, enum phid_finish finish)
{
    meter_beat(m);
    atomic_fetch_add_explicit(&m->finished[finish], 1, memory_order_relaxed);
    if (finish == PHID_FINISH_STOP || finish == PHID_FINISH_LENGTH) {
        add_answered(m, s);
    }
}

void meter_beat(struct meter *m)
{
    atomic_store_explicit(&m->moved_ns, clock_now_ns(), memory_order_relaxed);
}

void meter_wake(struct meter *m)
{
    if (atomic_load_explicit(&m->idle, memory_order_relaxed)) {
        meter_beat(m);
        atomic_store_explicit(&m->idle, false, memory_order_release);
    }
}

void meter_rest(struct meter *m, bool has_work)
{
    if (!has_work) {
        meter_beat(m);
        atomic_store_explicit(&m->idle, true, memory_order_release);
    }
}

uint64_t meter_stalled_ns(const struct meter *m, uint64_t rung_ns)
{
    bool idle = atomic_load_explicit(&m->idle, memory_order_acquire);
    uint64_t since = atomic_load_explicit(&m->moved_ns, memory_order_relaxed);
    if (idle && rung_ns == 0) {
        return 0;
    }
    if (idle && rung_ns > since) {
        since = rung_ns;
    }
    uint64_t now = clock_now_ns();
    return since > 0 && now > since ? now - since : 0;
}

void meter_read(const struct meter *m, enum phid_histogram_id id, struct phid_histogram *ret)
{
    const struct histogram *h = &m->histograms[id];
    *ret = (struct phid_histogram){
        .is_time = shapes[id].is_time, .bounds = h->bounds, .bound_count = h->bound_count};
    ret->sum = histogram_read(h, ret->counts);
}

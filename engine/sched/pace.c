#include "engine/sched/pace.h"

#include <math.h>

#define DRIFT       0.02 /* of a cost, each step: follows a change within some dozens of steps */
#define NOISE       0.08 /* of a step's time: what repeated equal steps differ by on a busy machine */
#define NOISE_MS    0.05
#define SURPRISE    3.0 /* standard deviations that a measurement counts for, at most */
#define TRIAL_STEPS 8   /* the first ones count in full */
#define LONE_SHARE  0.1 /* of a new lone step in their running mean */

/* A step that takes longer than predicted counts for half of what it was longer; that fades within
 * some hundreds of steps, so one in thirty is remembered and one in thousands is not. */
#define OVERRUN_RISE 0.5
#define OVERRUN_FADE 0.003
#define OVERRUN_MAX  2.0 /* no plan provides for more: the prompt would pay too much */

#define SLACK     1.25 /* of the target: what a step may be planned as at most */
#define GAP_LIMIT 1.5  /* of the target: what nearly all steps are to stay below, noise included */

#define GROWTH 1.25 /* of the target: what a step larger than the one before may come to */

/* What is believed before a second step shows more: reading the weights takes as long as computing
 * so many rows, rows of both kinds cost the same (correlation), 1000 tokens of context at most so
 * many.
 */
#define BELIEVED_STEP    4
#define BELIEVED_ALIKE   0.8
#define BELIEVED_CONTEXT 4

enum { COST_STEP, COST_DECODE, COST_PROMPT, COST_CONTEXT };

void pace_init(struct pace *p, uint64_t target_ns, size_t max_rows)
{
    *p = (struct pace){.target_ns = target_ns, .max_rows = max_rows};
}

uint64_t pace_context(size_t start, size_t rows)
{
    return (uint64_t)rows * start + (uint64_t)rows * (rows + 1) / 2;
}

static void features(const struct pace_step *step, double x[PACE_COSTS])
{
    x[COST_STEP] = 1;
    x[COST_DECODE] = (double)step->decode_rows;
    x[COST_PROMPT] = (double)step->prompt_rows;
    x[COST_CONTEXT] = (double)step->context / 1000;
}

static double predict_ms(const struct pace *p, const double x[PACE_COSTS])
{
    double ms = 0;
    for (int i = 0; i < PACE_COSTS; i++) {
        ms += p->cost[i] * x[i];
    }
    return ms;
}

/* One step does not tell its parts: they begin as is believed, and each may be wrong by as much. */
static void begin(struct pace *p, const double x[PACE_COSTS], double ms)
{
    double row = ms / (BELIEVED_STEP + x[COST_DECODE] + x[COST_PROMPT]);
    p->cost[COST_STEP] = p->doubt[COST_STEP] = BELIEVED_STEP * row;
    p->cost[COST_DECODE] = p->doubt[COST_DECODE] = row;
    p->cost[COST_PROMPT] = p->doubt[COST_PROMPT] = row;
    p->doubt[COST_CONTEXT] = BELIEVED_CONTEXT * row;
    for (int i = 0; i < PACE_COSTS; i++) {
        p->covariance[i][i] = p->doubt[i] * p->doubt[i];
    }
    double alike = BELIEVED_ALIKE * row * row;
    p->covariance[COST_DECODE][COST_PROMPT] = p->covariance[COST_PROMPT][COST_DECODE] = alike;
}

/* Lets the costs drift, but no uncertainty grow beyond the first: a cost that no step shows for an
 * hour must not be thrown about by the next. */
static void drift(struct pace *p)
{
    for (int i = 0; i < PACE_COSTS; i++) {
        double step = DRIFT * fmax(p->cost[i], 0.05 * p->doubt[i]);
        p->covariance[i][i] += step * step;
        double most = p->doubt[i] * p->doubt[i];
        if (p->covariance[i][i] > most) {
            double scale = sqrt(most / p->covariance[i][i]);
            for (int j = 0; j < PACE_COSTS; j++) {
                p->covariance[i][j] *= scale;
                p->covariance[j][i] *= scale;
            }
        }
    }
}

/* A cost found to be nothing: the others must not lean on it any more. */
static void detach(struct pace *p, int i)
{
    double least = DRIFT * p->doubt[i];
    for (int j = 0; j < PACE_COSTS; j++) {
        p->covariance[i][j] = p->covariance[j][i] = 0;
    }
    p->covariance[i][i] = least * least;
    p->cost[i] = 0;
}

/* The Kalman filter's step for one measurement (Kalman 1960), the surprise bounded. PACE_COSTS when
 * done, else the cost that it would have made negative: the step is to be taken again without it.
 */
static int correct(struct pace *p, const double x[PACE_COSTS], double ms)
{
    double px[PACE_COSTS];
    double expected = predict_ms(p, x);
    double noise = NOISE * expected + NOISE_MS;
    double variance = noise * noise;
    for (int i = 0; i < PACE_COSTS; i++) {
        px[i] = 0;
        for (int j = 0; j < PACE_COSTS; j++) {
            px[i] += p->covariance[i][j] * x[j];
        }
        variance += x[i] * px[i];
    }
    double surprise = ms - expected;
    double most = SURPRISE * sqrt(variance);
    if (p->learned >= TRIAL_STEPS) {
        surprise = fmin(fmax(surprise, -most), most);
    }
    for (int i = 0; i < PACE_COSTS; i++) {
        if (x[i] > 0 && p->cost[i] + px[i] / variance * surprise < 0) {
            return i;
        }
    }
    for (int i = 0; i < PACE_COSTS; i++) {
        p->cost[i] = fmax(p->cost[i] + px[i] / variance * surprise, 0);
        for (int j = 0; j < PACE_COSTS; j++) {
            p->covariance[i][j] -= px[i] * px[j] / variance;
        }
    }
    return PACE_COSTS;
}

static void watch_overrun(struct pace *p, double expected, double ms)
{
    double over = fmin(ms / expected, OVERRUN_MAX) - 1;
    p->overrun +=
        over > p->overrun ? OVERRUN_RISE * (over - p->overrun) : -OVERRUN_FADE * p->overrun;
}

void pace_learn(struct pace *p, const struct pace_step *step, uint64_t ns)
{
    double x[PACE_COSTS];
    double ms = (double)ns * 1e-6;
    if (step->decode_rows + step->prompt_rows == 0 || ns == 0) {
        return;
    }
    features(step, x);
    if (p->learned == 0) {
        begin(p, x, ms);
    }
    if (p->learned >= TRIAL_STEPS) {
        watch_overrun(p, predict_ms(p, x), ms);
    }
    drift(p);
    for (int negative; (negative = correct(p, x, ms)) < PACE_COSTS;) {
        detach(p, negative);
        x[negative] = 0;
    }
    p->learned++;
    p->last_rows = step->decode_rows + step->prompt_rows;
    p->last_ns = ns;
    if (step->decode_rows == 1 && step->prompt_rows == 0) {
        double share = p->lone_ms > 0 ? LONE_SHARE : 1;
        /* One long pause is not what a lone step takes. */
        p->lone_ms += share * ((p->lone_ms > 0 ? fmin(ms, 2 * p->lone_ms) : ms) - p->lone_ms);
    }
}

uint64_t pace_predict(const struct pace *p, const struct pace_step *step)
{
    double x[PACE_COSTS];
    features(step, x);
    return (uint64_t)(predict_ms(p, x) * 1e6);
}

uint64_t pace_target(const struct pace *p)
{
    if (p->target_ns > 0) {
        return p->target_ns;
    }
    double lone = p->cost[COST_STEP] + p->cost[COST_DECODE];
    lone = p->lone_ms > 0 ? p->lone_ms : lone;
    uint64_t twice = (uint64_t)(2e6 * lone);
    return twice > PACE_TARGET_NS ? twice : PACE_TARGET_NS;
}

/* The longest a step beside answers may be planned, when `most` targets would be tolerable. */
static uint64_t planned(const struct pace *p, double most)
{
    return (uint64_t)(fmin(most, GAP_LIMIT / (1 + p->overrun)) * (double)pace_target(p));
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* The most prompt rows, of `most`, with which the step stays below `ns`. */
static size_t rows_within(const struct pace *p, const struct pace_step *decodes, size_t start,
                          size_t most, uint64_t ns)
{
    size_t fits = 0;
    while (fits < most) {
        size_t rows = fits + (most - fits + 1) / 2;
        struct pace_step step = *decodes;
        step.prompt_rows = rows;
        step.context += pace_context(start, rows);
        if (pace_predict(p, &step) <= ns) {
            fits = rows;
        } else {
            most = rows - 1;
        }
    }
    return fits;
}

/* Prompt rows with which a step stays near `ns` whatever the costs are: it can not have more times
 * the rows of the last one than times its time. So a prompt that arrives is met with a few rows,
 * then with as many as these show to be possible. */
static size_t rows_dared(const struct pace *p, const struct pace_step *decodes, uint64_t ns)
{
    double rows = (double)p->last_rows * GROWTH * (double)ns / (double)p->last_ns;
    double least = (double)(decodes->decode_rows + PACE_ROWS_LEAST);
    size_t most = (size_t)fmin(fmax(rows, least), (double)p->max_rows);
    return most > decodes->decode_rows ? most - decodes->decode_rows : 0;
}

/* Rows for prompts when the answers leave them fewer than PACE_ROWS_MIN within the target: as many
 * as slow the step down a little; more when the answers alone are far beyond the target. */
static size_t rows_at_least(const struct pace *p, const struct pace_step *decodes, size_t start,
                            size_t room)
{
    uint64_t target = pace_target(p), bare = pace_predict(p, decodes);
    uint64_t slack = planned(p, SLACK);
    size_t most = smaller(PACE_ROWS_MIN, rows_dared(p, decodes, target));
    if ((double)bare > SLACK * (double)target) {
        slack = bare + bare / 2;
        most = larger(decodes->decode_rows, PACE_ROWS_MIN);
        most = smaller(most, rows_dared(p, decodes, slack));
    }
    most = smaller(most, room);
    return larger(rows_within(p, decodes, start, most, slack), smaller(room, PACE_ROWS_LEAST));
}

/* A step that gains nothing by being longer: it reads the weights for a sixteenth of its time at
 * most, or four fifths of it are the prompts'. Who chose a target wants prompts done. */
static uint64_t long_enough(const struct pace *p, const struct pace_step *decodes, uint64_t target)
{
    double step = PACE_STEP_SHARE * 1e6 * p->cost[COST_STEP];
    double decode = PACE_DECODE_SHARE * (double)pace_predict(p, decodes);
    return p->target_ns > 0 ? target : (uint64_t)fmin((double)target, fmax(step, decode));
}

size_t pace_prompt_rows(const struct pace *p, const struct pace_step *decodes, size_t start)
{
    size_t room = p->max_rows > decodes->decode_rows ? p->max_rows - decodes->decode_rows : 0;
    uint64_t target = pace_target(p);
    if (target >= PACE_OFF_NS) {
        return room;
    }
    if (p->learned == 0) {
        return smaller(room, decodes->decode_rows > 0 ? PACE_ROWS_MIN : PACE_ROWS_FIRST);
    }
    if (decodes->decode_rows == 0) {
        uint64_t alone = 2 * target > PACE_ALONE_NS ? 2 * target : PACE_ALONE_NS;
        size_t rows = rows_within(p, decodes, start, room, alone);
        return rows < PACE_ROWS_MIN ? smaller(room, PACE_ROWS_MIN) : rows;
    }
    size_t most = smaller(room, rows_dared(p, decodes, target));
    size_t rows = rows_within(p, decodes, start, most, long_enough(p, decodes, planned(p, 1)));
    return rows >= PACE_ROWS_MIN ? rows : rows_at_least(p, decodes, start, room);
}

size_t pace_stretched_rows(const struct pace *p, const struct pace_step *decodes, size_t start,
                           double targets)
{
    size_t room = p->max_rows > decodes->decode_rows ? p->max_rows - decodes->decode_rows : 0;
    double target = (double)pace_target(p);
    uint64_t most_ns =
        (uint64_t)fmin(targets * target, fmax((double)PACE_ALONE_NS, PACE_GUEST_STRETCH * target));
    size_t least = pace_prompt_rows(p, decodes, start);
    if (p->learned == 0) {
        return least;
    }
    size_t most = smaller(room, rows_dared(p, decodes, most_ns));
    return larger(rows_within(p, decodes, start, most, most_ns), least);
}

bool pace_apart(const struct pace *p, const struct pace_step *decodes,
                const struct pace_step *prompt)
{
    struct pace_step none = {0}, both = *decodes;
    uint64_t target = pace_target(p);
    both.prompt_rows += prompt->prompt_rows;
    both.context += prompt->context;
    if (p->learned < TRIAL_STEPS || prompt->prompt_rows > rows_dared(p, &none, target)) {
        return false;
    }
    uint64_t alone = pace_predict(p, prompt);
    return alone + alone / 2 <= pace_predict(p, &both) &&
           alone + pace_predict(p, decodes) <= target;
}

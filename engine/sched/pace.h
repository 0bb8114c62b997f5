/* The pace: how long a step will take, learned from those that were run, and so how many prompt
 * rows the next one may carry.
 *
 * A step's time is taken as a sum: so much for being a step at all (the weights are read once), so
 * much for each decode row, for each prompt row, and for each token of the past that a row looks
 * at. The four costs are followed by a Kalman filter whose state may drift, because a straight line
 * is only true near where the engine works, and the machine has other work too; one wild
 * measurement moves it little. The step loop owns the pace; plain values, no clock: times are told.
 * Step thread.
 */
#ifndef PHID_SCHED_PACE_H
#define PHID_SCHED_PACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PACE_COSTS 4

/* Without a target of its own: no gap between two tokens needs to be shorter than this. */
#define PACE_TARGET_NS UINT64_C(100000000)

/* A step of prompts alone may take this long (or twice the target), so that a newcomer's wait for
 * its first step stays bearable and a cancelled prompt gives its pages back soon. */
#define PACE_ALONE_NS UINT64_C(2000000000)

/* A target as long as this is none: every step is filled. */
#define PACE_OFF_NS UINT64_C(3600000000000)

#define PACE_GUEST_STRETCH 2.5

/* Steps of prompts and answers, without a target of one's own, are no longer than the larger of so
 * many times what being a step costs and so many times what the answers cost: longer ones would
 * make newcomers and answers wait and save nothing. */
#define PACE_STEP_SHARE   16
#define PACE_DECODE_SHARE 5

#define PACE_ROWS_FIRST 64 /* prompt rows of a step before anything was learned */
/* Prompt rows of a step when the target leaves fewer; unless even these make it a quarter longer,
 * then as many as do not, at least the second number. On a machine whose steps often take longer
 * than predicted it is planned so much shorter that nearly all stay below one and a half targets.
 * When the answers alone take longer than that, the prompts get what makes the step half as long
 * again, at most as many rows as the answers. */
#define PACE_ROWS_MIN   8
#define PACE_ROWS_LEAST 1

/* What a step computes. */
struct pace_step {
    size_t decode_rows;
    size_t prompt_rows;
    uint64_t context; /* tokens looked at, all rows together */
};

struct pace {
    uint64_t target_ns; /* 0: twice the lone decode step, at least PACE_TARGET_NS */
    size_t max_rows;    /* of a step */

    uint64_t learned;         /* steps */
    double cost[PACE_COSTS];  /* ms: a step, a decode row, a prompt row, 1000 tokens of context */
    double doubt[PACE_COSTS]; /* what each cost's uncertainty may grow to, ms */
    double covariance[PACE_COSTS][PACE_COSTS];
    double lone_ms;   /* a step of one decode row; 0: none seen */
    size_t last_rows; /* of the last step, both kinds */
    uint64_t last_ns;
    double overrun; /* by how much of its prediction a step takes longer now and then */
};

void pace_init(struct pace *p, uint64_t target_ns, size_t max_rows);

/* A step like this took so long. */
void pace_learn(struct pace *p, const struct pace_step *step, uint64_t ns);

/* How long it would take; 0 while nothing is known. */
uint64_t pace_predict(const struct pace *p, const struct pace_step *step);

/* The longest a step should take while somebody decodes. */
uint64_t pace_target(const struct pace *p);

/* Prompt rows that fit a step with these decode rows and their context (prompt_rows is ignored),
 * when the prompt goes on at position `start`. At least one as long as there is room in the step;
 * never more than max_rows together. */
size_t pace_prompt_rows(const struct pace *p, const struct pace_step *decodes, size_t start);

/* The same for short prompts that may stretch a step to so many targets (PACE_GUEST_STRETCH for a
 * guest, a tenant with few seats beside one with many), but not beyond PACE_ALONE_NS. */
size_t pace_stretched_rows(const struct pace *p, const struct pace_step *decodes, size_t start,
                           double targets);

/* Whether a short prompt should have a step of its own before that of the answers: then it is done
 * in at most two thirds of the time, and they wait no longer than the target for their two steps.
 */
bool pace_apart(const struct pace *p, const struct pace_step *decodes,
                const struct pace_step *prompt);

/* The tokens that `rows` rows look at, the first one at position `start`. */
uint64_t pace_context(size_t start, size_t rows);

#endif

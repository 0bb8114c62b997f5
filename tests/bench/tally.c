#include "tests/bench/tally.h"

#include <string.h>

void tally_init(struct tally *t, const struct goals *goals)
{
    *t = (struct tally){.goals = *goals};
}

void tally_fini(struct tally *t)
{
    samples_fini(&t->ttft);
    samples_fini(&t->tpot);
    samples_fini(&t->itl);
    samples_fini(&t->e2el);
    samples_fini(&t->refusal);
}

static void add_reason(struct tally *t, const char *text)
{
    for (size_t i = 0; i < t->reason_count; i++) {
        if (strcmp(t->reasons[i].text, text) == 0) {
            t->reasons[i].count++;
            return;
        }
    }
    if (t->reason_count < TALLY_REASONS_MAX) {
        struct tally_reason *reason = &t->reasons[t->reason_count++];
        memcpy(reason->text, text, strlen(text) + 1);
        reason->count = 1;
    }
}

static bool within(double value, double limit)
{
    return limit == 0 || value <= limit;
}

/* A server without usage is believed by its pieces. */
static size_t output_tokens(const struct client_result *r)
{
    return r->has_usage ? r->usage.completion_tokens : r->pieces;
}

static void add_good(struct tally *t, const struct client_result *r, const struct samples *gaps)
{
    size_t tokens = output_tokens(r);
    double tpot = 0;
    t->good++;
    t->prompt_tokens += r->usage.prompt_tokens;
    t->cached_tokens += r->usage.cached_tokens;
    t->output_tokens += tokens;
    t->pieces += r->pieces;
    samples_add(&t->e2el, r->e2el_ms);
    if (r->pieces > 0) {
        samples_add(&t->ttft, r->ttft_ms);
    }
    if (r->pieces > 0 && tokens > 1) {
        tpot = (r->e2el_ms - r->ttft_ms) / (double)(tokens - 1);
        samples_add(&t->tpot, tpot);
    }
    samples_append(&t->itl, gaps);
    t->within_goals += r->pieces > 0 && within(r->ttft_ms, t->goals.ttft_ms) &&
                       within(tpot, t->goals.tpot_ms) && within(r->e2el_ms, t->goals.e2el_ms);
}

void tally_add(struct tally *t, const struct client_result *result, const struct samples *gaps)
{
    switch (result->outcome) {
    case OUTCOME_GOOD:
        add_good(t, result, gaps);
        return;
    case OUTCOME_CUT:
        t->cut++;
        return;
    case OUTCOME_REFUSED:
        t->refused++;
        t->without_retry_after += !result->has_retry_after;
        t->malformed += !result->well_formed;
        samples_add(&t->refusal, result->e2el_ms);
        break;
    case OUTCOME_FAILED:
    case OUTCOME_NONE:
        t->failed++;
        t->malformed += result->status > 200 && !result->well_formed;
        break;
    }
    add_reason(t, result->reason);
}

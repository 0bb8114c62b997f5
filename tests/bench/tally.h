/* The results of a phase: counts, times of the good ones, reasons of the others. */
#ifndef PHID_BENCH_TALLY_H
#define PHID_BENCH_TALLY_H

#include "tests/bench/client.h"

#define TALLY_REASONS_MAX 32

struct tally_reason {
    char text[96];
    size_t count;
};

struct tally {
    struct goals goals;
    size_t good, refused, failed, cut;
    size_t within_goals;
    size_t malformed;           /* errors that are no error object */
    size_t without_retry_after; /* of the refused */
    size_t most_in_flight;
    uint64_t prompt_tokens, cached_tokens, output_tokens, pieces;
    double seconds;
    struct samples ttft, tpot, itl, e2el, refusal; /* ms */
    struct tally_reason reasons[TALLY_REASONS_MAX];
    size_t reason_count;
};

void tally_init(struct tally *t, const struct goals *goals);
void tally_fini(struct tally *t);
void tally_add(struct tally *t, const struct client_result *result, const struct samples *gaps);

#endif

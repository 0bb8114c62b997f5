/* The result of a run, for people and as JSON with the names that `vllm bench serve` uses. */
#ifndef PHID_BENCH_REPORT_H
#define PHID_BENCH_REPORT_H

#include <stdio.h>

#include "tests/bench/tally.h"

/* Sorts the tally's samples. */
void report_text(const struct options *o, struct tally *t, FILE *out);

/* False: out of memory. */
bool report_json(const struct options *o, const char *model, struct tally *t, FILE *out);

#endif

/* What `bench --profile` prints: the operations of an engine during a measurement, beside its wall
 * time. Owned by bench. */
#ifndef PHID_CLI_PROFILE_H
#define PHID_CLI_PROFILE_H

#include <stdbool.h>
#include <stddef.h>

#include "engine/phid.h"

/* What the engine does outside the backend counts as operations too. */
#define PROFILE_ROWS_MAX (PHID_OPERATIONS_MAX + 2)

struct profile {
    struct phid_engine *engine; /* opened with `profile`; borrowed */
    double wall_s;              /* measured so far */
    size_t count;
    struct phid_operation rows[PROFILE_ROWS_MAX];  /* sums of what was measured */
    struct phid_operation start[PROFILE_ROWS_MAX]; /* the counters when the measurement began */
};

void profile_open(struct profile *p, struct phid_engine *engine);

/* Around a measurement; its wall time is the caller's. */
void profile_begin(struct profile *p);
void profile_end(struct profile *p, double wall_s);

/* To standard output: lines of a table, or `,"profile":{..}` inside an object. */
void profile_print(const struct profile *p, bool json);

#endif

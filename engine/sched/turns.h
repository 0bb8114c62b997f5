/* Whose turn it is: the sequences that wait for their first step, and the fair shares of those who
 * sent them.
 *
 * The order has four rules. The best priority goes first (the lowest number). Within it the tenants
 * (API keys) take turns by token cost: each has an allowance that its prompts and answers use up;
 * those who have some left go before those who have not, and all get more when nobody has
 * (deficit round-robin, after Shreedhar and Varghese 1995; the cost of an answer is charged as it
 * grows). Among those the longest prefix that is computed already goes first, then who was served
 * longest ago. A tenant that comes with its only request has some allowance left. Ageing: a
 * sequence that has waited max_overtake_ns counts as of the best priority there is and is the first
 * of its tenant; only other tenants' turns go on before it.
 *
 * A tenant must leave some seats to the others while there are others, or somebody's flood would
 * let a newcomer wait for the end of a whole answer.
 *
 * The step loop owns it and guards it with its mutex. Memory: one small record for each tenant and
 * each of its priorities that has somebody waiting. */
#ifndef PHID_SCHED_TURNS_H
#define PHID_SCHED_TURNS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"
#include "engine/sched/queue.h"

#define TURNS_ALLOWANCE INT64_C(512) /* tokens a tenant gets a round */
#define TURNS_COST      32           /* tokens that beginning costs, however little is to compute */
#define TURNS_LOOKAHEAD                                                                            \
    16                /* of a tenant's sequences, in which the longest prefix is looked for        \
                       */
#define TURNS_SPARE 8 /* one seat of so many is for tenants that have fewer */
#define TURNS_FORGET_NS                                                                            \
    UINT64_C(60000000000) /* a tenant that asked for nothing so long is forgotten */

/* A tenant as long as it is remembered. */
struct account {
    uint64_t tenant;
    int64_t allowance; /* tokens */
    uint64_t served;   /* number of its last turn */
    uint64_t seen_ns;  /* when it last came or left */
    size_t holds;      /* sequences of it: waiting, running or put back */
    size_t seats;      /* of these, running */
    struct account *next;
};

/* One tenant's sequences of one priority, in order of arrival. */
struct lane {
    int32_t priority;
    struct account *account;
    struct queue queue;
    struct lane *next;
};

struct turns {
    uint64_t max_overtake_ns;
    struct account *accounts;
    struct lane *lanes;
    size_t account_count;
    size_t count;  /* waiting */
    size_t tokens; /* their prompts' */
    uint64_t turn;
};

struct turns_seats {
    size_t total, taken;
};

void turns_init(struct turns *t, uint64_t max_overtake_ns);
void turns_fini(struct turns *t); /* nobody waits any more */

/* Errors: PHID_ERR_MEMORY. The sequence's priority, tenant, ordinal and submitted_ns are set. */
enum phid_status turns_push(struct turns *t, struct sequence *s, uint64_t now_ns,
                            struct phid_error *err);

/* Asks for the cached_hint of each that could be next. */
void turns_hint(struct turns *t, size_t (*cached)(const struct sequence *s, void *user),
                void *user);

/* Whose turn is next, NULL: nobody's who may have a seat. It goes on waiting. */
struct sequence *turns_next(struct turns *t, const struct turns_seats *seats, uint64_t now_ns);

/* It gets its turn: it does not wait any more, and is charged for its prompt. */
void turns_take(struct turns *t, struct sequence *s, uint64_t now_ns);

/* Moves all those to `to` that `gone` says have no more business here. They are charged nothing. */
void turns_drop(struct turns *t, bool (*gone)(const struct sequence *s, void *user), void *user,
                struct queue *to);

/* A sequence that was taken begins or ceases to hold a seat; has computed so many tokens more. */
void turns_sit(struct sequence *s, bool sits);
void turns_charge(struct sequence *s, size_t tokens);

/* It has ended, wherever it was; it waits no more. */
void turns_leave(struct sequence *s, uint64_t now_ns);

#endif

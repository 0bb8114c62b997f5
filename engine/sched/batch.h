/* One step's batch: which tokens of which sequences are computed together.
 *
 * Decode rows of every running sequence come first, so that no stream waits for somebody's prompt.
 * Then prompts in chunks, as many rows as the step has room and the pace allows: half of them for
 * the oldest prompt, so that it ends, the others for those that have the fewest left, so that a
 * short one does not wait for a long one. Before both come guests: prompts of a tenant that has few
 * seats beside one that has many, so that a flood of prompts holds nobody up. Short ones may have a
 * step of their own, every other at most, where that is so quick that the answers hardly feel it.
 * No part is of both kinds: a backend may compute prompts in a faster arithmetic where there is
 * nothing else in the step, or many rows of them.
 * Owned by the step loop, allocated once. Step thread. */
#ifndef PHID_SCHED_BATCH_H
#define PHID_SCHED_BATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/backend/backend.h"
#include "engine/base/status.h"
#include "engine/sched/pace.h"
#include "engine/sched/sequence.h"

/* What the logits of one row are for. */
struct batch_head {
    struct sequence *sequence;
    size_t position; /* of the row's token in its sequence */
    bool sample;     /* to choose the next token; else to judge the prompt's next one */
};

struct batch {
    struct backend_batch view;      /* what the backend gets */
    int32_t *tokens;                /* [max_rows] */
    struct backend_sequence *parts; /* [max_sequences] */
    struct sequence **owners;       /* [max_sequences]: whose part it is */
    size_t *head_rows; /* [max_rows]: rows whose logits are wanted, ascending within a sequence */
    struct batch_head *heads; /* [max_rows] */
    size_t head_count;
    size_t max_rows;
    size_t max_sequences;
    struct sequence **prompts; /* [max_sequences]: scratch, those with a prompt to compute */
    size_t *shares;            /* [max_sequences]: scratch, their rows */
    size_t last_count; /* prompts of which one token is left: they have a row like those that decode
                        */
    struct pace_step load; /* what the batch costs */
    bool apart;            /* it is a step of guests alone */
};

/* Errors: PHID_ERR_MEMORY. */
enum phid_status batch_init(struct batch *b, size_t max_rows, size_t max_sequences,
                            struct phid_error *err);
void batch_fini(struct batch *b); /* a zeroed one is fine */
size_t batch_bytes(const struct batch *b);

/* Fills the batch from the running sequences, oldest first; those that are not `runnable` are left
 * out. The pages of the others must cover their tokens. max_rows must be at least the number of
 * sequences. pace: how many prompt rows a step may have; NULL: as many as fit. */
void batch_build(struct batch *b, struct sequence *const *running, size_t count,
                 const struct pace *pace);

#endif

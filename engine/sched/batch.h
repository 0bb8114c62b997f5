/* One step's batch: which tokens of which sequences are computed together.
 *
 * Decode rows of every running sequence come first, so that no stream waits for somebody's prompt;
 * what is left of the step's rows goes to prompts in order of arrival, in chunks. Owned by the step
 * loop, allocated once. Step thread. */
#ifndef PHID_SCHED_BATCH_H
#define PHID_SCHED_BATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/backend/backend.h"
#include "engine/base/status.h"
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
};

/* Errors: PHID_ERR_MEMORY. */
enum phid_status batch_init(struct batch *b, size_t max_rows, size_t max_sequences,
                            struct phid_error *err);
void batch_fini(struct batch *b); /* a zeroed one is fine */
size_t batch_bytes(const struct batch *b);

/* Fills the batch from the running sequences, oldest first; those that are not `runnable` are left
 * out. The pages of the others must cover their tokens. max_rows must be at least the number of
 * sequences. */
void batch_build(struct batch *b, struct sequence *const *running, size_t count);

#endif

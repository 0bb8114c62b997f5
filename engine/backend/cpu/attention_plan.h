/* Who attends to what in a step: parts, which are cut into tasks. Made once a step, used by all
 * layers; step thread.
 *
 * Sequences with few rows, those that decode, are sorted by their pages, so that sequences with a
 * common beginning follow each other. The ranges of keys that neighbours have in common become one
 * part with the queries of all of them, which is read once; what follows, a part for each. For two
 * sequences A and B of 6 and 5 ranges with 4 in common:
 *
 *   part 1  rows of A, B  ranges 0..3
 *   part 2  rows of A     ranges 4..5
 *   part 3  rows of B     range  4
 *
 * Every range of such a row leaves its softmax in a slot; whoever ends the last task of a row and
 * key/value head merges their slots. A sequence that shares nothing and is no longer than others is
 * one `whole` part that needs no slots; so is a prompt, in blocks of queries. Slots are limited;
 * sequences beyond them are whole parts too. */
#ifndef PHID_BACKEND_CPU_ATTENTION_PLAN_H
#define PHID_BACKEND_CPU_ATTENTION_PLAN_H

#include <stdbool.h>

#include "engine/backend/cpu/backend.h"

#define ATTENTION_RANGE_PAGES 4
#define ATTENTION_RANGE       (ATTENTION_RANGE_PAGES * CPU_PAGE_TOKENS)

struct attention_row {
    const struct backend_sequence *sequence;
    size_t row;  /* of the batch */
    size_t slot; /* its first one, [n_heads][slot_ranges]; rows of whole parts have none */
    size_t slot_ranges;
    uint32_t tasks;     /* that fill its slots, for each key/value head */
    int32_t begin, end; /* it sees keys begin .. end - 1 */
};

struct attention_part {
    size_t first, rows;      /* of the plan's rows */
    size_t range, range_end; /* not used by whole parts */
    bool whole;
    size_t task_ranges; /* ranges of a task; of whole parts: queries of a task */
    size_t task_end;    /* tasks of the parts up to this one */
};

/* A run of sequences whose common ranges end at `depth`, or a sequence and its own end. */
struct attention_open {
    size_t first; /* of the plan's rows */
    size_t depth;
};

void attention_plan_place(struct attention_plan *plan, struct cpu_layout *layout, size_t rows,
                          const struct block_model *model, size_t threads);

void attention_plan_make(struct backend *b, const struct backend_batch *batch);

static inline size_t attention_plan_tasks(const struct attention_plan *plan)
{
    return plan->part_count == 0 ? 0 : plan->parts[plan->part_count - 1].task_end;
}

/* The part of a task; its tasks begin where the part before ends. */
const struct attention_part *attention_plan_find(const struct attention_plan *plan, size_t task);

/* A slot: sums, totals, and the maximum in the first of the last lanes. */
static inline size_t attention_slot_floats(size_t head_dim)
{
    return cpu_round_up(head_dim, CPU_LANES) + 2 * CPU_LANES;
}

#endif

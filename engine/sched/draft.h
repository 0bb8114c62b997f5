/* Drafts: guesses at a sequence's next tokens, taken from its own text or from one that the client
 * expects.
 *
 * Answers repeat their prompts: names, quotations, code, lists. So the end of the text is looked up
 * in what came before, and what followed there is the guess (prompt lookup: Saxena, "Prompt Lookup
 * Decoding", 2023). A step computes the guesses as further rows of the sequence; each row's token
 * is sampled as always, and a guess that equals it has saved a step. So guesses change no token,
 * only the time. The index is part of a sequence; step thread. */
#ifndef PHID_SCHED_DRAFT_H
#define PHID_SCHED_DRAFT_H

#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"
#include "engine/phid.h"

#define DRAFT_MAX PHID_DRAFT_PLACES /* tokens */

/* Where each pair of neighbouring tokens of a text occurs: buckets of a hash, newest first. */
struct draft_index {
    uint32_t *newest;   /* [1 << bits]: the end of a pair in the bucket; 0: none */
    uint32_t *previous; /* [capacity]: the end of the next older pair of the bucket; 0: none */
    size_t capacity;
    size_t indexed; /* tokens that it knows */
    unsigned bits;
};

/* For a text of at most `capacity` tokens. Errors: PHID_ERR_MEMORY. */
enum phid_status draft_index_init(struct draft_index *d, size_t capacity, struct phid_error *err);
void draft_index_fini(struct draft_index *d); /* a zeroed one is fine */

/* The text is now ids [count]; what was indexed before is its beginning. */
void draft_index_extend(struct draft_index *d, const int32_t *ids, size_t count);

/* What followed the longest occurrence of the end of ids [count] in the text, the newest of the
 * longest: at most max (and DRAFT_MAX) tokens, at most as many as agree before them. Returns how
 * many; 0 when the last two tokens are not there together. The text must be indexed as it is; it
 * may be ids itself, whose end is then no occurrence. */
size_t draft_propose(const struct draft_index *d, const int32_t *text, const int32_t *ids,
                     size_t count, size_t max, int32_t *ret_tokens);

/* How a sequence's guesses have done, and how long the next ones should be. */
struct draft_record {
    float hit; /* the share of guesses that came true, recent ones count more */
};

void draft_record_init(struct draft_record *r);

/* After a step with `proposed` guesses (maybe 0), of which the first `accepted` came true. */
void draft_record_step(struct draft_record *r, size_t proposed, size_t accepted);

/* The number of guesses, at most max, that brings the most tokens in a given time when each further
 * row of a step costs `row_cost` of what the step costs without. 0: none pays. */
size_t draft_length(const struct draft_record *r, double row_cost, size_t max);

#endif

/* What a sequence needs to share computed pages with others: the chain of hashes over its tokens,
 * and how many of its pages the prefix tree has.
 *
 * Part of the sequence. The links of the prompt are made when the request is submitted, on the
 * caller's thread; everything afterwards belongs to the step thread. sharing.c holds the loop's
 * part (loop_state.h): finding pages, waiting for those that another sequence is computing,
 * publishing new ones. */
#ifndef PHID_SCHED_SHARING_H
#define PHID_SCHED_SHARING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"
#include "engine/base/tokens.h"
#include "engine/kv/prefix_hash.h"

struct sharing {
    const struct prefix_secret *secret;         /* NULL: nothing is shared */
    struct prefix_hash scopes[BLOCK_ROPE_SETS]; /* the first link under each set of factors */
    struct prefix_hash *links; /* [link_count] heap; links[i] stands for the first i pages */
    size_t link_count, link_capacity;
    size_t published;    /* leading pages of the table that are in the tree */
    size_t reserved;     /* pages it was admitted for and has not taken yet */
    size_t parked_count; /* tokens it had when it last gave its pages up; 0: never */
    bool counted;        /* what is found from now on was computed before, by itself */
};

/* The chain over the whole pages of a prompt. Errors: PHID_ERR_MEMORY. */
enum phid_status sharing_init(struct sharing *s, const struct prefix_secret *secret,
                              const struct prefix_scope *scope, const struct tokens *prompt,
                              struct phid_error *err);
void sharing_fini(struct sharing *s); /* a zeroed one is fine */

/* Room for the links of so many tokens, so that sharing_link never allocates. */
bool sharing_reserve(struct sharing *s, size_t tokens);

/* Links all whole pages of the tokens, as far as there is room. */
void sharing_link(struct sharing *s, const struct tokens *tokens);

/* No page is held any more; the tokens are the same, under this set of factors. */
void sharing_restart(struct sharing *s, enum block_rope_set set);

#endif

/* The prefix tree: which computed pages begin which sequences, so that nobody computes them again.
 *
 * A node is a page, so the two have one number. A full node holds BACKEND_PAGE_TOKENS tokens and
 * never changes; it is found by its link of the hash chain (prefix_hash.h) and by its parent, and
 * the tokens are compared too. A node that is not full is a leaf: the last page of a sequence,
 * still growing or left behind. Leaves, full or not, are also found by their first
 * PREFIX_BEGINNING tokens, because a sequence that shares only part of a page can copy it.
 *
 * A page that sequences read is in use; one that nobody reads any more is idle and waits in a list,
 * least recently used first, until its memory is wanted. Sequences give their last page back first
 * and hold every page before the ones they hold, so the first in the list never has children: tails
 * go before heads. All memory is taken at the start, everything is O(1). Owned by the loop, used by
 * the page pool and the scheduler; step thread. */
#ifndef PHID_KV_PREFIX_H
#define PHID_KV_PREFIX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"
#include "engine/kv/prefix_hash.h"

#define PREFIX_NONE      UINT32_MAX
#define PREFIX_BEGINNING 4

struct prefix_node {
    int32_t tokens[BACKEND_PAGE_TOKENS]; /* [count] */
    struct prefix_hash before;           /* the parent's link; the scope's for a first page */
    struct prefix_hash link;             /* its own, once full */
    uint64_t beginning;                  /* hash of its first tokens */
    uint32_t parent;                     /* PREFIX_NONE: a first page */
    uint32_t next_full, previous_full;   /* in a bucket; page + 1, 0: none */
    uint32_t next_beginning, previous_beginning;
    uint64_t rested_ns;    /* since when it is idle */
    uint32_t older, newer; /* in the list of idle pages; page + 1, 0: none */
    uint8_t count;         /* tokens; 0: not in the tree */
    bool idle;
};

struct prefix_tree {
    struct prefix_secret secret;
    struct prefix_node *nodes;  /* [pages] */
    uint32_t *full, *beginning; /* [mask + 1] buckets; page + 1, 0: none */
    size_t pages;
    size_t mask;
    uint32_t oldest, newest; /* of the idle ones; page + 1, 0: none */
    size_t idle_count;
    uint64_t evictions;
    uint64_t now_ns; /* set by the owner whenever it moves on */
};

/* Empty. Errors: PHID_ERR_MEMORY. */
enum phid_status prefix_init(struct prefix_tree *t, const struct prefix_secret *secret,
                             size_t pages, struct phid_error *err);
void prefix_fini(struct prefix_tree *t); /* a zeroed one is fine */
size_t prefix_bytes(size_t pages);       /* memory of a tree for so many */

/* The full page behind `parent` with this link and these tokens, or PREFIX_NONE. */
uint32_t prefix_find(const struct prefix_tree *t, uint32_t parent, struct prefix_hash link,
                     const int32_t *tokens);

/* The page behind `parent` (whose link is `before`) that begins like `tokens` [count] for longest,
 * at least PREFIX_BEGINNING tokens, among the newest few. *ret_count: for how many tokens.
 * PREFIX_NONE: there is none but `except`. */
uint32_t prefix_find_beginning(const struct prefix_tree *t, uint32_t parent,
                               struct prefix_hash before, const int32_t *tokens, size_t count,
                               uint32_t except, size_t *ret_count);

/* A page in use holds these tokens [count] behind `parent`, which is in the tree or PREFIX_NONE.
 * The same page may come again with more tokens behind those it had. `link` is read when the page
 * is full; no other page may have the same (prefix_find). */
struct prefix_page {
    uint32_t page, parent;
    struct prefix_hash before, link;
    const int32_t *tokens;
    size_t count;
};
void prefix_put(struct prefix_tree *t, const struct prefix_page *p);

/* For the page pool: nobody reads the page any more. false: it is not (or no longer) in the tree,
 * its memory is free. A page that begins like another is not worth keeping. */
bool prefix_rest(struct prefix_tree *t, uint32_t page);
void prefix_wake(struct prefix_tree *t, uint32_t page); /* an idle page is read again */

/* For how long the least recently used idle page is idle; 0: there is none. */
uint64_t prefix_oldest_ns(const struct prefix_tree *t);

/* Takes the least recently used idle page out of the tree. false: there is none. */
bool prefix_evict(struct prefix_tree *t, uint32_t *ret_page);

#endif

/* How many KV pages an engine gets: from a stated number of bytes, or from what the machine has
 * left.
 *
 * Used once, when an engine is made, after the weights are loaded. Any thread. */
#ifndef PHID_KV_BUDGET_H
#define PHID_KV_BUDGET_H

#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"

struct kv_budget {
    size_t context; /* tokens of the longest sequence; the pool must hold one */
    size_t max_running;
    size_t page_bytes;     /* of all layers */
    uint64_t memory_bytes; /* 0: decide from free_bytes */
    uint64_t free_bytes;   /* what the machine has left */
};

/* With memory_bytes: as many pages as fit in it. Without: what free_bytes leave after a reserve of
 * a tenth, at least 1 GiB; at least one context; at most twice max_running contexts, of which one
 * half is for what nobody uses any more. free_bytes of 0 (the system does not say): a quarter of
 * max_running contexts. Errors: PHID_ERR_MEMORY when one context does not fit; the message says how
 * many bytes it takes. */
enum phid_status kv_budget_pages(const struct kv_budget *budget, size_t *ret_pages,
                                 struct phid_error *err);

/* Bytes this process may still allocate without swapping: MemAvailable, or what is left of a
 * control group's limit. 0 when the system does not say. */
uint64_t kv_budget_free_bytes(void);

#endif

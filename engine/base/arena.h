/* Memory with one lifetime: allocated piece by piece, given back all at once. A request and a step
 * each have one.
 *
 * Blocks of memory are chained; arena_reset keeps the largest, so that a loop that resets soon
 * allocates nothing. The caller owns the struct; not thread-safe. */
#ifndef PHID_BASE_ARENA_H
#define PHID_BASE_ARENA_H

#include <stddef.h>

#include "engine/base/str.h"

struct arena_block; /* opaque */

struct arena {
    struct arena_block *block; /* the one in use; older ones are chained behind it */
    size_t used;               /* bytes of that block handed out */
    size_t total;              /* bytes of all blocks */
    size_t max;                /* total never exceeds it */
};

#define ARENA_ALIGN_MAX 64

void arena_init(struct arena *a, size_t max);
void arena_fini(struct arena *a);

/* Everything allocated so far is gone; the largest block stays for reuse. */
void arena_reset(struct arena *a);

/* Aligned for any type (16 bytes). Uninitialised. NULL when out of memory or past the maximum. size
 * 0 gives a valid pointer. */
void *arena_alloc(struct arena *a, size_t size);

/* count * size bytes, the product checked. `align`: a power of two up to ARENA_ALIGN_MAX. */
void *arena_alloc_array(struct arena *a, size_t count, size_t size, size_t align);

/* A copy with a NUL behind it. */
char *arena_dup(struct arena *a, struct str s);

#endif

/* The pool of KV pages: a fixed set of page ids with reference counts.
 *
 * A page holds BACKEND_PAGE_TOKENS tokens of every layer; its memory lies in the backends, here are
 * only the numbers. A page that several sequences read (a common prefix) has as many references.
 * One that nobody reads is free, or idle: its content is kept in the prefix tree until its memory
 * is wanted: when no free page is left, or when it was not used for PAGE_POOL_KEEP_NS and the only
 * free pages have never been used. So memory grows with what is of use and not with all that ever
 * came. Owned by the step loop, used by the step thread alone. Taking and giving back are O(1) and
 * allocate nothing. */
#ifndef PHID_KV_PAGE_POOL_H
#define PHID_KV_PAGE_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"
#include "engine/kv/prefix.h"

#define PAGE_POOL_KEEP_NS UINT64_C(30000000000)
#define PAGE_POOL_KEEP    8 /* one in so many of all pages is kept in any case */

struct page_pool {
    uint32_t *free_ids; /* a stack: the page given back last is taken first, its memory is still in
                           the caches */
    uint32_t *references; /* [total]; 0: the page is free or idle */
    size_t free_count;
    size_t total;
    size_t touched;               /* pages below this id have been used before */
    struct prefix_tree *prefixes; /* borrowed; NULL: no page is kept */
};

/* All pages are free. Errors: PHID_ERR_ARGUMENT (more than 2^31 pages), PHID_ERR_MEMORY. */
enum phid_status page_pool_init(struct page_pool *pool, size_t total, struct phid_error *err);
void page_pool_fini(struct page_pool *pool); /* a zeroed one is fine */

/* A page with one reference: a free one, or the idle one that was not used for longest. false:
 * there is none. */
bool page_pool_take(struct page_pool *pool, uint32_t *ret_id);

/* One more reader of a page in use, or the first one of an idle page. */
void page_pool_ref(struct page_pool *pool, uint32_t id);

/* One reader less; the last one makes the page idle if the prefix tree has it, else free. */
void page_pool_unref(struct page_pool *pool, uint32_t id);

/* Pages that can be taken. */
static inline size_t page_pool_available(const struct page_pool *pool)
{
    return pool->free_count + (pool->prefixes != NULL ? pool->prefixes->idle_count : 0);
}

#endif

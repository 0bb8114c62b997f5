#include "engine/kv/page_pool.h"

#include <stdlib.h>

enum phid_status page_pool_init(struct page_pool *pool, size_t total, struct phid_error *err)
{
    *pool = (struct page_pool){0};
    if (total > INT32_MAX) {
        return phid_fail(err, PHID_ERR_ARGUMENT, "%zu KV pages are too many, at most %d", total,
                         INT32_MAX);
    }
    pool->free_ids = calloc(total, sizeof(*pool->free_ids));
    pool->references = calloc(total, sizeof(*pool->references));
    if (total > 0 && (pool->free_ids == NULL || pool->references == NULL)) {
        page_pool_fini(pool);
        return phid_fail(err, PHID_ERR_MEMORY, "no memory for the table of %zu KV pages", total);
    }
    for (size_t i = 0; i < total; i++) {
        pool->free_ids[i] = (uint32_t)(total - 1 - i); /* low ids are taken first */
    }
    pool->free_count = total;
    pool->total = total;
    return PHID_OK;
}

void page_pool_fini(struct page_pool *pool)
{
    free(pool->free_ids);
    free(pool->references);
    *pool = (struct page_pool){0};
}

/* An old idle page rather than memory that was never used. */
static bool should_recycle(const struct page_pool *pool)
{
    return pool->prefixes != NULL && pool->free_ids[pool->free_count - 1] >= pool->touched &&
           pool->prefixes->idle_count > pool->total / PAGE_POOL_KEEP &&
           prefix_oldest_ns(pool->prefixes) >= PAGE_POOL_KEEP_NS;
}

bool page_pool_take(struct page_pool *pool, uint32_t *ret_id)
{
    uint32_t id;
    if (pool->free_count > 0 && !should_recycle(pool)) {
        id = pool->free_ids[--pool->free_count];
    } else if (pool->prefixes == NULL || !prefix_evict(pool->prefixes, &id)) {
        return false;
    }
    pool->touched = id >= pool->touched ? (size_t)id + 1 : pool->touched;
    pool->references[id] = 1;
    *ret_id = id;
    return true;
}

void page_pool_ref(struct page_pool *pool, uint32_t id)
{
    if (pool->references[id]++ == 0) {
        prefix_wake(pool->prefixes, id); /* only the tree gives out pages without a reader */
    }
}

void page_pool_unref(struct page_pool *pool, uint32_t id)
{
    if (--pool->references[id] > 0) {
        return;
    }
    if (pool->prefixes == NULL || !prefix_rest(pool->prefixes, id)) {
        pool->free_ids[pool->free_count++] = id;
    }
}

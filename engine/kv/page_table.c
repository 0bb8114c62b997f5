#include "engine/kv/page_table.h"

#include <stdlib.h>

#include "engine/backend/backend.h"

size_t page_table_pages(size_t tokens)
{
    return tokens / BACKEND_PAGE_TOKENS + (tokens % BACKEND_PAGE_TOKENS != 0);
}

enum phid_status page_table_init(struct page_table *t, size_t max_tokens, struct phid_error *err)
{
    *t = (struct page_table){.capacity = page_table_pages(max_tokens)};
    if (t->capacity == 0) {
        return PHID_OK;
    }
    t->ids = calloc(t->capacity, sizeof(*t->ids));
    if (t->ids == NULL) {
        t->capacity = 0;
        return phid_fail(err, PHID_ERR_MEMORY, "no memory for a table of %zu KV pages",
                         page_table_pages(max_tokens));
    }
    return PHID_OK;
}

void page_table_fini(struct page_table *t)
{
    free(t->ids);
    *t = (struct page_table){0};
}

bool page_table_grow(struct page_table *t, struct page_pool *pool, size_t tokens)
{
    size_t needed = page_table_pages(tokens);
    if (needed <= t->count) {
        return true;
    }
    if (needed > t->capacity || needed - t->count > page_pool_available(pool)) {
        return false;
    }
    while (t->count < needed) {
        page_pool_take(pool, &t->ids[t->count]);
        t->count++;
    }
    return true;
}

void page_table_place(struct page_table *t, struct page_pool *pool, size_t index, uint32_t id)
{
    page_pool_ref(pool, id);
    if (index < t->count) {
        page_pool_unref(pool, t->ids[index]);
    } else {
        t->count++;
    }
    t->ids[index] = id;
}

void page_table_clear(struct page_table *t, struct page_pool *pool)
{
    while (t->count > 0) {
        page_pool_unref(pool, t->ids[--t->count]);
    }
}

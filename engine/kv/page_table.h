/* A sequence's page table: which page holds which of its tokens.
 *
 * Page i holds the tokens i * BACKEND_PAGE_TOKENS and following. The sequence owns one reference on
 * each page. Step thread. The list itself is allocated once, for the longest the sequence may
 * become, so that growing never does. */
#ifndef PHID_KV_PAGE_TABLE_H
#define PHID_KV_PAGE_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"
#include "engine/kv/page_pool.h"

struct page_table {
    uint32_t *ids;
    size_t count;
    size_t capacity; /* pages */
};

size_t page_table_pages(size_t tokens); /* pages that so many tokens take */

/* Room for max_tokens tokens; no pages yet. Errors: PHID_ERR_MEMORY. */
enum phid_status page_table_init(struct page_table *t, size_t max_tokens, struct phid_error *err);

/* Frees the list; the pages must have been given back. A zeroed one is fine. */
void page_table_fini(struct page_table *t);

/* Takes pages until `tokens` (at most max_tokens) have a place. false: the pool has too few,
 * nothing was taken. */
bool page_table_grow(struct page_table *t, struct page_pool *pool, size_t tokens);

/* Makes a page of the prefix tree page `index` (at most count, below capacity), in place of the one
 * that was there. */
void page_table_place(struct page_table *t, struct page_pool *pool, size_t index, uint32_t id);

/* Gives all pages back, the last ones first. */
void page_table_clear(struct page_table *t, struct page_pool *pool);

#endif

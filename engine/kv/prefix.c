#include "engine/kv/prefix.h"

#include <stdlib.h>
#include <string.h>

/* Pages with the same first tokens that are looked at; the newest are the likeliest. */
#define CANDIDATES 8

static size_t bucket_count(size_t pages)
{
    size_t count = 16;
    while (count < pages) {
        count *= 2;
    }
    return count;
}

enum phid_status prefix_init(struct prefix_tree *t, const struct prefix_secret *secret,
                             size_t pages, struct phid_error *err)
{
    *t = (struct prefix_tree){.secret = *secret, .pages = pages};
    size_t buckets = bucket_count(pages);
    t->mask = buckets - 1;
    t->nodes = calloc(pages + 1, sizeof(*t->nodes));
    t->full = calloc(buckets, sizeof(*t->full));
    t->beginning = calloc(buckets, sizeof(*t->beginning));
    if (t->nodes == NULL || t->full == NULL || t->beginning == NULL) {
        prefix_fini(t);
        return phid_fail(err, PHID_ERR_MEMORY, "no memory for the prefixes of %zu KV pages", pages);
    }
    return PHID_OK;
}

void prefix_fini(struct prefix_tree *t)
{
    free(t->nodes);
    free(t->full);
    free(t->beginning);
    *t = (struct prefix_tree){0};
}

size_t prefix_bytes(size_t pages)
{
    return (pages + 1) * sizeof(struct prefix_node) + 2 * bucket_count(pages) * sizeof(uint32_t);
}

/* ----------------------------------------------------------------- tables */

static void add_full(struct prefix_tree *t, uint32_t page)
{
    struct prefix_node *n = &t->nodes[page];
    uint32_t *bucket = &t->full[n->link.words[0] & t->mask];
    n->previous_full = 0;
    n->next_full = *bucket;
    if (*bucket != 0) {
        t->nodes[*bucket - 1].previous_full = page + 1;
    }
    *bucket = page + 1;
}

static void remove_full(struct prefix_tree *t, uint32_t page)
{
    struct prefix_node *n = &t->nodes[page];
    if (n->previous_full != 0) {
        t->nodes[n->previous_full - 1].next_full = n->next_full;
    } else {
        t->full[n->link.words[0] & t->mask] = n->next_full;
    }
    if (n->next_full != 0) {
        t->nodes[n->next_full - 1].previous_full = n->previous_full;
    }
}

static void add_beginning(struct prefix_tree *t, uint32_t page)
{
    struct prefix_node *n = &t->nodes[page];
    uint32_t *bucket = &t->beginning[n->beginning & t->mask];
    n->previous_beginning = 0;
    n->next_beginning = *bucket;
    if (*bucket != 0) {
        t->nodes[*bucket - 1].previous_beginning = page + 1;
    }
    *bucket = page + 1;
}

static void remove_beginning(struct prefix_tree *t, uint32_t page)
{
    struct prefix_node *n = &t->nodes[page];
    if (n->previous_beginning != 0) {
        t->nodes[n->previous_beginning - 1].next_beginning = n->next_beginning;
    } else {
        t->beginning[n->beginning & t->mask] = n->next_beginning;
    }
    if (n->next_beginning != 0) {
        t->nodes[n->next_beginning - 1].previous_beginning = n->previous_beginning;
    }
}

static void forget(struct prefix_tree *t, uint32_t page)
{
    struct prefix_node *n = &t->nodes[page];
    remove_beginning(t, page);
    if (n->count == BACKEND_PAGE_TOKENS) {
        remove_full(t, page);
    }
    n->count = 0;
}

/* ---------------------------------------------------------------- finding */

uint32_t prefix_find(const struct prefix_tree *t, uint32_t parent, struct prefix_hash link,
                     const int32_t *tokens)
{
    for (uint32_t at = t->full[link.words[0] & t->mask]; at != 0; at = t->nodes[at - 1].next_full) {
        const struct prefix_node *n = &t->nodes[at - 1];
        if (prefix_hash_equal(n->link, link) && n->parent == parent &&
            memcmp(n->tokens, tokens, sizeof(n->tokens)) == 0) {
            return at - 1;
        }
    }
    return PREFIX_NONE;
}

static size_t common(const int32_t *a, const int32_t *b, size_t count)
{
    size_t i = 0;
    while (i < count && a[i] == b[i]) {
        i++;
    }
    return i;
}

uint32_t prefix_find_beginning(const struct prefix_tree *t, uint32_t parent,
                               struct prefix_hash before, const int32_t *tokens, size_t count,
                               uint32_t except, size_t *ret_count)
{
    if (count < PREFIX_BEGINNING) {
        return PREFIX_NONE;
    }
    uint64_t beginning = prefix_hash_beginning(&t->secret, before, tokens, PREFIX_BEGINNING);
    uint32_t best = PREFIX_NONE;
    size_t longest = PREFIX_BEGINNING - 1;
    uint32_t at = t->beginning[beginning & t->mask];
    for (int i = 0; at != 0 && i < CANDIDATES && longest < count; i++) {
        const struct prefix_node *n = &t->nodes[at - 1];
        if (n->beginning == beginning && n->parent == parent && at - 1 != except &&
            prefix_hash_equal(n->before, before)) {
            size_t same = common(n->tokens, tokens, count < n->count ? count : n->count);
            if (same > longest) {
                longest = same;
                best = at - 1;
            }
        }
        at = n->next_beginning;
    }
    if (best != PREFIX_NONE) {
        *ret_count = longest;
    }
    return best;
}

/* --------------------------------------------------------------- changing */

void prefix_put(struct prefix_tree *t, const struct prefix_page *p)
{
    struct prefix_node *n = &t->nodes[p->page];
    size_t had = n->count;
    if (p->count < PREFIX_BEGINNING || p->count <= had) {
        return;
    }
    memcpy(n->tokens + had, p->tokens + had, (p->count - had) * sizeof(*p->tokens));
    n->count = (uint8_t)p->count;
    if (had == 0) {
        n->parent = p->parent;
        n->before = p->before;
        n->beginning = prefix_hash_beginning(&t->secret, p->before, p->tokens, PREFIX_BEGINNING);
        n->idle = false;
        add_beginning(t, p->page);
    }
    if (n->count == BACKEND_PAGE_TOKENS) {
        n->link = p->link;
        add_full(t, p->page);
    }
}

static void remove_idle(struct prefix_tree *t, uint32_t page)
{
    struct prefix_node *n = &t->nodes[page];
    if (n->older != 0) {
        t->nodes[n->older - 1].newer = n->newer;
    } else {
        t->oldest = n->newer;
    }
    if (n->newer != 0) {
        t->nodes[n->newer - 1].older = n->older;
    } else {
        t->newest = n->older;
    }
    n->idle = false;
    t->idle_count--;
}

static bool is_covered(const struct prefix_tree *t, uint32_t page)
{
    const struct prefix_node *n = &t->nodes[page];
    size_t same = 0;
    return n->count < BACKEND_PAGE_TOKENS &&
           prefix_find_beginning(t, n->parent, n->before, n->tokens, n->count, page, &same) !=
               PREFIX_NONE &&
           same == n->count;
}

bool prefix_rest(struct prefix_tree *t, uint32_t page)
{
    struct prefix_node *n = &t->nodes[page];
    if (n->count == 0) {
        return false;
    }
    if (is_covered(t, page)) {
        forget(t, page);
        return false;
    }
    n->rested_ns = t->now_ns;
    n->older = t->newest;
    n->newer = 0;
    if (t->newest != 0) {
        t->nodes[t->newest - 1].newer = page + 1;
    } else {
        t->oldest = page + 1;
    }
    t->newest = page + 1;
    n->idle = true;
    t->idle_count++;
    return true;
}

void prefix_wake(struct prefix_tree *t, uint32_t page)
{
    if (t->nodes[page].idle) {
        remove_idle(t, page);
    }
}

bool prefix_evict(struct prefix_tree *t, uint32_t *ret_page)
{
    if (t->oldest == 0) {
        return false;
    }
    uint32_t page = t->oldest - 1;
    remove_idle(t, page);
    forget(t, page);
    t->evictions++;
    *ret_page = page;
    return true;
}

uint64_t prefix_oldest_ns(const struct prefix_tree *t)
{
    return t->oldest != 0 ? t->now_ns - t->nodes[t->oldest - 1].rested_ns : 0;
}

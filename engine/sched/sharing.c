#include "engine/sched/sharing.h"

#include <stdlib.h>

#include "engine/sched/loop_state.h"

/* Copied before one step at most (but one page), so that those who decode do not wait long: some
 * milliseconds. */
#define COPY_BYTES ((size_t)32 << 20)

enum phid_status sharing_init(struct sharing *s, const struct prefix_secret *secret,
                              const struct prefix_scope *scope, const struct tokens *prompt,
                              struct phid_error *err)
{
    *s = (struct sharing){0};
    if (secret == NULL) {
        return PHID_OK;
    }
    if (!sharing_reserve(s, prompt->count)) {
        return phid_fail(err, PHID_ERR_MEMORY, "no memory for a prompt of %zu tokens",
                         prompt->count);
    }
    s->secret = secret;
    struct prefix_scope with = *scope;
    for (int set = 0; set < BLOCK_ROPE_SETS; set++) {
        with.rope_set = (enum block_rope_set)set;
        s->scopes[set] = prefix_hash_first(secret, &with);
    }
    sharing_restart(s, scope->rope_set);
    sharing_link(s, prompt);
    return PHID_OK;
}

void sharing_fini(struct sharing *s)
{
    free(s->links);
    *s = (struct sharing){0};
}

bool sharing_reserve(struct sharing *s, size_t tokens)
{
    size_t capacity = tokens / BACKEND_PAGE_TOKENS + 1;
    if (capacity <= s->link_capacity) {
        return true;
    }
    struct prefix_hash *grown = realloc(s->links, capacity * sizeof(*grown));
    if (grown == NULL) {
        return false;
    }
    s->links = grown;
    s->link_capacity = capacity;
    return true;
}

void sharing_link(struct sharing *s, const struct tokens *tokens)
{
    while (s->link_count < s->link_capacity &&
           s->link_count * BACKEND_PAGE_TOKENS <= tokens->count) {
        size_t i = s->link_count++;
        s->links[i] = prefix_hash_next(s->secret, s->links[i - 1],
                                       tokens->ids + (i - 1) * BACKEND_PAGE_TOKENS);
    }
}

void sharing_restart(struct sharing *s, enum block_rope_set set)
{
    s->published = 0;
    if (s->secret != NULL &&
        (s->link_count == 0 || !prefix_hash_equal(s->links[0], s->scopes[set]))) {
        s->links[0] = s->scopes[set];
        s->link_count = 1;
    }
}

/* ---------------------------------------------------------------- finding */

static uint32_t parent_of(const struct sequence *s, size_t index)
{
    return index > 0 ? s->pages.ids[index - 1] : PREFIX_NONE;
}

static const int32_t *page_tokens(const struct sequence *s, size_t index)
{
    return s->tokens.ids + index * BACKEND_PAGE_TOKENS;
}

/* Log-probabilities of a prompt come from computing it. */
static bool may_find(const struct sequence *s)
{
    return s->sharing.secret != NULL && s->tokens.count > 1 &&
           (!s->prompt_logprobs || s->prompt_reported >= s->prompt_count);
}

/* Whole pages that may be found: the last token is always computed, it gives the next one. */
static size_t findable_pages(const struct sequence *s)
{
    size_t pages = (s->tokens.count - 1) / BACKEND_PAGE_TOKENS;
    size_t linked = s->sharing.link_count - 1;
    return pages < linked ? pages : linked;
}

static void go_on_from(struct loop *l, struct sequence *s, size_t done)
{
    if (done <= s->done) {
        return;
    }
    if (!s->sharing.counted) {
        size_t found = done - s->done;
        s->progress.cached_tokens += found;
        atomic_fetch_add_explicit(&l->counters.prefix_hits, found, memory_order_relaxed);
    }
    s->done = done;
}

void loop_share_found(struct loop *l, struct sequence *s)
{
    struct sharing *sharing = &s->sharing;
    if (!may_find(s)) {
        return;
    }
    sharing_link(sharing, &s->tokens);
    for (size_t pages = findable_pages(s); sharing->published < pages; sharing->published++) {
        size_t i = sharing->published;
        uint32_t page =
            prefix_find(&l->prefixes, parent_of(s, i), sharing->links[i + 1], page_tokens(s, i));
        if (page == PREFIX_NONE) {
            return;
        }
        page_table_place(&s->pages, &l->pool, i, page);
        go_on_from(l, s, (i + 1) * BACKEND_PAGE_TOKENS);
    }
}

/* How many of the first pages two sequences have in common, by their chains. */
static size_t common_pages(const struct sharing *a, const struct sharing *b)
{
    size_t low = 0; /* links in common; a chain never meets another again */
    size_t high = a->link_count < b->link_count ? a->link_count : b->link_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (prefix_hash_equal(a->links[middle], b->links[middle])) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low > 0 ? low - 1 : 0;
}

size_t loop_found_pages(const struct loop *l, const struct sequence *s, size_t *ret_idle)
{
    const struct sharing *sharing = &s->sharing;
    *ret_idle = 0;
    if (!may_find(s)) {
        return 0;
    }
    uint32_t parent = PREFIX_NONE;
    size_t found = 0, pages = findable_pages(s);
    while (found < pages) {
        parent =
            prefix_find(&l->prefixes, parent, sharing->links[found + 1], page_tokens(s, found));
        if (parent == PREFIX_NONE) {
            break;
        }
        *ret_idle += l->prefixes.nodes[parent].idle;
        found++;
    }
    for (size_t i = 0; i < l->running_count; i++) {
        size_t coming = common_pages(&l->running[i]->sharing, sharing);
        coming = coming < pages ? coming : pages;
        found = coming > found ? coming : found;
    }
    return found;
}

/* Tokens of the page after the published ones that `other` has in common with s, as far as s may
 * find them. 0: they do not have all pages before it in common. */
static size_t common_beginning(const struct sequence *s, const struct sequence *other)
{
    size_t i = s->sharing.published;
    if (other->sharing.link_count <= i ||
        !prefix_hash_equal(other->sharing.links[i], s->sharing.links[i])) {
        return 0;
    }
    size_t first = i * BACKEND_PAGE_TOKENS, end = first + BACKEND_PAGE_TOKENS;
    end = end < s->tokens.count - 1 ? end : s->tokens.count - 1;
    end = end < other->tokens.count ? end : other->tokens.count;
    size_t at = first;
    while (at < end && other->tokens.ids[at] == s->tokens.ids[at]) {
        at++;
    }
    return at - first;
}

/* Another sequence takes part in this step and has yet to compute tokens that s needs next. It was
 * prepared before, so that no two wait for each other. */
static bool is_in_flight(const struct loop *l, const struct sequence *s)
{
    size_t first = s->sharing.published * BACKEND_PAGE_TOKENS;
    for (size_t i = 0; i < l->running_count && l->running[i] != s; i++) {
        const struct sequence *other = l->running[i];
        if (!other->runnable || other->sharing.secret == NULL || sequence_remaining(other) < 2) {
            continue;
        }
        size_t end = first + common_beginning(s, other);
        if (end >= s->done + PREFIX_BEGINNING && other->done < end) {
            return true;
        }
    }
    return false;
}

/* A page of its own for the tokens after the published ones: false when there is none. */
static bool own_page(struct loop *l, struct sequence *s)
{
    size_t i = s->sharing.published;
    return s->pages.count > i ||
           page_table_grow(&s->pages, &l->pool, (i + 1) * BACKEND_PAGE_TOKENS);
}

/* Part of a page: copied, because the sequence writes behind it; if nobody reads the page and
 * nothing is behind that part, it is simply gone on with. false: not in this turn. */
static bool share_beginning(struct loop *l, struct sequence *s)
{
    size_t i = s->sharing.published, first = i * BACKEND_PAGE_TOKENS;
    size_t room = s->tokens.count - 1 - first, same = 0;
    uint32_t own = s->pages.count > i ? s->pages.ids[i] : PREFIX_NONE;
    uint32_t page =
        prefix_find_beginning(&l->prefixes, parent_of(s, i), s->sharing.links[i], page_tokens(s, i),
                              room < BACKEND_PAGE_TOKENS ? room : BACKEND_PAGE_TOKENS, own, &same);
    if (page == PREFIX_NONE || first + same < s->done + PREFIX_BEGINNING) {
        return true;
    }
    const struct prefix_node *node = &l->prefixes.nodes[page];
    if (node->idle && node->count == same && same < BACKEND_PAGE_TOKENS) {
        page_table_place(&s->pages, &l->pool, i, page);
        go_on_from(l, s, first + same);
        return true;
    }
    if (l->copies_left == 0) {
        return false;
    }
    l->copies_left--;
    page_pool_ref(&l->pool, page); /* so that it is not the one that makes room for its copy */
    if (own_page(l, s) &&
        l->options.api->kv_copy(l->options.backend, page, s->pages.ids[i], NULL) == PHID_OK) {
        go_on_from(l, s, first + same);
    }
    page_pool_unref(&l->pool, page);
    return true;
}

void loop_share_begin(struct loop *l)
{
    size_t bytes = l->options.page_bytes;
    l->copies_left = bytes > 0 && bytes < COPY_BYTES ? COPY_BYTES / bytes : 1;
}

bool loop_share(struct loop *l, struct sequence *s)
{
    if (!may_find(s)) {
        return true;
    }
    loop_share_found(l, s);
    if (is_in_flight(l, s)) {
        return false;
    }
    return share_beginning(l, s);
}

/* ------------------------------------------------------------- publishing */

void loop_publish(struct loop *l, struct sequence *s)
{
    struct sharing *sharing = &s->sharing;
    if (sharing->secret == NULL) {
        return;
    }
    sharing_link(sharing, &s->tokens);
    size_t whole = s->done / BACKEND_PAGE_TOKENS;
    for (; sharing->published < whole; sharing->published++) {
        size_t i = sharing->published;
        struct prefix_page p = {.page = s->pages.ids[i],
                                .parent = parent_of(s, i),
                                .before = sharing->links[i],
                                .link = sharing->links[i + 1],
                                .tokens = page_tokens(s, i),
                                .count = BACKEND_PAGE_TOKENS};
        uint32_t known = prefix_find(&l->prefixes, p.parent, p.link, p.tokens);
        if (known == PREFIX_NONE) {
            prefix_put(&l->prefixes, &p);
        } else {
            page_table_place(&s->pages, &l->pool, i, known); /* the same twice: one is enough */
        }
    }
    if (s->done % BACKEND_PAGE_TOKENS != 0) {
        prefix_put(&l->prefixes, &(struct prefix_page){.page = s->pages.ids[whole],
                                                       .parent = parent_of(s, whole),
                                                       .before = sharing->links[whole],
                                                       .tokens = page_tokens(s, whole),
                                                       .count = s->done % BACKEND_PAGE_TOKENS});
    }
}

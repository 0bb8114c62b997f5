/* The prefix tree with the page pool, against a naive twin that remembers what every page holds and
 * when it was given back. --bench prints what a lookup takes. */
#include "engine/kv/prefix.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/base/clock.h"
#include "engine/base/rng.h"
#include "engine/kv/page_pool.h"
#include "engine/kv/page_table.h"

enum { PAGE = BACKEND_PAGE_TOKENS, PAGES = 40, SEQUENCES = 5, LONGEST = 8 * PAGE, SCOPES = 2 };

static const struct prefix_secret secret = {{1, 2}};

/* What a page really holds: the tokens of a sequence from its first one on. */
struct content {
    int32_t tokens[LONGEST];
    size_t first, end; /* the page's part: [first, end) */
    size_t scope;
    bool full; /* was put when full, not evicted since */
    uint64_t rested_at;
};

struct seq {
    bool alive;
    size_t scope;
    int32_t tokens[LONGEST];
    size_t count, done, published;
    struct page_table pages;
    struct prefix_hash links[LONGEST / PAGE + 1];
};

struct twin {
    struct prefix_tree tree;
    struct page_pool pool;
    struct content pages[PAGES];
    struct seq sequences[SEQUENCES];
    struct rng rng;
    uint64_t now;
    size_t hits, copies;
};

static struct prefix_hash first_link(size_t scope)
{
    char name[2] = {(char)('a' + scope), 0};
    return prefix_hash_first(&secret, &(struct prefix_scope){.salt = str_of(name)});
}

static void link_all(struct seq *s)
{
    s->links[0] = first_link(s->scope);
    for (size_t i = 0; (i + 1) * PAGE <= s->count; i++) {
        s->links[i + 1] = prefix_hash_next(&secret, s->links[i], s->tokens + i * PAGE);
    }
}

static uint32_t parent_of(const struct seq *s, size_t index)
{
    return index == 0 ? PREFIX_NONE : s->pages.ids[index - 1];
}

/* The page that the tree should know for page `index` of the sequence, by looking at everything. */
static uint32_t search(const struct twin *w, const struct seq *s, size_t index)
{
    for (uint32_t p = 0; p < PAGES; p++) {
        const struct content *c = &w->pages[p];
        if (c->full && c->scope == s->scope && c->first == index * PAGE &&
            memcmp(c->tokens, s->tokens, (index + 1) * PAGE * sizeof(int32_t)) == 0) {
            return p;
        }
    }
    return PREFIX_NONE;
}

static void share_full(struct twin *w, struct seq *s)
{
    while ((s->published + 1) * PAGE < s->count) {
        size_t i = s->published;
        uint32_t page =
            prefix_find(&w->tree, parent_of(s, i), s->links[i + 1], s->tokens + i * PAGE);
        assert_int_equal(page, search(w, s, i));
        if (page == PREFIX_NONE) {
            return;
        }
        page_table_place(&s->pages, &w->pool, i, page);
        s->published++;
        s->done = s->published * PAGE;
        w->hits++;
    }
}

/* The naive twin knows which page the pool must give. */
static bool take(struct twin *w, struct seq *s)
{
    uint32_t expected = PREFIX_NONE;
    if (w->pool.free_count == 0) {
        for (uint32_t p = 0; p < PAGES; p++) {
            if (w->pool.references[p] == 0 &&
                (expected == PREFIX_NONE || w->pages[p].rested_at < w->pages[expected].rested_at)) {
                expected = p;
            }
        }
    }
    size_t count = s->pages.count;
    bool ok = page_table_grow(&s->pages, &w->pool, (count + 1) * PAGE);
    assert_int_equal(ok, w->pool.free_count > 0 || expected != PREFIX_NONE || ok);
    if (ok && expected != PREFIX_NONE) {
        assert_int_equal(s->pages.ids[count], expected);
        /* Nobody's parent is taken: tails go before heads. */
        for (uint32_t p = 0; p < PAGES; p++) {
            assert_true(p == expected || w->tree.nodes[p].count == 0 ||
                        w->tree.nodes[p].parent != expected);
        }
    }
    if (ok) {
        w->pages[s->pages.ids[count]] = (struct content){0};
    }
    return ok;
}

static void share_beginning(struct twin *w, struct seq *s)
{
    size_t i = s->published, same = 0;
    size_t room = s->count - 1 - i * PAGE;
    uint32_t page =
        prefix_find_beginning(&w->tree, parent_of(s, i), s->links[i], s->tokens + i * PAGE,
                              room < PAGE ? room : PAGE, PREFIX_NONE, &same);
    if (page == PREFIX_NONE) {
        return;
    }
    assert_true(same >= PREFIX_BEGINNING && i * PAGE + same < s->count);
    const struct content *from = &w->pages[page];
    assert_int_equal(from->first, i * PAGE);
    assert_true(from->end >= i * PAGE + same && from->scope == s->scope);
    assert_memory_equal(from->tokens, s->tokens, (i * PAGE + same) * sizeof(int32_t));
    page_pool_ref(&w->pool, page); /* it must not be the one that is taken */
    if (take(w, s)) {
        struct content *to = &w->pages[s->pages.ids[i]];
        assert_int_not_equal(s->pages.ids[i], page);
        *to = w->pages[page];
        to->full = false;
        to->end = i * PAGE + same;
        s->done = to->end;
        w->copies++;
    }
    page_pool_unref(&w->pool, page);
    w->pages[page].rested_at = w->now++;
}

static void compute(struct twin *w, struct seq *s, size_t count)
{
    for (size_t n = 0; n < count && s->done < s->count; n++) {
        if (s->done == s->pages.count * PAGE && !take(w, s)) {
            return;
        }
        struct content *c = &w->pages[s->pages.ids[s->done / PAGE]];
        c->scope = s->scope;
        c->first = s->done / PAGE * PAGE;
        s->done++;
        c->end = s->done;
        memcpy(c->tokens, s->tokens, s->done * sizeof(int32_t));
    }
}

static void publish(struct twin *w, struct seq *s)
{
    for (; (s->published + 1) * PAGE <= s->done; s->published++) {
        size_t i = s->published;
        uint32_t known =
            prefix_find(&w->tree, parent_of(s, i), s->links[i + 1], s->tokens + i * PAGE);
        assert_int_equal(known, search(w, s, i));
        if (known != PREFIX_NONE) {
            w->pages[s->pages.ids[i]].rested_at = w->now++;
            page_table_place(&s->pages, &w->pool, i, known);
            continue;
        }
        prefix_put(&w->tree, &(struct prefix_page){.page = s->pages.ids[i],
                                                   .parent = parent_of(s, i),
                                                   .before = s->links[i],
                                                   .link = s->links[i + 1],
                                                   .tokens = s->tokens + i * PAGE,
                                                   .count = PAGE});
        w->pages[s->pages.ids[i]].full = true;
    }
    size_t i = s->published;
    if (i * PAGE < s->done) {
        prefix_put(&w->tree, &(struct prefix_page){.page = s->pages.ids[i],
                                                   .parent = parent_of(s, i),
                                                   .before = s->links[i],
                                                   .tokens = s->tokens + i * PAGE,
                                                   .count = s->done - i * PAGE});
    }
}

static void begin(struct twin *w, struct seq *s)
{
    struct page_table pages = s->pages;
    *s = (struct seq){.alive = true, .pages = pages, .scope = rng_below(&w->rng, SCOPES)};
    s->count = 1 + rng_below(&w->rng, LONGEST - 1);
    /* Few different sequences that differ late, so that much is common. */
    size_t differs = rng_below(&w->rng, LONGEST);
    for (size_t i = 0; i < s->count; i++) {
        s->tokens[i] = (int32_t)(i < differs ? i % 3 : rng_below(&w->rng, 2));
    }
    link_all(s);
    share_full(w, s);
    share_beginning(w, s);
}

static void end(struct twin *w, struct seq *s)
{
    for (size_t i = s->pages.count; i-- > 0;) {
        uint32_t page = s->pages.ids[i];
        if (w->pool.references[page] == 1) {
            w->pages[page].rested_at = w->now++;
        }
    }
    page_table_clear(&s->pages, &w->pool);
    s->alive = false;
}

static void check_counts(const struct twin *w)
{
    size_t free_pages = 0, idle = 0;
    for (uint32_t p = 0; p < PAGES; p++) {
        bool is_idle = w->pool.references[p] == 0 && w->tree.nodes[p].count > 0;
        idle += is_idle;
        free_pages += w->pool.references[p] == 0 && !is_idle;
        assert_int_equal(w->tree.nodes[p].idle, is_idle);
    }
    assert_int_equal(free_pages, w->pool.free_count);
    assert_int_equal(idle, w->tree.idle_count);
    assert_int_equal(page_pool_available(&w->pool), free_pages + idle);
}

static void open_twin(struct twin *w, uint64_t seed)
{
    memset(w, 0, sizeof(*w));
    rng_init(&w->rng, seed);
    assert_int_equal(prefix_init(&w->tree, &secret, PAGES, NULL), PHID_OK);
    assert_int_equal(page_pool_init(&w->pool, PAGES, NULL), PHID_OK);
    w->pool.prefixes = &w->tree;
    for (size_t i = 0; i < SEQUENCES; i++) {
        assert_int_equal(page_table_init(&w->sequences[i].pages, LONGEST, NULL), PHID_OK);
    }
}

static void close_twin(struct twin *w)
{
    for (size_t i = 0; i < SEQUENCES; i++) {
        page_table_clear(&w->sequences[i].pages, &w->pool);
        page_table_fini(&w->sequences[i].pages);
    }
    assert_int_equal(page_pool_available(&w->pool), PAGES);
    page_pool_fini(&w->pool);
    prefix_fini(&w->tree);
}

static void test_prefix_random_traces(void **state)
{
    static struct twin w;
    size_t hits = 0, copies = 0;
    uint64_t evictions = 0;
    for (uint64_t seed = 0; seed < 30; seed++) {
        open_twin(&w, seed);
        for (int step = 0; step < 800; step++) {
            struct seq *s = &w.sequences[rng_below(&w.rng, SEQUENCES)];
            if (!s->alive) {
                begin(&w, s);
            } else if (rng_below(&w.rng, 6) == 0) {
                end(&w, s);
            } else {
                compute(&w, s, rng_below(&w.rng, 150));
                publish(&w, s);
            }
            check_counts(&w);
        }
        hits += w.hits;
        copies += w.copies;
        evictions += w.tree.evictions;
        close_twin(&w);
    }
    assert_true(hits > 1000 && copies > 300 && evictions > 1000);
}

static void put(struct prefix_tree *t, uint32_t page, uint32_t parent, uint64_t link,
                const int32_t *tokens, size_t count)
{
    prefix_put(t, &(struct prefix_page){.page = page,
                                        .parent = parent,
                                        .link = {{link, link}},
                                        .tokens = tokens,
                                        .count = count});
}

static void test_prefix_compares_tokens(void **state)
{
    struct prefix_tree t;
    int32_t tokens[PAGE] = {5, 6, 7, 8, 9};
    struct prefix_hash link = {{3, 3}};
    assert_int_equal(prefix_init(&t, &secret, 8, NULL), PHID_OK);
    assert_int_equal(prefix_find(&t, PREFIX_NONE, link, tokens), PREFIX_NONE);
    put(&t, 4, PREFIX_NONE, 3, tokens, PAGE);
    assert_int_equal(prefix_find(&t, PREFIX_NONE, link, tokens), 4);
    assert_int_equal(prefix_find(&t, 1, link, tokens), PREFIX_NONE);
    tokens[PAGE - 1]++; /* the same hash, by whatever accident */
    assert_int_equal(prefix_find(&t, PREFIX_NONE, link, tokens), PREFIX_NONE);
    size_t same = 0;
    assert_int_equal(prefix_find_beginning(&t, PREFIX_NONE, (struct prefix_hash){0}, tokens, PAGE,
                                           PREFIX_NONE, &same),
                     4);
    assert_int_equal(same, PAGE - 1);
    assert_int_equal(
        prefix_find_beginning(&t, PREFIX_NONE, (struct prefix_hash){0}, tokens, PAGE, 4, &same),
        PREFIX_NONE);
    prefix_fini(&t);
}

static void test_prefix_beginnings_grow(void **state)
{
    struct prefix_tree t;
    int32_t tokens[PAGE] = {5, 6, 7, 8, 9, 10};
    struct prefix_hash root = {0};
    size_t same = 77;
    assert_int_equal(prefix_init(&t, &secret, 8, NULL), PHID_OK);
    put(&t, 2, PREFIX_NONE, 0, tokens, 3); /* too few to be found */
    assert_int_equal(prefix_find_beginning(&t, PREFIX_NONE, root, tokens, PAGE, PREFIX_NONE, &same),
                     PREFIX_NONE);
    assert_false(prefix_rest(&t, 2));
    put(&t, 2, PREFIX_NONE, 0, tokens, 4);
    put(&t, 2, PREFIX_NONE, 0, tokens, 5);
    put(&t, 2, PREFIX_NONE, 0, tokens, 5);
    assert_int_equal(prefix_find_beginning(&t, PREFIX_NONE, root, tokens, PAGE, PREFIX_NONE, &same),
                     2);
    assert_int_equal(same, 5);
    assert_int_equal(prefix_find_beginning(&t, PREFIX_NONE, root, tokens, 4, PREFIX_NONE, &same),
                     2);
    assert_int_equal(same, 4);
    assert_int_equal(prefix_find_beginning(&t, PREFIX_NONE, root, tokens, 3, PREFIX_NONE, &same),
                     PREFIX_NONE);
    /* Another that begins the same way and is longer makes the first one superfluous. */
    put(&t, 3, PREFIX_NONE, 0, tokens, 6);
    assert_false(prefix_rest(&t, 2));
    assert_true(prefix_rest(&t, 3));
    assert_int_equal(t.idle_count, 1);
    uint32_t page = 0;
    assert_true(prefix_evict(&t, &page));
    assert_int_equal(page, 3);
    assert_false(prefix_evict(&t, &page));
    assert_int_equal(prefix_find_beginning(&t, PREFIX_NONE, root, tokens, PAGE, PREFIX_NONE, &same),
                     PREFIX_NONE);
    assert_int_equal(t.evictions, 1);
    prefix_fini(&t);
}

static void test_prefix_pool_prefers_free_pages(void **state)
{
    struct prefix_tree t;
    struct page_pool pool;
    int32_t tokens[PAGE] = {1, 2, 3, 4};
    uint32_t a, b, c;
    assert_int_equal(prefix_init(&t, &secret, 2, NULL), PHID_OK);
    assert_int_equal(page_pool_init(&pool, 2, NULL), PHID_OK);
    pool.prefixes = &t;
    assert_true(page_pool_take(&pool, &a));
    put(&t, a, PREFIX_NONE, 9, tokens, PAGE);
    page_pool_unref(&pool, a);
    assert_int_equal(page_pool_available(&pool), 2);
    assert_true(page_pool_take(&pool, &b));
    assert_int_not_equal(a, b);
    page_pool_ref(&pool, a); /* read again: not to be taken */
    assert_false(page_pool_take(&pool, &c));
    page_pool_unref(&pool, a);
    assert_true(page_pool_take(&pool, &c));
    assert_int_equal(c, a);
    assert_int_equal(prefix_find(&t, PREFIX_NONE, (struct prefix_hash){{9, 9}}, tokens),
                     PREFIX_NONE);
    page_pool_fini(&pool);
    prefix_fini(&t);
}

/* Lookups of prompts of 8,000 tokens, one of 50 that are cached, hash included. */
static int bench(void)
{
    enum { TOKENS = 8000, LINKS = TOKENS / PAGE, PROMPTS = 50, ROUNDS = 40 };
    struct prefix_tree t;
    struct rng rng;
    rng_init(&rng, 1);
    int32_t *tokens = calloc((size_t)PROMPTS * TOKENS, sizeof(*tokens));
    if (tokens == NULL || prefix_init(&t, &secret, PROMPTS * LINKS, NULL) != PHID_OK) {
        free(tokens);
        return 1;
    }
    uint64_t hash_ns = 0, find_ns = 0, put_ns = 0;
    size_t found = 0;
    for (size_t i = 0; i < (size_t)PROMPTS * TOKENS; i++) {
        tokens[i] = (int32_t)rng_below(&rng, 32064);
    }
    for (size_t round = 0; round <= ROUNDS; round++) {
        for (size_t p = 0; p < PROMPTS; p++) {
            struct prefix_hash links[LINKS + 1] = {first_link(0)};
            const int32_t *prompt = tokens + p * TOKENS;
            uint64_t start = clock_now_ns();
            for (size_t i = 0; i < LINKS; i++) {
                links[i + 1] = prefix_hash_next(&secret, links[i], prompt + i * PAGE);
            }
            uint64_t hashed = clock_now_ns();
            uint32_t parent = PREFIX_NONE;
            for (size_t i = 0; i < LINKS; i++) {
                uint32_t page = (uint32_t)(p * LINKS + i);
                if (round == 0) {
                    prefix_put(&t, &(struct prefix_page){.page = page,
                                                         .parent = parent,
                                                         .before = links[i],
                                                         .link = links[i + 1],
                                                         .tokens = prompt + i * PAGE,
                                                         .count = PAGE});
                    parent = page;
                } else {
                    parent = prefix_find(&t, parent, links[i + 1], prompt + i * PAGE);
                    found += parent == page;
                }
            }
            hash_ns += hashed - start;
            *(round == 0 ? &put_ns : &find_ns) += clock_now_ns() - hashed;
        }
    }
    printf("8000 tokens: hash %.1f us, find %.1f us, put %.1f us (%zu of %d pages found)\n",
           (double)hash_ns / (PROMPTS * (ROUNDS + 1)) / 1e3,
           (double)find_ns / (PROMPTS * ROUNDS) / 1e3, (double)put_ns / PROMPTS / 1e3, found,
           PROMPTS * ROUNDS * LINKS);
    prefix_fini(&t);
    free(tokens);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--bench") == 0) {
        return bench();
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_prefix_random_traces),
        cmocka_unit_test(test_prefix_compares_tokens),
        cmocka_unit_test(test_prefix_beginnings_grow),
        cmocka_unit_test(test_prefix_pool_prefers_free_pages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

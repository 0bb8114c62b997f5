#include "engine/text/merge.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "engine/base/checked.h"
#include "engine/text/tokenizer.h"

#define NO_NODE UINT32_MAX

struct merge_node {
    int32_t id; /* -1 once joined to its left neighbour */
    uint32_t prev;
    uint32_t next;
};

/* One merge before it is ranked. */
struct candidate {
    float score;
    int32_t joined;
    int32_t left;
    int32_t right;
};

struct candidates {
    struct candidate *items; /* heap */
    size_t count;
    size_t capacity;
};

static size_t slot_of(const struct merge_table *t, int32_t left, int32_t right)
{
    /* The finalizer of MurmurHash3 over the pair. */
    uint64_t h = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) ^ t->seed;
    h = (h ^ h >> 33) * 0xFF51AFD7ED558CCDU;
    h = (h ^ h >> 33) * 0xC4CEB9FE1A85EC53U;
    return (size_t)(h ^ h >> 33) & t->mask;
}

const struct merge_slot *merge_find(const struct merge_table *t, int32_t left, int32_t right)
{
    for (size_t i = slot_of(t, left, right); t->slots[i].left >= 0; i = (i + 1) & t->mask) {
        if (t->slots[i].left == left && t->slots[i].right == right) {
            return &t->slots[i];
        }
    }
    return NULL;
}

static enum phid_status table_init(struct merge_table *t, size_t count, struct phid_error *err)
{
    size_t slots = 16;
    while (slots < count * 2) {
        slots *= 2;
    }
    t->slots = malloc(slots * sizeof(*t->slots));
    if (t->slots == NULL) {
        return phid_fail(err, PHID_ERR_MEMORY, "no memory for %zu merges", count);
    }
    memset(t->slots, 0xFF, slots * sizeof(*t->slots));
    t->mask = slots - 1;
    t->count = 0;
    if (getrandom(&t->seed, sizeof(t->seed), 0) != (ssize_t)sizeof(t->seed)) {
        t->seed = (uintptr_t)t->slots;
    }
    return PHID_OK;
}

/* The first of equal pairs wins. */
static void table_add(struct merge_table *t, int32_t left, int32_t right, int32_t joined)
{
    size_t i = slot_of(t, left, right);
    for (; t->slots[i].left >= 0; i = (i + 1) & t->mask) {
        if (t->slots[i].left == left && t->slots[i].right == right) {
            return;
        }
    }
    t->slots[i] = (struct merge_slot){left, right, joined, (uint32_t)t->count};
    t->count++;
}

void merge_table_fini(struct merge_table *t)
{
    free(t->slots);
    memset(t, 0, sizeof(*t));
}

static enum phid_status bad_merge(struct str merge, size_t index, const char *fault,
                                  struct phid_error *err)
{
    size_t shown = merge.size < 64 ? merge.size : 64;
    while (shown > 0 && shown < merge.size && ((unsigned char)merge.data[shown] & 0xC0) == 0x80) {
        shown--;
    }
    return phid_fail(err, PHID_ERR_FORMAT, "tokenizer.ggml.merges: merge %zu, \"%.*s\", %s", index,
                     (int)shown, merge.data, fault);
}

/* A merge has exactly one space between its halves; spaces inside them are written as U+0120. */
static enum phid_status add_merge(struct merge_table *t, const struct vocab *v,
                                  const struct special_table *specials, struct str merge,
                                  size_t index, struct phid_error *err)
{
    const char *space = merge.size < 3 ? NULL : memchr(merge.data + 1, ' ', merge.size - 2);
    if (space == NULL || merge.size > 2 * VOCAB_MAX_TOKEN_BYTES + 1) {
        return bad_merge(merge, index, "is not two tokens with a space between them", err);
    }
    struct str left = {.data = merge.data, .size = (size_t)(space - merge.data)};
    struct str right = {.data = space + 1, .size = merge.size - left.size - 1};
    char text[2 * VOCAB_MAX_TOKEN_BYTES];
    memcpy(text, left.data, left.size);
    memcpy(text + left.size, right.data, right.size);
    const struct str parts[3] = {left, right, {.data = text, .size = left.size + right.size}};
    int32_t ids[3];
    for (size_t i = 0; i < 3; i++) {
        ids[i] = vocab_find(v, parts[i]);
        if (ids[i] < 0 && special_find(specials, v, parts[i]) != NULL) {
            return PHID_OK; /* nothing merges into a control token */
        }
        if (ids[i] < 0) {
            return bad_merge(merge, index,
                             i < 2 ? "names a token that is not in the vocabulary"
                                   : "makes a token that is not in the vocabulary",
                             err);
        }
    }
    table_add(t, ids[0], ids[1], ids[2]);
    return PHID_OK;
}

enum phid_status merge_table_read(struct merge_table *t, const struct gguf_file *file,
                                  const struct vocab *v, const struct special_table *specials,
                                  struct phid_error *err)
{
    if (gguf_find(file, STR("tokenizer.ggml.merges")) == NULL) {
        return phid_fail(err, PHID_ERR_FORMAT, "tokenizer.ggml.merges is missing");
    }
    struct str *merges = NULL;
    size_t count = 0;
    enum phid_status status = gguf_get_strings(file, "tokenizer.ggml.merges", &merges, &count, err);
    if (status == PHID_OK && count > MERGE_MAX) {
        status = phid_fail(err, PHID_ERR_FORMAT,
                           "tokenizer.ggml.merges has %zu elements, at most %zu are allowed", count,
                           MERGE_MAX);
    }
    if (status == PHID_OK) {
        status = table_init(t, count, err);
    }
    for (size_t i = 0; i < count && status == PHID_OK; i++) {
        status = add_merge(t, v, specials, merges[i], i, err);
    }
    free(merges);
    return status;
}

static bool candidate_push(struct candidates *c, struct candidate item)
{
    if (c->count == c->capacity) {
        size_t capacity = c->capacity == 0 ? 4096 : c->capacity * 2;
        struct candidate *items = realloc(c->items, capacity * sizeof(*items));
        if (items == NULL) {
            return false;
        }
        c->items = items;
        c->capacity = capacity;
    }
    c->items[c->count++] = item;
    return true;
}

/* Finds the ways to split one token's text into two ordinary tokens, in O(bytes). `suffixes` has
 * room for a longest text and one more. */
static enum phid_status split_token(const struct vocab *v, int32_t id, uint64_t *suffixes,
                                    struct candidates *found, struct phid_error *err)
{
    struct str text = v->texts[id];
    const unsigned char *bytes = (const unsigned char *)text.data;
    uint64_t power = 1;
    suffixes[text.size] = 0;
    for (size_t i = text.size; i > 0; i--) {
        suffixes[i - 1] = vocab_hash_prepend(suffixes[i], bytes[i - 1], power);
        power = vocab_hash_power(v, power);
    }
    uint64_t prefix = 0;
    for (size_t i = 1; i < text.size; i++) {
        prefix = vocab_hash_append(v, prefix, bytes[i - 1]);
        int32_t left = vocab_find_hashed(v, (struct str){text.data, i}, prefix);
        if (left < 0) {
            continue;
        }
        int32_t right =
            vocab_find_hashed(v, (struct str){text.data + i, text.size - i}, suffixes[i]);
        if (right < 0) {
            continue;
        }
        if (found->count == MERGE_MAX) {
            return phid_fail(err, PHID_ERR_FORMAT, "tokenizer.ggml.tokens: more than %zu merges",
                             MERGE_MAX);
        }
        if (!candidate_push(found, (struct candidate){v->scores[id], id, left, right})) {
            return phid_fail(err, PHID_ERR_MEMORY, "no memory for %zu merges", found->count);
        }
    }
    return PHID_OK;
}

static int compare_ids(int32_t a, int32_t b)
{
    return (a > b) - (a < b);
}

/* Best score first. Equal ones in the order of ids: pairs with the same result are ranked by their
 * left halves, then their right ones. */
static int compare_candidates(const void *a_, const void *b_)
{
    const struct candidate *a = a_;
    const struct candidate *b = b_;
    if (a->score != b->score) {
        return a->score > b->score ? -1 : 1;
    }
    int order = compare_ids(a->joined, b->joined);
    order = order != 0 ? order : compare_ids(a->left, b->left);
    return order != 0 ? order : compare_ids(a->right, b->right);
}

enum phid_status merge_table_from_scores(struct merge_table *t, const struct vocab *v,
                                         struct phid_error *err)
{
    struct candidates found = {0};
    enum phid_status status = PHID_OK;
    uint64_t *suffixes = calloc(v->max_ordinary_bytes + 1, sizeof(*suffixes));
    if (suffixes == NULL) {
        status = phid_fail(err, PHID_ERR_MEMORY, "no memory for the merges");
    }
    for (size_t i = 0; i < v->count && status == PHID_OK; i++) {
        if (v->kinds[i] == TOKEN_NORMAL && v->texts[i].size > 1) {
            status = split_token(v, (int32_t)i, suffixes, &found, err);
        }
    }
    if (status == PHID_OK) {
        status = table_init(t, found.count, err);
    }
    if (status == PHID_OK && found.count > 0) {
        qsort(found.items, found.count, sizeof(*found.items), compare_candidates);
        for (size_t i = 0; i < found.count; i++) {
            table_add(t, found.items[i].left, found.items[i].right, found.items[i].joined);
        }
    }
    free(suffixes);
    free(found.items);
    return status;
}

void merge_work_fini(struct merge_work *w)
{
    free(w->nodes);
    free(w->heap);
    memset(w, 0, sizeof(*w));
}

void merge_work_clear(struct merge_work *w)
{
    w->count = 0;
    w->heap_count = 0;
}

/* Room for one more element: the memory, grown if need be; NULL when there is none to be had. */
static void *room(void *memory, size_t count, size_t *capacity, size_t element_size)
{
    if (count < *capacity) {
        return memory;
    }
    size_t wanted = *capacity == 0 ? 64 : *capacity * 2;
    size_t bytes = 0;
    void *grown = checked_mul(wanted, element_size, &bytes) ? realloc(memory, bytes) : NULL;
    *capacity = grown == NULL ? *capacity : wanted;
    return grown;
}

bool merge_work_push(struct merge_work *w, int32_t id)
{
    void *nodes =
        w->count >= NO_NODE ? NULL : room(w->nodes, w->count, &w->capacity, sizeof(*w->nodes));
    if (nodes == NULL) {
        return false;
    }
    w->nodes = nodes;
    uint32_t at = (uint32_t)w->count++;
    w->nodes[at] =
        (struct merge_node){.id = id, .prev = at == 0 ? NO_NODE : at - 1, .next = at + 1};
    return true;
}

static bool heap_push(struct merge_work *w, uint64_t key)
{
    void *heap = room(w->heap, w->heap_count, &w->heap_capacity, sizeof(*w->heap));
    if (heap == NULL) {
        return false;
    }
    w->heap = heap;
    size_t i = w->heap_count++;
    while (i > 0 && w->heap[(i - 1) / 2] > key) {
        w->heap[i] = w->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    w->heap[i] = key;
    return true;
}

static uint64_t heap_pop(struct merge_work *w)
{
    uint64_t top = w->heap[0];
    uint64_t last = w->heap[--w->heap_count];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= w->heap_count) {
            break;
        }
        if (child + 1 < w->heap_count && w->heap[child + 1] < w->heap[child]) {
            child++;
        }
        if (w->heap[child] >= last) {
            break;
        }
        w->heap[i] = w->heap[child];
        i = child;
    }
    w->heap[i] = last;
    return top;
}

static bool consider(const struct merge_table *t, struct merge_work *w, uint32_t at)
{
    if (at == NO_NODE || w->nodes[at].next == NO_NODE) {
        return true;
    }
    const struct merge_slot *m = merge_find(t, w->nodes[at].id, w->nodes[w->nodes[at].next].id);
    return m == NULL || heap_push(w, (uint64_t)m->rank << 32 | at);
}

bool merge_apply(const struct merge_table *t, struct merge_work *w, struct tokens *out)
{
    if (w->count == 0) {
        return true;
    }
    w->nodes[w->count - 1].next = NO_NODE;
    for (uint32_t i = 0; i < w->count; i++) {
        if (!consider(t, w, i)) {
            return false;
        }
    }
    while (w->heap_count > 0) {
        uint64_t top = heap_pop(w);
        uint32_t at = (uint32_t)top;
        struct merge_node *node = &w->nodes[at];
        if (node->id < 0 || node->next == NO_NODE) {
            continue;
        }
        /* A merge of an earlier pair here is stale when the pair at this node is another by now. */
        const struct merge_slot *m = merge_find(t, node->id, w->nodes[node->next].id);
        if (m == NULL || m->rank != top >> 32) {
            continue;
        }
        struct merge_node *gone = &w->nodes[node->next];
        node->id = m->joined;
        node->next = gone->next;
        gone->id = -1;
        if (node->next != NO_NODE) {
            w->nodes[node->next].prev = at;
        }
        if (!consider(t, w, node->prev) || !consider(t, w, at)) {
            return false;
        }
    }
    for (uint32_t i = 0; i != NO_NODE; i = w->nodes[i].next) {
        if (!tokens_push(out, w->nodes[i].id)) {
            return false;
        }
    }
    merge_work_clear(w);
    return true;
}

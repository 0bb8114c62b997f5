#include "engine/sched/draft.h"

#include <stdlib.h>

enum {
    CANDIDATES_MAX = 32, /* earlier places that are compared */
    MATCH_MAX = 16,      /* tokens compared at each */
};

/* What a guess is worth before anything is known, and what a record without guesses returns to. */
#define HIT_PRIOR 0.5f

enum phid_status draft_index_init(struct draft_index *d, size_t capacity, struct phid_error *err)
{
    *d = (struct draft_index){.capacity = capacity, .bits = 8};
    while (d->bits < 20 && ((size_t)1 << d->bits) < capacity) {
        d->bits++;
    }
    d->newest = calloc((size_t)1 << d->bits, sizeof(*d->newest));
    d->previous = calloc(capacity > 0 ? capacity : 1, sizeof(*d->previous));
    if (capacity > UINT32_MAX || d->newest == NULL || d->previous == NULL) {
        draft_index_fini(d);
        return phid_fail(err, PHID_ERR_MEMORY, "no memory for the drafts of %zu tokens", capacity);
    }
    return PHID_OK;
}

void draft_index_fini(struct draft_index *d)
{
    free(d->newest);
    free(d->previous);
    *d = (struct draft_index){0};
}

/* Of the pair that ends at ids[end]. */
static size_t bucket(const struct draft_index *d, const int32_t *ids, size_t end)
{
    uint64_t pair = (uint64_t)(uint32_t)ids[end - 1] << 32 | (uint32_t)ids[end];
    return (size_t)(pair * UINT64_C(0x9E3779B97F4A7C15) >> (64 - d->bits));
}

void draft_index_extend(struct draft_index *d, const int32_t *ids, size_t count)
{
    for (size_t end = d->indexed > 1 ? d->indexed : 1; end < count && end < d->capacity; end++) {
        uint32_t *newest = &d->newest[bucket(d, ids, end)];
        d->previous[end] = *newest;
        *newest = (uint32_t)end;
    }
    d->indexed = count;
}

/* How many tokens before and at text[a] equal those before and at ids[b]. */
static size_t match(const int32_t *text, size_t a, const int32_t *ids, size_t b)
{
    size_t length = 0;
    while (length < MATCH_MAX && length <= a && length <= b &&
           text[a - length] == ids[b - length]) {
        length++;
    }
    return length;
}

size_t draft_propose(const struct draft_index *d, const int32_t *text, const int32_t *ids,
                     size_t count, size_t max, int32_t *ret_tokens)
{
    if (count < 2 || d->indexed < 2 || d->indexed > d->capacity) {
        return 0;
    }
    size_t last = count - 1, best = 0, best_length = 1;
    size_t at = d->newest[bucket(d, ids, last)];
    if (text == ids && at == last) {
        at = d->previous[last];
    }
    for (int i = 0; at != 0 && i < CANDIDATES_MAX; i++) {
        size_t length = match(text, at, ids, last);
        if (length > best_length) {
            best = at;
            best_length = length;
        }
        at = d->previous[at];
    }
    if (best == 0) {
        return 0;
    }
    size_t room = max < DRAFT_MAX ? max : DRAFT_MAX;
    size_t proposed = 0;
    while (proposed < room && proposed < best_length) {
        size_t from = best + 1 + proposed;
        if (from >= d->indexed && text != ids) {
            break;
        }
        /* Past its own end the text goes on with the guess: a loop repeats. */
        ret_tokens[proposed] = from < d->indexed ? text[from] : ret_tokens[from - d->indexed];
        proposed++;
    }
    return proposed;
}

void draft_record_init(struct draft_record *r)
{
    r->hit = HIT_PRIOR;
}

void draft_record_step(struct draft_record *r, size_t proposed, size_t accepted)
{
    if (proposed == 0) {
        r->hit += (HIT_PRIOR - r->hit) / 128; /* text changes: try again after a while */
        return;
    }
    /* Behind the first wrong guess nothing is known: that many trials, that many hits. */
    size_t trials = accepted < proposed ? accepted + 1 : accepted;
    for (size_t i = 0; i < trials; i++) {
        r->hit += ((i < accepted ? 1.0f : 0.0f) - r->hit) / 8;
    }
}

size_t draft_length(const struct draft_record *r, double row_cost, size_t max)
{
    double hit = (double)r->hit, chance = 1, tokens = 1, best = 1;
    size_t best_length = 0;
    for (size_t length = 1; length <= max; length++) {
        chance *= hit;
        tokens += chance;
        double rate = tokens / (1 + row_cost * (double)length);
        if (rate > best * 1.02) { /* not for the last percent */
            best = rate;
            best_length = length;
        }
    }
    return best_length;
}

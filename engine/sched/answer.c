#include "engine/sched/answer.h"

#include <stdlib.h>
#include <string.h>

#define FIRST_TOKENS ((size_t)16)
#define FIRST_TEXT   ((size_t)512)
#define TEXT_MAX     ((size_t)256 << 20) /* the longest stop, and the pieces of one step */

static enum phid_status no_memory(struct phid_error *err)
{
    return phid_fail(err, PHID_ERR_MEMORY, "no memory for the text of an answer");
}

enum phid_status answer_init(struct answer *a, const struct tokenizer *tokenizer, bool at_start,
                             const struct stop_set *stops, size_t top_max, struct phid_error *err)
{
    *a = (struct answer){.stops = stops, .top_max = top_max, .capacity = FIRST_TOKENS};
    detok_init(&a->detok, tokenizer, at_start, false);
    buf_init(&a->text, TEXT_MAX);
    buf_extend(&a->text, FIRST_TEXT + stops->longest);
    bool failed = a->text.failed;
    buf_clear(&a->text);
    a->tokens = calloc(a->capacity, sizeof(*a->tokens));
    a->tops = top_max > 0 ? calloc(a->capacity * top_max, sizeof(*a->tops)) : NULL;
    if (failed || a->tokens == NULL || (top_max > 0 && a->tops == NULL)) {
        answer_fini(a);
        return no_memory(err);
    }
    return PHID_OK;
}

void answer_fini(struct answer *a)
{
    buf_fini(&a->text);
    free(a->tokens);
    free(a->tops);
    *a = (struct answer){0};
}

/* Doubles the ring; the tokens move to its beginning. */
static bool grow_ring(struct answer *a)
{
    size_t capacity = a->capacity * 2;
    struct answer_token *tokens = calloc(capacity, sizeof(*tokens));
    struct phid_top *tops = a->top_max > 0 ? calloc(capacity * a->top_max, sizeof(*tops)) : NULL;
    if (tokens == NULL || (a->top_max > 0 && tops == NULL)) {
        free(tokens);
        free(tops);
        return false;
    }
    for (size_t i = 0; i < a->count; i++) {
        size_t from = (a->first + i) & (a->capacity - 1);
        tokens[i] = a->tokens[from];
        if (a->top_max > 0) {
            memcpy(tops + i * a->top_max, a->tops + from * a->top_max, a->top_max * sizeof(*tops));
        }
    }
    free(a->tokens);
    free(a->tops);
    a->tokens = tokens;
    a->tops = tops;
    a->first = 0;
    a->capacity = capacity;
    return true;
}

/* Looks for stops in the text from byte `from` of the buffer on, and says what may be shown. */
static enum phid_status search_stops(struct answer *a, size_t from, struct phid_error *err)
{
    if (a->text.failed) {
        return no_memory(err);
    }
    if (a->text.size == from) { /* also keeps NULL away from the arithmetic below */
        a->ready = a->text.size - stop_held(a->stops, a->stop);
        return PHID_OK;
    }
    struct str added = {.data = a->text.data + from, .size = a->text.size - from};
    size_t end, size;
    if (stop_walk(a->stops, &a->stop, added, &end, &size)) {
        a->stopped = true;
        a->ready = from + end - size;
    } else {
        a->ready = a->text.size - stop_held(a->stops, a->stop);
    }
    return PHID_OK;
}

enum phid_status answer_push(struct answer *a, int32_t id, float logprob,
                             const struct phid_top *top, size_t top_count, struct phid_error *err)
{
    if (a->count == a->capacity && !grow_ring(a)) {
        return no_memory(err);
    }
    size_t before = a->text.size;
    detok_push(&a->detok, id, &a->text);
    size_t slot = (a->first + a->count) & (a->capacity - 1);
    a->tokens[slot] = (struct answer_token){
        .id = id,
        .logprob = logprob,
        .start = a->shown + before,
        .end = a->shown + a->text.size + (a->detok.held_count > 0),
        .top_count = top_count < a->top_max ? top_count : a->top_max,
    };
    if (a->tokens[slot].top_count > 0) {
        memcpy(a->tops + slot * a->top_max, top, a->tokens[slot].top_count * sizeof(*top));
    }
    a->count++;
    return search_stops(a, before, err);
}

enum phid_status answer_end(struct answer *a, struct phid_error *err)
{
    a->ended = true;
    if (a->stopped) {
        return PHID_OK;
    }
    size_t before = a->text.size;
    detok_finish(&a->detok, &a->text);
    enum phid_status status = search_stops(a, before, err);
    if (status == PHID_OK && !a->stopped) {
        a->ready = a->text.size;
    }
    return status;
}

enum phid_status answer_show(struct answer *a, struct output *output, struct phid_error *err)
{
    if (a->ready > 0) {
        if (!output_add_text(output, a->text.data, a->ready)) {
            return no_memory(err);
        }
        buf_drop(&a->text, a->ready);
        a->shown += a->ready;
        a->ready = 0;
    }
    bool last = a->stopped || a->ended;
    while (a->count > 0) {
        const struct answer_token *t = &a->tokens[a->first];
        if (t->end > a->shown && !(last && t->start < a->shown)) {
            break;
        }
        const struct phid_top *top = a->top_max > 0 ? a->tops + a->first * a->top_max : NULL;
        if (!output_add_token(output, t->id, t->logprob, false, top, t->top_count)) {
            return no_memory(err);
        }
        a->first = (a->first + 1) & (a->capacity - 1);
        a->count--;
    }
    return PHID_OK;
}

#include "engine/sched/output.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "engine/base/checked.h"

/* Far above what a step can add to a side that is not full; only a vocabulary with monstrous tokens
 * gets there. */
#define TEXT_MAX     ((size_t)256 << 20)
#define FIRST_TOKENS ((size_t)32)
#define FIRST_TEXT   ((size_t)1024)

static bool grow(void **items, size_t *capacity, size_t needed, size_t item_size)
{
    if (needed <= *capacity) {
        return true;
    }
    size_t wanted = *capacity > 0 ? *capacity : FIRST_TOKENS;
    while (wanted < needed) {
        wanted *= 2;
    }
    size_t bytes;
    if (!checked_mul(wanted, item_size, &bytes)) {
        return false;
    }
    void *grown = realloc(*items, bytes);
    if (grown == NULL) {
        return false;
    }
    *items = grown;
    *capacity = wanted;
    return true;
}

static bool side_init(struct output_side *side)
{
    buf_init(&side->text, TEXT_MAX);
    buf_extend(&side->text, FIRST_TEXT);
    bool ok = !side->text.failed;
    buf_clear(&side->text);
    return ok &&
           grow((void **)&side->tokens, &side->token_capacity, FIRST_TOKENS, sizeof(*side->tokens));
}

static void side_fini(struct output_side *side)
{
    buf_fini(&side->text);
    free(side->tokens);
    free(side->tops);
    *side = (struct output_side){0};
}

enum phid_status output_init(struct output *o, void (*wake)(void *user), void *wake_user,
                             struct phid_error *err)
{
    *o = (struct output){.wake = wake, .wake_user = wake_user};
    if (!side_init(&o->sides[0]) || !side_init(&o->sides[1])) {
        side_fini(&o->sides[0]);
        side_fini(&o->sides[1]);
        return phid_fail(err, PHID_ERR_MEMORY, "no memory for the output of a request");
    }
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&o->mu, NULL);
    pthread_cond_init(&o->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    atomic_init(&o->full, false);
    return PHID_OK;
}

void output_fini(struct output *o)
{
    side_fini(&o->sides[0]);
    side_fini(&o->sides[1]);
    pthread_cond_destroy(&o->changed);
    pthread_mutex_destroy(&o->mu);
}

static bool has_something(const struct output *o)
{
    const struct output_side *side = &o->sides[o->filling];
    return side->text.size > 0 || side->token_count > 0 ||
           (o->finish != PHID_FINISH_NONE && !o->finish_taken);
}

void output_begin(struct output *o)
{
    pthread_mutex_lock(&o->mu);
    o->had_something = has_something(o);
}

bool output_add_text(struct output *o, const char *text, size_t size)
{
    struct output_side *side = &o->sides[o->filling];
    buf_append(&side->text, text, size);
    return !side->text.failed;
}

bool output_add_token(struct output *o, int32_t id, float logprob, bool is_prompt,
                      const struct phid_top *top, size_t top_count)
{
    struct output_side *side = &o->sides[o->filling];
    if (!grow((void **)&side->tokens, &side->token_capacity, side->token_count + 1,
              sizeof(*side->tokens)) ||
        (top_count > 0 && !grow((void **)&side->tops, &side->top_capacity,
                                side->top_count + top_count, sizeof(*side->tops)))) {
        return false;
    }
    side->tokens[side->token_count++] = (struct phid_token){
        .id = id, .logprob = logprob, .is_prompt = is_prompt, .top_count = top_count};
    for (size_t i = 0; i < top_count; i++) {
        side->tops[side->top_count++] = top[i];
    }
    return true;
}

void output_finish(struct output *o, enum phid_finish finish, const struct phid_error *error)
{
    o->finish = finish;
    if (error != NULL) {
        o->error = *error;
    }
    o->had_something = false;
}

void output_end(struct output *o)
{
    const struct output_side *side = &o->sides[o->filling];
    if (side->text.size > OUTPUT_TEXT_FULL || side->token_count > OUTPUT_TOKENS_FULL) {
        atomic_store_explicit(&o->full, true, memory_order_relaxed);
    }
    if (!o->had_something && has_something(o)) {
        pthread_cond_broadcast(&o->changed);
        if (o->wake != NULL) {
            o->wake(o->wake_user);
        }
    }
    pthread_mutex_unlock(&o->mu);
}

static void side_clear(struct output_side *side)
{
    buf_clear(&side->text);
    side->token_count = 0;
    side->top_count = 0;
}

bool output_poll(struct output *o, struct phid_output *ret, bool *ret_was_full)
{
    *ret_was_full = false;
    pthread_mutex_lock(&o->mu);
    if (!has_something(o)) {
        pthread_mutex_unlock(&o->mu);
        return false;
    }
    struct output_side *taken = &o->sides[o->filling];
    o->filling = 1 - o->filling;
    side_clear(&o->sides[o->filling]);
    *ret_was_full = atomic_exchange_explicit(&o->full, false, memory_order_relaxed);
    o->finish_taken = o->finish != PHID_FINISH_NONE;
    const struct output_progress *p = &o->progress;
    *ret = (struct phid_output){
        .text = taken->text.size > 0 ? taken->text.data : "",
        .text_size = taken->text.size,
        .tokens = taken->tokens,
        .token_count = taken->token_count,
        .finish = o->finish,
        .error = o->error,
        .prompt_tokens = p->prompt_tokens,
        .cached_tokens = p->cached_tokens,
        .drafts_accepted = p->drafts_accepted,
        .drafts_rejected = p->drafts_rejected,
        .completion_tokens = p->completion_tokens,
        .queue_ns = p->queue_ns,
        .first_token_ns = p->first_token_ns,
        .total_ns = p->total_ns,
    };
    pthread_mutex_unlock(&o->mu);

    const struct phid_top *top = taken->tops;
    for (size_t i = 0; i < taken->token_count; i++) {
        taken->tokens[i].top = taken->tokens[i].top_count > 0 ? top : NULL;
        if (taken->tokens[i].top_count > 0) {
            top += taken->tokens[i].top_count;
        }
    }
    return true;
}

bool output_wait(struct output *o, int timeout_ms)
{
    struct timespec deadline;
    clock_gettime(CLOCK_MONOTONIC, &deadline);
    if (timeout_ms > 0) {
        deadline.tv_sec += timeout_ms / 1000;
        deadline.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
        deadline.tv_sec += deadline.tv_nsec / 1000000000;
        deadline.tv_nsec %= 1000000000;
    }
    pthread_mutex_lock(&o->mu);
    int rc = 0;
    while (!has_something(o) && rc != ETIMEDOUT && !(o->finish_taken)) {
        if (timeout_ms < 0) {
            pthread_cond_wait(&o->changed, &o->mu);
        } else {
            rc = pthread_cond_timedwait(&o->changed, &o->mu, &deadline);
        }
    }
    bool something = has_something(o);
    pthread_mutex_unlock(&o->mu);
    return something;
}

void output_silence(struct output *o)
{
    pthread_mutex_lock(&o->mu);
    o->wake = NULL;
    pthread_mutex_unlock(&o->mu);
}

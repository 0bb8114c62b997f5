/* One step: the batch through the backend, then every row's logits to the sequence that wants them.
 */
#include "engine/base/clock.h"
#include "engine/sched/loop_state.h"

/* Pages whose memory is brought in before they are taken, besides one for each running sequence:
 * where the system is slow to find memory (virtual machines take 4 us for each KiB), a step that
 * begins a page would take twice as long as others. */
#define WARM_PAGES 4
#define WARM_SHARE 2 /* tokens brought in for each one that a step computes */

static enum phid_status run_layers(struct loop *l, struct phid_error *err)
{
    const struct loop_options *o = &l->options;
    uint64_t began_ns = clock_now_ns();
    enum phid_status status = o->api->embed(o->backend, &l->batch.view, l->hidden, err);
    if (status == PHID_OK) {
        status = o->api->step(o->backend, &l->batch.view, 0, o->block->n_layers, l->hidden, err);
    }
    l->device_ns += clock_now_ns() - began_ns;
    return status;
}

/* What a backend's failure means for the sequences of the batch: they end, and if the device is
 * gone everything does. */
static void fail_batch(struct loop *l, enum phid_status status, const struct phid_error *error)
{
    if (status == PHID_ERR_DEVICE) { /* first, so that who sees an end is refused from then on */
        loop_lose_device(l, status, error);
    }
    for (size_t i = 0; i < l->batch.view.sequence_count; i++) {
        if (!l->batch.owners[i]->ended) {
            loop_finish(l, l->batch.owners[i], PHID_FINISH_ERROR, error);
        }
    }
}

static void advance(struct loop *l)
{
    uint64_t prefilled = 0;
    for (size_t i = 0; i < l->batch.view.sequence_count; i++) {
        struct sequence *s = l->batch.owners[i];
        size_t rows = l->batch.parts[i].rows;
        if (rows > 1 + s->guesses || s->done < s->prompt_count) {
            prefilled += rows;
        }
        s->done += rows - s->guesses; /* those count once they came true */
        loop_publish(l, s);
    }
    atomic_fetch_add_explicit(&l->counters.tokens_prefilled, prefilled, memory_order_relaxed);
    atomic_fetch_add_explicit(&l->counters.steps, 1, memory_order_relaxed);
}

static void use_logits(struct loop *l, const struct batch_head *head, const float *logits)
{
    struct sequence *s = head->sequence;
    bool refuted = head->sample && head->position + 1 != s->done; /* a guess before it was wrong */
    if (s->ended || refuted) {
        return;
    }
    struct phid_error error = {0};
    enum phid_finish finish = PHID_FINISH_NONE;
    enum phid_status status;
    if (head->sample) {
        size_t right = s->guesses_right;
        status = sequence_sample(s, logits, &finish, &error);
        if (s->guesses_right > right) {
            struct loop_counters *c = &l->counters;
            atomic_fetch_add_explicit(&c->draft_accepted, 1, memory_order_relaxed);
            atomic_fetch_add_explicit(&c->draft_accepted_at[right], 1, memory_order_relaxed);
        }
        if (status == PHID_OK) {
            meter_token(&l->meter, s);
            atomic_fetch_add_explicit(&l->counters.tokens_decoded, 1, memory_order_relaxed);
        }
    } else {
        status = sequence_report_prompt(s, head->position, logits, &error);
    }
    if (status != PHID_OK) {
        atomic_fetch_add_explicit(&l->counters.corrupted, status == PHID_ERR_INTERNAL,
                                  memory_order_relaxed);
        loop_finish(l, s, PHID_FINISH_ERROR, &error);
    } else if (finish != PHID_FINISH_NONE) {
        loop_finish(l, s, finish, NULL);
    } else if (head->sample) {
        status = sequence_show(s, PHID_FINISH_NONE, NULL, &error);
        if (status != PHID_OK) {
            loop_finish(l, s, PHID_FINISH_ERROR, &error);
        }
    }
}

static enum phid_status run_heads(struct loop *l, struct phid_error *err)
{
    const struct loop_options *o = &l->options;
    for (size_t first = 0; first < l->batch.head_count; first += l->logit_rows) {
        size_t left = l->batch.head_count - first;
        size_t count = left < l->logit_rows ? left : l->logit_rows;
        uint64_t began_ns = clock_now_ns();
        enum phid_status status =
            o->api->head(o->backend, l->hidden, l->batch.head_rows + first, count, l->logits, err);
        uint64_t computed_ns = clock_now_ns();
        l->device_ns += computed_ns - began_ns;
        if (status != PHID_OK) {
            return status;
        }
        for (size_t i = 0; i < count; i++) {
            use_logits(l, &l->batch.heads[first + i], l->logits + i * o->block->n_vocab);
        }
        l->sample_ns += clock_now_ns() - computed_ns;
    }
    return PHID_OK;
}

/* Sequences without an answer end when their prompt is computed. */
static void finish_evaluated(struct loop *l)
{
    for (size_t i = 0; i < l->batch.view.sequence_count; i++) {
        struct sequence *s = l->batch.owners[i];
        if (!s->ended && s->max_tokens == 0 && sequence_remaining(s) == 0) {
            loop_finish(l, s, PHID_FINISH_LENGTH, NULL);
        }
    }
}

bool loop_warm(struct loop *l, size_t tokens)
{
    const struct loop_options *o = &l->options;
    size_t next = l->pool.touched;
    return o->api->kv_warm != NULL &&
           o->api->kv_warm(o->backend, next, next + l->running_count + WARM_PAGES, tokens);
}

void loop_step(struct loop *l)
{
    /* A sequence may end in the middle of the step; its owners entry stays good until the step is
     * over. */
    size_t count = l->batch.view.sequence_count;
    for (size_t i = 0; i < count; i++) {
        sequence_ref(l->batch.owners[i]);
    }
    meter_step(&l->meter, l->batch.view.rows);
    struct phid_error error = {0};
    enum phid_status status = run_layers(l, &error);
    if (status == PHID_OK) {
        advance(l);
        status = run_heads(l, &error);
    }
    if (status == PHID_OK) {
        finish_evaluated(l);
        /* A step that had to load weights says nothing about those to come. */
        if (!loop_load_more(l)) {
            uint64_t began_ns = clock_now_ns();
            (void)loop_warm(l, WARM_SHARE * l->batch.view.rows);
            l->device_ns += clock_now_ns() - began_ns;
            pace_learn(&l->pace, &l->batch.load, l->device_ns + l->sample_ns);
        }
    } else {
        fail_batch(l, status, &error);
    }
    for (size_t i = 0; i < count; i++) {
        sequence_unref(l->batch.owners[i]);
    }
}

/* Who guesses ahead in the next step, and how far: as many tokens as bring more than their rows
 * cost, by the pace of the steps so far and by how each sequence's guesses have done. */
#include "engine/sched/loop_state.h"

/* What the step would compute without guesses. */
static struct pace_step decode_load(const struct loop *l, bool *ret_prompts)
{
    struct pace_step load = {0};
    *ret_prompts = false;
    for (size_t i = 0; i < l->running_count; i++) {
        const struct sequence *s = l->running[i];
        if (s->runnable && sequence_remaining(s) == 1) {
            load.decode_rows++;
            load.context += pace_context(s->done, 1);
        }
        *ret_prompts |= s->runnable && sequence_remaining(s) > 1;
    }
    return load;
}

/* Steps that are all alike do not tell what a row costs, so now and then a guess is made to find
 * out. */
#define TRIAL_TURNS 32
#define TRIAL_ROWS  4 /* sequences at most */

/* What one more row costs, as a share of what a sequence's token costs now. 1 and more: guessing
 * cannot pay. */
static double row_cost(const struct loop *l, const struct pace_step *load)
{
    if (l->options.speculation == PHID_SPECULATION_ALWAYS) {
        return 0;
    }
    struct pace_step more = *load;
    more.decode_rows++;
    more.context += load->context / load->decode_rows;
    double now = (double)pace_predict(&l->pace, load);
    double then = (double)pace_predict(&l->pace, &more);
    return now > 0 ? (then - now) / (now / (double)load->decode_rows) : 1;
}

/* Guesses that fit: into the answer, into the rotary factors in use, and into the step. */
static size_t room_for_guesses(const struct sequence *s, size_t rows)
{
    size_t count = s->tokens.count, end = sequence_longest(s);
    if (sequence_rope_set(s->terms, end) != s->rope_set) {
        end = s->terms->original_context;
    }
    size_t room = end > count ? end - count : 0;
    return room < rows ? room : rows;
}

static size_t guess(struct loop *l, struct sequence *s, double cost, size_t rows)
{
    size_t max = room_for_guesses(s, rows);
    max = draft_length(&s->draft_record, cost, max < DRAFT_MAX ? max : DRAFT_MAX);
    if (max == 0) {
        return 0;
    }
    int32_t *guesses = s->tokens.ids + s->tokens.count;
    draft_index_extend(&s->draft, s->tokens.ids, s->tokens.count);
    size_t count = draft_propose(&s->prediction_index, s->prediction.ids, s->tokens.ids,
                                 s->tokens.count, max, guesses);
    if (count == 0) {
        count =
            draft_propose(&s->draft, s->tokens.ids, s->tokens.ids, s->tokens.count, max, guesses);
    }
    /* Guesses drive nobody from his pages. */
    return count > 0 && page_table_grow(&s->pages, &l->pool, s->tokens.count + count) ? count : 0;
}

void loop_speculate(struct loop *l)
{
    if (l->options.speculation == PHID_SPECULATION_OFF) {
        return;
    }
    struct loop_counters *c = &l->counters;
    bool prompts;
    struct pace_step load = decode_load(l, &prompts);
    double cost = load.decode_rows > 0 ? row_cost(l, &load) : 1;
    if (load.decode_rows > 0 && load.decode_rows <= TRIAL_ROWS &&
        ++l->guess_turns % TRIAL_TURNS == 0) {
        cost = 0;
    }
    size_t rows = l->options.step_tokens - load.decode_rows;
    for (size_t i = 0; i < l->running_count; i++) {
        struct sequence *s = l->running[i];
        draft_record_step(&s->draft_record, s->guesses_made, s->guesses_right);
        s->guesses = s->guesses_made = s->guesses_right = 0;
        /* A prompt in the same step makes its own use of the time. */
        if (!prompts && s->runnable && sequence_remaining(s) == 1 && s->done >= s->prompt_count) {
            s->guesses = s->guesses_made = guess(l, s, cost, rows);
            rows -= s->guesses;
            atomic_fetch_add_explicit(&c->drafts, s->guesses > 0, memory_order_relaxed);
            atomic_fetch_add_explicit(&c->draft_tokens, s->guesses, memory_order_relaxed);
        }
    }
}

#include "engine/sched/batch.h"

#include <stdlib.h>
#include <string.h>

#include "engine/sched/turns.h"

#define GUEST_SEATS  4   /* another tenant has so many times as many seats */
#define SHORT_PROMPT 256 /* tokens of a prompt that may stretch a step */

/* So many prompt rows beside answers may have an arithmetic of their own: a backend then goes
 * through the weights twice. */
#define PROMPT_ROWS_MANY 128

enum phid_status batch_init(struct batch *b, size_t max_rows, size_t max_sequences,
                            struct phid_error *err)
{
    *b = (struct batch){.max_rows = max_rows, .max_sequences = max_sequences};
    b->tokens = calloc(max_rows, sizeof(*b->tokens));
    b->parts = calloc(max_sequences, sizeof(*b->parts));
    b->owners = calloc(max_sequences, sizeof(*b->owners));
    b->head_rows = calloc(max_rows, sizeof(*b->head_rows));
    b->heads = calloc(max_rows, sizeof(*b->heads));
    b->prompts = calloc(max_sequences, sizeof(struct sequence *));
    b->shares = calloc(max_sequences, sizeof(*b->shares));
    if (b->prompts == NULL || b->shares == NULL || b->tokens == NULL || b->parts == NULL ||
        b->owners == NULL || b->head_rows == NULL || b->heads == NULL) {
        batch_fini(b);
        return phid_fail(err, PHID_ERR_MEMORY, "no memory for batches of %zu rows", max_rows);
    }
    b->view.tokens = b->tokens;
    b->view.sequences = b->parts;
    return PHID_OK;
}

void batch_fini(struct batch *b)
{
    free(b->tokens);
    free(b->parts);
    free(b->owners);
    free(b->head_rows);
    free(b->heads);
    free(b->prompts);
    free(b->shares);
    *b = (struct batch){0};
}

size_t batch_bytes(const struct batch *b)
{
    return b->max_rows * (sizeof(*b->tokens) + sizeof(*b->head_rows) + sizeof(*b->heads)) +
           b->max_sequences * (sizeof(*b->parts) + sizeof(*b->owners) + sizeof(struct sequence *) +
                               sizeof(*b->shares));
}

static void add_head(struct batch *b, struct sequence *s, size_t row, size_t position, bool sample)
{
    b->head_rows[b->head_count] = row;
    b->heads[b->head_count] =
        (struct batch_head){.sequence = s, .position = position, .sample = sample};
    b->head_count++;
}

/* Rows of the part whose logits judge prompt tokens that are not in the output yet. */
static void add_prompt_heads(struct batch *b, struct sequence *s, size_t first_row, size_t rows)
{
    size_t position = s->done;
    if (s->prompt_reported > position + 1) {
        position = s->prompt_reported - 1; /* computed before, by a sequence that was put back */
    }
    for (; position < s->done + rows && position + 1 < s->prompt_count; position++) {
        add_head(b, s, first_row + position - s->done, position, false);
    }
}

static void add_part(struct batch *b, struct sequence *s, size_t rows)
{
    size_t first_row = b->view.rows;
    memcpy(b->tokens + first_row, s->tokens.ids + s->done, rows * sizeof(*b->tokens));
    b->parts[b->view.sequence_count] = (struct backend_sequence){
        .first_row = first_row,
        .rows = rows,
        .start = (int32_t)s->done,
        .pages = s->pages.ids,
        .rope_set = s->rope_set,
    };
    b->owners[b->view.sequence_count] = s;
    b->view.sequence_count++;
    b->view.rows += rows;
    if (s->prompt_logprobs) {
        add_prompt_heads(b, s, first_row, rows);
    }
    for (size_t end = s->tokens.count; end <= s->done + rows && s->max_tokens > 0; end++) {
        add_head(b, s, first_row + end - 1 - s->done, end - 1, true);
    }
}

static bool in_prompt(const struct sequence *s)
{
    return s->done < s->prompt_count;
}

/* The decode rows, but for the last tokens of prompts, which are only counted; the others go to
 * b->prompts. Returns how many of these there are. */
static size_t add_decodes(struct batch *b, struct sequence *const *running, size_t count)
{
    size_t prompts = 0;
    for (size_t i = 0; i < count; i++) {
        struct sequence *s = running[i];
        size_t remaining = s->runnable ? sequence_remaining(s) : 0;
        if (remaining == 1) {
            if (in_prompt(s)) {
                b->last_count++;
            } else {
                add_part(b, s, 1 + s->guesses);
            }
            b->load.decode_rows += 1 + s->guesses;
            b->load.context += pace_context(s->done, 1 + s->guesses);
        } else if (remaining > 1) {
            b->shares[prompts] = 0;
            b->prompts[prompts++] = s;
        }
    }
    return prompts;
}

/* Rows that a prompt can have in a step. */
static size_t most_rows(const struct sequence *s)
{
    return in_prompt(s) ? s->prompt_count - s->done : sequence_remaining(s);
}

static size_t give(struct batch *b, size_t prompt, size_t rows)
{
    size_t wanted = most_rows(b->prompts[prompt]) - b->shares[prompt];
    rows = rows < wanted ? rows : wanted;
    b->shares[prompt] += rows;
    return rows;
}

/* The prompt with the fewest tokens left that got nothing yet; `count` when all have something. */
static size_t shortest_without(const struct batch *b, size_t count)
{
    size_t best = count;
    for (size_t i = 0; i < count; i++) {
        if (b->shares[i] == 0 && (best == count || sequence_remaining(b->prompts[i]) <
                                                       sequence_remaining(b->prompts[best]))) {
            best = i;
        }
    }
    return best;
}

/* The most seats that one tenant holds. */
static size_t most_seats(struct sequence *const *running, size_t count)
{
    size_t most = 0;
    for (size_t i = 0; i < count; i++) {
        const struct account *account = running[i]->account;
        most = account != NULL && account->seats > most ? account->seats : most;
    }
    return most;
}

static bool is_guest(const struct sequence *s, size_t most)
{
    return s->account != NULL && s->account->seats * GUEST_SEATS <= most;
}

/* Rows for guests, out of *rows, which may grow for the short ones. The others keep half of what it
 * was. */
static void share_guests(struct batch *b, size_t count, size_t most, const struct pace *pace,
                         size_t *rows)
{
    size_t kept = *rows / 2, wanted = 0, guests = 0;
    for (size_t i = 0; i < count; i++) {
        size_t remaining = most_rows(b->prompts[i]);
        if (is_guest(b->prompts[i], most)) {
            guests++;
            wanted += remaining <= SHORT_PROMPT ? remaining : 0;
        }
    }
    if (guests == 0) {
        return;
    }
    kept = guests < count ? kept : 0;
    if (pace != NULL && wanted + kept > *rows) {
        size_t stretched = pace_stretched_rows(pace, &b->load, 0, PACE_GUEST_STRETCH);
        stretched = stretched < wanted + kept ? stretched : wanted + kept;
        *rows = stretched > *rows ? stretched : *rows;
    }
    for (size_t i = 0; i<count && * rows> kept; i++) {
        if (is_guest(b->prompts[i], most)) {
            *rows -= give(b, i, *rows - kept);
        }
    }
}

/* A step of the guests' short prompts and nothing else. Never two of these in a row, and not when
 * guesses wait for this step. */
static bool share_apart(struct batch *b, size_t count, size_t most, const struct pace *pace)
{
    struct pace_step load = {0};
    if (pace == NULL || b->apart || b->load.decode_rows == 0 ||
        b->load.decode_rows > b->view.sequence_count + b->last_count) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        const struct sequence *s = b->prompts[i];
        if (is_guest(s, most) && most_rows(s) <= SHORT_PROMPT) {
            load.prompt_rows += most_rows(s);
            load.context += pace_context(s->done, most_rows(s));
        }
    }
    if (load.prompt_rows == 0 || load.prompt_rows > b->max_rows ||
        !pace_apart(pace, &b->load, &load)) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        if (is_guest(b->prompts[i], most) && most_rows(b->prompts[i]) <= SHORT_PROMPT) {
            b->shares[i] = most_rows(b->prompts[i]);
        }
    }
    return true;
}

/* Rows for prompts that were short from the beginning: one who waits counts as much as one who
 * streams. For machines that can do but a few rows beside the answers, where seven who come while
 * one streams would wait for each other. Not when a target was asked for. */
static size_t newcomer_rows(const struct batch *b, size_t count, const struct pace *pace)
{
    size_t newcomers = 0, wanted = 0;
    for (size_t i = 0; i < count; i++) {
        const struct sequence *s = b->prompts[i];
        if (s->tokens.count - s->progress.cached_tokens <= SHORT_PROMPT) {
            newcomers++;
            wanted += most_rows(s);
        }
    }
    size_t decoding = b->view.sequence_count + b->last_count;
    if (newcomers == 0 || decoding == 0 || pace->target_ns > 0) {
        return 0;
    }
    double targets = 1 + (double)newcomers / (double)decoding;
    size_t rows = pace_stretched_rows(pace, &b->load, 0, targets);
    return rows < wanted ? rows : wanted;
}

static void share_rows(struct batch *b, size_t count, size_t rows)
{
    rows -= give(b, 0, (rows + 1) / 2);
    for (size_t i; rows > 0 && (i = shortest_without(b, count)) < count;) {
        rows -= give(b, i, rows);
    }
    (void)give(b, 0, rows);
}

/* Of those that are in their prompt, or of those that were put back and compute their answer again.
 */
static void add_shares(struct batch *b, size_t count, bool prompt)
{
    for (size_t i = 0; i < count; i++) {
        struct sequence *s = b->prompts[i];
        if (b->shares[i] > 0 && in_prompt(s) == prompt) {
            b->load.prompt_rows += b->shares[i];
            b->load.context += pace_context(s->done, b->shares[i]);
            add_part(b, s, b->shares[i]);
        }
    }
}

static void begin(struct batch *b)
{
    b->view.rows = 0;
    b->view.sequence_count = 0;
    b->view.prompt_rows = 0;
    b->last_count = 0;
    b->head_count = 0;
    b->load = (struct pace_step){0};
}

void batch_build(struct batch *b, struct sequence *const *running, size_t count,
                 const struct pace *pace)
{
    begin(b);
    size_t prompts = add_decodes(b, running, count);
    size_t most = most_seats(running, count);
    b->apart = prompts > 0 && share_apart(b, prompts, most, pace);
    if (b->apart) {
        begin(b);
    } else if (prompts > 0) {
        size_t rows = b->max_rows - b->view.rows - b->last_count;
        if (pace != NULL) {
            rows = pace_prompt_rows(pace, &b->load, b->prompts[0]->done);
            size_t stretched = rows < PACE_ROWS_MIN ? newcomer_rows(b, prompts, pace) : 0;
            rows = stretched > rows ? stretched : rows;
        }
        share_guests(b, prompts, most, pace, &rows);
        share_rows(b, prompts, rows);
    }
    add_shares(b, prompts, false);
    size_t answer_rows = b->view.rows;
    for (size_t i = 0; i < count && b->last_count > 0; i++) {
        if (running[i]->runnable && sequence_remaining(running[i]) == 1 && in_prompt(running[i])) {
            add_part(b, running[i], 1);
        }
    }
    add_shares(b, prompts, true);
    size_t prompt_rows = b->view.rows - answer_rows;
    bool pays = answer_rows == 0 || prompt_rows >= PROMPT_ROWS_MANY;
    b->view.prompt_rows = pays ? prompt_rows : 0;
}

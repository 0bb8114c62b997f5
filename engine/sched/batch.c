#include "engine/sched/batch.h"

#include <stdlib.h>
#include <string.h>

enum phid_status batch_init(struct batch *b, size_t max_rows, size_t max_sequences,
                            struct phid_error *err)
{
    *b = (struct batch){.max_rows = max_rows, .max_sequences = max_sequences};
    b->tokens = calloc(max_rows, sizeof(*b->tokens));
    b->parts = calloc(max_sequences, sizeof(*b->parts));
    b->owners = calloc(max_sequences, sizeof(*b->owners));
    b->head_rows = calloc(max_rows, sizeof(*b->head_rows));
    b->heads = calloc(max_rows, sizeof(*b->heads));
    if (b->tokens == NULL || b->parts == NULL || b->owners == NULL || b->head_rows == NULL ||
        b->heads == NULL) {
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
    *b = (struct batch){0};
}

size_t batch_bytes(const struct batch *b)
{
    return b->max_rows * (sizeof(*b->tokens) + sizeof(*b->head_rows) + sizeof(*b->heads)) +
           b->max_sequences * (sizeof(*b->parts) + sizeof(*b->owners));
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
    if (s->done + rows == s->tokens.count && s->max_tokens > 0) {
        add_head(b, s, first_row + rows - 1, s->tokens.count - 1, true);
    }
}

void batch_build(struct batch *b, struct sequence *const *running, size_t count)
{
    b->view.rows = 0;
    b->view.sequence_count = 0;
    b->head_count = 0;
    for (size_t i = 0; i < count; i++) {
        if (running[i]->runnable && sequence_remaining(running[i]) == 1) {
            add_part(b, running[i], 1);
        }
    }
    for (size_t i = 0; i < count && b->view.rows < b->max_rows; i++) {
        size_t remaining = sequence_remaining(running[i]);
        size_t room = b->max_rows - b->view.rows;
        if (running[i]->runnable && remaining > 1) {
            add_part(b, running[i], remaining < room ? remaining : room);
        }
    }
}

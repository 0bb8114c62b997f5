/* A request's output on its way to the reader: text, tokens and the end, coalesced.
 *
 * Lives in the sequence. The step thread adds under the mutex to the side that fills; a poll swaps
 * the sides and reads the other one without the mutex until the next poll. So a reader that comes
 * seldom gets more at a time, and neither waits for the other. Past OUTPUT_TEXT_FULL or
 * OUTPUT_TOKENS_FULL the output is full: the loop then leaves this sequence out of its steps until
 * the reader has taken something. */
#ifndef PHID_SCHED_OUTPUT_H
#define PHID_SCHED_OUTPUT_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/buf.h"
#include "engine/base/status.h"
#include "engine/phid.h"

#define OUTPUT_TEXT_FULL   ((size_t)64 << 10) /* bytes */
#define OUTPUT_TOKENS_FULL ((size_t)4096)

struct output_side {
    struct buf text;
    struct phid_token *tokens; /* their `top` is set when a poll takes them */
    size_t token_count, token_capacity;
    struct phid_top *tops; /* of all tokens, one after the other */
    size_t top_count, top_capacity;
};

/* What is known about the request so far; copied into every phid_output. */
struct output_progress {
    size_t prompt_tokens, cached_tokens, completion_tokens;
    size_t drafts_accepted, drafts_rejected;
    uint64_t queue_ns, first_token_ns, total_ns;
};

struct output {
    pthread_mutex_t mu;
    pthread_cond_t changed;
    struct output_side
        sides[2]; /* sides[filling] is guarded by mu, the other one is the reader's */
    int filling;  /* guarded by mu */
    struct output_progress progress; /* guarded by mu */
    enum phid_finish finish;         /* guarded by mu */
    bool finish_taken;               /* guarded by mu */
    struct phid_error error;         /* guarded by mu */
    bool had_something;              /* guarded by mu; when output_begin was called */
    void (*wake)(void *user);        /* guarded by mu */
    void *wake_user;                 /* guarded by mu */
    atomic_bool full; /* set by the step thread, cleared by a poll, both under mu; read without */
};

/* Errors: PHID_ERR_MEMORY. */
enum phid_status output_init(struct output *o, void (*wake)(void *user), void *wake_user,
                             struct phid_error *err);
void output_fini(struct output *o);

/* Step thread: begin locks, end unlocks and wakes the reader if there is something where there was
 * nothing. The adding functions go between them; false: no memory, and this piece is missing. */
void output_begin(struct output *o);
bool output_add_text(struct output *o, const char *text, size_t size);
bool output_add_token(struct output *o, int32_t id, float logprob, bool is_prompt,
                      const struct phid_top *top, size_t top_count);
void output_finish(struct output *o, enum phid_finish finish,
                   const struct phid_error *error); /* always wakes */
void output_end(struct output *o);

/* The reader's side, any thread, one at a time: see phid_request_poll and phid_request_wait.
 * ret_was_full: the step thread waits to be told that there is room again. */
bool output_poll(struct output *o, struct phid_output *ret, bool *ret_was_full);
bool output_wait(struct output *o, int timeout_ms);

/* After this `wake` is not called any more. */
void output_silence(struct output *o);

#endif

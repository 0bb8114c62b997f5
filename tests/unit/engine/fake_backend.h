/* A backend for tests of the engine: it computes nothing but remembers everything.
 *
 * Every KV slot keeps which token was written there, at which position, under which rotary factors,
 * and a hash of the whole sequence up to it. A step checks that each row continues exactly what its
 * pages hold; the logits are a function of that hash, so any mistake in pages, positions or factors
 * changes the text or is counted as a fault. */
#ifndef TESTS_FAKE_BACKEND_H
#define TESTS_FAKE_BACKEND_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/backend/backend.h"

/* What a test sets before and reads after; one test runs at a time. */
struct fake_backend_control {
    const int32_t *script; /* the token that follows position p is script[p]; past the end an end
                              token. NULL: by hash */
    size_t script_count;
    unsigned period;      /* by hash: seven times of eight of the position modulo this; 0: never */
    int32_t nan_token;    /* a sequence that holds it gets NaN; -1: none */
    unsigned end_odds;    /* by hash: one in so many tokens is an end token; 0: never */
    unsigned step_us;     /* how long a step takes */
    atomic_int fail_step; /* the step with this number fails, -1: none */
    enum phid_status failure;
    size_t page_bytes; /* as said, not as used */
    bool fail_copies;  /* kv_copy fails */
    bool gated;        /* each step waits for a fake_backend_let */

    atomic_int faults; /* rows that did not continue what is in their pages */
    atomic_int steps;
    atomic_size_t rows;
    atomic_size_t max_rows;  /* the largest batch seen */
    atomic_size_t long_rows; /* rows under the long factors */
    atomic_size_t copies;    /* of pages */
    atomic_size_t cold;      /* pages used before their memory was brought in */
    atomic_bool warm;        /* the engine was told that there is memory for all it asked for */
};
extern struct fake_backend_control fake_backend;

const struct backend_api *fake_backend_api(void);
void fake_backend_reset(void);

/* Lets `steps` gated steps happen; negative: all from now on. */
void fake_backend_let(int steps);

/* The hash of a sequence, and the logits that follow it. */
uint64_t fake_hash(const int32_t *tokens, size_t count, enum block_rope_set set);
void fake_logits(uint64_t hash, const int32_t *tokens, size_t count, float *logits);

/* The greedy answer to a prompt by definition: no pages, no batches. Writes at most max ids,
 * without an end token; *ret_ended says whether one came. */
size_t fake_answer(const int32_t *prompt, size_t prompt_count, size_t max, size_t original_context,
                   bool ignore_end, int32_t *ids, bool *ret_ended);

#endif

/* A sequence: one request as the engine works on it, from submission to its end.
 *
 * Counted: the request's handle holds one reference, the step loop another while the sequence waits
 * or runs. What was asked for is constant after sequence_new; what runs belongs to the step thread;
 * the output and the cancel flag are shared. While it waits a sequence holds its prompt and little
 * else; sequence_start gives it everything a step needs, for its greatest length, so that steps
 * allocate nothing. */
#ifndef PHID_SCHED_SEQUENCE_H
#define PHID_SCHED_SEQUENCE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/backend/backend.h"
#include "engine/base/status.h"
#include "engine/base/tokens.h"
#include "engine/kv/page_pool.h"
#include "engine/kv/page_table.h"
#include "engine/phid.h"
#include "engine/sample/sampler.h"
#include "engine/sched/answer.h"
#include "engine/sched/draft.h"
#include "engine/sched/output.h"
#include "engine/sched/sharing.h"
#include "engine/sched/stop.h"
#include "engine/text/tokenizer.h"

#define SEQUENCE_ID_MAX 64

/* What requests are checked against and answered with. Borrowed from the model and the engine,
 * which outlive every sequence that runs. */
struct sequence_terms {
    const struct tokenizer *tokenizer;
    const int32_t *end_ids; /* all tokens that end an answer */
    size_t end_count;
    size_t n_vocab;
    size_t context;          /* tokens a sequence may hold */
    bool drafts;             /* sequences guess ahead, see draft.h */
    size_t original_context; /* tokens up to which the short rotary factors hold; 0: one set only */
    enum phid_longrope longrope;
    const struct prefix_secret *prefix_secret; /* NULL: computed prefixes are not shared */
};

struct account; /* turns.h */

struct sequence {
    atomic_uint references;
    atomic_bool
        cancelled; /* set by any thread, read by the step thread; relaxed, the doorbell orders it */

    /* Constant after sequence_new. */
    char id[SEQUENCE_ID_MAX]; /* for logs: printable, without blanks; maybe cut */
    const struct sequence_terms *terms;
    size_t prompt_count;
    size_t max_tokens; /* already clamped to the context */
    int32_t logprobs;  /* -1: none */
    bool prompt_logprobs;
    bool ignore_eos;
    bool continues_text;
    struct sampler_params sampling;
    struct sampler_bias *bias; /* sampling's, owned */
    struct stop_set stops;
    struct tokens prediction; /* behind the prompt's last token, what the client expects; or none */
    struct draft_index prediction_index;
    uint64_t submitted_ns, arrived_ns;
    uint64_t deadline_ns; /* UINT64_MAX: none */
    uint64_t tenant;      /* by hash; 0: none */
    int32_t priority;     /* lower goes first */

    /* Guarded by the loop's mutex. */
    struct sequence *next, *previous; /* in a queue */
    uint64_t ordinal;                 /* order of arrival; constant once queued */
    struct account *account;          /* its tenant's, from submission to the end */
    bool seated;                      /* it counts among its tenant's seats */
    size_t cached_hint;               /* prompt tokens that are computed already, as far as known */
    uint64_t start_by_ns;             /* it may wait so long for its first step */
    uint64_t parked_ns;               /* when it last gave its seat up */

    /* Step thread. */
    struct tokens tokens; /* prompt and answer */
    size_t done;          /* tokens whose keys and values are in the pages */
    struct page_table pages;
    struct sharing sharing;
    enum block_rope_set rope_set;
    bool started;
    bool runnable;            /* takes part in the step being built */
    bool ended;               /* its finish was decided; later rows of the same step are ignored */
    struct draft_index draft; /* unless the terms say no */
    struct draft_record draft_record;
    size_t guesses; /* of this step, not settled yet: they lie in `tokens` behind the last one */
    size_t guesses_made, guesses_right; /* of this step */
    size_t prompt_reported;             /* prompt tokens already in the output (prompt_logprobs) */
    size_t charged;                     /* tokens its tenant has been charged for */
    struct sampler sampler;
    struct answer answer;
    struct output_progress progress;
    uint64_t last_token_ns, last_token_step; /* the meter's */

    struct output output; /* has its own mutex */
};

/* Checks and copies what was asked. One reference, the caller's. Errors: PHID_ERR_ARGUMENT
 * (err->where names the field), PHID_ERR_CONTEXT, PHID_ERR_MEMORY. */
enum phid_status sequence_new(const struct sequence_terms *terms,
                              const struct phid_request_params *params,
                              struct sequence **ret_sequence, struct phid_error *err);
void sequence_ref(struct sequence *s);
void sequence_unref(struct sequence *s); /* the last one frees it; it must not hold pages */

/* The rest is for the step thread. */

/* Tokens whose keys and values it may hold at its longest: the last token of an answer is never
 * computed. */
size_t sequence_longest(const struct sequence *s);

/* Allocates what running takes. Errors: PHID_ERR_MEMORY. */
enum phid_status sequence_start(struct sequence *s, struct phid_error *err);

/* Frees it again, after the end; pages must have been given back. The output stays. */
void sequence_stop(struct sequence *s);

/* Gives the pages back; all tokens are to be computed again, or found, under this set of rotary
 * factors. */
void sequence_restart(struct sequence *s, struct page_pool *pool, enum block_rope_set set);

/* The rotary factors of a sequence of so many tokens. */
enum block_rope_set sequence_rope_set(const struct sequence_terms *terms, size_t tokens);

/* Tokens that a step still has to compute before the next one can be sampled; 1 for a sequence that
 * decodes. */
static inline size_t sequence_remaining(const struct sequence *s)
{
    return s->tokens.count - s->done;
}

/* Samples the next token from the logits after the last one. *ret_finish: whether that ended the
 * sequence. If the token was guessed, its row is computed already and counts as done; if not, the
 * rows behind are worth nothing. Errors: of sampler_pick, PHID_ERR_MEMORY. */
enum phid_status sequence_sample(struct sequence *s, const float *logits,
                                 enum phid_finish *ret_finish, struct phid_error *err);

/* Puts the prompt token after `position`, judged by the logits at `position`, into the output. */
enum phid_status sequence_report_prompt(struct sequence *s, size_t position, const float *logits,
                                        struct phid_error *err);

/* Moves what may be shown to the output, and the finish if it is one. Errors: PHID_ERR_MEMORY; then
 * the output has ended with that error. */
enum phid_status sequence_show(struct sequence *s, enum phid_finish finish,
                               const struct phid_error *error, struct phid_error *err);

/* The reader has not taken what is there. */
static inline bool sequence_is_full(const struct sequence *s)
{
    return atomic_load_explicit(&s->output.full, memory_order_relaxed);
}

#endif

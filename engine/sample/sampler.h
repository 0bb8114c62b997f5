/* A sampler: one sequence's way from logits to the next token.
 *
 * A request owns one; the step thread alone uses it. Everything is allocated in sampler_init,
 * picking a token allocates nothing. The token depends only on the parameters, the seed, the number
 * of answer tokens so far, the history (when a penalty is on) and the logits, never on what else is
 * in the batch.
 *
 * Order of operations: repetition, frequency and presence penalties; logit bias and bans;
 * temperature; top_k; top_p; min_p; choice. Ties go to the lower id everywhere. */
#ifndef PHID_SAMPLE_SAMPLER_H
#define PHID_SAMPLE_SAMPLER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"
#include "engine/sample/penalty.h"

#define SAMPLER_BIAS_BAN   (-100.0f) /* a bias of this or less: the token never comes */
#define SAMPLER_BIAS_FORCE 100.0f    /* a bias of this or more: only such tokens come */

struct sampler_bias {
    int32_t id;
    float bias;
};

/* What a request asks for. Borrowed by sampler_init, which copies what it keeps. */
struct sampler_params {
    float temperature; /* 0: greedy */
    float top_p;       /* 1: off; 0: the most probable token only */
    int32_t top_k;     /* 0: off */
    float
        min_p; /* 0: off; keeps tokens at least this probable, relative to the most probable one */
    float repetition_penalty; /* 1: off; divides positive and multiplies negative logits of tokens
                                 in prompt and answer */
    float frequency_penalty;  /* 0: off; subtracts penalty * count over the answer */
    float presence_penalty;   /* 0: off; subtracts penalty once for a token in the answer */
    const struct sampler_bias *bias;
    size_t bias_count;
    const int32_t
        *end_ids; /* end tokens, banned while fewer than min_tokens tokens were accepted */
    size_t end_count;
    size_t min_tokens;
    bool ignore_end; /* end tokens are always banned */
    uint64_t seed;
};

struct sampler {
    size_t n_vocab;
    float temperature;
    float top_p;
    int32_t top_k;
    float min_p;
    uint64_t seed;
    uint64_t step; /* answer tokens accepted */

    struct penalty penalty;
    struct sampler_bias *bias; /* neither bans nor forces */
    size_t bias_count;
    int32_t *banned; /* by bias */
    size_t banned_count;
    int32_t *forced; /* by bias, none of them in `banned` */
    size_t forced_count;
    int32_t *end_ids;
    size_t end_count;
    uint64_t end_banned_until; /* step */
    bool forces_more_than_end; /* some forced token is not an end token */

    float
        *work; /* [n_vocab]; the changed logits, then weights; NULL when picking needs no change */
    int32_t *candidates; /* [n_vocab]; NULL unless a truncation is on */
};

/* Greedy, all penalties and truncations off. */
struct sampler_params sampler_params_greedy(void);

/* Errors: PHID_ERR_ARGUMENT for a value that makes no sense (err->where names the field),
 * PHID_ERR_MEMORY. On failure *s is as after sampler_fini. */
enum phid_status sampler_init(struct sampler *s, const struct sampler_params *params,
                              size_t n_vocab, struct phid_error *err);
void sampler_fini(struct sampler *s); /* a zeroed one is fine, twice is fine */

/* Tells the sampler of a token of the sequence: every prompt token in order (they count for the
 * repetition penalty only; without one these calls may be left out), then every answer token. */
void sampler_accept(struct sampler *s, int32_t id, bool is_prompt);

/* Chooses the next token; the caller then accepts it. logits: [n_vocab] f32, left as they are.
 * Errors: PHID_ERR_INTERNAL when the model produced NaN or nothing above -Inf, PHID_ERR_ARGUMENT
 * when the request bans every token. */
enum phid_status sampler_pick(struct sampler *s, const float *logits, int32_t *ret_id,
                              struct phid_error *err);

#endif

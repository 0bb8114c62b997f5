/* The tokens a sequence has had, and the penalties on having them again.
 *
 * Owned by a sampler; step thread. Costs nothing when every penalty is off. */
#ifndef PHID_SAMPLE_PENALTY_H
#define PHID_SAMPLE_PENALTY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"

struct penalty {
    float repetition; /* 1: off */
    float frequency;  /* 0: off */
    float presence;   /* 0: off */
    size_t n_vocab;
    uint32_t *counts; /* [n_vocab] times in the answer, plus PENALTY_SEEN; NULL when every penalty
                         is off */
    int32_t *seen;    /* [n_vocab] the distinct tokens so far, in order of first appearance */
    size_t seen_count;
};

#define PENALTY_SEEN 0x80000000u /* the token is listed in `seen` */

/* Errors: PHID_ERR_ARGUMENT (repetition not above 0, or something not finite), PHID_ERR_MEMORY. */
enum phid_status penalty_init(struct penalty *p, float repetition, float frequency, float presence,
                              size_t n_vocab, struct phid_error *err);
void penalty_fini(struct penalty *p);

bool penalty_active(const struct penalty *p);
void penalty_accept(struct penalty *p, int32_t id, bool is_prompt);

/* logits: [n_vocab], changed in place for the tokens seen only. */
void penalty_apply(const struct penalty *p, float *logits);

#endif

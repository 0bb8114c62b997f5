#include "engine/sample/penalty.h"

#include <math.h>
#include <stdlib.h>

enum phid_status penalty_init(struct penalty *p, float repetition, float frequency, float presence,
                              size_t n_vocab, struct phid_error *err)
{
    *p = (struct penalty){
        .repetition = repetition, .frequency = frequency, .presence = presence, .n_vocab = n_vocab};
    if (!isfinite(repetition) || repetition <= 0) {
        return phid_fail_at(err, PHID_ERR_ARGUMENT, "repetition_penalty",
                            "repetition_penalty must be a number above 0, not %g",
                            (double)repetition);
    }
    if (!isfinite(frequency)) {
        return phid_fail_at(err, PHID_ERR_ARGUMENT, "frequency_penalty",
                            "frequency_penalty must be a finite number");
    }
    if (!isfinite(presence)) {
        return phid_fail_at(err, PHID_ERR_ARGUMENT, "presence_penalty",
                            "presence_penalty must be a finite number");
    }
    if (!penalty_active(p)) {
        return PHID_OK;
    }
    p->counts = calloc(n_vocab, sizeof(*p->counts));
    p->seen = calloc(n_vocab, sizeof(*p->seen));
    if (p->counts == NULL || p->seen == NULL) {
        penalty_fini(p);
        return phid_fail(err, PHID_ERR_MEMORY, "no memory for the token history of a request");
    }
    return PHID_OK;
}

void penalty_fini(struct penalty *p)
{
    free(p->counts);
    free(p->seen);
    *p = (struct penalty){.repetition = 1};
}

bool penalty_active(const struct penalty *p)
{
    return p->repetition != 1 || p->frequency != 0 || p->presence != 0;
}

void penalty_accept(struct penalty *p, int32_t id, bool is_prompt)
{
    if (p->counts == NULL || id < 0 || (size_t)id >= p->n_vocab) {
        return;
    }
    uint32_t *count = &p->counts[id];
    if ((*count & PENALTY_SEEN) == 0) {
        *count |= PENALTY_SEEN;
        p->seen[p->seen_count++] = id;
    }
    if (!is_prompt && (*count & ~PENALTY_SEEN) < ~PENALTY_SEEN) {
        (*count)++;
    }
}

void penalty_apply(const struct penalty *p, float *logits)
{
    for (size_t i = 0; i < p->seen_count; i++) {
        int32_t id = p->seen[i];
        uint32_t count = p->counts[id] & ~PENALTY_SEEN;
        double logit = (double)logits[id];
        logit = logit > 0 ? logit / (double)p->repetition : logit * (double)p->repetition;
        if (count > 0) {
            logit -= (double)count * (double)p->frequency + (double)p->presence;
        }
        logits[id] = (float)logit;
    }
}

/* Log-probabilities as the API reports them: the log-softmax of the model's raw logits, before any
 * penalty, bias, temperature or truncation.
 *
 * Stateless, any thread. sampler_pick leaves the logits as they are, so this may come after it. */
#ifndef PHID_SAMPLE_LOGPROBS_H
#define PHID_SAMPLE_LOGPROBS_H

#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"

#define LOGPROBS_MAX   20         /* alternatives */
#define LOGPROBS_FLOOR (-9999.0f) /* nothing is reported below: JSON has no -Inf */

struct logprob {
    int32_t id;
    float logprob;
};

struct logprobs {
    float chosen;
    size_t top_count;
    struct logprob top[LOGPROBS_MAX]; /* most probable first, on a tie the lower id first */
};

/* logits: [n_vocab] f32; id: the token chosen, in range; k: alternatives wanted, at most
 * LOGPROBS_MAX and n_vocab are given. Absolute error below 1e-5 (plus that of the logits). Errors:
 * PHID_ERR_INTERNAL when the logits hold NaN or nothing above -Inf; PHID_ERR_ARGUMENT for an id out
 * of range. */
enum phid_status logprobs_compute(const float *logits, size_t n_vocab, int32_t id, size_t k,
                                  struct logprobs *ret, struct phid_error *err);

#endif

#include "engine/sample/logprobs.h"

#include <math.h>

#include "engine/sample/softmax.h"

static float floored(double logprob)
{
    return logprob > (double)LOGPROBS_FLOOR ? (float)logprob : LOGPROBS_FLOOR;
}

/* log of the share of a weight exp(logit - max) in the sum of all of them. */
static float share(float logit, float max, double log_sum)
{
    if (isinf(max)) {
        return logit == max ? floored(-log_sum) : LOGPROBS_FLOOR;
    }
    return floored((double)logit - (double)max - log_sum);
}

/* The k largest, by insertion: after the first few tokens hardly any passes the comparison. A later
 * id never goes before an equal one, so ties stay by ascending id. */
static size_t find_top(const float *logits, size_t n_vocab, size_t k, struct logprob *top)
{
    size_t count = 0;
    for (size_t id = 0; id < n_vocab; id++) {
        if (count == k && !(logits[id] > top[k - 1].logprob)) {
            continue;
        }
        size_t at = count < k ? count++ : k - 1;
        while (at > 0 && logits[id] > top[at - 1].logprob) {
            top[at] = top[at - 1];
            at--;
        }
        top[at] = (struct logprob){.id = (int32_t)id, .logprob = logits[id]};
    }
    return count;
}

enum phid_status logprobs_compute(const float *logits, size_t n_vocab, int32_t id, size_t k,
                                  struct logprobs *ret, struct phid_error *err)
{
    if (id < 0 || (size_t)id >= n_vocab) {
        return phid_fail(err, PHID_ERR_ARGUMENT, "token %d is not in the vocabulary of %zu tokens",
                         (int)id, n_vocab);
    }
    struct softmax_scan scan = softmax_scan(logits, n_vocab);
    if (scan.nan) {
        return phid_fail(err, PHID_ERR_INTERNAL, "the model produced NaN");
    }
    if (scan.max == -INFINITY) {
        return phid_fail(err, PHID_ERR_INTERNAL, "the model produced no logit above -Inf");
    }
    double log_sum = log(softmax_weights(logits, n_vocab, scan.max, 1.0f, NULL));
    ret->chosen = share(logits[id], scan.max, log_sum);
    k = k < LOGPROBS_MAX ? k : LOGPROBS_MAX;
    ret->top_count = k > 0 ? find_top(logits, n_vocab, k, ret->top) : 0;
    for (size_t i = 0; i < ret->top_count; i++) {
        ret->top[i].logprob = share(ret->top[i].logprob, scan.max, log_sum);
    }
    return PHID_OK;
}

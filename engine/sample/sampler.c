#include "engine/sample/sampler.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/sample/philox.h"
#include "engine/sample/softmax.h"
#include "engine/sample/truncate.h"

struct sampler_params sampler_params_greedy(void)
{
    return (struct sampler_params){.top_p = 1, .repetition_penalty = 1};
}

static enum phid_status check_numbers(const struct sampler_params *p, size_t n_vocab,
                                      struct phid_error *err)
{
    if (n_vocab == 0 || n_vocab > INT32_MAX) {
        return phid_fail(err, PHID_ERR_ARGUMENT,
                         "a vocabulary of %zu tokens cannot be sampled from", n_vocab);
    }
    if (!isfinite(p->temperature) || p->temperature < 0) {
        return phid_fail_at(err, PHID_ERR_ARGUMENT, "temperature",
                            "temperature must be a number of at least 0, not %g",
                            (double)p->temperature);
    }
    if (!(p->top_p >= 0 && p->top_p <= 1)) {
        return phid_fail_at(err, PHID_ERR_ARGUMENT, "top_p", "top_p must be from 0 to 1, not %g",
                            (double)p->top_p);
    }
    if (p->top_k < 0) {
        return phid_fail_at(err, PHID_ERR_ARGUMENT, "top_k", "top_k must be at least 0, not %d",
                            (int)p->top_k);
    }
    if (!(p->min_p >= 0 && p->min_p <= 1)) {
        return phid_fail_at(err, PHID_ERR_ARGUMENT, "min_p", "min_p must be from 0 to 1, not %g",
                            (double)p->min_p);
    }
    for (size_t i = 0; i < p->bias_count; i++) {
        if (p->bias[i].id < 0 || (size_t)p->bias[i].id >= n_vocab) {
            return phid_fail_at(err, PHID_ERR_ARGUMENT, "logit_bias",
                                "logit_bias names token %d, the vocabulary has %zu tokens",
                                (int)p->bias[i].id, n_vocab);
        }
        if (!isfinite(p->bias[i].bias)) {
            return phid_fail_at(err, PHID_ERR_ARGUMENT, "logit_bias",
                                "the logit_bias of token %d is not a finite number",
                                (int)p->bias[i].id);
        }
    }
    for (size_t i = 0; i < p->end_count; i++) {
        if (p->end_ids[i] < 0 || (size_t)p->end_ids[i] >= n_vocab) {
            return phid_fail(err, PHID_ERR_ARGUMENT,
                             "end token %d is not in the vocabulary of %zu tokens",
                             (int)p->end_ids[i], n_vocab);
        }
    }
    return PHID_OK;
}

static bool contains(const int32_t *ids, size_t count, int32_t id)
{
    for (size_t i = 0; i < count; i++) {
        if (ids[i] == id) {
            return true;
        }
    }
    return false;
}

static int compare_ids(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

/* Takes what is also in `banned` out of `forced`; both become ascending. */
static void ban_forced(struct sampler *s)
{
    if (s->banned_count == 0 || s->forced_count == 0) {
        return;
    }
    qsort(s->banned, s->banned_count, sizeof(*s->banned), compare_ids);
    qsort(s->forced, s->forced_count, sizeof(*s->forced), compare_ids);
    size_t kept = 0, b = 0;
    for (size_t i = 0; i < s->forced_count; i++) {
        while (b < s->banned_count && s->banned[b] < s->forced[i]) {
            b++;
        }
        if (b == s->banned_count || s->banned[b] != s->forced[i]) {
            s->forced[kept++] = s->forced[i];
        }
    }
    s->forced_count = kept;
}

static enum phid_status copy_bias(struct sampler *s, const struct sampler_params *p,
                                  struct phid_error *err)
{
    if (p->bias_count > 0) {
        s->bias = calloc(p->bias_count, sizeof(*s->bias));
        s->banned = calloc(p->bias_count, sizeof(*s->banned));
        s->forced = calloc(p->bias_count, sizeof(*s->forced));
        if (s->bias == NULL || s->banned == NULL || s->forced == NULL) {
            return phid_fail(err, PHID_ERR_MEMORY, "no memory for %zu logit biases", p->bias_count);
        }
    }
    for (size_t i = 0; i < p->bias_count; i++) {
        if (p->bias[i].bias <= SAMPLER_BIAS_BAN) {
            s->banned[s->banned_count++] = p->bias[i].id;
        } else if (p->bias[i].bias >= SAMPLER_BIAS_FORCE) {
            s->forced[s->forced_count++] = p->bias[i].id;
        } else {
            s->bias[s->bias_count++] = p->bias[i];
        }
    }
    ban_forced(s);
    if (p->end_count > 0 && (p->ignore_end || p->min_tokens > 0)) {
        s->end_ids = calloc(p->end_count, sizeof(*s->end_ids));
        if (s->end_ids == NULL) {
            return phid_fail(err, PHID_ERR_MEMORY, "no memory for %zu end tokens", p->end_count);
        }
        memcpy(s->end_ids, p->end_ids, p->end_count * sizeof(*s->end_ids));
        s->end_count = p->end_count;
        s->end_banned_until = p->ignore_end ? UINT64_MAX : p->min_tokens;
    }
    for (size_t i = 0; i < s->forced_count && !s->forces_more_than_end; i++) {
        s->forces_more_than_end = !contains(s->end_ids, s->end_count, s->forced[i]);
    }
    return PHID_OK;
}

/* Whether no token is left to choose in the first steps, with all bans and no forced token. */
static bool bans_everything(struct sampler *s)
{
    if (s->forces_more_than_end || s->banned_count + s->end_count < s->n_vocab) {
        return false;
    }
    size_t distinct = 0;
    qsort(s->banned, s->banned_count, sizeof(*s->banned), compare_ids);
    for (size_t i = 0; i < s->banned_count; i++) {
        distinct += i == 0 || s->banned[i] != s->banned[i - 1];
    }
    for (size_t i = 0; i < s->end_count; i++) {
        distinct += !contains(s->banned, s->banned_count, s->end_ids[i]);
    }
    return distinct >= s->n_vocab;
}

static bool changes_logits(const struct sampler *s)
{
    return penalty_active(&s->penalty) ||
           s->bias_count + s->banned_count + s->forced_count + s->end_count > 0;
}

enum phid_status sampler_init(struct sampler *s, const struct sampler_params *params,
                              size_t n_vocab, struct phid_error *err)
{
    *s = (struct sampler){.penalty = {.repetition = 1}};
    enum phid_status status = check_numbers(params, n_vocab, err);
    if (status != PHID_OK) {
        return status;
    }
    s->n_vocab = n_vocab;
    s->temperature = params->top_k == 1 || params->top_p <= 0 ? 0 : params->temperature;
    s->top_k = (size_t)params->top_k < n_vocab ? params->top_k : 0;
    s->top_p = params->top_p;
    s->min_p = params->min_p;
    s->seed = params->seed;
    status = penalty_init(&s->penalty, params->repetition_penalty, params->frequency_penalty,
                          params->presence_penalty, n_vocab, err);
    if (status == PHID_OK) {
        status = copy_bias(s, params, err);
    }
    if (status == PHID_OK && bans_everything(s)) {
        status = phid_fail_at(err, PHID_ERR_ARGUMENT, "logit_bias",
                              "logit_bias bans every token that could come first");
    }
    if (status != PHID_OK) {
        goto fail;
    }
    bool truncates = s->top_k > 0 || s->top_p < 1 || s->min_p > 0;
    if (s->temperature > 0 || changes_logits(s)) {
        s->work = calloc(n_vocab, sizeof(*s->work));
    }
    if (s->temperature > 0 && truncates) {
        s->candidates = calloc(n_vocab, sizeof(*s->candidates));
    }
    if (((s->temperature > 0 || changes_logits(s)) && s->work == NULL) ||
        (s->temperature > 0 && truncates && s->candidates == NULL)) {
        status = phid_fail(err, PHID_ERR_MEMORY, "no memory for sampling from %zu tokens", n_vocab);
        goto fail;
    }
    return PHID_OK;

fail:
    sampler_fini(s);
    return status;
}

void sampler_fini(struct sampler *s)
{
    penalty_fini(&s->penalty);
    free(s->bias);
    free(s->banned);
    free(s->forced);
    free(s->end_ids);
    free(s->work);
    free(s->candidates);
    *s = (struct sampler){.penalty = {.repetition = 1}};
}

void sampler_accept(struct sampler *s, int32_t id, bool is_prompt)
{
    penalty_accept(&s->penalty, id, is_prompt);
    if (!is_prompt) {
        s->step++;
    }
}

/* Everything but the forced tokens to -Inf; a forced one is chosen even if the model rules it out.
 */
static void force(const struct sampler *s, const float *logits)
{
    for (size_t i = 0; i < s->n_vocab; i++) {
        s->work[i] = -INFINITY;
    }
    for (size_t i = 0; i < s->forced_count; i++) {
        float logit = logits[s->forced[i]];
        s->work[s->forced[i]] = logit > -FLT_MAX ? logit : -FLT_MAX;
    }
}

/* The logits with penalties, biases and bans, in s->work. */
static void change_logits(struct sampler *s, const float *logits)
{
    bool ends_banned = s->step < s->end_banned_until;
    if (s->forced_count > 0 && (s->forces_more_than_end || !ends_banned)) {
        force(s, logits);
    } else {
        memcpy(s->work, logits, s->n_vocab * sizeof(*logits));
        penalty_apply(&s->penalty, s->work);
        for (size_t i = 0; i < s->bias_count; i++) {
            s->work[s->bias[i].id] += s->bias[i].bias;
        }
        for (size_t i = 0; i < s->banned_count; i++) {
            s->work[s->banned[i]] = -INFINITY;
        }
    }
    for (size_t i = 0; ends_banned && i < s->end_count; i++) {
        s->work[s->end_ids[i]] = -INFINITY;
    }
}

static int32_t first_equal(const float *logits, float value)
{
    size_t i = 0;
    while (logits[i] != value) {
        i++;
    }
    return (int32_t)i;
}

static int32_t choose(struct sampler *s, const float *logits, float max)
{
    struct candidates c = {
        .weights = s->work, .ids = s->candidates, .count = s->n_vocab, .all = true};
    if (s->top_k > 0) {
        truncate_top_k(&c, logits, s->n_vocab, (size_t)s->top_k);
        logits = c.weights;
    }
    double inverse = 1.0 / (double)s->temperature;
    float inverse_temperature = inverse < (double)FLT_MAX ? (float)inverse : FLT_MAX;
    double total = softmax_weights(logits, c.count, max, inverse_temperature, c.weights);
    if (s->top_p < 1) {
        truncate_top_p(&c, total, s->top_p);
    }
    if (s->min_p > 0) {
        truncate_min_p(&c, s->min_p);
    }
    if (!c.all) {
        total = softmax_sum(c.weights, c.count);
    }
    size_t i = softmax_draw(c.weights, c.count, philox_uniform(s->seed, s->step) * total);
    return c.all ? (int32_t)i : c.ids[i];
}

enum phid_status sampler_pick(struct sampler *s, const float *logits, int32_t *ret_id,
                              struct phid_error *err)
{
    struct softmax_scan scan = softmax_scan(logits, s->n_vocab);
    if (scan.nan) {
        return phid_fail(err, PHID_ERR_INTERNAL, "the model produced NaN");
    }
    if (scan.max == -INFINITY) {
        return phid_fail(err, PHID_ERR_INTERNAL, "the model produced no logit above -Inf");
    }
    if (changes_logits(s)) {
        change_logits(s, logits);
        logits = s->work;
        scan = softmax_scan(logits, s->n_vocab);
        if (scan.max == -INFINITY) {
            return phid_fail(err, PHID_ERR_ARGUMENT, "every token is banned");
        }
    }
    *ret_id = s->temperature > 0 ? choose(s, logits, scan.max) : first_equal(logits, scan.max);
    return PHID_OK;
}

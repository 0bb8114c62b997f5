#include "engine/sched/sequence.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/clock.h"
#include "engine/sample/logprobs.h"

static enum phid_status check_prompt(const struct sequence_terms *terms,
                                     const struct phid_request_params *p, struct phid_error *err)
{
    if (p->prompt_count == 0 || p->prompt == NULL) {
        return phid_fail_at(err, PHID_ERR_ARGUMENT, "prompt", "the prompt is empty");
    }
    size_t room = p->max_tokens > 0 ? 1 : 0;
    if (p->prompt_count > terms->context || terms->context - p->prompt_count < room) {
        return phid_fail_at(err, PHID_ERR_CONTEXT, "prompt",
                            "the maximum context length is %zu tokens, but the prompt has %zu%s",
                            terms->context, p->prompt_count,
                            room > 0 ? " and leaves no room for an answer" : "");
    }
    for (size_t i = 0; i < p->prompt_count; i++) {
        if (p->prompt[i] < 0 || (size_t)p->prompt[i] >= terms->n_vocab) {
            char where[48];
            snprintf(where, sizeof(where), "prompt[%zu]", i);
            return phid_fail_at(err, PHID_ERR_ARGUMENT, where,
                                "token %d is not in the vocabulary of %zu tokens",
                                (int)p->prompt[i], terms->n_vocab);
        }
    }
    return PHID_OK;
}

/* The id as it may stand in a log line. */
static void copy_id(char *to, const char *id)
{
    size_t i = 0;
    for (; id != NULL && id[i] != '\0' && i + 1 < SEQUENCE_ID_MAX; i++) {
        to[i] = id[i] > ' ' && id[i] < 127 && id[i] != '"' ? id[i] : '?';
    }
    to[i] = '\0';
}

static enum phid_status copy_sampling(struct sequence *s, const struct phid_request_params *p,
                                      struct phid_error *err)
{
    const struct phid_sampling *in = &p->sampling;
    if (in->logit_bias_count > 0) {
        s->bias = calloc(in->logit_bias_count, sizeof(*s->bias));
        if (s->bias == NULL) {
            return phid_fail(err, PHID_ERR_MEMORY, "no memory for the logit_bias of a request");
        }
        for (size_t i = 0; i < in->logit_bias_count; i++) {
            s->bias[i] =
                (struct sampler_bias){.id = in->logit_bias[i].id, .bias = in->logit_bias[i].bias};
        }
    }
    s->sampling = (struct sampler_params){
        .temperature = in->temperature,
        .top_p = in->top_p,
        .top_k = in->top_k,
        .min_p = in->min_p,
        .repetition_penalty = in->repetition_penalty,
        .frequency_penalty = in->frequency_penalty,
        .presence_penalty = in->presence_penalty,
        .bias = s->bias,
        .bias_count = in->logit_bias_count,
        .end_ids = s->terms->end_ids,
        .end_count = s->terms->end_count,
        .min_tokens = p->min_tokens,
        .ignore_end = p->ignore_eos,
        .seed = in->seed,
    };
    /* The sampler is made when the sequence starts; made here once too, because it knows what it
     * can do. Its work arrays are not touched, so this costs next to nothing. */
    struct sampler trial;
    enum phid_status status = sampler_init(&trial, &s->sampling, s->terms->n_vocab, err);
    if (status == PHID_OK) {
        sampler_fini(&trial);
    }
    return status;
}

static enum phid_status copy_stops(struct sequence *s, const struct phid_request_params *p,
                                   struct phid_error *err)
{
    if (p->stop_count == 0) {
        return PHID_OK;
    }
    struct str *stops = calloc(p->stop_count, sizeof(*stops));
    if (stops == NULL) {
        return phid_fail(err, PHID_ERR_MEMORY, "no memory for the stop strings of a request");
    }
    for (size_t i = 0; i < p->stop_count; i++) {
        stops[i] = (struct str){.data = p->stops[i].text, .size = p->stops[i].size};
    }
    enum phid_status status = stop_set_init(&s->stops, stops, p->stop_count, err);
    free(stops);
    return status;
}

enum block_rope_set sequence_rope_set(const struct sequence_terms *terms, size_t tokens)
{
    size_t original = terms->original_context;
    if (original == 0 || terms->longrope == PHID_LONGROPE_SHORT) {
        return BLOCK_ROPE_SHORT;
    }
    return terms->longrope == PHID_LONGROPE_LONG || tokens > original ? BLOCK_ROPE_LONG
                                                                      : BLOCK_ROPE_SHORT;
}

static enum phid_status begin_sharing(struct sequence *s, const struct phid_request_params *p,
                                      struct phid_error *err)
{
    struct prefix_scope scope = {.rope_set = s->rope_set};
    if (p->tenant != NULL) {
        scope.tenant = str_of(p->tenant);
    }
    if (p->cache_salt != NULL) {
        scope.salt = (struct str){.data = p->cache_salt, .size = p->cache_salt_size};
    }
    return sharing_init(&s->sharing, s->terms->prefix_secret, &scope, &s->tokens, err);
}

/* FNV-1a. Two tenants of one hash would only share their turns. */
static uint64_t hash_tenant(const char *name)
{
    uint64_t hash = 0xcbf29ce484222325u;
    if (name == NULL || name[0] == '\0') {
        return 0;
    }
    for (const char *c = name; *c != '\0'; c++) {
        hash = (hash ^ (unsigned char)*c) * 0x100000001b3u;
    }
    return hash;
}

/* The answer begins behind the prompt's last token, and so does what is expected of it. */
static enum phid_status copy_prediction(struct sequence *s, const struct phid_request_params *p,
                                        struct phid_error *err)
{
    size_t count = p->prediction_count < s->max_tokens ? p->prediction_count : s->max_tokens;
    if (count == 0 || !s->terms->drafts) {
        return PHID_OK;
    }
    for (size_t i = 0; i < count; i++) {
        if (p->prediction[i] < 0 || (size_t)p->prediction[i] >= s->terms->n_vocab) {
            return phid_fail_at(err, PHID_ERR_ARGUMENT, "prediction",
                                "token %d is not in the vocabulary of %zu tokens",
                                (int)p->prediction[i], s->terms->n_vocab);
        }
    }
    if (!tokens_append(&s->prediction, p->prompt + p->prompt_count - 1, 1) ||
        !tokens_append(&s->prediction, p->prediction, count)) {
        return phid_fail(err, PHID_ERR_MEMORY, "no memory for a prediction of %zu tokens", count);
    }
    enum phid_status status = draft_index_init(&s->prediction_index, count + 1, err);
    if (status == PHID_OK) {
        draft_index_extend(&s->prediction_index, s->prediction.ids, s->prediction.count);
    }
    return status;
}

static enum phid_status copy_params(struct sequence *s, const struct phid_request_params *p,
                                    struct phid_error *err)
{
    copy_id(s->id, p->id);
    s->prompt_count = p->prompt_count;
    size_t room = s->terms->context - p->prompt_count;
    s->max_tokens = p->max_tokens < room ? p->max_tokens : room;
    s->logprobs = p->logprobs;
    s->prompt_logprobs = p->prompt_logprobs;
    s->ignore_eos = p->ignore_eos;
    s->continues_text = p->continues_text;
    s->submitted_ns = clock_now_ns();
    s->arrived_ns =
        p->arrived_ns > 0 && p->arrived_ns < s->submitted_ns ? p->arrived_ns : s->submitted_ns;
    s->deadline_ns = p->timeout_ms > 0 ? s->submitted_ns + p->timeout_ms * (uint64_t)CLOCK_NS_PER_MS
                                       : UINT64_MAX;
    s->start_by_ns = UINT64_MAX;
    s->priority = p->priority;
    s->tenant = hash_tenant(p->tenant);
    s->progress.prompt_tokens = p->prompt_count;
    if (!tokens_append(&s->tokens, p->prompt, p->prompt_count)) {
        return phid_fail(err, PHID_ERR_MEMORY, "no memory for a prompt of %zu tokens",
                         p->prompt_count);
    }
    s->rope_set = sequence_rope_set(s->terms, p->prompt_count);
    enum phid_status status = begin_sharing(s, p, err);
    if (status == PHID_OK) {
        status = copy_sampling(s, p, err);
    }
    if (status == PHID_OK) {
        status = copy_stops(s, p, err);
    }
    return status == PHID_OK ? copy_prediction(s, p, err) : status;
}

enum phid_status sequence_new(const struct sequence_terms *terms,
                              const struct phid_request_params *params,
                              struct sequence **ret_sequence, struct phid_error *err)
{
    enum phid_status status = check_prompt(terms, params, err);
    if (status != PHID_OK) {
        return status;
    }
    if (params->logprobs < -1 || params->logprobs > LOGPROBS_MAX) {
        return phid_fail_at(err, PHID_ERR_ARGUMENT, "logprobs",
                            "logprobs must be from -1 to %d, not %d", LOGPROBS_MAX,
                            (int)params->logprobs);
    }
    struct sequence *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        return phid_fail(err, PHID_ERR_MEMORY, "no memory for a request");
    }
    s->terms = terms;
    status = output_init(&s->output, params->wake, params->wake_user, err);
    if (status != PHID_OK) {
        free(s);
        return status;
    }
    atomic_init(&s->references, 1);
    atomic_init(&s->cancelled, false);
    status = copy_params(s, params, err);
    if (status != PHID_OK) {
        sequence_unref(s);
        return status;
    }
    s->output.progress = s->progress;
    *ret_sequence = s;
    return PHID_OK;
}

void sequence_ref(struct sequence *s)
{
    atomic_fetch_add_explicit(&s->references, 1, memory_order_relaxed);
}

void sequence_unref(struct sequence *s)
{
    if (atomic_fetch_sub_explicit(&s->references, 1, memory_order_acq_rel) > 1) {
        return;
    }
    sequence_stop(s);
    tokens_fini(&s->tokens);
    stop_set_fini(&s->stops);
    free(s->bias);
    tokens_fini(&s->prediction);
    draft_index_fini(&s->prediction_index);
    output_fini(&s->output);
    free(s);
}

size_t sequence_longest(const struct sequence *s)
{
    return s->prompt_count + (s->max_tokens > 0 ? s->max_tokens - 1 : 0);
}

/* The leading space of the first word is dropped where a text begins: in a chat's answer, and after
 * any control token. */
static bool begins_text(const struct sequence *s)
{
    int32_t last = s->tokens.ids[s->prompt_count - 1];
    return !s->continues_text || tokenizer_kind(s->terms->tokenizer, last) == TOKEN_CONTROL;
}

enum phid_status sequence_start(struct sequence *s, struct phid_error *err)
{
    if (!tokens_reserve(&s->tokens, s->prompt_count + s->max_tokens) ||
        !sharing_reserve(&s->sharing, sequence_longest(s))) {
        return phid_fail(err, PHID_ERR_MEMORY, "no memory for a sequence of %zu tokens",
                         sequence_longest(s));
    }
    enum phid_status status = page_table_init(&s->pages, sequence_longest(s), err);
    if (status != PHID_OK) {
        return status;
    }
    if (s->terms->drafts) {
        draft_record_init(&s->draft_record);
        status = draft_index_init(&s->draft, s->prompt_count + s->max_tokens, err);
        if (status != PHID_OK) {
            return status;
        }
    }
    status = sampler_init(&s->sampler, &s->sampling, s->terms->n_vocab, err);
    if (status != PHID_OK) {
        return status;
    }
    if (s->sampling.repetition_penalty != 1) {
        for (size_t i = 0; i < s->prompt_count; i++) {
            sampler_accept(&s->sampler, s->tokens.ids[i], true);
        }
    }
    status = answer_init(&s->answer, s->terms->tokenizer, begins_text(s), &s->stops,
                         s->logprobs > 0 ? (size_t)s->logprobs : 0, err);
    if (status != PHID_OK) {
        return status;
    }
    s->started = true;
    s->progress.queue_ns = clock_now_ns() - s->submitted_ns;
    if (s->prompt_logprobs) {
        output_begin(&s->output);
        bool added = output_add_token(&s->output, s->tokens.ids[0], NAN, true, NULL, 0);
        output_end(&s->output);
        if (!added) {
            return phid_fail(err, PHID_ERR_MEMORY, "no memory for the output of a request");
        }
        s->prompt_reported = 1;
    }
    return PHID_OK;
}

void sequence_stop(struct sequence *s)
{
    draft_index_fini(&s->draft);
    sampler_fini(&s->sampler);
    answer_fini(&s->answer);
    page_table_fini(&s->pages);
    sharing_fini(&s->sharing);
    tokens_fini(&s->tokens);
    s->started = false;
}

void sequence_restart(struct sequence *s, struct page_pool *pool, enum block_rope_set set)
{
    page_table_clear(&s->pages, pool);
    s->sharing.counted = s->sharing.counted || s->done > s->progress.cached_tokens;
    if (!s->sharing.counted) {
        s->progress.cached_tokens = 0; /* it will be found again, or not */
    }
    s->done = 0;
    s->rope_set = set;
    sharing_restart(&s->sharing, set);
}

static enum phid_status judge(const struct sequence *s, const float *logits, int32_t id,
                              float *ret_logprob, struct phid_top *ret_top, size_t *ret_top_count,
                              struct phid_error *err)
{
    struct logprobs found;
    size_t wanted = s->logprobs > 0 ? (size_t)s->logprobs : 0;
    enum phid_status status = logprobs_compute(logits, s->terms->n_vocab, id, wanted, &found, err);
    if (status != PHID_OK) {
        return status;
    }
    *ret_logprob = found.chosen;
    *ret_top_count = found.top_count;
    for (size_t i = 0; i < found.top_count; i++) {
        ret_top[i] = (struct phid_top){.id = found.top[i].id, .logprob = found.top[i].logprob};
    }
    return PHID_OK;
}

/* The token sampled at the place of the first guess was it, or not; `over`: it ends the answer. */
static void settle_guess(struct sequence *s, bool right, bool over)
{
    if (s->guesses == 0) {
        return;
    }
    if (right) {
        s->guesses--;
        s->done++;
        s->guesses_right++;
        s->progress.drafts_accepted++;
    }
    if (!right || over) {
        s->progress.drafts_rejected += s->guesses;
        s->guesses = 0;
    }
}

enum phid_status sequence_sample(struct sequence *s, const float *logits,
                                 enum phid_finish *ret_finish, struct phid_error *err)
{
    int32_t id = 0;
    float logprob = 0;
    struct phid_top top[LOGPROBS_MAX];
    size_t top_count = 0;
    enum phid_status status = sampler_pick(&s->sampler, logits, &id, err);
    if (status == PHID_OK && s->logprobs >= 0) {
        status = judge(s, logits, id, &logprob, top, &top_count, err);
    }
    if (status != PHID_OK) {
        return status;
    }
    sampler_accept(&s->sampler, id, false);
    if (s->progress.completion_tokens++ == 0) {
        s->progress.first_token_ns = clock_now_ns() - s->submitted_ns;
    }
    enum phid_finish finish = PHID_FINISH_NONE;
    bool guessed = s->guesses > 0 && s->tokens.ids[s->tokens.count] == id;
    if (!s->ignore_eos && tokenizer_is_end(s->terms->tokenizer, id)) {
        finish = PHID_FINISH_STOP;
    } else {
        status = answer_push(&s->answer, id, logprob, top, top_count, err);
        if (status == PHID_OK && !tokens_push(&s->tokens, id)) { /* reserved: never grows */
            status = phid_fail(err, PHID_ERR_MEMORY, "no memory for a sequence of %zu tokens",
                               s->tokens.count);
        }
        if (s->answer.stopped) {
            finish = PHID_FINISH_STOP;
        } else if (s->progress.completion_tokens >= s->max_tokens) {
            finish = PHID_FINISH_LENGTH;
        }
    }
    if (status == PHID_OK && finish != PHID_FINISH_NONE) {
        status = answer_end(&s->answer, err);
        finish = s->answer.stopped ? PHID_FINISH_STOP : finish;
    }
    settle_guess(s, guessed, finish != PHID_FINISH_NONE);
    *ret_finish = finish;
    return status;
}

enum phid_status sequence_report_prompt(struct sequence *s, size_t position, const float *logits,
                                        struct phid_error *err)
{
    int32_t id = s->tokens.ids[position + 1];
    float logprob = 0;
    struct phid_top top[LOGPROBS_MAX];
    size_t top_count = 0;
    enum phid_status status = judge(s, logits, id, &logprob, top, &top_count, err);
    if (status != PHID_OK) {
        return status;
    }
    output_begin(&s->output);
    bool added = output_add_token(&s->output, id, logprob, true, top, top_count);
    output_end(&s->output);
    s->prompt_reported = position + 2;
    return added ? PHID_OK
                 : phid_fail(err, PHID_ERR_MEMORY, "no memory for the output of a request");
}

enum phid_status sequence_show(struct sequence *s, enum phid_finish finish,
                               const struct phid_error *error, struct phid_error *err)
{
    enum phid_status status = PHID_OK;
    struct phid_error memory = {0};
    output_begin(&s->output);
    if (s->started) {
        status = answer_show(&s->answer, &s->output, &memory);
    }
    if (status != PHID_OK) {
        finish = PHID_FINISH_ERROR;
        error = &memory;
    }
    if (finish != PHID_FINISH_NONE) {
        s->progress.total_ns = clock_now_ns() - s->submitted_ns;
        output_finish(&s->output, finish, error);
    }
    s->output.progress = s->progress;
    output_end(&s->output);
    if (status != PHID_OK && err != NULL) {
        *err = memory;
    }
    return status;
}

#include "tests/unit/server/fake_phid.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/buf.h"
#include "engine/base/clock.h"

struct phid_model {
    struct phid_model_info info;
    unsigned char bytes[256];
};

struct phid_request {
    struct phid_engine *engine;
    struct phid_request *next;
    struct phid_request_params params;
    int32_t *prompt;
    uint64_t start_ns;
    size_t produced; /* tokens made; guarded by the engine's mu, as all below */
    size_t taken;    /* of these, polled */
    bool prompt_taken, finished, finish_taken, armed, failed;
    enum phid_finish finish;
    struct phid_token tokens[8192];
    struct phid_top top[4];
    char text[8192];
};

struct phid_engine {
    struct phid_engine_info info;
    struct fake_options options;
    pthread_mutex_t mu;
    pthread_t thread;
    struct phid_request *requests; /* guarded by mu */
    bool stopping;                 /* guarded by mu */
    size_t live, submitted;        /* guarded by mu */
    struct phid_engine_load load;  /* guarded by mu */
    struct phid_request_params last;
    char last_prompt[8192];
};

/* ------------------------------------------------------------------- model */

struct phid_model *fake_model_new(void)
{
    struct phid_model *model = calloc(1, sizeof *model);
    model->info = (struct phid_model_info){.architecture = "fake",
                                           .name = "fake",
                                           .template_name = "fake",
                                           .vocab_size = FAKE_VOCAB,
                                           .context_length = 4096,
                                           .bos = FAKE_BOS,
                                           .eos = FAKE_EOS,
                                           .has_weights = true};
    for (int i = 0; i < 256; i++) {
        model->bytes[i] = (unsigned char)i;
    }
    return model;
}

void phid_model_close(struct phid_model *model)
{
    free(model);
}

const struct phid_model_info *phid_model_info(const struct phid_model *model)
{
    return &model->info;
}

bool phid_model_adds_bos(const struct phid_model *model)
{
    return true;
}

void phid_token_bytes(const struct phid_model *model, int32_t id, const unsigned char **ret_bytes,
                      size_t *ret_size)
{
    *ret_bytes = id < 256 ? &model->bytes[id] : NULL;
    *ret_size = id < 256;
}

bool phid_token_is_control(const struct phid_model *model, int32_t id)
{
    return id >= 256;
}

enum phid_status phid_tokenize(const struct phid_model *model, const char *text, size_t size,
                               bool special, bool bos, int32_t **ret_ids, size_t *ret_count,
                               struct phid_error *err)
{
    int32_t *ids = calloc(size + 1, sizeof *ids);
    size_t count = 0;
    if (bos) {
        ids[count++] = FAKE_BOS;
    }
    for (size_t i = 0; i < size; i++) {
        ids[count++] = (unsigned char)text[i];
    }
    *ret_ids = ids;
    *ret_count = count;
    return PHID_OK;
}

enum phid_status phid_detokenize(const struct phid_model *model, const int32_t *ids, size_t count,
                                 bool special, char **ret_text, size_t *ret_size,
                                 struct phid_error *err)
{
    struct buf text;
    buf_init(&text, 1u << 20);
    for (size_t i = 0; i < count; i++) {
        if (ids[i] < 256) {
            buf_append_byte(&text, (char)ids[i]);
        } else if (special) {
            buf_append_c(&text, ids[i] == FAKE_BOS ? "<s>" : "</s>");
        }
    }
    return buf_take(&text, ret_text, ret_size, err);
}

enum phid_status phid_chat_tokens(const struct phid_model *model,
                                  const struct phid_message *messages, size_t count,
                                  int32_t **ret_ids, size_t *ret_count, struct phid_error *err)
{
    static const char *const names[] = {"S:", "U:", "A:", "T:"};
    struct buf text;
    buf_init(&text, 1u << 26);
    for (size_t i = 0; i < count; i++) {
        buf_append_c(&text, names[messages[i].role]);
        buf_append(&text, messages[i].content, messages[i].content_size);
        buf_append_byte(&text, '\n');
    }
    enum phid_status status =
        phid_tokenize(model, text.data, text.size, false, true, ret_ids, ret_count, err);
    buf_fini(&text);
    return status;
}

const char *phid_version(void)
{
    return "test";
}

const char *phid_commit(void)
{
    return "test";
}

/* ------------------------------------------------------------------ engine */

static size_t limit_of(const struct phid_request *r)
{
    size_t answer = strlen(r->engine->options.answer);
    return r->params.max_tokens < answer + 1 ? r->params.max_tokens : answer + 1;
}

/* One more token, or the end. Called with mu held. */
static void step(struct phid_request *r)
{
    size_t answer = strlen(r->engine->options.answer);
    if (r->finished) {
        return;
    }
    if (r->produced < limit_of(r)) {
        r->produced++;
    }
    if (r->engine->options.fail_token_at > 0 && r->produced >= r->engine->options.fail_token_at) {
        r->finished = true;
        r->finish = PHID_FINISH_ERROR;
    } else if (r->produced >= limit_of(r)) {
        r->finished = true;
        r->finish = r->produced > answer ? PHID_FINISH_STOP : PHID_FINISH_LENGTH;
    }
    if (r->armed && r->params.wake != NULL) {
        r->armed = false;
        r->params.wake(r->params.wake_user);
    }
}

static void *steps(void *user)
{
    struct phid_engine *engine = user;
    for (;;) {
        pthread_mutex_lock(&engine->mu);
        if (engine->stopping) {
            pthread_mutex_unlock(&engine->mu);
            return NULL;
        }
        for (struct phid_request *r = engine->requests; r != NULL; r = r->next) {
            step(r);
        }
        pthread_mutex_unlock(&engine->mu);
        usleep(engine->options.token_us > 0 ? engine->options.token_us : 100);
    }
}

struct phid_engine *fake_engine_new(struct phid_model *model, const struct fake_options *options)
{
    struct phid_engine *engine = calloc(1, sizeof *engine);
    engine->options = *options;
    engine->info =
        (struct phid_engine_info){.isa = "none",
                                  .devices = "none",
                                  .threads = 1,
                                  .max_running = 32,
                                  .queue = 256,
                                  .context = options->context > 0 ? options->context : 4096};
    pthread_mutex_init(&engine->mu, NULL);
    pthread_create(&engine->thread, NULL, steps, engine);
    return engine;
}

void phid_engine_free(struct phid_engine *engine)
{
    pthread_mutex_lock(&engine->mu);
    engine->stopping = true;
    pthread_mutex_unlock(&engine->mu);
    pthread_join(engine->thread, NULL);
    pthread_mutex_destroy(&engine->mu);
    free(engine);
}

const struct phid_engine_info *phid_engine_info(const struct phid_engine *engine)
{
    return &engine->info;
}

void phid_engine_stats(struct phid_engine *engine, struct phid_engine_stats *ret)
{
    *ret = (struct phid_engine_stats){.running = fake_live(engine),
                                      .pages_total = 64,
                                      .pages_free = 16,
                                      .tokens_decoded = 123,
                                      .stalled_ns = engine->options.stalled_ns,
                                      .failed = engine->options.failed};
    ret->finished[PHID_FINISH_STOP] = 7;
    ret->draft_accepted_at[0] = 4;
    ret->draft_accepted_at[PHID_DRAFT_PLACES - 1] = 1;
    ret->corrupted = 6;
}

void phid_engine_histogram(struct phid_engine *engine, enum phid_histogram_id id,
                           struct phid_histogram *ret)
{
    static const uint64_t bounds[] = {100000000, 2500000000};
    *ret = (struct phid_histogram){.is_time = true,
                                   .bounds = bounds,
                                   .bound_count = 2,
                                   .counts = {1, 2, 3},
                                   .sum = 4500000000};
}

void fake_set_load(struct phid_engine *engine, const struct phid_engine_load *load)
{
    pthread_mutex_lock(&engine->mu);
    engine->load = *load;
    pthread_mutex_unlock(&engine->mu);
}

void phid_engine_load(const struct phid_engine *engine, struct phid_engine_load *ret)
{
    pthread_mutex_t *mu = (pthread_mutex_t *)(uintptr_t)&engine->mu;
    pthread_mutex_lock(mu);
    *ret = engine->load;
    pthread_mutex_unlock(mu);
}

size_t fake_live(struct phid_engine *engine)
{
    pthread_mutex_lock(&engine->mu);
    size_t live = engine->live;
    pthread_mutex_unlock(&engine->mu);
    return live;
}

size_t fake_submitted(struct phid_engine *engine)
{
    pthread_mutex_lock(&engine->mu);
    size_t submitted = engine->submitted;
    pthread_mutex_unlock(&engine->mu);
    return submitted;
}

const struct phid_request_params *fake_last_params(struct phid_engine *engine)
{
    return &engine->last;
}

const char *fake_last_prompt(struct phid_engine *engine)
{
    return engine->last_prompt;
}

static void remember(struct phid_engine *engine, const struct phid_request_params *params)
{
    size_t size = 0;
    engine->last = *params;
    for (size_t i = 0; i < params->prompt_count && size + 1 < sizeof engine->last_prompt; i++) {
        if (params->prompt[i] < 256) {
            engine->last_prompt[size++] = (char)params->prompt[i];
        }
    }
    engine->last_prompt[size] = '\0';
}

enum phid_status phid_engine_submit(struct phid_engine *engine,
                                    const struct phid_request_params *params,
                                    struct phid_request **ret_request, struct phid_error *err)
{
    enum phid_status status = PHID_OK;
    pthread_mutex_lock(&engine->mu);
    engine->submitted++;
    if (params->prompt_count >= engine->info.context) {
        status = phid_fail(err, PHID_ERR_CONTEXT, "maximum context length is %zu tokens, got %zu",
                           engine->info.context, params->prompt_count);
    } else if (engine->submitted == engine->options.fail_submit_at) {
        status = phid_fail(err, engine->options.fail_status, "made to fail");
    }
    if (status == PHID_OK) {
        struct phid_request *r = calloc(1, sizeof *r);
        remember(engine, params);
        r->engine = engine;
        r->params = *params;
        r->prompt = calloc(params->prompt_count, sizeof *r->prompt);
        memcpy(r->prompt, params->prompt, params->prompt_count * sizeof *r->prompt);
        r->start_ns = clock_now_ns();
        r->armed = true;
        r->next = engine->requests;
        engine->requests = r;
        engine->live++;
        while (engine->options.token_us == 0 && !r->finished) {
            step(r);
        }
        *ret_request = r;
    }
    pthread_mutex_unlock(&engine->mu);
    return status;
}

static struct phid_token make_token(struct phid_request *r, int32_t id, bool is_prompt, bool first)
{
    for (int i = 0; i < 4; i++) {
        r->top[i] = (struct phid_top){.id = 'a' + i, .logprob = -1.0f - (float)i};
    }
    return (struct phid_token){.id = id,
                               .logprob = first ? NAN : -0.5f,
                               .is_prompt = is_prompt,
                               .top_count = r->params.logprobs > 4 ? 4 : (size_t)r->params.logprobs,
                               .top = r->top};
}

static void fill(struct phid_request *r, struct phid_output *out)
{
    const char *answer = r->engine->options.answer;
    size_t count = 0;
    *out = (struct phid_output){.text = r->text, .tokens = r->tokens};
    if (r->params.prompt_logprobs && r->params.logprobs >= 0 && !r->prompt_taken) {
        for (size_t i = 0; i < r->params.prompt_count; i++) {
            r->tokens[count++] = make_token(r, r->prompt[i], true, i == 0);
        }
    }
    r->prompt_taken = true;
    while (r->taken < r->produced) {
        size_t at = r->taken++;
        int32_t id = at < strlen(answer) ? (unsigned char)answer[at] : FAKE_EOS;
        if (id < 256) {
            r->text[out->text_size++] = (char)id;
        }
        if (r->params.logprobs >= 0) {
            r->tokens[count++] = make_token(r, id, false, false);
        }
    }
    out->token_count = count;
    out->prompt_tokens = r->params.prompt_count;
    out->completion_tokens = r->taken;
    out->queue_ns = 1;
    out->first_token_ns = 2;
    if (r->finished) {
        r->finish_taken = true;
        out->finish = r->finish;
        if (r->finish == PHID_FINISH_ERROR) {
            phid_fail(&out->error, PHID_ERR_DEVICE, "made to fail");
        }
    }
}

bool phid_request_poll(struct phid_request *r, struct phid_output *ret)
{
    pthread_mutex_lock(&r->engine->mu);
    bool something = r->taken < r->produced || (r->finished && !r->finish_taken);
    if (something) {
        fill(r, ret);
    } else {
        r->armed = true;
    }
    pthread_mutex_unlock(&r->engine->mu);
    return something;
}

void phid_request_free(struct phid_request *r)
{
    if (r == NULL) {
        return;
    }
    struct phid_engine *engine = r->engine;
    pthread_mutex_lock(&engine->mu);
    for (struct phid_request **link = &engine->requests; *link != NULL; link = &(*link)->next) {
        if (*link == r) {
            *link = r->next;
            break;
        }
    }
    engine->live--;
    pthread_mutex_unlock(&engine->mu);
    free(r->prompt);
    free(r);
}

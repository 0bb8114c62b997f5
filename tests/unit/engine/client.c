#include "tests/unit/engine/client.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "engine/text/detok.h"
#include "tests/unit/engine/fake_backend.h"

struct phid_request_params client_params(const int32_t *prompt, size_t prompt_count,
                                         size_t max_tokens)
{
    return (struct phid_request_params){
        .prompt = prompt,
        .prompt_count = prompt_count,
        .max_tokens = max_tokens,
        .sampling = {.top_p = 1, .repetition_penalty = 1},
        .logprobs = -1,
        .id = "test",
    };
}

void client_submit(struct client *c, struct phid_engine *engine,
                   const struct phid_request_params *params)
{
    memset(c, 0, sizeof(*c));
    buf_init(&c->text, (size_t)64 << 20);
    c->tokens = calloc(CLIENT_TOKENS_MAX, sizeof(*c->tokens));
    assert_non_null(c->tokens);
    struct phid_error error = {0};
    if (phid_engine_submit(engine, params, &c->request, &error) != PHID_OK) {
        fail_msg("submit: %s", error.message);
    }
}

static void take_token(struct client *c, const struct phid_token *t)
{
    assert_true(c->token_count < CLIENT_TOKENS_MAX);
    struct client_token *to = &c->tokens[c->token_count++];
    *to = (struct client_token){.id = t->id,
                                .logprob = t->logprob,
                                .is_prompt = t->is_prompt,
                                .top_count = t->top_count,
                                .text_size = c->text.size};
    for (size_t i = 0; i < t->top_count; i++) {
        to->top[i] = t->top[i];
    }
}

bool client_poll(struct client *c)
{
    struct phid_output output;
    if (!phid_request_poll(c->request, &output)) {
        return false;
    }
    assert_int_equal(c->last.finish, PHID_FINISH_NONE);
    buf_append(&c->text, output.text, output.text_size);
    assert_false(c->text.failed);
    for (size_t i = 0; i < output.token_count; i++) {
        take_token(c, &output.tokens[i]);
    }
    c->last = output;
    c->polls++;
    return true;
}

void client_finish(struct client *c)
{
    while (c->last.finish == PHID_FINISH_NONE) {
        if (!phid_request_wait(c->request, 20000)) {
            fail_msg("no output for 20 s");
        }
        client_poll(c);
    }
    assert_false(client_poll(c));
    assert_false(phid_request_wait(c->request, 0));
}

void client_fini(struct client *c)
{
    phid_request_free(c->request);
    buf_fini(&c->text);
    free(c->tokens);
    memset(c, 0, sizeof(*c));
}

struct phid_engine *client_engine(struct fake_model *m, const struct phid_engine_options *options)
{
    struct phid_engine *engine = NULL;
    struct phid_error error = {0};
    if (engine_new_with_backend(&m->model, &m->description, fake_backend_api(), options, &engine,
                                &error) != PHID_OK) {
        fail_msg("engine: %s", error.message);
    }
    return engine;
}

void client_expect_all_free(struct phid_engine *engine)
{
    struct phid_engine_stats stats;
    for (int i = 0; i < 5000; i++) {
        phid_engine_stats(engine, &stats);
        if (stats.pages_free == stats.pages_total && stats.running == 0 && stats.waiting == 0) {
            return;
        }
        struct timespec pause = {.tv_nsec = 1000000};
        nanosleep(&pause, NULL);
    }
    fail_msg("%zu of %zu pages are free, %zu sequences run, %zu wait", stats.pages_free,
             stats.pages_total, stats.running, stats.waiting);
}

void client_text(const struct fake_model *m, const int32_t *ids, size_t count, bool continues_text,
                 struct buf *ret)
{
    struct detok detok;
    detok_init(&detok, m->model.tokenizer, !continues_text, false);
    for (size_t i = 0; i < count; i++) {
        detok_push(&detok, ids[i], ret);
    }
    detok_finish(&detok, ret);
    assert_false(ret->failed);
}

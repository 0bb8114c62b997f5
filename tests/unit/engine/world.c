#include "tests/unit/engine/world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/engine/fake_backend.h"

const int32_t world_bos[] = {1};

void world_init(struct world *w, size_t original_context, const struct phid_engine_options *options)
{
    fake_backend_reset();
    fake_model_init(&w->model, WORLD_CONTEXT, original_context);
    w->engine = client_engine(&w->model, options);
}

void world_fini(struct world *w)
{
    client_expect_all_free(w->engine);
    assert_int_equal(atomic_load(&fake_backend.faults), 0);
    phid_engine_free(w->engine);
    fake_model_fini(&w->model);
}

struct phid_engine_options world_pool(size_t contexts)
{
    return (struct phid_engine_options){.kv_memory_bytes = contexts * (WORLD_CONTEXT / 64) * 1024,
                                        .step_tokens = 64,
                                        .speculation = PHID_SPECULATION_OFF,
                                        .max_running = 8};
}

void world_prompt(int32_t *prompt, size_t count, int seed)
{
    for (size_t i = 0; i < count; i++) {
        prompt[i] =
            FAKE_PIECES + (int32_t)((i * 7 + (size_t)seed * 31) % (FAKE_VOCAB - FAKE_PIECES));
    }
}

void world_expect_answer(const struct world *w, struct client *c, const int32_t *prompt,
                         size_t prompt_count, size_t max, size_t original_context)
{
    int32_t *ids = calloc(max + 1, sizeof(*ids));
    bool ended = false;
    size_t count = fake_answer(prompt, prompt_count, max, original_context, false, ids, &ended);
    struct buf text;
    buf_init(&text, (size_t)64 << 20);
    client_text(&w->model, ids, count, false, &text);
    client_finish(c);
    assert_int_equal(c->last.finish, ended ? PHID_FINISH_STOP : PHID_FINISH_LENGTH);
    assert_int_equal(c->last.prompt_tokens, prompt_count);
    assert_int_equal(c->last.completion_tokens, count + ended);
    assert_int_equal(c->token_count, count);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(c->tokens[i].id, ids[i]);
    }
    assert_int_equal(c->text.size, text.size);
    if (text.size > 0) {
        assert_memory_equal(c->text.data, text.data, text.size);
    }
    buf_fini(&text);
    free(ids);
}

void world_expect_text(const struct client *c, const char *text)
{
    struct str have = buf_view(&c->text);
    if (!str_equal_c(have, text)) {
        fail_msg("text is \"%.*s\", not \"%s\"", (int)have.size, have.data, text);
    }
}

/* Makes the answer to the one-token prompt <s> this sequence of pieces, then an end token. */
void world_script(int32_t *script, const char *const *pieces, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        script[i] = fake_piece_id(pieces[i]);
    }
    fake_backend.script = script;
    fake_backend.script_count = count;
}

void world_script_long(void)
{
    static int32_t script[WORLD_CONTEXT];
    for (size_t i = 0; i < WORLD_CONTEXT; i++) {
        script[i] = FAKE_LONG;
    }
    fake_backend.script = script;
    fake_backend.script_count = WORLD_CONTEXT;
}

void world_expect_refusal(struct world *w, const struct phid_request_params *params,
                          enum phid_status status, const char *part)
{
    struct phid_request *request = NULL;
    struct phid_error error = {0};
    assert_int_equal(phid_engine_submit(w->engine, params, &request, &error), status);
    if (strstr(error.message, part) == NULL && strstr(error.where, part) == NULL) {
        fail_msg("\"%s\" is not in \"%s\" at \"%s\"", part, error.message, error.where);
    }
}

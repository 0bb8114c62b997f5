/* From a JSON body to the engine and back to JSON or events, without a socket. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>
#include <cmocka.h>

#include "server/api/generation.h"
#include "server/api/messages.h"
#include "tests/unit/server/fake_phid.h"

struct world {
    struct phid_model *model;
    struct phid_engine *engine;
    struct api api;
};

static void open_world(struct world *w, struct fake_options options)
{
    static const char *const aliases[] = {"alias", "fake"};
    const struct server_options server = {.aliases = aliases, .alias_count = 2};
    w->model = fake_model_new();
    w->engine = fake_engine_new(w->model, &options);
    assert_int_equal(api_init(&w->api, &server, w->engine, w->model, NULL), PHID_OK);
    assert_int_equal(w->api.name_count, 2);
}

static void close_world(struct world *w)
{
    assert_int_equal(fake_live(w->engine), 0);
    api_fini(&w->api);
    phid_engine_free(w->engine);
    phid_model_close(w->model);
}

typedef enum api_fault start_fn(const struct generation_request *, struct generation **,
                                struct api_error *);

static struct generation *start(struct world *w, start_fn *endpoint, const char *body)
{
    const struct generation_request request = {.api = &w->api, .body = str_of(body), .id = "test"};
    struct generation *g = NULL;
    struct api_error err = {0};
    if (endpoint(&request, &g, &err) != API_OK) {
        fail_msg("%s: %s", body, err.message);
    }
    return g;
}

static void finish(struct generation *g)
{
    while (!g->done) {
        generation_pull(g, 1u << 20);
        usleep(200);
    }
}

/* The whole reply, parsed. */
static json_t *reply_to(struct world *w, start_fn *endpoint, const char *body)
{
    struct generation *g = start(w, endpoint, body);
    struct buf out;
    finish(g);
    assert_int_equal(g->error.fault, API_OK);
    buf_init(&out, 1u << 20);
    generation_write_reply(g, &out);
    json_t *reply = json_loadb(out.data, out.size, 0, NULL);
    assert_non_null(reply);
    buf_fini(&out);
    generation_free(g);
    return reply;
}

static json_t *at(json_t *object, const char *path)
{
    char part[64];
    while (object != NULL && *path != '\0') {
        size_t size = strcspn(path, ".");
        snprintf(part, sizeof part, "%.*s", (int)size, path);
        object = part[0] >= '0' && part[0] <= '9' ? json_array_get(object, (size_t)(part[0] - '0'))
                                                  : json_object_get(object, part);
        path += size + (path[size] == '.');
    }
    return object;
}

static void expect_text(json_t *object, const char *path, const char *text)
{
    json_t *value = at(object, path);
    if (!json_is_string(value) || strcmp(json_string_value(value), text) != 0) {
        fail_msg("%s is not %s", path, text);
    }
}

static void expect_int(json_t *object, const char *path, json_int_t number)
{
    json_t *value = at(object, path);
    if (!json_is_integer(value) || json_integer_value(value) != number) {
        fail_msg("%s is not %lld but %lld", path, (long long)number,
                 (long long)json_integer_value(value));
    }
}

#define CHAT(more)                                                                                 \
    "{\"model\":\"fake\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]" more "}"
#define COMPLETION(more) "{\"model\":\"fake\",\"prompt\":\"hi\"" more "}"

static void test_chat_reply(void **state)
{
    struct world w;
    open_world(&w, (struct fake_options){.answer = "Hello\n"});
    json_t *reply = reply_to(&w, generation_start_chat, CHAT(""));
    assert_string_equal(fake_last_prompt(w.engine), "U:hi\n");
    assert_false(fake_last_params(w.engine)->continues_text);
    assert_int_equal(strlen(json_string_value(at(reply, "id"))), strlen("chatcmpl-") + 29);
    expect_text(reply, "object", "chat.completion");
    expect_text(reply, "model", "fake");
    expect_text(reply, "choices.0.message.role", "assistant");
    expect_text(reply, "choices.0.message.content", "Hello\n");
    expect_text(reply, "choices.0.finish_reason", "stop");
    assert_true(json_is_null(at(reply, "choices.0.message.refusal")));
    assert_true(json_is_null(at(reply, "choices.0.logprobs")));
    assert_null(at(reply, "choices.0.message.tool_calls"));
    assert_null(at(reply, "service_tier"));
    expect_int(reply, "usage.prompt_tokens", 6);
    expect_int(reply, "usage.completion_tokens", 7);
    expect_int(reply, "usage.total_tokens", 13);
    expect_int(reply, "usage.prompt_tokens_details.cached_tokens", 0);
    json_decref(reply);
    close_world(&w);
}

static void test_chat_logprobs(void **state)
{
    struct world w;
    open_world(&w, (struct fake_options){.answer = "\xc3\xa9"});
    json_t *reply =
        reply_to(&w, generation_start_chat, CHAT(",\"logprobs\":true,\"top_logprobs\":2"));
    assert_int_equal(json_array_size(at(reply, "choices.0.logprobs.content")),
                     2); /* the end token is not content */
    expect_text(reply, "choices.0.logprobs.content.0.token", "\xef\xbf\xbd");
    expect_int(reply, "choices.0.logprobs.content.0.bytes.0", 0xc3);
    expect_int(reply, "choices.0.logprobs.content.1.bytes.0", 0xa9);
    assert_int_equal(json_array_size(at(reply, "choices.0.logprobs.content.0.top_logprobs")), 2);
    expect_text(reply, "choices.0.logprobs.content.0.top_logprobs.0.token", "a");
    assert_true(json_is_null(at(reply, "choices.0.logprobs.refusal")));
    json_decref(reply);
    reply = reply_to(&w, generation_start_chat, CHAT(",\"logprobs\":true"));
    assert_int_equal(json_array_size(at(reply, "choices.0.logprobs.content.0.top_logprobs")), 0);
    json_decref(reply);
    close_world(&w);
}

static void test_choices_have_their_own_seeds(void **state)
{
    struct world w;
    open_world(&w, (struct fake_options){.answer = "x"});
    json_decref(reply_to(&w, generation_start_chat, CHAT(",\"seed\":7")));
    uint64_t first = fake_last_params(w.engine)->sampling.seed;
    json_decref(reply_to(&w, generation_start_chat, CHAT(",\"seed\":7")));
    assert_true(fake_last_params(w.engine)->sampling.seed == first);
    json_decref(reply_to(&w, generation_start_chat, CHAT(",\"seed\":7,\"n\":2")));
    assert_true(fake_last_params(w.engine)->sampling.seed != first);
    json_decref(reply_to(&w, generation_start_chat, CHAT("")));
    first = fake_last_params(w.engine)->sampling.seed;
    json_decref(reply_to(&w, generation_start_chat, CHAT("")));
    assert_true(fake_last_params(w.engine)->sampling.seed != first);
    close_world(&w);
}

static void test_settings_reach_the_engine(void **state)
{
    struct world w;
    open_world(&w, (struct fake_options){.answer = "x"});
    struct generation *g =
        start(&w, generation_start_chat,
              CHAT(",\"temperature\":0.5,\"top_p\":0.25,\"top_k\":-1,\"min_p\":"
                   "0.125,\"repetition_penalty\":1.5,"
                   "\"frequency_penalty\":-1,\"presence_penalty\":2,\"max_"
                   "tokens\":9,\"max_completion_tokens\":5,"
                   "\"priority\":-4,\"min_tokens\":2,\"ignore_eos\":true,\"stop\":[\"a\",\"b\"],"
                   "\"logit_bias\":{\"3\":-100}"));
    const struct phid_request_params *p = fake_last_params(w.engine);
    assert_true(p->sampling.temperature == 0.5f && p->sampling.top_p == 0.25f &&
                p->sampling.min_p == 0.125f);
    assert_true(p->sampling.repetition_penalty == 1.5f && p->sampling.frequency_penalty == -1 &&
                p->sampling.presence_penalty == 2);
    assert_int_equal(p->sampling.top_k, 0);
    assert_int_equal(p->max_tokens, 5);
    assert_int_equal(p->priority, -4);
    assert_int_equal(p->min_tokens, 2);
    assert_true(p->ignore_eos);
    assert_int_equal(p->stop_count, 2);
    assert_int_equal(p->sampling.logit_bias_count, 1);
    assert_int_equal(p->logprobs, -1);
    finish(g);
    generation_free(g);
    close_world(&w);
}

/* ------------------------------------------------------------------ streams */

static void test_chat_stream(void **state)
{
    struct world w;
    open_world(&w, (struct fake_options){.answer = "Hi"});
    struct generation *g =
        start(&w, generation_start_chat,
              CHAT(",\"n\":2,\"stream\":true,\"stream_options\":{\"include_usage\":true}"));
    finish(g);
    assert_false(g->out.failed);
    /* Frames in order: two roles, then per choice a content and a finish, usage, the end. */
    static const char *const parts[] = {
        "{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\",\"refusal\":null},"
        "\"logprobs\":null,\"finish_reason\":null}],\"usage\":null}",
        "{\"index\":1,\"delta\":{\"role\":\"assistant\",\"content\":\"\",\"refusal\":null},"
        "\"logprobs\":null,\"finish_reason\":null}],\"usage\":null}",
        "{\"index\":0,\"delta\":{\"content\":\"Hi\"},\"logprobs\":null,\"finish_reason\":null}],"
        "\"usage\":null}",
        "{\"index\":0,\"delta\":{},\"logprobs\":null,\"finish_reason\":\"stop\"}],\"usage\":null}",
        "{\"index\":1,\"delta\":{\"content\":\"Hi\"},\"logprobs\":null,\"finish_reason\":null}],"
        "\"usage\":null}",
        "{\"index\":1,\"delta\":{},\"logprobs\":null,\"finish_reason\":\"stop\"}],\"usage\":null}",
        "\"choices\":[],\"usage\":{\"prompt_tokens\":6,\"completion_tokens\":6,\"total_tokens\":12",
    };
    char *rest = NULL;
    char *frame = strtok_r(g->out.data, "\n", &rest);
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        if (frame == NULL || strncmp(frame, "data: {\"id\":\"chatcmpl-", 22) != 0 ||
            strstr(frame, parts[i]) == NULL) {
            fail_msg("frame %zu: %s", i, frame);
        }
        frame = strtok_r(NULL, "\n", &rest);
    }
    assert_string_equal(frame, "data: [DONE]");
    assert_null(strtok_r(NULL, "\n", &rest));
    generation_free(g);
    close_world(&w);
}

static void test_stream_without_usage_has_no_usage_key(void **state)
{
    struct world w;
    open_world(&w, (struct fake_options){.answer = "Hi"});
    struct generation *g =
        start(&w, generation_start_completion, COMPLETION(",\"stream\":true,\"echo\":true"));
    finish(g);
    assert_null(strstr(g->out.data, "usage"));
    assert_non_null(
        strstr(g->out.data,
               "{\"index\":0,\"text\":\"hi\",\"logprobs\":null,\"finish_reason\":null}]}\n\n"));
    assert_non_null(strstr(g->out.data, "{\"index\":0,\"text\":\"Hi\",\"logprobs\":null,\"finish_"
                                        "reason\":\"stop\"}]}\n\ndata: [DONE]\n\n"));
    generation_free(g);
    close_world(&w);
}

static void test_stream_error_ends_without_done(void **state)
{
    struct world w;
    open_world(&w, (struct fake_options){.answer = "Hello", .fail_token_at = 3, .token_us = 500});
    struct generation *g = start(&w, generation_start_chat, CHAT(",\"stream\":true"));
    finish(g);
    assert_int_equal(g->error.fault, API_INTERNAL);
    assert_non_null(strstr(g->out.data, "\ndata: {\"error\":{\"message\":"));
    assert_null(strstr(g->out.data, "[DONE]"));
    assert_null(strstr(g->out.data, "made to fail"));
    assert_int_equal(fake_live(w.engine), 0);
    generation_free(g);
    close_world(&w);
}

static void test_pull_stops_when_nobody_reads(void **state)
{
    struct world w;
    open_world(&w, (struct fake_options){.answer = "0123456789", .token_us = 200});
    struct generation *g = start(&w, generation_start_chat, CHAT(",\"stream\":true"));
    generation_pull(g, 0);
    size_t size = g->out.size;
    usleep(20000);
    generation_pull(g, 0);
    assert_int_equal(g->out.size, size);
    assert_false(g->done);
    generation_free(g); /* cancels */
    close_world(&w);
}

/* -------------------------------------------------------------- completions */

static void test_completion_echo_logprobs(void **state)
{
    struct world w;
    open_world(&w, (struct fake_options){.answer = "yo"});
    json_t *reply = reply_to(&w, generation_start_completion,
                             COMPLETION(",\"echo\":true,\"logprobs\":2,\"max_tokens\":2"));
    expect_text(reply, "object", "text_completion");
    expect_text(reply, "choices.0.text", "hiyo");
    expect_text(reply, "choices.0.finish_reason", "length");
    json_t *l = at(reply, "choices.0.logprobs");
    assert_int_equal(json_array_size(at(l, "tokens")), 5); /* begin, h, i, y, o */
    assert_int_equal(json_array_size(at(l, "token_logprobs")), 5);
    assert_int_equal(json_array_size(at(l, "top_logprobs")), 5);
    assert_int_equal(json_array_size(at(l, "text_offset")), 5);
    assert_true(json_is_null(at(l, "token_logprobs.0")) && json_is_null(at(l, "top_logprobs.0")));
    expect_text(l, "tokens.3", "y");
    expect_int(l, "text_offset.0", 0);
    expect_int(l, "text_offset.1", 0);
    expect_int(l, "text_offset.4", 3);
    assert_int_equal(json_object_size(at(l, "top_logprobs.3")),
                     3); /* two alternatives and the token itself */
    json_decref(reply);
    reply = reply_to(&w, generation_start_completion, COMPLETION(",\"logprobs\":0"));
    assert_int_equal(json_object_size(at(reply, "choices.0.logprobs.top_logprobs.0")), 1);
    json_decref(reply);
    close_world(&w);
}

static void test_completion_prompts(void **state)
{
    struct world w;
    open_world(&w, (struct fake_options){.answer = "x"});
    json_t *reply = reply_to(&w, generation_start_completion,
                             "{\"model\":\"alias\",\"prompt\":[\"a\",\"bc\"],\"n\":2}");
    assert_int_equal(json_array_size(at(reply, "choices")), 4);
    expect_int(reply, "choices.3.index", 3);
    expect_int(reply, "usage.prompt_tokens", 5);
    expect_int(reply, "usage.completion_tokens", 8);
    json_decref(reply);
    reply = reply_to(&w, generation_start_completion,
                     "{\"model\":\"fake\",\"prompt\":[[104,105.0],[33]]}");
    expect_int(reply, "usage.prompt_tokens", 3);
    json_decref(reply);
    reply = reply_to(&w, generation_start_completion,
                     "{\"model\":\"fake\",\"prompt\":[104,105],\"echo\":true}");
    expect_text(reply, "choices.0.text", "hix");
    json_decref(reply);
    reply = reply_to(&w, generation_start_completion, "{\"model\":\"fake\",\"prompt\":null}");
    expect_int(reply, "usage.prompt_tokens", 1);
    json_decref(reply);
    reply = reply_to(&w, generation_start_completion, "{\"model\":\"fake\",\"prompt\":\"\"}");
    expect_int(reply, "usage.prompt_tokens", 1);
    assert_int_equal(fake_last_params(w.engine)->max_tokens, 16);
    assert_true(fake_last_params(w.engine)->continues_text);
    json_decref(reply);
    close_world(&w);
}

static void test_best_of(void **state)
{
    struct world w;
    open_world(&w, (struct fake_options){.answer = "x"});
    json_t *reply = reply_to(&w, generation_start_completion, COMPLETION(",\"best_of\":3"));
    assert_int_equal(json_array_size(at(reply, "choices")), 1);
    expect_int(reply, "choices.0.index", 0);
    expect_int(reply, "usage.completion_tokens", 6);
    assert_true(json_is_null(at(reply, "choices.0.logprobs")));
    assert_int_equal(fake_last_params(w.engine)->logprobs, 0); /* for the ranking */
    json_decref(reply);
    close_world(&w);
}

static void test_all_or_nothing(void **state)
{
    struct world w;
    open_world(&w, (struct fake_options){.answer = "x",
                                         .token_us = 1000,
                                         .fail_submit_at = 3,
                                         .fail_status = PHID_ERR_BUSY});
    fake_set_load(w.engine, &(struct phid_engine_load){.wait_ms = 5001});
    const struct generation_request request = {
        .api = &w.api, .body = STR(CHAT(",\"n\":4")), .id = "test"};
    struct generation *g = NULL;
    struct api_error err;
    assert_int_equal(generation_start_chat(&request, &g, &err), API_OVERLOADED);
    assert_null(g);
    assert_int_equal(api_error_status(err.fault), 503);
    assert_int_equal(api_error_retry_after(&err), 3);
    assert_int_equal(fake_submitted(w.engine), 3);
    close_world(&w);
}

/* ----------------------------------------------------------------- refusals */

struct refusal {
    const char *body, *code, *param;
};

static void expect_refusals(start_fn *endpoint, const struct refusal *cases, size_t count)
{
    struct world w;
    open_world(&w, (struct fake_options){.answer = "x", .context = 64});
    for (size_t i = 0; i < count; i++) {
        const struct generation_request request = {
            .api = &w.api, .body = str_of(cases[i].body), .id = "test"};
        struct generation *g = NULL;
        struct api_error err = {0};
        enum api_fault fault = endpoint(&request, &g, &err);
        if (fault == API_OK || strcmp(api_error_code(fault), cases[i].code) != 0 ||
            strcmp(err.param, cases[i].param) != 0) {
            fail_msg("%s: %s at '%s': %s", cases[i].body,
                     fault == API_OK ? "accepted" : api_error_code(fault), err.param, err.message);
        }
    }
    assert_int_equal(fake_live(w.engine), 0);
    close_world(&w);
}

#define MESSAGE(fields) "{\"model\":\"fake\",\"messages\":[{" fields "}]}"
#define LONG_TEXT       "0123456789012345678901234567890123456789012345678901234567890123456789"

static void test_chat_refusals(void **state)
{
    static const struct refusal cases[] = {
        {"{\"messages\":[]}", "missing_required_parameter", "model"},
        {"{\"model\":\"\",\"messages\":[]}", "invalid_value", "model"},
        {"{\"model\":\"gpt-17\",\"messages\":[]}", "model_not_found", "model"},
        {"{\"model\":\"fake\"}", "missing_required_parameter", "messages"},
        {"{\"model\":\"fake\",\"messages\":[]}", "empty_array", "messages"},
        {"{\"model\":\"fake\",\"messages\":{}}", "invalid_type", "messages"},
        {"{\"model\":\"fake\",\"messages\":[null]}", "invalid_type", "messages[0]"},
        {MESSAGE("\"content\":\"x\""), "missing_required_parameter", "messages[0].role"},
        {MESSAGE("\"role\":\"wizard\",\"content\":\"x\""), "invalid_value", "messages[0].role"},
        {MESSAGE("\"role\":\"user\""), "missing_required_parameter", "messages[0].content"},
        {MESSAGE("\"role\":\"user\",\"content\":null"), "missing_required_parameter",
         "messages[0].content"},
        {MESSAGE("\"role\":\"user\",\"content\":5"), "invalid_type", "messages[0].content"},
        {MESSAGE("\"role\":\"user\",\"content\":[]"), "empty_array", "messages[0].content"},
        {MESSAGE("\"role\":\"user\",\"content\":[5]"), "invalid_type", "messages[0].content[0]"},
        {MESSAGE("\"role\":\"user\",\"content\":[{\"text\":\"x\"}]"), "missing_required_parameter",
         "messages[0].content[0].type"},
        {MESSAGE("\"role\":\"user\",\"content\":[{\"type\":\"text\"}]"),
         "missing_required_parameter", "messages[0].content[0].text"},
        {MESSAGE("\"role\":\"user\",\"content\":[{\"type\":\"image_url\"}]"), "unsupported_value",
         "messages[0].content[0].type"},
        {MESSAGE("\"role\":\"user\",\"content\":[{\"type\":\"refusal\",\"refusal\":\"x\"}]"),
         "unsupported_value", "messages[0].content[0].type"},
        {MESSAGE("\"role\":\"tool\",\"content\":\"x\""), "missing_required_parameter",
         "messages[0].tool_call_id"},
        {MESSAGE("\"role\":\"user\",\"content\":\"x\",\"name\":5"), "invalid_type",
         "messages[0].name"},
        {MESSAGE("\"role\":\"assistant\",\"tool_calls\":[{\"type\":\"function\"}]"),
         "missing_required_parameter", "messages[0].tool_calls[0].function"},
        {MESSAGE("\"role\":\"user\",\"content\":\"" LONG_TEXT "\""), "context_length_exceeded",
         "messages"},
        {CHAT(",\"temperature\":2.5"), "decimal_above_max_value", "temperature"},
        {CHAT(",\"max_tokens\":0"), "integer_below_min_value", "max_tokens"},
        {CHAT(",\"n\":129"), "integer_above_max_value", "n"},
        {CHAT(",\"stop\":\"\""), "invalid_value", "stop"},
        {CHAT(",\"stop\":[\"a\",\"\"]"), "invalid_value", "stop[1]"},
        {CHAT(",\"stop\":[1]"), "invalid_type", "stop[0]"},
        {CHAT(",\"stop\":{}"), "invalid_type", "stop"},
        {CHAT(",\"logit_bias\":{\"258\":1}"), "invalid_value", "logit_bias"},
        {CHAT(",\"logit_bias\":{\"01\":1}"), "invalid_value", "logit_bias"},
        {CHAT(",\"logit_bias\":{\"-1\":1}"), "invalid_value", "logit_bias"},
        {CHAT(",\"logit_bias\":{\"1\":101}"), "invalid_value", "logit_bias"},
        {CHAT(",\"logit_bias\":{\"1\":\"x\"}"), "invalid_type", "logit_bias"},
        {CHAT(",\"stream_options\":{}"), "invalid_value", "stream_options"},
        {CHAT(",\"stream\":true,\"stream_options\":{\"include_usage\":1}"), "invalid_type",
         "stream_options.include_usage"},
        {CHAT(",\"top_logprobs\":3"), "invalid_value", "top_logprobs"},
        {CHAT(",\"logprobs\":true,\"top_logprobs\":21"), "integer_above_max_value", "top_logprobs"},
        {CHAT(",\"tools\":[{}]"), "unsupported_parameter", "tools"},
        {CHAT(",\"functions\":[{}]"), "unsupported_parameter", "functions"},
        {CHAT(",\"tool_choice\":\"required\""), "unsupported_parameter", "tool_choice"},
        {CHAT(",\"tool_choice\":\"sometimes\""), "invalid_value", "tool_choice"},
        {CHAT(",\"response_format\":{\"type\":\"json_object\"}"), "unsupported_parameter",
         "response_format"},
        {CHAT(",\"response_format\":{}"), "missing_required_parameter", "response_format.type"},
        {CHAT(",\"response_format\":{\"type\":\"yaml\"}"), "invalid_value", "response_format.type"},
        {CHAT(",\"modalities\":[\"audio\"]"), "unsupported_value", "modalities"},
        {CHAT(",\"audio\":{}"), "unsupported_parameter", "audio"},
        {CHAT(",\"metadata\":{\"a\":1}"), "invalid_type", "metadata"},
        {CHAT(",\"service_tier\":\"gold\""), "invalid_value", "service_tier"},
        {CHAT(",\"reasoning_effort\":\"utmost\""), "invalid_value", "reasoning_effort"},
        {CHAT(",\"safety_identifier\":\"" LONG_TEXT "\""), "string_above_max_length",
         "safety_identifier"},
    };
    expect_refusals(generation_start_chat, cases, sizeof cases / sizeof cases[0]);
}

static void test_completion_refusals(void **state)
{
    static const struct refusal cases[] = {
        {"{\"model\":\"fake\"}", "missing_required_parameter", "prompt"},
        {"{\"model\":\"fake\",\"prompt\":[]}", "empty_array", "prompt"},
        {"{\"model\":\"fake\",\"prompt\":5}", "invalid_type", "prompt"},
        {"{\"model\":\"fake\",\"prompt\":{}}", "invalid_type", "prompt"},
        {"{\"model\":\"fake\",\"prompt\":[true]}", "invalid_type", "prompt[0]"},
        {"{\"model\":\"fake\",\"prompt\":[1.5]}", "invalid_type", "prompt[0]"},
        {"{\"model\":\"fake\",\"prompt\":[1,\"a\"]}", "invalid_type", "prompt[1]"},
        {"{\"model\":\"fake\",\"prompt\":[\"a\",1]}", "invalid_type", "prompt[1]"},
        {"{\"model\":\"fake\",\"prompt\":[\"a\",null]}", "invalid_type", "prompt[1]"},
        {"{\"model\":\"fake\",\"prompt\":[-1]}", "invalid_value", "prompt[0]"},
        {"{\"model\":\"fake\",\"prompt\":[258]}", "invalid_value", "prompt[0]"},
        {"{\"model\":\"fake\",\"prompt\":[[1],[]]}", "empty_array", "prompt[1]"},
        {"{\"model\":\"fake\",\"prompt\":[[1],[2,258]]}", "invalid_value", "prompt[1][1]"},
        {"{\"model\":\"fake\",\"prompt\":[[[1]]]}", "invalid_type", "prompt[0][0]"},
        {"{\"model\":\"fake\",\"prompt\":\"" LONG_TEXT "\"}", "context_length_exceeded", "prompt"},
        {COMPLETION(",\"suffix\":\"x\""), "unsupported_parameter", "suffix"},
        {COMPLETION(",\"best_of\":21"), "integer_above_max_value", "best_of"},
        {COMPLETION(",\"n\":3,\"best_of\":2"), "invalid_value", "best_of"},
        {COMPLETION(",\"best_of\":2,\"stream\":true"), "invalid_value", "best_of"},
        {COMPLETION(",\"logprobs\":true"), "invalid_type", "logprobs"},
        {COMPLETION(",\"logprobs\":21"), "integer_above_max_value", "logprobs"},
        {COMPLETION(",\"max_tokens\":-1"), "integer_below_min_value", "max_tokens"},
        {COMPLETION(",\"top_k\":-5"), "integer_below_min_value", "top_k"},
        {COMPLETION(",\"min_p\":2"), "decimal_above_max_value", "min_p"},
        {COMPLETION(",\"echo\":\"yes\""), "invalid_type", "echo"},
        {"{\"model\":\"fake\",\"prompt\":[\"a\",\"b\",\"c\"],\"n\":100}", "invalid_value",
         "prompt"},
    };
    expect_refusals(generation_start_completion, cases, sizeof cases / sizeof cases[0]);
}

/* ----------------------------------------------------------------- messages */

static void test_messages(void **state)
{
    static const char body[] = "{\"messages\":["
                               "{\"role\":\"developer\",\"content\":\"d\"},"
                               "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},"
                               "{\"type\":\"text\",\"text\":\"b\"}]},"
                               "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":"
                               "\"1\",\"type\":\"function\",\"function\":"
                               "{\"name\":\"f\",\"arguments\":\"{\\\"x\\\":1}\"}},{\"function\":{"
                               "\"name\":\"g\",\"arguments\":\"no json\"}}]},"
                               "{\"role\":\"tool\",\"tool_call_id\":\"1\",\"content\":\"42\"},"
                               "{\"role\":\"assistant\",\"content\":[{\"type\":\"refusal\","
                               "\"refusal\":\"no\"}],\"refusal\":null,\"annotations\":[],"
                               "\"reasoning_content\":\"r\"},"
                               "{\"role\":\"assistant\"}]}";
    static const struct {
        enum phid_role role;
        const char *text;
    } expected[] = {
        {PHID_ROLE_SYSTEM, "d"},
        {PHID_ROLE_USER, "a\nb"},
        {PHID_ROLE_ASSISTANT, "{\"name\": \"f\", \"arguments\": {\"x\":1}}\n{\"name\": \"g\", "
                              "\"arguments\": \"no json\"}"},
        {PHID_ROLE_TOOL, "42"},
        {PHID_ROLE_ASSISTANT, "no"},
        {PHID_ROLE_ASSISTANT, ""},
    };
    struct messages messages;
    struct api_error err;
    size_t bytes = 0;
    json_t *parsed = json_loads(body, 0, NULL);
    assert_non_null(parsed);
    assert_int_equal(messages_read(parsed, &messages, &err), API_OK);
    assert_int_equal(messages.count, 6);
    for (size_t i = 0; i < messages.count; i++) {
        assert_int_equal(messages.items[i].role, expected[i].role);
        assert_true(
            str_equal_c((struct str){messages.items[i].content, messages.items[i].content_size},
                        expected[i].text));
        bytes += strlen(expected[i].text);
    }
    assert_int_equal(messages.bytes, bytes);
    messages_fini(&messages);
    json_decref(parsed);
}

int main(void)
{
    json_object_seed(0);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chat_reply),
        cmocka_unit_test(test_chat_logprobs),
        cmocka_unit_test(test_choices_have_their_own_seeds),
        cmocka_unit_test(test_settings_reach_the_engine),
        cmocka_unit_test(test_chat_stream),
        cmocka_unit_test(test_stream_without_usage_has_no_usage_key),
        cmocka_unit_test(test_stream_error_ends_without_done),
        cmocka_unit_test(test_pull_stops_when_nobody_reads),
        cmocka_unit_test(test_completion_echo_logprobs),
        cmocka_unit_test(test_completion_prompts),
        cmocka_unit_test(test_best_of),
        cmocka_unit_test(test_all_or_nothing),
        cmocka_unit_test(test_chat_refusals),
        cmocka_unit_test(test_completion_refusals),
        cmocka_unit_test(test_messages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

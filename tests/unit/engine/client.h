/* A client for tests of the engine: submits a request and gathers all of its output. */
#ifndef TESTS_CLIENT_H
#define TESTS_CLIENT_H

#include "engine/base/buf.h"
#include "engine/phid.h"
#include "tests/unit/engine/fake_model.h"

enum { CLIENT_TOKENS_MAX = 4096, CLIENT_TOP_MAX = 20 };

struct client_token {
    int32_t id;
    float logprob;
    bool is_prompt;
    size_t top_count;
    struct phid_top top[CLIENT_TOP_MAX];
    size_t text_size; /* of all text, when this token had arrived */
};

struct client {
    struct phid_request *request;
    struct buf text;
    struct client_token *tokens; /* [CLIENT_TOKENS_MAX] */
    size_t token_count;
    size_t polls;            /* that gave something */
    struct phid_output last; /* the last one; its pointers are not to be used */
};

struct phid_request_params client_params(const int32_t *prompt, size_t prompt_count,
                                         size_t max_tokens); /* greedy */

/* Fails the test if the engine refuses. */
void client_submit(struct client *c, struct phid_engine *engine,
                   const struct phid_request_params *params);

bool client_poll(struct client *c);   /* takes what is there */
void client_finish(struct client *c); /* takes everything to the end */
void client_fini(struct client *c);   /* frees the request */

struct phid_engine *client_engine(struct fake_model *m, const struct phid_engine_options *options);

/* Waits until no page is in use; fails the test after some seconds. */
void client_expect_all_free(struct phid_engine *engine);

/* The text of answer tokens by definition: all of them decoded at once. */
void client_text(const struct fake_model *m, const int32_t *ids, size_t count, bool continues_text,
                 struct buf *ret);

#endif

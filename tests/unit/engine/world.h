/* A model and an engine on the fake backend, and what tests of the engine say about them. */
#ifndef TESTS_WORLD_H
#define TESTS_WORLD_H

#include "tests/unit/engine/client.h"

enum { WORLD_CONTEXT = 512 };

struct world {
    struct fake_model model;
    struct phid_engine *engine;
};

/* The end checks that all pages came back and that no row ever met the wrong past. */
void world_init(struct world *w, size_t original_context,
                const struct phid_engine_options *options);
void world_fini(struct world *w);

extern const int32_t world_bos[]; /* a prompt of one token, <s> */

struct phid_engine_options
world_pool(size_t contexts); /* KV memory for so many contexts, steps of 64 rows */
void world_prompt(int32_t *prompt, size_t count, int seed);

/* Makes the answer to world_bos this sequence of pieces, then an end token. script: [count], must
 * last. */
void world_script(int32_t *script, const char *const *pieces, size_t count);

/* Makes every answer FAKE_LONG after FAKE_LONG, of which 164 fill an output that nobody reads. */
void world_script_long(void);

/* Reads to the end; the answer must be the one that follows from the prompt by definition. */
void world_expect_answer(const struct world *w, struct client *c, const int32_t *prompt,
                         size_t prompt_count, size_t max, size_t original_context);
void world_expect_text(const struct client *c, const char *text);
void world_expect_refusal(struct world *w, const struct phid_request_params *params,
                          enum phid_status status, const char *part);

#endif

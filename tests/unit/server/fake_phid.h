/* An engine without a model for the server's tests: a token is a byte, every answer is the same
 * text at a chosen pace. It implements engine/phid.h as far as the server uses it. */
#ifndef PHID_TESTS_FAKE_PHID_H
#define PHID_TESTS_FAKE_PHID_H

#include <stdatomic.h>

#include "engine/phid.h"

#define FAKE_BOS   256
#define FAKE_EOS   257
#define FAKE_VOCAB 258

struct fake_options {
    const char *answer;           /* what every request gets, then an end token */
    unsigned token_us;            /* pause between two tokens; 0: all at once */
    size_t context;               /* 0: 4096 */
    size_t fail_submit_at;        /* the how-manieth submit fails, from 1; 0: none */
    enum phid_status fail_status; /* with this */
    size_t fail_token_at;         /* a request fails after so many tokens; 0: none */
    uint64_t stalled_ns;          /* what phid_engine_stats says */
    bool failed;                  /* the same */
};

struct phid_model *fake_model_new(void);
struct phid_engine *fake_engine_new(struct phid_model *model, const struct fake_options *options);

/* What phid_engine_load says from now on. */
void fake_set_load(struct phid_engine *engine, const struct phid_engine_load *load);

size_t fake_live(struct phid_engine *engine);      /* requests submitted and not freed */
size_t fake_submitted(struct phid_engine *engine); /* ever */

/* The parameters of the latest submit, its prompt as text. Valid until the next one. */
const struct phid_request_params *fake_last_params(struct phid_engine *engine);
const char *fake_last_prompt(struct phid_engine *engine);

#endif

/* The answer in the making: sampled tokens in, text and tokens that may be shown out.
 *
 * Part of a sequence; step thread. Holds back what is not certain yet: half a character, and text
 * that may become a stop string. A token is shown once all of its text is out, so text and tokens
 * stay aligned. On a stop string the text ends before it, and tokens that lie entirely behind the
 * cut are never shown. */
#ifndef PHID_SCHED_ANSWER_H
#define PHID_SCHED_ANSWER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/buf.h"
#include "engine/base/status.h"
#include "engine/phid.h"
#include "engine/sched/output.h"
#include "engine/sched/stop.h"
#include "engine/text/detok.h"

/* Places are byte numbers in the whole answer's text. */
struct answer_token {
    int32_t id;
    float logprob;
    uint64_t start;
    uint64_t
        end; /* one byte further than decoded so far while the token ends in half a character */
    size_t top_count;
};

struct answer {
    struct detok detok;
    const struct stop_set *stops; /* borrowed from the request */
    stop_state stop;
    struct buf text; /* decoded and not shown; its first byte is number `shown` */
    size_t ready;    /* bytes of it that may be shown */
    uint64_t shown;  /* bytes shown so far */
    bool stopped;    /* a stop string was found; text ends before it */
    bool ended;      /* nothing comes any more */

    struct answer_token *tokens; /* not shown yet: a ring of `capacity`, a power of two */
    struct phid_top *tops;       /* [capacity * top_max] */
    size_t first, count, capacity;
    size_t top_max;
};

/* at_start: see detok_init. top_max: alternatives a token. Errors: PHID_ERR_MEMORY. */
enum phid_status answer_init(struct answer *a, const struct tokenizer *tokenizer, bool at_start,
                             const struct stop_set *stops, size_t top_max, struct phid_error *err);
void answer_fini(struct answer *a); /* a zeroed one is fine */

/* A token of the answer (not an end token). top: [top_count], at most top_max. Sets a->stopped when
 * it completes a stop string. Allocates only when the text held back is longer than it ever was.
 * Errors: PHID_ERR_MEMORY. */
enum phid_status answer_push(struct answer *a, int32_t id, float logprob,
                             const struct phid_top *top, size_t top_count, struct phid_error *err);

/* The last token was pushed: what was held back may be shown. May set a->stopped too. Errors:
 * PHID_ERR_MEMORY. */
enum phid_status answer_end(struct answer *a, struct phid_error *err);

/* Moves what may be shown to the output, between output_begin and output_end. Errors:
 * PHID_ERR_MEMORY. */
enum phid_status answer_show(struct answer *a, struct output *output, struct phid_error *err);

#endif

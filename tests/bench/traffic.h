/* What is asked: the bodies of the requests, from a seed.
 *
 * Token ids are drawn at random, and words from a short list, so a prompt is never met twice but
 * where the workload wants it. Text stays as it is in JSON, escapes and all: an answer's pieces are
 * put into the next question of its conversation unread. */
#ifndef PHID_BENCH_TRAFFIC_H
#define PHID_BENCH_TRAFFIC_H

#include "engine/base/rng.h"
#include "tests/bench/options.h"

#define TRAFFIC_BODY_MAX ((size_t)64 << 20)

struct traffic {
    const struct options *options; /* borrowed */
    const char *model;             /* borrowed */
    struct rng rng;
    struct buf *prefixes; /* [options->prefixes], each written out */
};

/* One client's memory of what was said; only multi-turn has any. */
struct conversation {
    size_t turn;        /* questions asked */
    struct buf history; /* messages, or the text so far */
};

bool traffic_init(struct traffic *t, const struct options *o, const char *model);
void traffic_fini(struct traffic *t);

void conversation_init(struct conversation *c);
void conversation_fini(struct conversation *c);

/* Appends the body of the conversation's next request; after the last turn another conversation
 * begins. */
void traffic_ask(struct traffic *t, struct conversation *c, struct buf *body);

/* A piece of the answer, escaped as it came; and its end. */
void traffic_hear(const struct traffic *t, struct conversation *c, struct str text);
void traffic_heard(const struct traffic *t, struct conversation *c);

/* True while the conversation has more to ask. */
bool traffic_continues(const struct traffic *t, const struct conversation *c);

/* Seconds to the next arrival of options->rate. */
double traffic_pause(struct traffic *t);

#endif

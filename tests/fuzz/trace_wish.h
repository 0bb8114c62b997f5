/* A wish: what a request of the trace asks for, and the answer it gets when it is alone.
 *
 * A table of them is made once from the seed; the lone answers are computed on an engine that runs
 * one request at a time. Afterwards the table is read by all drivers. */
#ifndef PHID_TESTS_TRACE_WISH_H
#define PHID_TESTS_TRACE_WISH_H

#include "engine/base/buf.h"
#include "engine/base/rng.h"
#include "engine/phid.h"

#define TRACE_CONTEXT  1024 /* tokens a sequence may hold, here and there */
#define TRACE_KV_TYPES 2

extern const enum phid_kv_type trace_kv_types[TRACE_KV_TYPES];

struct wish {
    int32_t *prompt; /* heap; params.prompt */
    struct phid_request_params params;
    struct lone {
        struct buf text;
        size_t completion_tokens;
        enum phid_finish finish;
    } lone[TRACE_KV_TYPES]; /* the answers that it gets alone */
};

struct wishes {
    struct wish *items; /* heap */
    size_t count;
    uint64_t page_bytes[TRACE_KV_TYPES];
};

/* False: out of memory, or the model refuses; said on stderr. */
bool wishes_make(struct wishes *w, size_t count, struct phid_model *model, struct rng *rng);
bool wishes_answer(struct wishes *w, struct phid_model *model);
void wishes_free(struct wishes *w);

#endif

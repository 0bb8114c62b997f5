/* The insides of the public handles. For the files of this folder, and for tests that bring their
 * own backend. */
#ifndef PHID_ENGINE_H
#define PHID_ENGINE_H

#include "engine/backend/backend.h"
#include "engine/gguf/gguf.h"
#include "engine/model/model.h"
#include "engine/phid.h"
#include "engine/sched/loop.h"
#include "engine/text/chat.h"
#include "engine/text/tokenizer.h"

/* Immutable once opened. */
struct phid_model {
    struct gguf_file *file;
    struct tokenizer *tokenizer;
    const struct chat_template *chat; /* NULL: none */
    struct model *model;              /* NULL: vocabulary only */
    int32_t *end_ids;                 /* [end_count] all tokens that end an answer */
    size_t end_count;
    char *architecture, *name; /* what info points to */
    struct phid_model_info info;
};

struct phid_engine {
    const struct backend_api *api;
    struct backend *backend;
    struct loop *loop;
    struct sequence_terms terms;
    struct prefix_secret prefix_secret;
    struct phid_engine_info info; /* constant */
};

struct phid_request {
    struct sequence *sequence;
    struct doorbell *bell;
};

/* phid_engine_new with a backend of the caller's choice and a model description (which must outlive
 * the engine) that need not come from the model's file. */
enum phid_status engine_new_with_backend(struct phid_model *model, const struct model *description,
                                         const struct backend_api *api,
                                         const struct phid_engine_options *options,
                                         struct phid_engine **ret_engine, struct phid_error *err);

#endif

/* What an architecture's file provides to model_load, and the memory it fills. Inside engine/model
 * only. */
#ifndef PHID_MODEL_ARCH_H
#define PHID_MODEL_ARCH_H

#include "engine/model/binder.h"
#include "engine/model/hparams.h"
#include "engine/model/model.h"

struct model_arch {
    const char *name; /* of general.architecture, and the prefix of the keys */

    /* Completes m->block, of which model_load has filled the sizes, by binding every tensor of the
     * architecture. */
    enum phid_status (*bind)(struct model *m, const struct hparams *h, struct binder *b,
                             struct phid_error *err);
};

extern const struct model_arch model_arch_phi3;
extern const struct model_arch model_arch_llama;

/* Zeroed memory that lives as long as the model; NULL when there is none or count * size wraps. */
void *model_alloc(struct model *m, size_t count, size_t size);

#endif

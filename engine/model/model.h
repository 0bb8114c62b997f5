/* A model read from a GGUF file: checked hyperparameters and bound tensors as a device-free
 * description. One file per architecture (arch_phi3.c, arch_llama.c) fills it. Immutable once
 * loaded, any thread may read it; it borrows tensor data from the gguf_file, which must stay open
 * until a backend has loaded it. */
#ifndef PHID_MODEL_MODEL_H
#define PHID_MODEL_MODEL_H

#include "engine/backend/backend.h"
#include "engine/gguf/gguf.h"

struct model_memory; /* what a model owns: names, vectors, frequencies */

struct model {
    struct block_model block; /* what a backend needs */
    const char *architecture; /* "phi3", "llama"; static */
    size_t context_length;    /* trained */
    size_t original_context;  /* up to this the short rotary factors, above it the long ones; 0: the
                                 sets are the same */
    uint64_t parameter_count;
    struct model_memory *memory; /* freed by model_free */
};

/* Errors: PHID_ERR_UNSUPPORTED (architecture, with the known ones listed; a feature of the file we
 * do not compute), PHID_ERR_FORMAT (a key or tensor missing, extra, misshapen or senseless; the
 * message names it and says what was expected and found). */
enum phid_status model_load(const struct gguf_file *file, struct model **ret_model,
                            struct phid_error *err);
void model_free(struct model *m);

#endif

/* A model of a real one's exact shape with random weights, made in memory: for measuring without a
 * download.
 *
 * The image is a GGUF file in anonymous memory, reached by a path under /proc/self/fd. The caller
 * owns the struct. */
#ifndef PHID_CLI_RANDOM_MODEL_H
#define PHID_CLI_RANDOM_MODEL_H

#include "engine/base/status.h"

struct random_model {
    int fd; /* -1: none */
    char path[64];
};

/* spec is SHAPE:TYPE, "phi-3.5-mini:q4_k_m". PHID_ERR_ARGUMENT lists the known ones. */
enum phid_status random_model_make(const char *spec, struct random_model *ret,
                                   struct phid_error *err);
void random_model_free(struct random_model *m);

#endif

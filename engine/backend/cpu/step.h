/* Running a batch through transformer blocks: the equations of block_model, one function per
 * operation, spread over the pool by rows or by weight rows. Step thread. */
#ifndef PHID_BACKEND_CPU_STEP_H
#define PHID_BACKEND_CPU_STEP_H

#include "engine/backend/cpu/backend.h"

/* Sizes and allocates the scratch memory; after the weights are loaded. */
enum phid_status cpu_scratch_open(struct backend *b, struct phid_error *err);
void cpu_scratch_close(struct cpu_scratch *s);

/* As the functions of the same names in struct backend_api. */
enum phid_status cpu_embed(struct backend *b, const struct backend_batch *batch, float *hidden,
                           struct phid_error *err);
enum phid_status cpu_step(struct backend *b, const struct backend_batch *batch, size_t first,
                          size_t last, float *hidden, struct phid_error *err);
enum phid_status cpu_head(struct backend *b, const float *hidden, const size_t *rows, size_t count,
                          float *logits, struct phid_error *err);

#endif

/* Attention over paged keys and values, for ragged batches. A query's keys are cut into ranges of
 * ATTENTION_RANGE at fixed positions; each range has a softmax of its own, over its pages in
 * ascending order, and the ranges are merged in ascending order. So its result depends neither on
 * the batch it is in, nor on how its prompt was cut, nor on who computes which range. Step thread.
 */
#ifndef PHID_BACKEND_CPU_ATTENTION_H
#define PHID_BACKEND_CPU_ATTENTION_H

#include "engine/backend/cpu/backend.h"

/* Once a step, before any layer: lists the sequences that have rows. */
void cpu_attention_start(struct backend *b, const struct backend_batch *batch);

/* One layer: scratch.q and the pages to scratch.attended. True: the results are ready as the input
 * of `out`, too. */
bool cpu_attention(struct backend *b, const struct backend_batch *batch, size_t layer,
                   const struct cpu_matrix *out);

/* Bytes of scratch memory a thread needs. */
size_t cpu_attention_thread_bytes(const struct block_model *model);

#endif

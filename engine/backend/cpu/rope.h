/* Rotary position embedding (Su and others, 2021, "RoFormer", equation 34): pairs of dimensions of
 * a head are turned by an angle that grows with the position. Cosines and sines are computed in f64
 * once a step and shared by all layers and heads. Any thread. */
#ifndef PHID_BACKEND_CPU_ROPE_H
#define PHID_BACKEND_CPU_ROPE_H

#include <stddef.h>
#include <stdint.h>

#include "engine/backend/backend.h"

/* table: [rope_dims] f32, first rope_dims / 2 cosines, then the sines, both times the set's
 * magnitude. */
void cpu_rope_table(const struct block_model *model, enum block_rope_set set, int32_t position,
                    float *table);

/* Turns `heads` heads of head_dim f32 each, in place. Dimensions from rope_dims on stay as they
 * are. */
void cpu_rope_apply(const struct block_model *model, const float *table, float *x, size_t heads);

#endif

/* Rotary position tables: inverse frequencies with the factors of a file, and LongRoPE's two sets.
 * Su et al., "RoFormer", arXiv 2104.09864; Ding et al., "LongRoPE", arXiv 2402.13753. Inside
 * engine/model only. */
#ifndef PHID_MODEL_ROPE_H
#define PHID_MODEL_ROPE_H

#include "engine/model/arch.h"

/* inverse_frequency[i] = 1 / (factors[i] * linear_factor * base^(2i / rope_dims)), the same for
 * both sets. factors may be NULL (all 1); the magnitude is the file's attention factor, or 1. */
enum phid_status rope_set_one(struct model *m, const struct hparams *h, const float *factors,
                              struct phid_error *err);

/* Two sets, short up to h->original_context and long above. Without an attention factor in the file
 * the magnitude is sqrt(1 + ln(s) / ln(original)), s = context / original, when s > 1. */
enum phid_status rope_set_two(struct model *m, const struct hparams *h, const float *short_factors,
                              const float *long_factors, struct phid_error *err);

/* Binds a tensor of factors, rope_dims / 2 of them, each above 0. */
enum phid_status rope_bind_factors(struct binder *b, const char *name, const float **ret,
                                   struct phid_error *err);

#endif

/* Which type each tensor of a model gets under a target. Stateless. */
#ifndef PHID_QUANT_MIXTURE_H
#define PHID_QUANT_MIXTURE_H

#include <stdbool.h>

#include "engine/gguf/gguf.h"
#include "quant/format/format.h"

struct mixture {
    enum quant_type base; /* of most matrices */
    enum quant_type
        raised; /* of the value and down projections of some layers; the same as base: of none */
    enum quant_type output; /* of the output head */
    uint32_t file_type;     /* general.file_type: the published number of the mixture */
};

/* False for a name that is no target. */
bool mixture_find(struct str name, struct mixture *ret);

/* The names of all targets, for messages: "f32, f16, ...". */
const char *mixture_names(void);

/* True for a matrix of weights: two or more dimensions, NAME.weight, neither a norm nor a router
 * nor rotary factors. */
bool mixture_applies(const struct gguf_tensor *tensor);

struct mixture_choice {
    const struct quant_format *format;
    bool fallback; /* the mixture's type has blocks that the rows do not divide into */
};

/* The type of one tensor to which the mixture applies. `layers`: how many the model has; `tied`: it
 * has no output.weight, so the embedding is its output head. */
struct mixture_choice mixture_choose(const struct mixture *mixture,
                                     const struct gguf_tensor *tensor, uint64_t layers, bool tied);

/* The N of "blk.N.rest"; false for another name. */
bool mixture_layer(struct str name, uint64_t *ret);

#endif

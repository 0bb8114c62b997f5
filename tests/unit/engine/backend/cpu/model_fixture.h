/* A small model of random weights and its forward pass written down a second time, in f64, with
 * whole attention rows: what the backend must compute. */
#ifndef PHID_TESTS_BACKEND_CPU_MODEL_FIXTURE_H
#define PHID_TESTS_BACKEND_CPU_MODEL_FIXTURE_H

#include <stddef.h>
#include <stdint.h>

#include "engine/backend/backend.h"

struct model_shape {
    size_t layers, embd, heads, kv_heads, head_dim, ff, vocab;
    size_t rope_dims;
    enum block_rope_pairs pairs;
    int32_t window;
    bool tied, biases;
    enum quant_type type;      /* of all matrices */
    enum quant_type head_type; /* of embedding and output */
};

extern const struct model_shape model_shape_plain;

/* 256 columns everywhere, so that every type fits; the query/key/value widths differ. */
extern const struct model_shape model_shape_wide;

struct model_fixture {
    struct block_model model;
    struct block_layer *layers;
    void **blocks; /* everything allocated */
    size_t block_count;
};

/* Exits the test program when memory runs out. */
void model_fixture_init(struct model_fixture *f, const struct model_shape *shape, uint64_t seed);
void model_fixture_fini(struct model_fixture *f);

/* Overwrites all matrices: a backend that still reads them will show it. A second call brings back
 * what they were. */
void model_fixture_scramble(const struct model_fixture *f);

/* logits: [count, n_vocab] f64 of all positions of one sequence. */
void model_reference(const struct block_model *model, enum block_rope_set set,
                     const int32_t *tokens, size_t count, double *logits);

/* sqrt(sum (a - b)^2 / sum b^2) */
double relative_rms(const float *a, const double *b, size_t n);

#endif

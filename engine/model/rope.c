#include "engine/model/rope.h"

#include <math.h>
#include <string.h>

static enum phid_status fill_set(struct model *m, const struct hparams *h, const float *factors,
                                 enum block_rope_set set, struct phid_error *err)
{
    size_t count = m->block.rope_dims / 2;
    double *inverse = model_alloc(m, count, sizeof(*inverse));
    if (inverse == NULL) {
        return phid_fail(err, PHID_ERR_MEMORY, "no memory for %zu rotary frequencies", count);
    }
    for (size_t i = 0; i < count; i++) {
        double factor = factors != NULL ? (double)factors[i] : 1.0;
        double exponent = 2.0 * (double)i / (double)m->block.rope_dims;
        inverse[i] = 1.0 / (factor * h->rope_linear_factor * pow(h->rope_base, exponent));
        if (!isfinite(inverse[i])) {
            return phid_fail(err, PHID_ERR_FORMAT, "rotary frequency %zu of %s is not finite", i,
                             h->architecture);
        }
    }
    m->block.rope_inverse_frequency[set] = inverse;
    return PHID_OK;
}

static void set_magnitude(struct model *m, double magnitude)
{
    m->block.rope_magnitude[BLOCK_ROPE_SHORT] = (float)magnitude;
    m->block.rope_magnitude[BLOCK_ROPE_LONG] = (float)magnitude;
}

enum phid_status rope_set_one(struct model *m, const struct hparams *h, const float *factors,
                              struct phid_error *err)
{
    enum phid_status status = fill_set(m, h, factors, BLOCK_ROPE_SHORT, err);
    if (status != PHID_OK) {
        return status;
    }
    m->block.rope_inverse_frequency[BLOCK_ROPE_LONG] =
        m->block.rope_inverse_frequency[BLOCK_ROPE_SHORT];
    m->original_context = 0;
    set_magnitude(m, h->rope_attn_factor > 0 ? h->rope_attn_factor : 1.0);
    return PHID_OK;
}

enum phid_status rope_set_two(struct model *m, const struct hparams *h, const float *short_factors,
                              const float *long_factors, struct phid_error *err)
{
    uint64_t original = h->original_context != 0 ? h->original_context : h->context_length;
    if (original > h->context_length) {
        return phid_fail(err, PHID_ERR_FORMAT,
                         "key %s.rope.scaling.original_context_length: expected at most the "
                         "context length %llu, found %llu",
                         h->architecture, (unsigned long long)h->context_length,
                         (unsigned long long)original);
    }
    enum phid_status status = fill_set(m, h, short_factors, BLOCK_ROPE_SHORT, err);
    if (status == PHID_OK) {
        status = fill_set(m, h, long_factors, BLOCK_ROPE_LONG, err);
    }
    if (status != PHID_OK) {
        return status;
    }
    size_t bytes = m->block.rope_dims / 2 * sizeof(float);
    m->original_context = memcmp(short_factors, long_factors, bytes) == 0 ? 0 : (size_t)original;
    double magnitude = h->rope_attn_factor;
    if (magnitude <= 0) {
        double s = (double)h->context_length / (double)original;
        magnitude = s > 1 ? sqrt(1 + log(s) / log((double)original)) : 1;
    }
    set_magnitude(m, magnitude);
    return PHID_OK;
}

enum phid_status rope_bind_factors(struct binder *b, const char *name, const float **ret,
                                   struct phid_error *err)
{
    size_t count = b->model->block.rope_dims / 2;
    const float *factors;
    enum phid_status status = binder_vector(b, name, count, &factors, err);
    if (status != PHID_OK) {
        return status;
    }
    for (size_t i = 0; i < count; i++) {
        /* The bounds leave room for base^1 and positions in a double and its cosine. */
        if (!(factors[i] >= 1e-6f && factors[i] <= 1e6f)) {
            return phid_fail(err, PHID_ERR_FORMAT,
                             "tensor %s: expected factors from 1e-6 to 1e6, found %g at %zu", name,
                             (double)factors[i], i);
        }
    }
    *ret = factors;
    return PHID_OK;
}

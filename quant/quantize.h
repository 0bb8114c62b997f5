/* Offline quantization: reads a GGUF model and writes a copy whose weight matrices have another
 * type.
 *
 * A target is a type ("q4_k", "q8_0", "f16", ...), which all matrices get, or a published mixture
 * ("q4_k_m", "q5_k_m"), which spends more bits on the matrices that need them. Vectors, norms,
 * routers and rotary factors stay as they are. Quantizing an already quantized model decodes it
 * first and adds the errors of both. */
#ifndef PHID_QUANT_QUANTIZE_H
#define PHID_QUANT_QUANTIZE_H

#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"
#include "engine/base/str.h"

/* Told after every tensor, on the calling thread. */
struct quantize_progress {
    size_t done;
    size_t total;
    struct str tensor;
    const char *from; /* names of types */
    const char *to;
};

struct quantize_options {
    struct str target; /* without regard to case */
    size_t threads;    /* 0: as many as the process may run at once */
    void (*progress)(void *context, const struct quantize_progress *progress); /* may be NULL */
    void *context;
};

struct quantize_report {
    uint64_t bytes_read; /* of tensor data */
    uint64_t bytes_written;
    size_t tensors;
    size_t converted;
    size_t fallbacks; /* got another type than the target says because their rows do not divide into
                         its blocks */
};

/* Errors: those of gguf_open; PHID_ERR_ARGUMENT for an unknown target (the message lists them);
 * PHID_ERR_FORMAT for a weight that is not a finite number (names the tensor); PHID_ERR_IO;
 * PHID_ERR_MEMORY. `out` appears only when whole. */
enum phid_status quantize_file(const char *in, const char *out,
                               const struct quantize_options *options,
                               struct quantize_report *ret_report, struct phid_error *err);

#endif

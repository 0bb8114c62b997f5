/* Binding: finding each tensor an architecture names, checking its shape, and knowing at the end
 * whether the file holds any that nobody asked for.
 *
 * Lives during model_load. Names and vectors are owned by the model; matrix data stays in the file.
 */
#ifndef PHID_MODEL_BINDER_H
#define PHID_MODEL_BINDER_H

#include <stdbool.h>
#include <stddef.h>

#include "engine/backend/backend.h"
#include "engine/gguf/gguf.h"

#define BINDER_NAME_MAX 80

struct model;

struct binder {
    const struct gguf_file *file;
    struct model *model;
    const struct gguf_tensor **bound; /* heap, one entry a tensor of the file */
    size_t bound_count;
};

enum phid_status binder_init(struct binder *b, const struct gguf_file *file, struct model *model,
                             struct phid_error *err);
void binder_fini(struct binder *b);

bool binder_has(const struct binder *b, const char *name);

/* The tensor `name`, which must be there with exactly this shape and rows of whole blocks. Each
 * name at most once. */
enum phid_status binder_matrix(struct binder *b, const char *name, size_t rows, size_t cols,
                               struct block_matrix *ret, struct phid_error *err);

/* Same for one dimension: F32, F16 or BF16, given as f32 in the model's memory. Every value must be
 * finite. */
enum phid_status binder_vector(struct binder *b, const char *name, size_t size, const float **ret,
                               struct phid_error *err);

/* A range of rows of a bound matrix, as a matrix of its own. */
struct block_matrix binder_rows(const struct block_matrix *m, size_t first, size_t count);

/* PHID_ERR_FORMAT naming a tensor that was not bound. */
enum phid_status binder_finish(struct binder *b, struct phid_error *err);

#endif

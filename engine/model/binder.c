#include "engine/model/binder.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/checked.h"
#include "engine/model/arch.h"

#define SHAPE_MAX 96

enum phid_status binder_init(struct binder *b, const struct gguf_file *file, struct model *model,
                             struct phid_error *err)
{
    *b = (struct binder){.file = file, .model = model};
    size_t count = gguf_tensor_count(file);
    b->bound = calloc(count > 0 ? count : 1, sizeof(const struct gguf_tensor *));
    if (b->bound == NULL) {
        return phid_fail(err, PHID_ERR_MEMORY, "no memory for a list of %zu tensors", count);
    }
    return PHID_OK;
}

void binder_fini(struct binder *b)
{
    free(b->bound);
    *b = (struct binder){0};
}

bool binder_has(const struct binder *b, const char *name)
{
    return gguf_tensor_find(b->file, str_of(name)) != NULL;
}

/* "[3072, 9216]", in the order of the file: row length first. */
static void shape_text(const uint64_t *ne, size_t n_dims, char ret[SHAPE_MAX])
{
    size_t used = 0;
    for (size_t i = 0; i < n_dims && used < SHAPE_MAX; i++) {
        int wrote = snprintf(ret + used, SHAPE_MAX - used, "%s%llu", i == 0 ? "[" : ", ",
                             (unsigned long long)ne[i]);
        used += wrote > 0 ? (size_t)wrote : 0;
    }
    if (used < SHAPE_MAX) {
        snprintf(ret + used, SHAPE_MAX - used, "]");
    }
}

/* Finds `name` and compares its shape; `rows` is 1 for a vector. */
static enum phid_status find_shaped(struct binder *b, const char *name, size_t rows, size_t cols,
                                    size_t n_dims, const struct gguf_tensor **ret,
                                    struct phid_error *err)
{
    const uint64_t wanted[2] = {cols, rows};
    char expected[SHAPE_MAX], found[SHAPE_MAX];
    shape_text(wanted, n_dims, expected);
    const struct gguf_tensor *t = gguf_tensor_find(b->file, str_of(name));
    if (t == NULL) {
        return phid_fail(err, PHID_ERR_FORMAT, "tensor %s is missing (expected shape %s)", name,
                         expected);
    }
    if (t->ne[0] != cols || t->ne[1] != rows || t->ne[2] != 1 || t->ne[3] != 1) {
        shape_text(t->ne, t->n_dims, found);
        return phid_fail(err, PHID_ERR_FORMAT,
                         "tensor %s: expected shape %s, found %s (data at offset %llu)", name,
                         expected, found, (unsigned long long)t->offset);
    }
    if (b->bound_count == gguf_tensor_count(b->file)) {
        return phid_fail(err, PHID_ERR_INTERNAL, "tensor %s is bound twice", name);
    }
    if (t->data == NULL) {
        return phid_fail(err, PHID_ERR_FORMAT, "tensor %s has no data in this file", name);
    }
    b->bound[b->bound_count++] = t;
    *ret = t;
    return PHID_OK;
}

/* The format of a tensor and the bytes of its rows, checked against what the file holds. */
static enum phid_status check_data(const struct gguf_tensor *t, const char *name, size_t rows,
                                   size_t cols, const struct quant_format **ret,
                                   struct phid_error *err)
{
    const struct quant_format *format = quant_format_find(t->type);
    if (format == NULL) {
        const char *type = quant_type_name(t->type);
        return phid_fail(err, PHID_ERR_UNSUPPORTED, "tensor %s: type %s (%u) is not supported",
                         name, type != NULL ? type : "unknown", (unsigned)t->type);
    }
    size_t row_bytes = quant_row_bytes(format, cols), bytes;
    if (row_bytes == 0) {
        return phid_fail(
            err, PHID_ERR_FORMAT,
            "tensor %s: rows of %zu are not whole %s blocks of %zu (data at offset %llu)", name,
            cols, format->name, format->block_weights, (unsigned long long)t->offset);
    }
    if (!checked_mul(row_bytes, rows, &bytes) || bytes > t->size_bytes) {
        return phid_fail(err, PHID_ERR_FORMAT,
                         "tensor %s: its data is shorter than its shape (data at offset %llu)",
                         name, (unsigned long long)t->offset);
    }
    *ret = format;
    return PHID_OK;
}

enum phid_status binder_matrix(struct binder *b, const char *name, size_t rows, size_t cols,
                               struct block_matrix *ret, struct phid_error *err)
{
    const struct gguf_tensor *t = NULL;
    const struct quant_format *format = NULL;
    enum phid_status status = find_shaped(b, name, rows, cols, 2, &t, err);
    if (status == PHID_OK) {
        status = check_data(t, name, rows, cols, &format, err);
    }
    if (status != PHID_OK) {
        return status;
    }
    size_t name_bytes = strlen(name) + 1;
    char *copy = model_alloc(b->model, name_bytes, 1);
    if (copy == NULL) {
        return phid_fail(err, PHID_ERR_MEMORY, "no memory for the name of tensor %s", name);
    }
    memcpy(copy, name, name_bytes);
    *ret = (struct block_matrix){
        .name = copy, .format = format, .data = t->data, .rows = rows, .cols = cols};
    return PHID_OK;
}

enum phid_status binder_vector(struct binder *b, const char *name, size_t size, const float **ret,
                               struct phid_error *err)
{
    const struct gguf_tensor *t = NULL;
    const struct quant_format *format = NULL;
    enum phid_status status = find_shaped(b, name, 1, size, 1, &t, err);
    if (status == PHID_OK) {
        status = check_data(t, name, 1, size, &format, err);
    }
    if (status != PHID_OK) {
        return status;
    }
    if (format->block_weights != 1) {
        return phid_fail(err, PHID_ERR_FORMAT,
                         "tensor %s: expected F32, F16 or BF16, found %s (data at offset %llu)",
                         name, format->name, (unsigned long long)t->offset);
    }
    float *values = model_alloc(b->model, size, sizeof(*values));
    if (values == NULL) {
        return phid_fail(err, PHID_ERR_MEMORY, "no memory for tensor %s of %zu values", name, size);
    }
    format->decode(t->data, values, size);
    for (size_t i = 0; i < size; i++) {
        if (!isfinite(values[i])) {
            return phid_fail(
                err, PHID_ERR_FORMAT, "tensor %s: value %zu is %s (data at offset %llu)", name, i,
                values[i] != values[i] ? "NaN" : "infinite", (unsigned long long)t->offset);
        }
    }
    *ret = values;
    return PHID_OK;
}

struct block_matrix binder_rows(const struct block_matrix *m, size_t first, size_t count)
{
    struct block_matrix part = *m;
    part.data = (const char *)m->data + first * quant_row_bytes(m->format, m->cols);
    part.rows = count;
    return part;
}

static int compare_tensors(const void *a, const void *b)
{
    uintptr_t x = (uintptr_t) * (const struct gguf_tensor *const *)a;
    uintptr_t y = (uintptr_t) * (const struct gguf_tensor *const *)b;
    return (x > y) - (x < y);
}

enum phid_status binder_finish(struct binder *b, struct phid_error *err)
{
    size_t count = gguf_tensor_count(b->file);
    if (b->bound_count == count) {
        return PHID_OK;
    }
    qsort(b->bound, b->bound_count, sizeof(const struct gguf_tensor *), compare_tensors);
    for (size_t i = 0; i < count; i++) {
        const struct gguf_tensor *t = gguf_tensor_at(b->file, i);
        if (bsearch(&t, b->bound, b->bound_count, sizeof(const struct gguf_tensor *),
                    compare_tensors) == NULL) {
            int shown = t->name.size < BINDER_NAME_MAX ? (int)t->name.size : BINDER_NAME_MAX;
            return phid_fail(err, PHID_ERR_FORMAT,
                             "unexpected tensor %.*s: the architecture has none of that name (data "
                             "at offset %llu)",
                             shown, t->name.data, (unsigned long long)t->offset);
        }
    }
    return PHID_OK;
}

/* Tensor descriptions of one GGUF file, and the check that their data lies inside it. */
#include "engine/gguf/file.h"

#include <inttypes.h>
#include <stdlib.h>

#include "engine/base/checked.h"
#include "engine/gguf/cursor.h"
#include "quant/format/format.h"

/* The number of bytes of a tensor, every product checked. */
static enum phid_status check_shape(struct gguf_tensor *tensor, uint64_t at, struct phid_error *err)
{
    const struct quant_format *format = quant_format_find(tensor->type);
    if (format == NULL) {
        const char *name = quant_type_name(tensor->type);
        if (name != NULL) {
            return gguf_fail(err, PHID_ERR_UNSUPPORTED, "tensor", tensor->name, at,
                             "type %s is not supported", name);
        }
        return gguf_fail(err, PHID_ERR_FORMAT, "tensor", tensor->name, at,
                         "unknown or removed tensor type %" PRIu32, tensor->type);
    }
    if (tensor->ne[0] % format->block_weights != 0) {
        return gguf_fail(err, PHID_ERR_FORMAT, "tensor", tensor->name, at,
                         "rows of %" PRIu64 " weights are not a whole number of %s blocks of %zu",
                         tensor->ne[0], format->name, format->block_weights);
    }
    uint64_t bytes = tensor->ne[0] / format->block_weights;
    bool fits = checked_mul_u64(bytes, format->block_bytes, &bytes);
    for (int i = 1; fits && i < GGUF_MAX_DIMS; i++) {
        fits = checked_mul_u64(bytes, tensor->ne[i], &bytes);
    }
    if (!fits) {
        return gguf_fail(err, PHID_ERR_FORMAT, "tensor", tensor->name, at,
                         "its size in bytes does not fit 64 bits: %" PRIu64 " x %" PRIu64
                         " x %" PRIu64 " x %" PRIu64,
                         tensor->ne[0], tensor->ne[1], tensor->ne[2], tensor->ne[3]);
    }
    tensor->size_bytes = bytes;
    return PHID_OK;
}

static enum phid_status read_dims(struct cursor *c, struct gguf_tensor *tensor, uint64_t at,
                                  struct phid_error *err)
{
    tensor->n_dims = cursor_u32(c);
    if (!c->failed && (tensor->n_dims == 0 || tensor->n_dims > GGUF_MAX_DIMS)) {
        return gguf_fail(err, PHID_ERR_FORMAT, "tensor", tensor->name, at,
                         "has %" PRIu32 " dimensions; 1 to %d are possible", tensor->n_dims,
                         GGUF_MAX_DIMS);
    }
    for (uint32_t i = 0; i < GGUF_MAX_DIMS; i++) {
        tensor->ne[i] = i < tensor->n_dims ? cursor_u64(c) : 1;
        /* The format's numbers are signed elsewhere; 2^63 and above would be negative there. */
        if (!c->failed && (tensor->ne[i] == 0 || tensor->ne[i] > INT64_MAX)) {
            return gguf_fail(err, PHID_ERR_FORMAT, "tensor", tensor->name, at,
                             "dimension %" PRIu32 " is %" PRId64, i, (int64_t)tensor->ne[i]);
        }
    }
    return PHID_OK;
}

/* One description. tensor->offset is still relative to the data section. */
static enum phid_status read_tensor(struct cursor *c, struct gguf_tensor *tensor, uint64_t index,
                                    struct phid_error *err)
{
    uint64_t at = c->at;
    tensor->name = cursor_string(c, GGUF_MAX_NAME_BYTES);
    if (c->failed) {
        return phid_fail(err, PHID_ERR_FORMAT,
                         "tensor %" PRIu64 " at offset %" PRIu64 ": a name of %" PRIu64
                         " bytes; %" PRIu64 " are left of the file, and the limit is %u",
                         index, at, c->failed_need, c->size - c->failed_at, GGUF_MAX_NAME_BYTES);
    }
    if (!gguf_name_valid(tensor->name)) {
        return phid_fail(
            err, PHID_ERR_FORMAT, "tensor %" PRIu64 " at offset %" PRIu64 ": %s", index, at,
            tensor->name.size == 0 ? "the name is empty" : "the name is not printable UTF-8");
    }
    enum phid_status status = read_dims(c, tensor, at, err);
    if (status != PHID_OK) {
        return status;
    }
    tensor->type = cursor_u32(c);
    tensor->offset = cursor_u64(c);
    if (c->failed) {
        return gguf_fail(err, PHID_ERR_FORMAT, "tensor", tensor->name, at,
                         "the file ends within its description, at offset %" PRIu64, c->size);
    }
    return check_shape(tensor, at, err);
}

/* Turns relative offsets into absolute ones and data pointers; everything must lie inside the file.
 */
static enum phid_status place(const struct gguf_part *part, struct gguf_tensor *tensors,
                              size_t count, uint64_t infos_end, struct phid_error *err)
{
    uint64_t mask = part->alignment - 1;
    uint64_t data_start =
        (infos_end + mask) & ~mask; /* a file is far smaller than 2^63, so this cannot wrap */
    /* Padding is zero. Something else there is a description that the header did not count. */
    for (uint64_t at = infos_end; count > 0 && at < data_start && at < part->size; at++) {
        if (part->bytes[at] != 0) {
            return phid_fail(err, PHID_ERR_FORMAT,
                             "expected zeros from the end of the %zu tensor descriptions to the "
                             "data at %" PRIu64 ", found %02x at offset %" PRIu64,
                             count, data_start, part->bytes[at], at);
        }
    }
    for (size_t i = 0; i < count; i++) {
        struct gguf_tensor *tensor = &tensors[i];
        uint64_t start;
        uint64_t end;
        if ((tensor->offset & mask) != 0) {
            return gguf_fail(err, PHID_ERR_FORMAT, "tensor", tensor->name, tensor->offset,
                             "its data is not aligned to %" PRIu32 " bytes", part->alignment);
        }
        if (!checked_add_u64(data_start, tensor->offset, &start) ||
            !checked_add_u64(start, tensor->size_bytes, &end) || end > part->size) {
            return gguf_fail(err, PHID_ERR_FORMAT, "tensor", tensor->name, tensor->offset,
                             "its %" PRIu64 " bytes, %" PRIu64
                             " behind the start of the data at %" PRIu64
                             ", reach past the end of the file at %" PRIu64,
                             tensor->size_bytes, tensor->offset, data_start, part->size);
        }
        tensor->offset = start;
        tensor->data = part->bytes + start;
    }
    return PHID_OK;
}

static int by_offset(const void *a, const void *b)
{
    const struct gguf_tensor *const *x = a;
    const struct gguf_tensor *const *y = b;
    return ((*x)->offset > (*y)->offset) - ((*x)->offset < (*y)->offset);
}

static enum phid_status check_overlap(const struct gguf_tensor *tensors, size_t count,
                                      struct phid_error *err)
{
    const struct gguf_tensor **order = malloc((count > 0 ? count : 1) * sizeof order[0]);
    if (order == NULL) {
        return phid_fail(err, PHID_ERR_MEMORY, "out of memory for %zu tensors", count);
    }
    for (size_t i = 0; i < count; i++) {
        order[i] = &tensors[i];
    }
    qsort(order, count, sizeof order[0], by_offset);
    enum phid_status status = PHID_OK;
    for (size_t i = 1; i < count; i++) {
        if (order[i]->offset - order[i - 1]->offset < order[i - 1]->size_bytes) {
            status = gguf_fail(err, PHID_ERR_FORMAT, "tensor", order[i]->name, order[i]->offset,
                               "its data overlaps that of '%.*s'", (int)order[i - 1]->name.size,
                               order[i - 1]->name.data);
            break;
        }
    }
    free(order);
    return status;
}

enum phid_status tensors_read(struct gguf_file *file, size_t index, struct phid_error *err)
{
    struct gguf_part *part = &file->parts[index];
    size_t first = file->tensor_count;
    size_t total = first + (size_t)part->tensor_count; /* both at most GGUF_MAX_TENSORS */
    if (total > GGUF_MAX_TENSORS) {
        return phid_fail(err, PHID_ERR_FORMAT, "more than %d tensors in all parts",
                         GGUF_MAX_TENSORS);
    }
    struct gguf_tensor *tensors =
        realloc(file->tensors, (total > 0 ? total : 1) * sizeof tensors[0]);
    if (tensors == NULL) {
        return phid_fail(err, PHID_ERR_MEMORY, "out of memory for %zu tensors", total);
    }
    file->tensors = tensors;
    if (!map_reserve(&file->names, total)) {
        return phid_fail(err, PHID_ERR_MEMORY, "out of memory for %zu tensors", total);
    }

    struct cursor c = {.bytes = part->bytes, .size = part->size, .at = part->infos_at};
    for (size_t i = first; i < total; i++) {
        uint64_t at = c.at;
        tensors[i] = (struct gguf_tensor){.part = (uint32_t)index};
        enum phid_status status = read_tensor(&c, &tensors[i], i - first, err);
        if (status != PHID_OK) {
            return status;
        }
        switch (map_put(&file->names, tensors[i].name, i)) {
        case MAP_ADDED:
            break;
        case MAP_EXISTS:
            return gguf_fail(err, PHID_ERR_FORMAT, "tensor", tensors[i].name, at,
                             "the tensor is there twice");
        case MAP_NO_MEMORY:
            return phid_fail(err, PHID_ERR_MEMORY, "out of memory for %zu tensors", total);
        }
        file->tensor_count = i + 1;
    }
    enum phid_status status = place(part, tensors + first, total - first, c.at, err);
    if (status != PHID_OK) {
        return status;
    }
    return check_overlap(tensors + first, total - first, err);
}

#include "quant/quantize.h"

#include <inttypes.h>
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "engine/base/checked.h"
#include "engine/base/pool.h"
#include "engine/gguf/gguf.h"
#include "engine/gguf/writer.h"
#include "quant/mixture.h"

/* Weights encoded between two writes: enough that the threads seldom wait, a few MB of memory. */
enum { CHUNK_WEIGHTS = 4 << 20 };

/* What runs through one quantize_file. */
struct job {
    const struct quantize_options *options;
    struct gguf_file *file;
    struct gguf_writer *writer;
    struct pool *pool;
    struct mixture mixture;
    uint64_t layers;
    bool tied;
    struct quantize_report report;
};

/* A run of rows of one tensor; a task of the pool is one row. */
struct chunk {
    const struct quant_format *from;
    const struct quant_format *to;
    const unsigned char *src;
    unsigned char *dst;
    float *rows; /* one for each thread */
    size_t row_weights;
    size_t src_row_bytes;
    size_t dst_row_bytes;
    atomic_bool not_finite; /* set by any task; read when all are done */
};

static void convert_row(void *context, size_t task, size_t thread)
{
    struct chunk *chunk = context;
    float *row = chunk->rows + thread * chunk->row_weights;
    chunk->from->decode(chunk->src + task * chunk->src_row_bytes, row, chunk->row_weights);
    for (size_t i = 0; i < chunk->row_weights; i++) {
        if (!isfinite(row[i])) {
            atomic_store_explicit(&chunk->not_finite, true,
                                  memory_order_relaxed); /* pool_run orders it */
            return;
        }
    }
    chunk->to->encode(row, chunk->dst + task * chunk->dst_row_bytes, chunk->row_weights);
}

static enum phid_status convert_tensor(struct job *job, const struct gguf_tensor *tensor,
                                       const struct quant_format *to, struct phid_error *err)
{
    struct chunk chunk = {
        .from = quant_format_find(tensor->type),
        .to = to,
        .src = tensor->data,
        .row_weights = (size_t)tensor->ne[0],
    };
    chunk.src_row_bytes = quant_row_bytes(chunk.from, chunk.row_weights);
    chunk.dst_row_bytes = quant_row_bytes(to, chunk.row_weights);
    size_t rows = (size_t)tensor->size_bytes / chunk.src_row_bytes;
    size_t rows_at_once = CHUNK_WEIGHTS / chunk.row_weights + 1;
    rows_at_once = rows_at_once < rows ? rows_at_once : rows;

    enum phid_status status = PHID_OK;
    size_t scratch_weights;
    size_t scratch_bytes;
    size_t dst_bytes;
    if (!checked_mul(chunk.row_weights, pool_threads(job->pool), &scratch_weights) ||
        !checked_mul(scratch_weights, sizeof(float), &scratch_bytes) ||
        !checked_mul(rows_at_once, chunk.dst_row_bytes, &dst_bytes) ||
        (chunk.rows = malloc(scratch_bytes)) == NULL || (chunk.dst = malloc(dst_bytes)) == NULL) {
        status = phid_fail(err, PHID_ERR_MEMORY, "tensor '%.*s': out of memory",
                           (int)tensor->name.size, tensor->name.data);
        goto done;
    }
    while (rows > 0 && status == PHID_OK) {
        size_t now = rows_at_once < rows ? rows_at_once : rows;
        pool_run(job->pool, convert_row, &chunk, now);
        if (chunk.not_finite) {
            status =
                phid_fail(err, PHID_ERR_FORMAT,
                          "tensor '%.*s' at offset %" PRIu64 ": a weight is not a finite number",
                          (int)tensor->name.size, tensor->name.data, tensor->offset);
            break;
        }
        status = gguf_writer_data(job->writer, chunk.dst, now * chunk.dst_row_bytes, err);
        chunk.src += now * chunk.src_row_bytes;
        rows -= now;
        job->report.bytes_written += now * chunk.dst_row_bytes;
    }

done:
    free(chunk.rows);
    free(chunk.dst);
    return status;
}

/* The format a tensor gets; its own when it is not converted. */
static const struct quant_format *format_of(const struct job *job, const struct gguf_tensor *tensor,
                                            bool *ret_fallback)
{
    *ret_fallback = false;
    if (!mixture_applies(tensor)) {
        return quant_format_find(tensor->type);
    }
    struct mixture_choice choice = mixture_choose(&job->mixture, tensor, job->layers, job->tied);
    *ret_fallback = choice.fallback;
    return choice.format;
}

/* Metadata, but for what the copy says differently, and the descriptions of all tensors. */
static void describe(struct job *job)
{
    for (size_t i = 0; i < gguf_entry_count(job->file); i++) {
        const struct gguf_entry *entry = gguf_entry_at(job->file, i);
        if (!str_equal_c(entry->key, "general.file_type") &&
            !str_equal_c(entry->key, "general.quantization_version") &&
            !str_starts_with(entry->key, STR("split."))) {
            gguf_writer_add_entry(job->writer, entry);
        }
    }
    gguf_writer_add_u32(job->writer, "general.quantization_version", 2);
    gguf_writer_add_u32(job->writer, "general.file_type", job->mixture.file_type);
    for (size_t i = 0; i < gguf_tensor_count(job->file); i++) {
        const struct gguf_tensor *tensor = gguf_tensor_at(job->file, i);
        bool fallback;
        const struct quant_format *to = format_of(job, tensor, &fallback);
        gguf_writer_add_tensor(job->writer, tensor->name, (uint32_t)to->type, tensor->n_dims,
                               tensor->ne);
    }
}

static enum phid_status write_tensors(struct job *job, struct phid_error *err)
{
    size_t total = gguf_tensor_count(job->file);
    for (size_t i = 0; i < total; i++) {
        const struct gguf_tensor *tensor = gguf_tensor_at(job->file, i);
        bool fallback;
        const struct quant_format *to = format_of(job, tensor, &fallback);
        enum phid_status status;
        if ((uint32_t)to->type == tensor->type) {
            status = gguf_writer_data(job->writer, tensor->data, (size_t)tensor->size_bytes, err);
            job->report.bytes_written += tensor->size_bytes;
        } else {
            status = convert_tensor(job, tensor, to, err);
            job->report.converted++;
        }
        if (status != PHID_OK) {
            return status;
        }
        gguf_tensor_release(job->file, tensor);
        job->report.bytes_read += tensor->size_bytes;
        job->report.tensors++;
        job->report.fallbacks += fallback ? 1 : 0;
        if (job->options->progress != NULL) {
            job->options->progress(job->options->context, &(struct quantize_progress){
                                                              .done = i + 1,
                                                              .total = total,
                                                              .tensor = tensor->name,
                                                              .from = quant_type_name(tensor->type),
                                                              .to = to->name});
        }
    }
    return PHID_OK;
}

static void count_layers(struct job *job)
{
    job->tied = gguf_tensor_find(job->file, STR("output.weight")) == NULL;
    for (size_t i = 0; i < gguf_tensor_count(job->file); i++) {
        uint64_t layer;
        if (mixture_layer(gguf_tensor_at(job->file, i)->name, &layer) && layer >= job->layers) {
            job->layers = layer + 1;
        }
    }
}

enum phid_status quantize_file(const char *in, const char *out,
                               const struct quantize_options *options,
                               struct quantize_report *ret_report, struct phid_error *err)
{
    struct job job = {.options = options};
    if (!mixture_find(options->target, &job.mixture)) {
        return phid_fail(err, PHID_ERR_ARGUMENT, "unknown target type '%.*s'; the types are %s",
                         (int)(options->target.size < 40 ? options->target.size : 40),
                         options->target.data, mixture_names());
    }
    enum phid_status status = gguf_open(in, &job.file, err);
    if (status != PHID_OK) {
        return status;
    }
    count_layers(&job);
    status = pool_new(options->threads, &job.pool, err);
    if (status == PHID_OK) {
        status = gguf_writer_new(&job.writer, err);
    }
    if (status != PHID_OK) {
        goto done;
    }
    describe(&job);
    status = gguf_writer_begin(job.writer, out, err);
    if (status == PHID_OK) {
        status = write_tensors(&job, err);
    }
    if (status == PHID_OK) {
        status = gguf_writer_end(job.writer, err);
    }
    if (status == PHID_OK) {
        *ret_report = job.report;
    }

done:
    gguf_writer_free(job.writer);
    pool_free(job.pool);
    gguf_close(job.file);
    return status;
}

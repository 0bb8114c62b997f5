#include "engine/backend/cpu/step.h"

#include "engine/backend/cpu/attention.h"
#include "engine/backend/cpu/exact.h"
#include "engine/backend/cpu/matmul.h"
#include "engine/backend/cpu/rope.h"

/* What the tasks of one operation share. */
struct operation {
    struct backend *b;
    const struct backend_batch *batch;
    const struct cpu_layer *layer;
    size_t layer_index; /* counted from the first one loaded */
    float *hidden;
};

static enum phid_status batch_check(const struct backend *b, const struct backend_batch *batch,
                                    struct phid_error *err)
{
    if (batch->rows > b->max_rows) {
        return phid_fail(err, PHID_ERR_ARGUMENT,
                         "a batch of %zu rows; the backend was opened for %zu", batch->rows,
                         b->max_rows);
    }
    return PHID_OK;
}

static enum phid_status batch_check_pages(const struct backend *b,
                                          const struct backend_batch *batch, struct phid_error *err)
{
    size_t next = 0;
    for (size_t i = 0; i < batch->sequence_count; i++) {
        const struct backend_sequence *s = &batch->sequences[i];
        if (s->first_row != next || s->rows > batch->rows - next || s->start < 0 ||
            s->rows > (size_t)(INT32_MAX - s->start) || (unsigned)s->rope_set >= BLOCK_ROPE_SETS) {
            return phid_fail(err, PHID_ERR_ARGUMENT,
                             "sequence %zu of the batch: rows %zu + %zu at position %d", i,
                             s->first_row, s->rows, (int)s->start);
        }
        next += s->rows;
        size_t tokens = (size_t)s->start + s->rows;
        for (size_t page = 0; page * BACKEND_PAGE_TOKENS < tokens; page++) {
            if (s->pages[page] >= b->kv.pages) {
                return phid_fail(err, PHID_ERR_ARGUMENT,
                                 "sequence %zu of the batch: page %u of %zu", i,
                                 (unsigned)s->pages[page], b->kv.pages);
            }
        }
    }
    if (next != batch->rows) {
        return phid_fail(err, PHID_ERR_ARGUMENT, "the batch's sequences have %zu rows of %zu", next,
                         batch->rows);
    }
    return PHID_OK;
}

static void embed_task(void *context, size_t task, size_t thread)
{
    (void)thread;
    const struct operation *o = context;
    cpu_matrix_row(&o->b->weights.embedding, (size_t)o->batch->tokens[task],
                   o->hidden + task * o->b->model->n_embd);
}

enum phid_status cpu_embed(struct backend *b, const struct backend_batch *batch, float *hidden,
                           struct phid_error *err)
{
    if (b->weights.embedding.format == NULL) {
        return phid_fail(err, PHID_ERR_ARGUMENT, "no embedding was loaded");
    }
    enum phid_status status = batch_check(b, batch, err);
    if (status != PHID_OK) {
        return status;
    }
    const struct cpu_matrix *embedding = &b->weights.embedding;
    status = cpu_weights_need(&b->weights, b->pool, &embedding, 1, err);
    if (status != PHID_OK) {
        return status;
    }
    struct operation o = {.b = b, .batch = batch, .hidden = hidden};
    cpu_profile_begin(&b->profile);
    pool_run(b->pool, embed_task, &o, batch->rows);
    cpu_profile_end(&b->profile, CPU_OP_EMBED, 0, 0);
    return PHID_OK;
}

/* Rows that a task rotates and stores. Neighbouring tokens' keys share cache lines, so a long
 * prompt's are stored by one thread; of a few rows every one is a task. */
static size_t rope_task_rows(const struct backend *b, size_t rows)
{
    return rows >= KV_LANES * pool_threads(b->pool) ? KV_LANES : 1;
}

/* Rotates queries and keys of some rows and stores keys and values in the rows' pages. */
static void rope_store_task(void *context, size_t task, size_t thread)
{
    const struct operation *o = context;
    struct backend *b = o->b;
    const struct block_model *model = b->model;
    struct cpu_scratch *s = &b->scratch;
    size_t kv = model->n_kv_heads * model->head_dim;
    size_t each = rope_task_rows(b, o->batch->rows);
    size_t first = task * each;
    size_t end = first + each < o->batch->rows ? first + each : o->batch->rows;
    for (size_t row = first; row < end; row++) {
        const float *table = s->rope + row * model->rope_dims;
        cpu_rope_apply(model, table, s->q + row * model->n_heads * model->head_dim, model->n_heads);
        cpu_rope_apply(model, table, s->k + row * kv, model->n_kv_heads);
    }
    for (size_t head = 0; head < model->n_kv_heads; head++) {
        for (size_t row = first; row < end; row++) {
            size_t slot = (size_t)s->position[row] % BACKEND_PAGE_TOKENS;
            size_t at = row * kv + head * model->head_dim;
            cpu_kv_store(&b->kv, b->kernels, s->page[row], o->layer_index, head, slot, s->k + at,
                         s->v + at, cpu_thread_scratch(b, thread));
        }
    }
}

static void silu_task(void *context, size_t task, size_t thread)
{
    (void)thread;
    const struct operation *o = context;
    size_t n_ff = o->b->model->n_ff;
    float *gate = o->b->scratch.gate + task * n_ff;
    const float *up = o->b->scratch.up + task * n_ff;
    if (o->b->exact) {
        exact_silu_mul(gate, up, n_ff);
    } else {
        o->b->kernels->silu_mul(gate, up, n_ff);
    }
}

/* Keys and values are counted once a sequence, products once a row and key: what it takes at least.
 */
static void profile_attention(struct operation *o)
{
    const struct block_model *model = o->b->model;
    uint64_t keys = 0;
    uint64_t pairs = 0;
    for (size_t i = 0; i < o->batch->sequence_count; i++) {
        const struct backend_sequence *s = &o->batch->sequences[i];
        keys += s->rows == 0 ? 0 : (uint64_t)s->start + s->rows;
        pairs += s->rows * (uint64_t)s->start + s->rows * (s->rows + 1) / 2;
    }
    uint64_t key_bytes = o->b->kv.page_bytes / (BACKEND_PAGE_TOKENS * (o->b->last - o->b->first));
    cpu_profile_end(&o->b->profile, CPU_OP_ATTENTION, keys * key_bytes,
                    2 * pairs * model->n_heads * model->head_dim);
}

static void attention_block(struct operation *o)
{
    struct backend *b = o->b;
    struct cpu_scratch *s = &b->scratch;
    size_t rows = o->batch->rows;
    const struct cpu_layer *layer = o->layer;
    const struct cpu_product in[] = {
        {.matrix = &layer->q, .bias = layer->q_bias, .y = s->q},
        {.matrix = &layer->k, .bias = layer->k_bias, .y = s->k},
        {.matrix = &layer->v, .bias = layer->v_bias, .y = s->v},
    };
    const struct cpu_input normed = {
        .x = o->hidden, .weight = layer->attn_norm, .normed = s->normed, .cols = b->model->n_embd};
    cpu_matmul_prepare(b, &normed, rows, in, 3);
    cpu_matmul(b, s->normed, rows, in, 3, CPU_OP_QKV);
    pool_run(b->pool, rope_store_task, o, (rows - 1) / rope_task_rows(b, rows) + 1);
    cpu_profile_end(&b->profile, CPU_OP_ROPE_STORE, 0, 0);
    cpu_attention(b, o->batch, o->layer_index);
    profile_attention(o);
    const struct cpu_product out = {.matrix = &layer->attn_out,
                                    .bias = layer->attn_out_bias,
                                    .y = s->out,
                                    .residual = o->hidden};
    const struct cpu_input attended = {.x = s->attended, .cols = layer->attn_out.cols};
    cpu_matmul_prepare(b, &attended, rows, &out, 1);
    cpu_matmul(b, s->attended, rows, &out, 1, CPU_OP_ATTN_OUT);
}

static void feed_forward_block(struct operation *o)
{
    struct backend *b = o->b;
    struct cpu_scratch *s = &b->scratch;
    size_t rows = o->batch->rows;
    const struct cpu_layer *layer = o->layer;
    const struct cpu_product in[] = {
        {.matrix = &layer->gate, .y = s->gate},
        {.matrix = &layer->up, .y = s->up},
    };
    const struct cpu_input normed = {
        .x = o->hidden, .weight = layer->ffn_norm, .normed = s->normed, .cols = b->model->n_embd};
    cpu_matmul_prepare(b, &normed, rows, in, 2);
    const struct cpu_product out = {.matrix = &layer->down, .y = s->out, .residual = o->hidden};
    if (cpu_matmul_can_gate(b, layer)) {
        cpu_matmul_gated(b, rows, layer);
    } else {
        cpu_matmul(b, s->normed, rows, in, 2, CPU_OP_GATE_UP);
        pool_run(b->pool, silu_task, o, rows);
        cpu_profile_end(&b->profile, CPU_OP_ACTIVATION, 0, 0);
        const struct cpu_input gated = {.x = s->gate, .cols = b->model->n_ff};
        cpu_matmul_prepare(b, &gated, rows, &out, 1);
    }
    cpu_matmul(b, s->gate, rows, &out, 1, CPU_OP_DOWN);
}

struct rows_of {
    struct backend *b;
    const struct backend_sequence *sequence;
};

static void place_task(void *context, size_t task, size_t thread)
{
    (void)thread;
    const struct rows_of *r = context;
    struct cpu_scratch *s = &r->b->scratch;
    size_t row = r->sequence->first_row + task;
    int32_t position = r->sequence->start + (int32_t)task;
    s->position[row] = position;
    s->page[row] = r->sequence->pages[position / BACKEND_PAGE_TOKENS];
    cpu_rope_table(r->b->model, r->sequence->rope_set, position,
                   s->rope + row * r->b->model->rope_dims);
}

enum phid_status cpu_step(struct backend *b, const struct backend_batch *batch, size_t first,
                          size_t last, float *hidden, struct phid_error *err)
{
    if (first < b->first || last > b->last || first > last) {
        return phid_fail(err, PHID_ERR_ARGUMENT, "layers %zu to %zu; %zu to %zu are loaded", first,
                         last, b->first, b->last);
    }
    enum phid_status status = batch_check(b, batch, err);
    if (status == PHID_OK) {
        status = batch_check_pages(b, batch, err);
    }
    if (status != PHID_OK || batch->rows == 0) {
        return status;
    }
    cpu_profile_begin(&b->profile);
    for (size_t i = 0; i < batch->sequence_count; i++) {
        struct rows_of rows = {.b = b, .sequence = &batch->sequences[i]};
        pool_run(b->pool, place_task, &rows, rows.sequence->rows);
    }
    cpu_attention_start(b, batch);
    cpu_profile_end(&b->profile, CPU_OP_POSITIONS, 0, 0);
    for (size_t i = first; i < last; i++) {
        status = cpu_weights_need_layer(&b->weights, b->pool, i - b->first, err);
        if (status != PHID_OK) {
            return status;
        }
        struct operation o = {
            .b = b,
            .batch = batch,
            .layer = &b->weights.layers[i - b->first],
            .layer_index = i - b->first,
            .hidden = hidden,
        };
        attention_block(&o);
        feed_forward_block(&o);
        if (batch->progress != NULL) {
            batch->progress(batch->progress_user);
        }
    }
    return PHID_OK;
}

enum phid_status cpu_head(struct backend *b, const float *hidden, const size_t *rows, size_t count,
                          float *logits, struct phid_error *err)
{
    if (b->weights.output.format == NULL) {
        return phid_fail(err, PHID_ERR_ARGUMENT, "no head was loaded");
    }
    const struct cpu_matrix *output = &b->weights.output;
    enum phid_status status = cpu_weights_need(&b->weights, b->pool, &output, 1, err);
    if (status != PHID_OK) {
        return status;
    }
    size_t n_vocab = b->weights.output.rows;
    cpu_profile_begin(&b->profile);
    for (size_t done = 0; done < count; done += b->max_rows) {
        size_t part = count - done < b->max_rows ? count - done : b->max_rows;
        const struct cpu_product out = {.matrix = &b->weights.output, .y = logits + done * n_vocab};
        const struct cpu_input normed = {.x = hidden,
                                         .rows = rows + done,
                                         .weight = b->weights.output_norm,
                                         .normed = b->scratch.normed,
                                         .cols = b->model->n_embd};
        cpu_matmul_prepare(b, &normed, part, &out, 1);
        cpu_matmul(b, b->scratch.normed, part, &out, 1, CPU_OP_HEAD);
    }
    return PHID_OK;
}

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
    const float *weight; /* of a norm */
    const float *source; /* of a norm: [.., n_embd] */
    const size_t *rows;  /* of a norm: which rows of source; NULL: all in order */
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

static void norm_task(void *context, size_t task, size_t thread)
{
    (void)thread;
    const struct operation *o = context;
    const struct block_model *model = o->b->model;
    const float *x = o->source + (o->rows == NULL ? task : o->rows[task]) * model->n_embd;
    float *y = o->b->scratch.normed + task * model->n_embd;
    if (o->b->exact) {
        exact_norm(x, o->weight, model->n_embd, model->norm_eps, y);
    } else {
        o->b->kernels->norm(x, o->weight, model->n_embd, model->norm_eps, y);
    }
}

static void norm(struct operation *o, const float *source, const float *weight, size_t rows)
{
    o->source = source;
    o->weight = weight;
    pool_run(o->b->pool, norm_task, o, rows);
    cpu_profile_end(&o->b->profile, CPU_OP_NORM, 0, 0);
}

/* Rotates query and key of one row and stores key and value in the row's page. */
static void rope_store_task(void *context, size_t task, size_t thread)
{
    const struct operation *o = context;
    struct backend *b = o->b;
    const struct block_model *model = b->model;
    struct cpu_scratch *s = &b->scratch;
    float *q = s->q + task * model->n_heads * model->head_dim;
    float *k = s->k + task * model->n_kv_heads * model->head_dim;
    float *v = s->v + task * model->n_kv_heads * model->head_dim;
    const float *table = s->rope + task * model->rope_dims;
    cpu_rope_apply(model, table, q, model->n_heads);
    cpu_rope_apply(model, table, k, model->n_kv_heads);
    size_t slot = (size_t)s->position[task] % BACKEND_PAGE_TOKENS;
    for (size_t head = 0; head < model->n_kv_heads; head++) {
        cpu_kv_store(&b->kv, b->kernels, s->page[task], o->layer_index, head, slot,
                     k + head * model->head_dim, v + head * model->head_dim,
                     cpu_thread_scratch(b, thread));
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

static void add_task(void *context, size_t task, size_t thread)
{
    (void)thread;
    const struct operation *o = context;
    size_t n = o->b->model->n_embd;
    o->b->kernels->add(o->hidden + task * n, o->b->scratch.out + task * n, n);
}

static void add_residual(struct operation *o)
{
    pool_run(o->b->pool, add_task, o, o->batch->rows);
    cpu_profile_end(&o->b->profile, CPU_OP_RESIDUAL, 0, 0);
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
    norm(o, o->hidden, layer->attn_norm, rows);
    const struct cpu_product in[] = {
        {.matrix = &layer->q, .bias = layer->q_bias, .y = s->q},
        {.matrix = &layer->k, .bias = layer->k_bias, .y = s->k},
        {.matrix = &layer->v, .bias = layer->v_bias, .y = s->v},
    };
    cpu_matmul(b, s->normed, rows, in, 3, CPU_OP_QKV);
    pool_run(b->pool, rope_store_task, o, rows);
    cpu_profile_end(&b->profile, CPU_OP_ROPE_STORE, 0, 0);
    cpu_attention(b, o->batch, o->layer_index);
    profile_attention(o);
    const struct cpu_product out = {
        .matrix = &layer->attn_out, .bias = layer->attn_out_bias, .y = s->out};
    cpu_matmul(b, s->attended, rows, &out, 1, CPU_OP_ATTN_OUT);
    add_residual(o);
}

static void feed_forward_block(struct operation *o)
{
    struct backend *b = o->b;
    struct cpu_scratch *s = &b->scratch;
    size_t rows = o->batch->rows;
    const struct cpu_layer *layer = o->layer;
    norm(o, o->hidden, layer->ffn_norm, rows);
    const struct cpu_product in[] = {
        {.matrix = &layer->gate, .y = s->gate},
        {.matrix = &layer->up, .y = s->up},
    };
    cpu_matmul(b, s->normed, rows, in, 2, CPU_OP_GATE_UP);
    pool_run(b->pool, silu_task, o, rows);
    cpu_profile_end(&b->profile, CPU_OP_ACTIVATION, 0, 0);
    const struct cpu_product out = {.matrix = &layer->down, .y = s->out};
    cpu_matmul(b, s->gate, rows, &out, 1, CPU_OP_DOWN);
    add_residual(o);
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
        struct operation o = {.b = b, .rows = rows + done};
        norm(&o, hidden, b->weights.output_norm, part);
        const struct cpu_product out = {.matrix = &b->weights.output, .y = logits + done * n_vocab};
        cpu_matmul(b, b->scratch.normed, part, &out, 1, CPU_OP_HEAD);
    }
    return PHID_OK;
}

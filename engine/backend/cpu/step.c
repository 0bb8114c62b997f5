#include "engine/backend/cpu/step.h"

#include "engine/backend/cpu/attention.h"
#include "engine/backend/cpu/exact.h"
#include "engine/backend/cpu/input.h"
#include "engine/backend/cpu/matmul.h"
#include "engine/backend/cpu/rope.h"

/* With more rows than this, operations are long and waiting for the last task of one is nothing:
 * norms row by row keep to themselves what tasks column by column would fight over. */
#define FUSED_ROWS_MAX 32

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
    if (batch->prompt_rows > batch->rows) {
        return phid_fail(err, PHID_ERR_ARGUMENT, "%zu prompt rows of %zu", batch->prompt_rows,
                         batch->rows);
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

/* What follows the products of queries, keys and values, a head or more at a time for all rows:
 * they are rotated, keys and values stored in the rows' pages. */
static void rotate_queries(void *context, size_t first, size_t count, size_t thread)
{
    (void)thread;
    const struct operation *o = context;
    const struct block_model *model = o->b->model;
    const struct cpu_scratch *s = &o->b->scratch;
    size_t cols = model->n_heads * model->head_dim;
    for (size_t row = 0; row < o->batch->rows; row++) {
        cpu_rope_apply(model, s->rope + row * model->rope_dims, s->q + row * cols + first,
                       count / model->head_dim);
    }
}

static struct cpu_kv_place place_of(const struct operation *o, size_t row, size_t head)
{
    const struct cpu_scratch *s = &o->b->scratch;
    return (struct cpu_kv_place){.page = s->page[row],
                                 .layer = o->layer_index,
                                 .head = head,
                                 .slot = (size_t)s->position[row] % BACKEND_PAGE_TOKENS};
}

static void store_keys(void *context, size_t first, size_t count, size_t thread)
{
    const struct operation *o = context;
    struct backend *b = o->b;
    const struct block_model *model = b->model;
    const struct cpu_scratch *s = &b->scratch;
    size_t dims = model->head_dim;
    for (size_t head = first / dims; head < (first + count) / dims; head++) {
        for (size_t row = 0; row < o->batch->rows; row++) {
            float *key = s->k + (row * model->n_kv_heads + head) * dims;
            struct cpu_kv_place place = place_of(o, row, head);
            cpu_rope_apply(model, s->rope + row * model->rope_dims, key, 1);
            cpu_kv_store_key(&b->kv, b->kernels, &place, key, cpu_thread_scratch(b, thread));
        }
    }
}

static void store_values(void *context, size_t first, size_t count, size_t thread)
{
    const struct operation *o = context;
    struct backend *b = o->b;
    size_t dims = b->model->head_dim;
    for (size_t head = first / dims; head < (first + count) / dims; head++) {
        for (size_t row = 0; row < o->batch->rows; row++) {
            const float *value = b->scratch.v + (row * b->model->n_kv_heads + head) * dims;
            struct cpu_kv_place place = place_of(o, row, head);
            cpu_kv_store_value(&b->kv, b->kernels, &place, value, cpu_thread_scratch(b, thread));
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

/* The products that a layer begins with, and what they take. */
struct beginning {
    struct cpu_product products[MATMUL_PRODUCTS_MAX];
    size_t count;
    struct cpu_input input;
};

static struct beginning attention_beginning(struct operation *o)
{
    const struct cpu_layer *layer = o->layer;
    struct cpu_scratch *s = &o->b->scratch;
    const struct block_model *model = o->b->model;
    const struct cpu_product all = {.then_context = o, .then_cols = model->head_dim};
    struct beginning ret = {.products = {all, all, all},
                            .count = 3,
                            .input = {.x = o->hidden,
                                      .weight = layer->attn_norm,
                                      .normed = s->normed,
                                      .cols = model->n_embd}};
    ret.products[0].matrix = &layer->q;
    ret.products[0].bias = layer->q_bias;
    ret.products[0].y = s->q;
    ret.products[0].then = rotate_queries;
    ret.products[1].matrix = &layer->k;
    ret.products[1].bias = layer->k_bias;
    ret.products[1].y = s->k;
    ret.products[1].then = store_keys;
    ret.products[2].matrix = &layer->v;
    ret.products[2].bias = layer->v_bias;
    ret.products[2].y = s->v;
    ret.products[2].then = store_values;
    return ret;
}

static struct beginning feed_forward_beginning(struct operation *o)
{
    struct cpu_scratch *s = &o->b->scratch;
    return (struct beginning){.products = {{.matrix = &o->layer->gate, .y = s->gate},
                                           {.matrix = &o->layer->up, .y = s->up}},
                              .count = 2,
                              .input = {.x = o->hidden,
                                        .weight = o->layer->ffn_norm,
                                        .normed = s->normed,
                                        .cols = o->b->model->n_embd}};
}

/* A product that completes the residual stream of the rows, and makes it the next ones' input if
 * that can be. Returns whether it is. */
static bool add_product(struct operation *o, const float *x, struct cpu_product *product,
                        const struct beginning *next, enum cpu_operation operation)
{
    struct cpu_norm norm;
    bool ready =
        next != NULL && o->batch->rows <= FUSED_ROWS_MAX &&
        cpu_norm_begin(o->b, &next->input, o->batch->rows, next->products, next->count, &norm);
    product->y = o->b->scratch.out;
    product->residual = o->hidden;
    if (ready) {
        product->then = cpu_norm_then;
        product->then_context = &norm;
        /* So few rows make spans only where w8_rows is as small. */
        product->then_cols = q8_put_blocks(&o->b->scratch.q8) * R16_BLOCK;
    }
    cpu_matmul(o->b, x, o->batch->rows, product, 1, operation);
    if (ready) {
        cpu_norm_end(o->b);
    }
    return ready;
}

/* ready: the input is. Returns whether that of the feed-forward block is. */
static bool attention_block(struct operation *o, bool ready)
{
    struct backend *b = o->b;
    struct cpu_scratch *s = &b->scratch;
    size_t rows = o->batch->rows;
    const struct cpu_layer *layer = o->layer;
    struct beginning in = attention_beginning(o), next = feed_forward_beginning(o);
    if (!ready) {
        cpu_input_prepare(b, &in.input, rows, in.products, in.count);
    }
    cpu_matmul(b, s->normed, rows, in.products, in.count, CPU_OP_QKV);
    bool mixed = cpu_attention(b, o->batch, o->layer_index, &layer->attn_out);
    profile_attention(o);
    struct cpu_product out = {.matrix = &layer->attn_out, .bias = layer->attn_out_bias};
    if (!mixed) {
        const struct cpu_input attended = {.x = s->attended, .cols = layer->attn_out.cols};
        cpu_input_prepare(b, &attended, rows, &out, 1);
    }
    return add_product(o, s->attended, &out, &next, CPU_OP_ATTN_OUT);
}

/* more: another layer follows. Returns whether its input is ready. */
static bool feed_forward_block(struct operation *o, bool ready, bool more)
{
    struct backend *b = o->b;
    struct cpu_scratch *s = &b->scratch;
    size_t rows = o->batch->rows;
    const struct cpu_layer *layer = o->layer;
    struct beginning in = feed_forward_beginning(o);
    if (!ready) {
        cpu_input_prepare(b, &in.input, rows, in.products, in.count);
    }
    struct cpu_product down = {.matrix = &layer->down};
    if (cpu_matmul_can_gate(b, layer)) {
        cpu_matmul_gated(b, rows, layer);
    } else {
        cpu_matmul(b, s->normed, rows, in.products, in.count, CPU_OP_GATE_UP);
        pool_run(b->pool, silu_task, o, rows);
        cpu_profile_end(&b->profile, CPU_OP_ACTIVATION, 0, 0);
        const struct cpu_input gated = {.x = s->gate, .cols = b->model->n_ff};
        cpu_input_prepare(b, &gated, rows, &down, 1);
    }
    struct operation after = *o;
    after.layer += more;
    struct beginning next = attention_beginning(&after);
    return add_product(o, s->gate, &down, more ? &next : NULL, CPU_OP_DOWN);
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

/* Which of the batch's rows are kept as those of prompts. */
static size_t rows_of_prompts(const struct backend *b, const struct backend_batch *batch)
{
    switch (b->prompts) {
    case Q8_PROMPTS_BF16:
        return batch->prompt_rows;
    case Q8_PROMPTS_W8:
        return batch->prompt_rows >= b->kernels->w8_rows ? batch->prompt_rows : 0;
    default:
        return 0;
    }
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
    b->scratch.prompt_rows = rows_of_prompts(b, batch);
    cpu_profile_begin(&b->profile);
    for (size_t i = 0; i < batch->sequence_count; i++) {
        struct rows_of rows = {.b = b, .sequence = &batch->sequences[i]};
        pool_run(b->pool, place_task, &rows, rows.sequence->rows);
    }
    cpu_attention_start(b, batch);
    cpu_profile_end(&b->profile, CPU_OP_POSITIONS, 0, 0);
    bool ready = false;
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
        ready = attention_block(&o, ready);
        ready = feed_forward_block(&o, ready, i + 1 < last);
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
    b->scratch.prompt_rows = 0;
    cpu_profile_begin(&b->profile);
    for (size_t done = 0; done < count; done += b->max_rows) {
        size_t part = count - done < b->max_rows ? count - done : b->max_rows;
        const struct cpu_product out = {.matrix = &b->weights.output, .y = logits + done * n_vocab};
        const struct cpu_input normed = {.x = hidden,
                                         .rows = rows + done,
                                         .weight = b->weights.output_norm,
                                         .normed = b->scratch.normed,
                                         .cols = b->model->n_embd};
        cpu_input_prepare(b, &normed, part, &out, 1);
        cpu_matmul(b, b->scratch.normed, part, &out, 1, CPU_OP_HEAD);
    }
    return PHID_OK;
}

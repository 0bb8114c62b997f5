#include "engine/backend/cpu/exact.h"

#include <math.h>
#include <string.h>

#define TASK_ROWS 16
#define SUMS      8 /* independent partial sums: the compiler may keep them in vectors */

size_t exact_thread_bytes(size_t max_cols, size_t head_dim)
{
    /* A decoded row, or an attention's f64 sums and scores. */
    size_t row = max_cols * sizeof(float);
    size_t attention = (cpu_round_up(head_dim, KV_LANES) + BACKEND_PAGE_TOKENS) * sizeof(double);
    return row > attention ? row : attention;
}

void exact_norm(const float *x, const float *weight, size_t n, float eps, float *y)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += (double)x[i] * (double)x[i];
    }
    double scale = 1.0 / sqrt(sum / (double)n + (double)eps);
    for (size_t i = 0; i < n; i++) {
        y[i] = (float)((double)x[i] * scale * (double)weight[i]);
    }
}

void exact_silu_mul(float *gate, const float *up, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        double g = (double)gate[i];
        gate[i] = (float)(g / (1.0 + exp(-g)) * (double)up[i]);
    }
}

static double dot(const float *a, const float *b, size_t n)
{
    double sums[SUMS] = {0};
    size_t i = 0;
    for (; i + SUMS <= n; i += SUMS) {
        for (size_t j = 0; j < SUMS; j++) {
            sums[j] += (double)a[i + j] * (double)b[i + j];
        }
    }
    for (; i < n; i++) {
        sums[0] += (double)a[i] * (double)b[i];
    }
    double sum = 0;
    for (size_t j = 0; j < SUMS; j++) {
        sum += sums[j];
    }
    return sum;
}

struct matmul {
    struct backend *backend;
    const float *x;
    size_t rows;
    const struct cpu_product *product;
};

static void matmul_task(void *context, size_t task, size_t thread)
{
    const struct matmul *m = context;
    const struct cpu_matrix *matrix = m->product->matrix;
    float *weights = cpu_thread_scratch(m->backend, thread);
    size_t last = (task + 1) * TASK_ROWS < matrix->rows ? (task + 1) * TASK_ROWS : matrix->rows;
    for (size_t i = task * TASK_ROWS; i < last; i++) {
        cpu_matrix_row(matrix, i, weights);
        double bias = m->product->bias == NULL ? 0.0 : (double)m->product->bias[i];
        for (size_t row = 0; row < m->rows; row++) {
            double sum = dot(weights, m->x + row * matrix->cols, matrix->cols);
            m->product->y[row * matrix->rows + i] = (float)(sum + bias);
        }
    }
}

void exact_matmul(struct backend *b, const float *x, size_t rows,
                  const struct cpu_product *products, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct matmul m = {.backend = b, .x = x, .rows = rows, .product = &products[i]};
        pool_run(b->pool, matmul_task, &m, (products[i].matrix->rows - 1) / TASK_ROWS + 1);
    }
}

static double element(const struct cpu_kv *kv, const void *base, size_t index)
{
    if (kv->type == BACKEND_KV_F32) {
        return (double)((const float *)base)[index];
    }
    return (double)quant_f16_to_f32(((const uint16_t *)base)[index]);
}

struct attention {
    struct backend *b;
    const struct backend_batch *batch;
    size_t layer;
};

/* One query head of one row: softmax over pages in turn, keeping the running maximum, the sum of
 * exponentials and the weighted sum of values (Milakov and Gimelshein, 2018, "Online normalizer
 * calculation for softmax", algorithm 3). */
static void attend(const struct attention *a, const struct backend_sequence *sequence, size_t row,
                   size_t head, double *scratch)
{
    const struct backend *b = a->b;
    const struct block_model *model = b->model;
    const struct cpu_kv *kv = &b->kv;
    size_t dims = model->head_dim;
    size_t kv_head = head / (model->n_heads / model->n_kv_heads);
    const float *q = b->scratch.q + (row * model->n_heads + head) * dims;
    float *out = b->scratch.attended + (row * model->n_heads + head) * dims;
    double *sums = scratch;
    double *scores = scratch + cpu_round_up(dims, KV_LANES);
    int32_t position = b->scratch.position[row];
    int32_t begin = 0;
    if (model->sliding_window > 0 && position >= model->sliding_window) {
        begin = position - model->sliding_window + 1;
    }
    double maximum = -HUGE_VAL;
    double total = 0;
    memset(sums, 0, dims * sizeof(*sums));
    for (int32_t key = begin; key <= position;) {
        uint32_t page = sequence->pages[key / BACKEND_PAGE_TOKENS];
        const void *keys = cpu_kv_keys(kv, page, a->layer, kv_head);
        const void *values = cpu_kv_values(kv, page, a->layer, kv_head);
        size_t slot = (size_t)key % BACKEND_PAGE_TOKENS;
        size_t count = BACKEND_PAGE_TOKENS - slot;
        if (count > (size_t)(position - key) + 1) {
            count = (size_t)(position - key) + 1;
        }
        double previous = maximum;
        for (size_t i = 0; i < count; i++) {
            double score = 0;
            for (size_t d = 0; d < dims; d++) {
                score += (double)q[d] * element(kv, keys, cpu_kv_key_index(kv, slot + i, d));
            }
            scores[i] = score * (double)model->attention_scale;
            maximum = scores[i] > maximum ? scores[i] : maximum;
        }
        double rescale = exp(previous - maximum);
        total *= rescale;
        for (size_t d = 0; d < dims; d++) {
            sums[d] *= rescale;
        }
        for (size_t i = 0; i < count; i++) {
            double p = exp(scores[i] - maximum);
            total += p;
            for (size_t d = 0; d < dims; d++) {
                sums[d] += p * element(kv, values, (slot + i) * kv->value_stride + d);
            }
        }
        key += (int32_t)count;
    }
    for (size_t d = 0; d < dims; d++) {
        out[d] = (float)(sums[d] / total);
    }
}

/* Task: one row and one query head. */
static void attention_task(void *context, size_t task, size_t thread)
{
    const struct attention *a = context;
    size_t heads = a->b->model->n_heads;
    size_t row = task / heads;
    size_t s = 0;
    while (row >= a->batch->sequences[s].first_row + a->batch->sequences[s].rows) {
        s++;
    }
    double *scratch = (double *)(void *)cpu_thread_scratch(a->b, thread);
    attend(a, &a->batch->sequences[s], row, task % heads, scratch);
}

void exact_attention(struct backend *b, const struct backend_batch *batch, size_t layer)
{
    struct attention a = {.b = b, .batch = batch, .layer = layer};
    pool_run(b->pool, attention_task, &a, batch->rows * b->model->n_heads);
}

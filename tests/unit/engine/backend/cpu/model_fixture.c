#include "tests/unit/engine/backend/cpu/model_fixture.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/rng.h"

#define BLOCKS_MAX 4096

/* Encoding searches, and tests make thousands of models: this many rows are random, the others
 * repeat them. Odd, so that no two groups of rows that a kernel takes together are equal. */
#define RANDOM_ROWS 17

const struct model_shape model_shape_plain = {
    .layers = 2,
    .embd = 64,
    .heads = 4,
    .kv_heads = 2,
    .head_dim = 16,
    .ff = 96,
    .vocab = 70,
    .rope_dims = 16,
    .type = QUANT_F32,
    .head_type = QUANT_F32,
};

const struct model_shape model_shape_wide = {
    .layers = 1,
    .embd = 256,
    .heads = 8,
    .kv_heads = 2,
    .head_dim = 32,
    .ff = 512,
    .vocab = 100,
    .rope_dims = 32,
};

static void *take(struct model_fixture *f, size_t bytes)
{
    void *block = calloc(1, bytes + 1);
    if (block == NULL || f->block_count == BLOCKS_MAX) {
        fprintf(stderr, "no memory for the test model\n");
        exit(99);
    }
    f->blocks[f->block_count++] = block;
    return block;
}

static struct block_matrix random_matrix(struct model_fixture *f, struct rng *rng, const char *name,
                                         enum quant_type type, size_t rows, size_t cols)
{
    const struct quant_format *format = quant_format_find(type);
    size_t row_bytes = quant_row_bytes(format, cols);
    if (row_bytes == 0) {
        fprintf(stderr, "%s: %zu columns do not suit %s\n", name, cols, format->name);
        exit(99);
    }
    unsigned char *data = take(f, rows * row_bytes);
    float *row = malloc(cols * sizeof(*row));
    float spread = 1.0f / sqrtf((float)cols);
    for (size_t i = 0; i < rows; i++) {
        if (i >= RANDOM_ROWS) {
            memcpy(data + i * row_bytes, data + (i - RANDOM_ROWS) * row_bytes, row_bytes);
            continue;
        }
        for (size_t j = 0; j < cols; j++) {
            row[j] = rng_normal(rng) * spread;
        }
        format->encode(row, data + i * row_bytes, cols);
    }
    free(row);
    return (struct block_matrix){
        .name = name, .format = format, .data = data, .rows = rows, .cols = cols};
}

static float *random_vector(struct model_fixture *f, struct rng *rng, size_t n, float mean,
                            float spread)
{
    float *v = take(f, n * sizeof(*v));
    for (size_t i = 0; i < n; i++) {
        v[i] = mean + spread * rng_normal(rng);
    }
    return v;
}

void model_fixture_init(struct model_fixture *f, const struct model_shape *s, uint64_t seed)
{
    struct rng rng;
    rng_init(&rng, seed);
    *f = (struct model_fixture){.blocks = calloc(BLOCKS_MAX, sizeof(void *))};
    f->layers = take(f, s->layers * sizeof(*f->layers));
    struct block_model *m = &f->model;
    *m = (struct block_model){
        .n_layers = s->layers,
        .n_embd = s->embd,
        .n_heads = s->heads,
        .n_kv_heads = s->kv_heads,
        .head_dim = s->head_dim,
        .n_ff = s->ff,
        .n_vocab = s->vocab,
        .norm_eps = 1e-5f,
        .attention_scale = 1.0f / sqrtf((float)s->head_dim),
        .sliding_window = s->window,
        .rope_pairs = s->pairs,
        .rope_dims = s->rope_dims,
        .rope_magnitude = {1.0f, 1.19f},
        .layers = f->layers,
    };
    double *frequency[2];
    for (int set = 0; set < 2; set++) {
        frequency[set] = take(f, (s->rope_dims / 2 + 1) * sizeof(double));
        for (size_t i = 0; i < s->rope_dims / 2; i++) {
            double base = pow(10000.0, -2.0 * (double)i / (double)s->rope_dims);
            frequency[set][i] = set == 0 ? base : base / (1.0 + (double)i);
        }
        m->rope_inverse_frequency[set] = frequency[set];
    }
    size_t q = s->heads * s->head_dim;
    size_t kv = s->kv_heads * s->head_dim;
    for (size_t i = 0; i < s->layers; i++) {
        struct block_layer *l = &f->layers[i];
        l->attn_norm = random_vector(f, &rng, s->embd, 1.0f, 0.1f);
        l->ffn_norm = random_vector(f, &rng, s->embd, 1.0f, 0.1f);
        l->q = random_matrix(f, &rng, "q", s->type, q, s->embd);
        l->k = random_matrix(f, &rng, "k", s->type, kv, s->embd);
        l->v = random_matrix(f, &rng, "v", s->type, kv, s->embd);
        l->attn_out = random_matrix(f, &rng, "attn_out", s->type, s->embd, q);
        l->gate = random_matrix(f, &rng, "gate", s->type, s->ff, s->embd);
        l->up = random_matrix(f, &rng, "up", s->type, s->ff, s->embd);
        l->down = random_matrix(f, &rng, "down", s->type, s->embd, s->ff);
        if (s->biases) {
            l->q_bias = random_vector(f, &rng, q, 0.0f, 0.5f);
            l->k_bias = random_vector(f, &rng, kv, 0.0f, 0.5f);
            l->v_bias = random_vector(f, &rng, kv, 0.0f, 0.5f);
            l->attn_out_bias = random_vector(f, &rng, s->embd, 0.0f, 0.5f);
        }
    }
    m->embedding = random_matrix(f, &rng, "embedding", s->head_type, s->vocab, s->embd);
    m->output =
        s->tied ? m->embedding : random_matrix(f, &rng, "output", s->head_type, s->vocab, s->embd);
    m->output_norm = random_vector(f, &rng, s->embd, 1.0f, 0.1f);
}

void model_fixture_fini(struct model_fixture *f)
{
    for (size_t i = 0; i < f->block_count; i++) {
        free(f->blocks[i]);
    }
    free(f->blocks);
}

static void scramble(const struct block_matrix *m)
{
    unsigned char *data = (unsigned char *)(uintptr_t)m->data;
    size_t bytes = m->rows * quant_row_bytes(m->format, m->cols);
    for (size_t i = 0; i < bytes; i++) {
        data[i] ^= 0xa5;
    }
}

void model_fixture_scramble(const struct model_fixture *f)
{
    const struct block_model *m = &f->model;
    for (size_t i = 0; i < m->n_layers; i++) {
        const struct block_layer *l = &f->layers[i];
        const struct block_matrix *all[] = {&l->q,    &l->k,  &l->v,   &l->attn_out,
                                            &l->gate, &l->up, &l->down};
        for (size_t j = 0; j < sizeof(all) / sizeof(all[0]); j++) {
            scramble(all[j]);
        }
    }
    scramble(&m->embedding);
    if (m->output.data != m->embedding.data) {
        scramble(&m->output);
    }
}

/* y = W x + bias for `count` rows of x and y, the weights decoded row by row. */
static void multiply(const struct block_matrix *w, const float *bias, const double *x, size_t count,
                     double *y)
{
    size_t row_bytes = quant_row_bytes(w->format, w->cols);
    float *row = malloc(w->cols * sizeof(*row));
    for (size_t i = 0; i < w->rows; i++) {
        w->format->decode((const unsigned char *)w->data + i * row_bytes, row, w->cols);
        for (size_t t = 0; t < count; t++) {
            double sum = bias == NULL ? 0.0 : (double)bias[i];
            for (size_t j = 0; j < w->cols; j++) {
                sum += (double)row[j] * x[t * w->cols + j];
            }
            y[t * w->rows + i] = sum;
        }
    }
    free(row);
}

static void normalize(const struct block_model *m, const float *weight, const double *x,
                      size_t count, double *y)
{
    size_t n = m->n_embd;
    for (size_t t = 0; t < count; t++, x += n, y += n) {
        double sum = 0;
        for (size_t i = 0; i < n; i++) {
            sum += x[i] * x[i];
        }
        for (size_t i = 0; i < n; i++) {
            y[i] = x[i] / sqrt(sum / (double)n + (double)m->norm_eps) * (double)weight[i];
        }
    }
}

static void rotate(const struct block_model *m, enum block_rope_set set, size_t position, double *x,
                   size_t heads)
{
    for (size_t h = 0; h < heads; h++) {
        double *head = x + h * m->head_dim;
        for (size_t i = 0; i < m->rope_dims / 2; i++) {
            double theta = (double)position * m->rope_inverse_frequency[set][i];
            double c = cos(theta) * (double)m->rope_magnitude[set];
            double s = sin(theta) * (double)m->rope_magnitude[set];
            double *a = m->rope_pairs == BLOCK_ROPE_NEOX ? &head[i] : &head[2 * i];
            double *b =
                m->rope_pairs == BLOCK_ROPE_NEOX ? &head[i + m->rope_dims / 2] : &head[2 * i + 1];
            double turned = *a * c - *b * s;
            *b = *a * s + *b * c;
            *a = turned;
        }
    }
}

/* q: one row; k, v: rows 0 .. position. */
static void attend(const struct block_model *m, size_t position, const double *q, const double *k,
                   const double *v, double *scores, double *out)
{
    size_t stride = m->n_kv_heads * m->head_dim;
    for (size_t h = 0; h < m->n_heads; h++) {
        size_t offset = h / (m->n_heads / m->n_kv_heads) * m->head_dim;
        double total = 0;
        memset(out + h * m->head_dim, 0, m->head_dim * sizeof(*out));
        for (size_t t = 0; t <= position; t++) {
            bool visible = m->sliding_window == 0 || position - t < (size_t)m->sliding_window;
            double score = 0;
            for (size_t d = 0; d < m->head_dim; d++) {
                score += q[h * m->head_dim + d] * k[t * stride + offset + d];
            }
            scores[t] = visible ? exp(score * (double)m->attention_scale) : 0.0;
            total += scores[t];
        }
        for (size_t t = 0; t <= position; t++) {
            for (size_t d = 0; d < m->head_dim; d++) {
                out[h * m->head_dim + d] += scores[t] / total * v[t * stride + offset + d];
            }
        }
    }
}

static double *zeros(size_t count, size_t width)
{
    double *x = calloc(count * width, sizeof(*x));
    if (x == NULL) {
        fprintf(stderr, "no memory for the reference\n");
        exit(99);
    }
    return x;
}

static void add(double *x, const double *y, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        x[i] += y[i];
    }
}

static void run_attention(const struct block_model *m, const struct block_layer *l,
                          enum block_rope_set set, size_t count, double *hidden)
{
    size_t q_size = m->n_heads * m->head_dim;
    size_t kv_size = m->n_kv_heads * m->head_dim;
    double *normed = zeros(count, m->n_embd);
    double *q = zeros(count, q_size);
    double *k = zeros(count, kv_size);
    double *v = zeros(count, kv_size);
    double *attended = zeros(count, q_size);
    double *scores = zeros(count, 1);
    normalize(m, l->attn_norm, hidden, count, normed);
    multiply(&l->q, l->q_bias, normed, count, q);
    multiply(&l->k, l->k_bias, normed, count, k);
    multiply(&l->v, l->v_bias, normed, count, v);
    for (size_t t = 0; t < count; t++) {
        rotate(m, set, t, q + t * q_size, m->n_heads);
        rotate(m, set, t, k + t * kv_size, m->n_kv_heads);
        attend(m, t, q + t * q_size, k, v, scores, attended + t * q_size);
    }
    multiply(&l->attn_out, l->attn_out_bias, attended, count, normed);
    add(hidden, normed, count * m->n_embd);
    free(scores);
    free(attended);
    free(v);
    free(k);
    free(q);
    free(normed);
}

static void run_mlp(const struct block_model *m, const struct block_layer *l, size_t count,
                    double *hidden)
{
    double *normed = zeros(count, m->n_embd);
    double *gate = zeros(count, m->n_ff);
    double *up = zeros(count, m->n_ff);
    normalize(m, l->ffn_norm, hidden, count, normed);
    multiply(&l->gate, NULL, normed, count, gate);
    multiply(&l->up, NULL, normed, count, up);
    for (size_t i = 0; i < count * m->n_ff; i++) {
        gate[i] = gate[i] / (1.0 + exp(-gate[i])) * up[i];
    }
    multiply(&l->down, NULL, gate, count, normed);
    add(hidden, normed, count * m->n_embd);
    free(up);
    free(gate);
    free(normed);
}

void model_reference(const struct block_model *m, enum block_rope_set set, const int32_t *tokens,
                     size_t count, double *logits)
{
    double *hidden = zeros(count, m->n_embd);
    double *normed = zeros(count, m->n_embd);
    float *row = malloc(m->n_embd * sizeof(*row));
    size_t row_bytes = quant_row_bytes(m->embedding.format, m->n_embd);
    for (size_t t = 0; t < count; t++) {
        const unsigned char *data = m->embedding.data;
        m->embedding.format->decode(data + (size_t)tokens[t] * row_bytes, row, m->n_embd);
        for (size_t i = 0; i < m->n_embd; i++) {
            hidden[t * m->n_embd + i] = (double)row[i];
        }
    }
    for (size_t i = 0; i < m->n_layers; i++) {
        run_attention(m, &m->layers[i], set, count, hidden);
        run_mlp(m, &m->layers[i], count, hidden);
    }
    normalize(m, m->output_norm, hidden, count, normed);
    multiply(&m->output, NULL, normed, count, logits);
    free(row);
    free(normed);
    free(hidden);
}

double relative_rms(const float *a, const double *b, size_t n)
{
    double difference = 0;
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        difference += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        sum += b[i] * b[i];
    }
    return sqrt(difference / sum);
}

#include "reference_forward.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

struct pass {
    struct model_file *f;
    const struct model_shape *s;
    size_t head_dim, rot, layer;
    double *inverse; /* [rot / 2] */
    double magnitude;
    size_t window; /* 0: none */
};

static const float *values(struct pass *p, const char *name)
{
    const struct file_tensor *t = model_file_find(p->f, name);
    return t != NULL ? t->values : NULL;
}

static const float *layer_values(struct pass *p, const char *suffix)
{
    char name[64];
    snprintf(name, sizeof(name), "blk.%zu.%s", p->layer, suffix);
    return values(p, name);
}

/* y = W x + b, W's rows from `first`. */
static void linear(const float *w, const float *bias, size_t first, size_t rows, size_t cols,
                   const double *x, double *y)
{
    assert_non_null(w);
    for (size_t r = 0; r < rows; r++) {
        double sum = bias != NULL ? (double)bias[first + r] : 0;
        for (size_t c = 0; c < cols; c++) {
            sum += (double)w[(first + r) * cols + c] * x[c];
        }
        y[r] = sum;
    }
}

static void rms_norm(const double *x, const float *w, size_t n, double *y)
{
    double squares = 0;
    for (size_t i = 0; i < n; i++) {
        squares += x[i] * x[i];
    }
    double scale = 1 / sqrt(squares / (double)n + (double)1e-5f);
    for (size_t i = 0; i < n; i++) {
        y[i] = x[i] * scale * (double)w[i];
    }
}

static void rotate(const struct pass *p, double *head, size_t position)
{
    bool neox = strcmp(p->s->arch, "phi3") == 0;
    for (size_t i = 0; i < p->rot / 2; i++) {
        size_t a = neox ? i : 2 * i, b = neox ? i + p->rot / 2 : 2 * i + 1;
        double theta = (double)position * p->inverse[i];
        double c = p->magnitude * cos(theta), s = p->magnitude * sin(theta);
        double x = head[a], y = head[b];
        head[a] = x * c - y * s;
        head[b] = x * s + y * c;
    }
}

static void projections(struct pass *p, const double *h, size_t position, double *q, double *k,
                        double *v)
{
    const struct model_shape *s = p->s;
    size_t n_q = s->heads * p->head_dim, n_kv = s->kv_heads * p->head_dim;
    const float *fused = layer_values(p, "attn_qkv.weight"),
                *fused_bias = layer_values(p, "attn_qkv.bias");
    if (fused != NULL) {
        linear(fused, fused_bias, 0, n_q, s->embd, h, q);
        linear(fused, fused_bias, n_q, n_kv, s->embd, h, k);
        linear(fused, fused_bias, n_q + n_kv, n_kv, s->embd, h, v);
    } else {
        linear(layer_values(p, "attn_q.weight"), layer_values(p, "attn_q.bias"), 0, n_q, s->embd, h,
               q);
        linear(layer_values(p, "attn_k.weight"), layer_values(p, "attn_k.bias"), 0, n_kv, s->embd,
               h, k);
        linear(layer_values(p, "attn_v.weight"), layer_values(p, "attn_v.bias"), 0, n_kv, s->embd,
               h, v);
    }
    for (size_t head = 0; head < s->heads; head++) {
        rotate(p, q + head * p->head_dim, position);
    }
    for (size_t head = 0; head < s->kv_heads; head++) {
        rotate(p, k + head * p->head_dim, position);
    }
}

/* One head of one query over keys 0 .. position. k, v: [.., kv_heads * head_dim]. */
static void attend(const struct pass *p, const double *q, const double *k, const double *v,
                   size_t kv_head, size_t position, double *out)
{
    size_t d = p->head_dim, stride = p->s->kv_heads * d;
    double *score = calloc(position + 1, sizeof(*score));
    double max = -INFINITY, sum = 0;
    size_t first = p->window > 0 && position + 1 > p->window ? position + 1 - p->window : 0;
    for (size_t j = first; j <= position; j++) {
        for (size_t i = 0; i < d; i++) {
            score[j] += q[i] * k[j * stride + kv_head * d + i];
        }
        score[j] /= sqrt((double)d);
        max = score[j] > max ? score[j] : max;
    }
    memset(out, 0, d * sizeof(*out));
    for (size_t j = first; j <= position; j++) {
        double e = exp(score[j] - max);
        sum += e;
        for (size_t i = 0; i < d; i++) {
            out[i] += e * v[j * stride + kv_head * d + i];
        }
    }
    for (size_t i = 0; i < d; i++) {
        out[i] /= sum;
    }
    free(score);
}

static void attention(struct pass *p, double *x, size_t count)
{
    const struct model_shape *s = p->s;
    size_t n_q = s->heads * p->head_dim, n_kv = s->kv_heads * p->head_dim;
    double *h = calloc(s->embd, sizeof(double)), *att = calloc(n_q, sizeof(double));
    double *q = calloc(count * n_q, sizeof(double)), *k = calloc(count * n_kv, sizeof(double));
    double *v = calloc(count * n_kv, sizeof(double));
    for (size_t t = 0; t < count; t++) {
        rms_norm(x + t * s->embd, layer_values(p, "attn_norm.weight"), s->embd, h);
        projections(p, h, t, q + t * n_q, k + t * n_kv, v + t * n_kv);
    }
    for (size_t t = 0; t < count; t++) {
        for (size_t head = 0; head < s->heads; head++) {
            size_t at = head * p->head_dim;
            attend(p, q + t * n_q + at, k, v, head / (s->heads / s->kv_heads), t, att + at);
        }
        linear(layer_values(p, "attn_output.weight"), layer_values(p, "attn_output.bias"), 0,
               s->embd, n_q, att, h);
        for (size_t i = 0; i < s->embd; i++) {
            x[t * s->embd + i] += h[i];
        }
    }
    free(h);
    free(att);
    free(q);
    free(k);
    free(v);
}

static void feed_forward(struct pass *p, double *x, size_t count)
{
    const struct model_shape *s = p->s;
    double *h = calloc(s->embd, sizeof(double)), *gate = calloc(s->ff, sizeof(double));
    double *up = calloc(s->ff, sizeof(double));
    const float *gate_w = layer_values(p, "ffn_gate.weight"),
                *up_w = layer_values(p, "ffn_up.weight");
    for (size_t t = 0; t < count; t++) {
        rms_norm(x + t * s->embd, layer_values(p, "ffn_norm.weight"), s->embd, h);
        linear(gate_w != NULL ? gate_w : up_w, NULL, 0, s->ff, s->embd, h, gate);
        linear(up_w, NULL, gate_w != NULL ? 0 : s->ff, s->ff, s->embd, h, up);
        for (size_t i = 0; i < s->ff; i++) {
            up[i] *= gate[i] / (1 + exp(-gate[i]));
        }
        linear(layer_values(p, "ffn_down.weight"), NULL, 0, s->embd, s->ff, up, h);
        for (size_t i = 0; i < s->embd; i++) {
            x[t * s->embd + i] += h[i];
        }
    }
    free(h);
    free(gate);
    free(up);
}

static void rotary_tables(struct pass *p, bool long_set)
{
    const struct model_shape *s = p->s;
    const float *factors =
        s->factors ? values(p, long_set ? "rope_factors_long.weight" : "rope_factors_short.weight")
                   : values(p, "rope_freqs.weight");
    p->inverse = calloc(p->rot / 2, sizeof(double));
    for (size_t i = 0; i < p->rot / 2; i++) {
        double base = s->freq_base > 0 ? (double)s->freq_base : 10000;
        p->inverse[i] = pow(base, -2.0 * (double)i / (double)p->rot);
        p->inverse[i] /= factors != NULL ? (double)factors[i] : 1;
        p->inverse[i] /= s->linear > 0 ? (double)s->linear : 1;
    }
    p->magnitude = s->attn_factor > 0 ? (double)s->attn_factor : 1;
    if (s->factors && s->attn_factor <= 0 && s->context > s->original) {
        double original = (double)s->original;
        p->magnitude = sqrt(1 + log((double)s->context / original) / log(original));
    }
}

void reference_forward(struct model_file *f, const struct model_shape *s, const int32_t *ids,
                       size_t count, bool long_set, double *logits)
{
    struct pass p = {.f = f, .s = s};
    p.head_dim = s->head_dim != 0 ? s->head_dim : s->embd / s->heads;
    p.rot = s->rope_dims != 0 ? s->rope_dims : p.head_dim;
    p.window = s->window < s->context ? s->window : 0;
    rotary_tables(&p, long_set);
    double *x = calloc(count * s->embd, sizeof(double)), *h = calloc(s->embd, sizeof(double));
    const float *embedding = values(&p, "token_embd.weight"), *output = values(&p, "output.weight");
    for (size_t t = 0; t < count; t++) {
        for (size_t i = 0; i < s->embd; i++) {
            x[t * s->embd + i] = (double)embedding[(size_t)ids[t] * s->embd + i];
        }
    }
    for (p.layer = 0; p.layer < s->layers; p.layer++) {
        attention(&p, x, count);
        feed_forward(&p, x, count);
    }
    for (size_t t = 0; t < count; t++) {
        rms_norm(x + t * s->embd, values(&p, "output_norm.weight"), s->embd, h);
        linear(output != NULL ? output : embedding, NULL, 0, s->vocab, s->embd, h,
               logits + t * s->vocab);
    }
    free(x);
    free(h);
    free(p.inverse);
}

#include "engine/backend/cpu/rope.h"

#include <math.h>

void cpu_rope_table(const struct block_model *model, enum block_rope_set set, int32_t position,
                    float *table)
{
    size_t half = model->rope_dims / 2;
    const double *frequency = model->rope_inverse_frequency[set];
    double magnitude = (double)model->rope_magnitude[set];
    for (size_t i = 0; i < half; i++) {
        double theta = (double)position * frequency[i];
        table[i] = (float)(cos(theta) * magnitude);
        table[half + i] = (float)(sin(theta) * magnitude);
    }
}

/* Halves of a head: long runs, which the compiler makes vectors of. */
static void turn_halves(float *restrict a, float *restrict b, const float *restrict cosine,
                        const float *restrict sine, size_t half)
{
    for (size_t i = 0; i < half; i++) {
        float x = a[i];
        float y = b[i];
        a[i] = x * cosine[i] - y * sine[i];
        b[i] = x * sine[i] + y * cosine[i];
    }
}

static void turn_neighbours(float *restrict x, const float *restrict cosine,
                            const float *restrict sine, size_t half)
{
    for (size_t i = 0; i < half; i++) {
        float a = x[2 * i];
        float b = x[2 * i + 1];
        x[2 * i] = a * cosine[i] - b * sine[i];
        x[2 * i + 1] = a * sine[i] + b * cosine[i];
    }
}

void cpu_rope_apply(const struct block_model *model, const float *table, float *x, size_t heads)
{
    size_t half = model->rope_dims / 2;
    for (size_t h = 0; h < heads; h++, x += model->head_dim) {
        if (model->rope_pairs == BLOCK_ROPE_NEOX) {
            turn_halves(x, x + half, table, table + half, half);
        } else {
            turn_neighbours(x, table, table + half, half);
        }
    }
}

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

void cpu_rope_apply(const struct block_model *model, const float *table, float *x, size_t heads)
{
    size_t half = model->rope_dims / 2;
    size_t step =
        model->rope_pairs == BLOCK_ROPE_NEOX ? 1 : 2; /* between the firsts of two pairs */
    size_t apart = model->rope_pairs == BLOCK_ROPE_NEOX ? half : 1; /* between the two of a pair */
    const float *cosine = table;
    const float *sine = table + half;
    for (size_t h = 0; h < heads; h++, x += model->head_dim) {
        for (size_t i = 0; i < half; i++) {
            float a = x[i * step];
            float b = x[i * step + apart];
            x[i * step] = a * cosine[i] - b * sine[i];
            x[i * step + apart] = a * sine[i] + b * cosine[i];
        }
    }
}

#include "engine/base/nearest.h"

#include <stdint.h>

#define WORD_MAX 64

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

size_t nearest_distance(struct str a, struct str b)
{
    size_t rows[3][WORD_MAX + 1];
    if (a.size > WORD_MAX || b.size > WORD_MAX) {
        return SIZE_MAX;
    }
    for (size_t j = 0; j <= b.size; j++) {
        rows[0][j] = j;
    }
    for (size_t i = 1; i <= a.size; i++) {
        size_t *now = rows[i % 3], *last = rows[(i - 1) % 3], *older = rows[(i + 1) % 3];
        now[0] = i;
        for (size_t j = 1; j <= b.size; j++) {
            size_t cost = a.data[i - 1] == b.data[j - 1] ? 0 : 1;
            now[j] = smaller(smaller(now[j - 1] + 1, last[j] + 1), last[j - 1] + cost);
            if (i > 1 && j > 1 && a.data[i - 1] == b.data[j - 2] &&
                a.data[i - 2] == b.data[j - 1]) {
                now[j] = smaller(now[j], older[j - 2] + 1);
            }
        }
    }
    return rows[a.size % 3][b.size];
}

void nearest_offer(struct nearest *nearest, struct str candidate, size_t distance)
{
    if (nearest->word.size == 0 || distance < nearest->distance) {
        *nearest = (struct nearest){.word = candidate, .distance = distance};
    }
}

bool nearest_found(const struct nearest *nearest, size_t size)
{
    return nearest->word.size > 0 && nearest->distance <= (size < 6 ? 2 : size / 3 + 1);
}

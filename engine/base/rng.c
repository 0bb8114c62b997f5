#include "engine/base/rng.h"

#include <math.h>

static uint64_t rotate_left(uint64_t x, int by)
{
    return x << by | x >> (64 - by);
}

void rng_init(struct rng *r, uint64_t seed)
{
    for (int i = 0; i < 4; i++) {
        seed += 0x9e3779b97f4a7c15u;
        uint64_t z = seed;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
        z = (z ^ z >> 27) * 0x94d049bb133111ebu;
        r->state[i] = z ^ z >> 31;
    }
}

uint64_t rng_next(struct rng *r)
{
    uint64_t *s = r->state;
    uint64_t result = rotate_left(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate_left(s[3], 45);
    return result;
}

uint64_t rng_below(struct rng *r, uint64_t bound)
{
    if (bound == 0) {
        return 0;
    }
    /* 2^64 mod bound numbers at the bottom would be drawn once too often. */
    uint64_t skip = -bound % bound;
    uint64_t x;
    do {
        x = rng_next(r);
    } while (x < skip);
    return x % bound;
}

float rng_unit(struct rng *r)
{
    return (float)(rng_next(r) >> 40) * 0x1p-24f;
}

float rng_normal(struct rng *r)
{
    double x;
    double square;
    do {
        x = (double)(rng_next(r) >> 11) * 0x1p-52 - 1.0;
        double y = (double)(rng_next(r) >> 11) * 0x1p-52 - 1.0;
        square = x * x + y * y;
    } while (square >= 1.0 || square == 0.0);
    return (float)(x * sqrt(-2.0 * log(square) / square));
}

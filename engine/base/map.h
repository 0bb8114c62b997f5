/* A hash map from borrowed byte strings to 64-bit numbers (a pointer goes through uintptr_t).
 *
 * The hash is keyed with a random number drawn for each map, so that names chosen by whoever wrote
 * a file or sent a request cannot be made to collide: n insertions cost O(n) whatever the keys are.
 * Keys must outlive the map. The caller owns the struct; not thread-safe for writing, any number of
 * threads may read. */
#ifndef PHID_BASE_MAP_H
#define PHID_BASE_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/str.h"

struct map_slot {
    struct str key; /* data is NULL in a free slot */
    uint64_t hash;
    uint64_t value;
};

struct map {
    struct map_slot *slots; /* heap; capacity of them */
    size_t count;
    size_t capacity; /* 0 or a power of two, never more than half full */
    uint64_t seed[2];
};

void map_init(struct map *m);
void map_fini(struct map *m);

/* Makes room for `count` keys in all. False: out of memory, the map is unchanged. */
bool map_reserve(struct map *m, size_t count);

enum map_put {
    MAP_ADDED,
    MAP_EXISTS, /* the key is there already; its value stays as it was */
    MAP_NO_MEMORY,
};

enum map_put map_put(struct map *m, struct str key, uint64_t value);

/* Replaces the value of a key or adds it. False: out of memory. */
bool map_set(struct map *m, struct str key, uint64_t value);

/* False when the key is absent; *ret is then unchanged. */
bool map_find(const struct map *m, struct str key, uint64_t *ret);

/* SipHash-2-4 (Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012). */
uint64_t map_siphash(const uint64_t seed[2], struct str s);

#endif

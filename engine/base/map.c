#include "engine/base/map.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "engine/base/checked.h"

enum { FIRST_CAPACITY = 16 };

static uint64_t rotate_left(uint64_t x, int by)
{
    return x << by | x >> (64 - by);
}

static void sip_rounds(uint64_t v[4], int rounds)
{
    for (int i = 0; i < rounds; i++) {
        v[0] += v[1];
        v[1] = rotate_left(v[1], 13) ^ v[0];
        v[0] = rotate_left(v[0], 32);
        v[2] += v[3];
        v[3] = rotate_left(v[3], 16) ^ v[2];
        v[0] += v[3];
        v[3] = rotate_left(v[3], 21) ^ v[0];
        v[2] += v[1];
        v[1] = rotate_left(v[1], 17) ^ v[2];
        v[2] = rotate_left(v[2], 32);
    }
}

uint64_t map_siphash(const uint64_t seed[2], struct str s)
{
    uint64_t v[4] = {
        seed[0] ^ 0x736f6d6570736575u,
        seed[1] ^ 0x646f72616e646f6du,
        seed[0] ^ 0x6c7967656e657261u,
        seed[1] ^ 0x7465646279746573u,
    };
    size_t whole = s.size & ~(size_t)7;
    for (size_t i = 0; i < whole; i += 8) {
        uint64_t word;
        memcpy(&word, s.data + i, sizeof word);
        v[3] ^= word;
        sip_rounds(v, 2);
        v[0] ^= word;
    }
    uint64_t last = (uint64_t)s.size << 56;
    for (size_t i = whole; i < s.size; i++) {
        last |= (uint64_t)(unsigned char)s.data[i] << 8 * (i - whole);
    }
    v[3] ^= last;
    sip_rounds(v, 2);
    v[0] ^= last;
    v[2] ^= 0xff;
    sip_rounds(v, 4);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

void map_init(struct map *m)
{
    *m = (struct map){0};
    ssize_t got = getrandom(m->seed, sizeof m->seed, GRND_NONBLOCK);
    if (got != (ssize_t)sizeof m->seed) {
        /* Only before the kernel has gathered entropy. Weaker, but still unknown to whoever wrote
         * the keys. */
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        m->seed[0] = (uint64_t)now.tv_nsec * 0x9e3779b97f4a7c15u ^ (uint64_t)(uintptr_t)m;
        m->seed[1] = (uint64_t)now.tv_sec ^ (uint64_t)(uintptr_t)&now;
    }
}

void map_fini(struct map *m)
{
    free(m->slots);
    *m = (struct map){0};
}

/* The slot that holds the key, or the free one where it belongs. At least half the slots are free.
 */
static struct map_slot *slot_of(struct map_slot *slots, size_t capacity, struct str key,
                                uint64_t hash)
{
    size_t mask = capacity - 1;
    size_t i = (size_t)hash & mask;
    while (slots[i].key.data != NULL && (slots[i].hash != hash || !str_equal(slots[i].key, key))) {
        i = (i + 1) & mask;
    }
    return &slots[i];
}

bool map_reserve(struct map *m, size_t count)
{
    size_t needed;
    if (!checked_mul(count, 2, &needed)) {
        return false;
    }
    if (needed <= m->capacity) {
        return true;
    }
    size_t capacity = FIRST_CAPACITY;
    while (capacity < needed) {
        if (!checked_mul(capacity, 2, &capacity)) {
            return false;
        }
    }
    struct map_slot *slots = calloc(capacity, sizeof slots[0]);
    if (slots == NULL) {
        return false;
    }
    for (size_t i = 0; i < m->capacity; i++) {
        if (m->slots[i].key.data != NULL) {
            *slot_of(slots, capacity, m->slots[i].key, m->slots[i].hash) = m->slots[i];
        }
    }
    free(m->slots);
    m->slots = slots;
    m->capacity = capacity;
    return true;
}

/* The slot of the key, added if need be; NULL when out of memory. */
static struct map_slot *find_or_add(struct map *m, struct str key, bool *ret_added)
{
    /* A free slot is told by its NULL, so the empty key must not have one. */
    if (key.data == NULL) {
        key = STR("");
    }
    if (!map_reserve(m, m->count + 1)) {
        return NULL;
    }
    uint64_t hash = map_siphash(m->seed, key);
    struct map_slot *slot = slot_of(m->slots, m->capacity, key, hash);
    *ret_added = slot->key.data == NULL;
    if (*ret_added) {
        *slot = (struct map_slot){.key = key, .hash = hash};
        m->count++;
    }
    return slot;
}

enum map_put map_put(struct map *m, struct str key, uint64_t value)
{
    bool added;
    struct map_slot *slot = find_or_add(m, key, &added);
    if (slot == NULL) {
        return MAP_NO_MEMORY;
    }
    if (!added) {
        return MAP_EXISTS;
    }
    slot->value = value;
    return MAP_ADDED;
}

bool map_set(struct map *m, struct str key, uint64_t value)
{
    bool added;
    struct map_slot *slot = find_or_add(m, key, &added);
    if (slot == NULL) {
        return false;
    }
    slot->value = value;
    return true;
}

bool map_find(const struct map *m, struct str key, uint64_t *ret)
{
    if (m->count == 0) {
        return false;
    }
    const struct map_slot *slot = slot_of(m->slots, m->capacity, key, map_siphash(m->seed, key));
    if (slot->key.data == NULL) {
        return false;
    }
    *ret = slot->value;
    return true;
}

#include "engine/base/tokens.h"

#include <stdlib.h>
#include <string.h>

#include "engine/base/checked.h"

enum { FIRST_CAPACITY = 64 };

void tokens_fini(struct tokens *t)
{
    free(t->ids);
    *t = (struct tokens){0};
}

bool tokens_reserve(struct tokens *t, size_t capacity)
{
    if (capacity <= t->capacity) {
        return true;
    }
    size_t size;
    if (!checked_mul(capacity, sizeof t->ids[0], &size)) {
        return false;
    }
    int32_t *ids = realloc(t->ids, size);
    if (ids == NULL) {
        return false;
    }
    t->ids = ids;
    t->capacity = capacity;
    return true;
}

/* Room for `more` ids, at least doubling so that pushing n ids costs O(n). */
static bool make_room(struct tokens *t, size_t more)
{
    size_t needed;
    if (!checked_add(t->count, more, &needed)) {
        return false;
    }
    if (needed <= t->capacity) {
        return true;
    }
    size_t capacity;
    if (!checked_mul(t->capacity, 2, &capacity) || capacity < needed) {
        capacity = needed;
    }
    return tokens_reserve(t, capacity < FIRST_CAPACITY ? FIRST_CAPACITY : capacity);
}

bool tokens_push(struct tokens *t, int32_t id)
{
    if (!make_room(t, 1)) {
        return false;
    }
    t->ids[t->count++] = id;
    return true;
}

bool tokens_append(struct tokens *t, const int32_t *ids, size_t count)
{
    if (!make_room(t, count)) {
        return false;
    }
    if (count > 0) {
        memcpy(t->ids + t->count, ids, count * sizeof ids[0]);
    }
    t->count += count;
    return true;
}

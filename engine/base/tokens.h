/* A growing array of token ids. The caller owns the struct and the heap memory in it. */
#ifndef PHID_BASE_TOKENS_H
#define PHID_BASE_TOKENS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tokens {
    int32_t *ids; /* heap */
    size_t count;
    size_t capacity;
};

void tokens_fini(struct tokens *t);
bool tokens_push(struct tokens *t, int32_t id);                         /* false: out of memory */
bool tokens_append(struct tokens *t, const int32_t *ids, size_t count); /* false: out of memory */
bool tokens_reserve(struct tokens *t, size_t capacity);

#endif

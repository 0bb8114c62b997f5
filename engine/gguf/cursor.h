/* A position in bytes that somebody else wrote. Every read is checked against the end; the first
 * one that does not fit sets `failed` and from then on all reads give zero, so that a parser reads
 * straight down and checks once. The bytes are borrowed. Internal to this folder. */
#ifndef PHID_GGUF_CURSOR_H
#define PHID_GGUF_CURSOR_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/base/str.h"

struct cursor {
    const unsigned char *bytes;
    uint64_t size;
    uint64_t at;
    bool failed;
    uint64_t failed_at;   /* where the first read that did not fit began */
    uint64_t failed_need; /* how many bytes it wanted */
};

static inline uint64_t cursor_left(const struct cursor *c)
{
    return c->size - c->at;
}

/* `size` bytes, or NULL when that many are not left. */
const unsigned char *cursor_take(struct cursor *c, uint64_t size);

uint32_t cursor_u32(struct cursor *c);
uint64_t cursor_u64(struct cursor *c);

/* A 64-bit length and that many bytes; at most max_size of them. An empty string on failure. */
struct str cursor_string(struct cursor *c, uint64_t max_size);

#endif

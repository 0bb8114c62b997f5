#include "engine/base/arena.h"

#include <stdalign.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/checked.h"

enum { FIRST_BLOCK_BYTES = 4096, DEFAULT_ALIGN = 16 };

/* The header takes one alignment unit, so that bytes[0] is aligned to ARENA_ALIGN_MAX. */
struct arena_block {
    alignas(ARENA_ALIGN_MAX) struct arena_block *older;
    size_t size; /* of bytes[] */
    alignas(ARENA_ALIGN_MAX) unsigned char bytes[];
};

void arena_init(struct arena *a, size_t max)
{
    *a = (struct arena){.max = max};
}

static void free_blocks(struct arena_block *block)
{
    while (block != NULL) {
        struct arena_block *older = block->older;
        free(block);
        block = older;
    }
}

void arena_fini(struct arena *a)
{
    free_blocks(a->block);
    *a = (struct arena){0};
}

void arena_reset(struct arena *a)
{
    struct arena_block *largest = a->block;
    for (struct arena_block *block = a->block; block != NULL; block = block->older) {
        if (block->size > largest->size) {
            largest = block;
        }
    }
    struct arena_block *block = a->block;
    while (block != NULL) {
        struct arena_block *older = block->older;
        if (block != largest) {
            free(block);
        }
        block = older;
    }
    a->block = largest;
    a->used = 0;
    a->total = 0;
    if (largest != NULL) {
        largest->older = NULL;
        a->total = sizeof *largest + largest->size;
    }
}

/* A new block of at least `size` bytes, within the maximum. Twice what there is so far: then the
 * next round fits into this block alone after a reset. */
static bool add_block(struct arena *a, size_t size)
{
    size_t wanted = size < FIRST_BLOCK_BYTES ? FIRST_BLOCK_BYTES : size;
    size_t twice;
    if (checked_mul(a->total, 2, &twice) && wanted < twice) {
        wanted = twice;
    }
    size_t bytes;
    size_t left = a->max - a->total;
    if (!checked_add(wanted, sizeof(struct arena_block) + ARENA_ALIGN_MAX, &bytes) ||
        bytes > left) {
        if (!checked_add(size, sizeof(struct arena_block) + ARENA_ALIGN_MAX, &bytes) ||
            bytes > left) {
            return false;
        }
        bytes = left;
    }
    bytes &= ~(size_t)(ARENA_ALIGN_MAX - 1); /* aligned_alloc wants a multiple */
    struct arena_block *block = aligned_alloc(ARENA_ALIGN_MAX, bytes);
    if (block == NULL) {
        return false;
    }
    block->older = a->block;
    block->size = bytes - sizeof *block;
    a->block = block;
    a->used = 0;
    a->total += bytes;
    return true;
}

static void *alloc_aligned(struct arena *a, size_t size, size_t align)
{
    size_t start = (a->used + align - 1) & ~(align - 1);
    if (a->block == NULL || start > a->block->size || size > a->block->size - start) {
        if (!add_block(a, size)) {
            return NULL;
        }
        start = 0;
    }
    a->used = start + size;
    return a->block->bytes + start;
}

void *arena_alloc(struct arena *a, size_t size)
{
    return alloc_aligned(a, size, DEFAULT_ALIGN);
}

void *arena_alloc_array(struct arena *a, size_t count, size_t size, size_t align)
{
    size_t bytes;
    if (!checked_mul(count, size, &bytes) || align == 0 || align > ARENA_ALIGN_MAX ||
        (align & (align - 1)) != 0) {
        return NULL;
    }
    return alloc_aligned(a, bytes, align);
}

char *arena_dup(struct arena *a, struct str s)
{
    size_t size;
    if (!checked_add(s.size, 1, &size)) {
        return NULL;
    }
    char *copy = alloc_aligned(a, size, 1);
    if (copy == NULL) {
        return NULL;
    }
    if (s.size > 0) {
        memcpy(copy, s.data, s.size);
    }
    copy[s.size] = '\0';
    return copy;
}

/* "did you mean": the nearest of several words to a mistyped one.
 *
 * Zero-initialize, offer every candidate, then ask. Candidates are borrowed until then. */
#ifndef PHID_BASE_NEAREST_H
#define PHID_BASE_NEAREST_H

#include <stdbool.h>
#include <stddef.h>

#include "engine/base/str.h"

struct nearest {
    struct str word; /* the best so far; empty before the first */
    size_t distance;
};

/* Levenshtein distance in bytes, neighbours' swaps counted once (optimal string alignment);
 * SIZE_MAX when a word has more than 64 bytes. */
size_t nearest_distance(struct str a, struct str b);

/* Keeps `candidate` when `distance` beats what was offered before; the first of equals stays. */
void nearest_offer(struct nearest *nearest, struct str candidate, size_t distance);

/* Whether the best is near enough to a word of `size` bytes to be what was meant. */
bool nearest_found(const struct nearest *nearest, size_t size);

#endif

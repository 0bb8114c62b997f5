/* A zeroed stretch of anonymous memory for things that live as long as the backend: weights, KV
 * pages, scratch. Pages become resident when first touched, by huge pages where asked for and
 * the system allows. The caller owns the struct. */
#ifndef PHID_BACKEND_CPU_MEMORY_H
#define PHID_BACKEND_CPU_MEMORY_H

#include <stdbool.h>
#include <stddef.h>

#include "engine/base/status.h"

#define CPU_ALIGN 64 /* a cache line, and the widest vector */

/* How memory is asked for: only advice, without it everything works. */
struct cpu_memory_policy {
    bool huge_pages;
    bool interleave; /* spread over the memory nodes, where there are several */
};

struct cpu_memory {
    unsigned char *data; /* aligned to at least CPU_ALIGN; NULL when bytes is 0 */
    size_t bytes;
};

/* `what` names the purpose in the message. PHID_ERR_MEMORY when the system refuses. */
enum phid_status cpu_memory_open(size_t bytes, const char *what, struct cpu_memory_policy policy,
                                 struct cpu_memory *ret, struct phid_error *err);

/* Safe on a zeroed struct and twice. */
void cpu_memory_close(struct cpu_memory *memory);

/* The stretch is cut in pieces at addresses that are multiples of this, a huge page: the number of
 * the one in which a byte lies. */
#define CPU_MEMORY_PIECE ((size_t)2 << 20)
size_t cpu_memory_piece(const struct cpu_memory *memory, size_t byte);

/* Makes a piece resident, whatever it contains. False: the system can not, or has no memory. Any
 * thread. */
bool cpu_memory_warm(const struct cpu_memory *memory, size_t piece);

/* n rounded up to a multiple of `to`, a power of two. */
static inline size_t cpu_round_up(size_t n, size_t to)
{
    return (n + to - 1) & ~(to - 1);
}

/* Parts of one stretch, laid out one after the other: first all are counted with `data` NULL, then
 * handed out in the same order. `failed` is set when the sum of sizes does not fit; parts are then
 * NULL. */
struct cpu_layout {
    unsigned char *data;
    size_t used;
    int failed;
};

/* count * size bytes, 64-byte aligned; NULL while counting. */
void *cpu_layout_part(struct cpu_layout *layout, size_t count, size_t size);

#endif

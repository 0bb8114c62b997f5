#include "engine/backend/cpu/memory.h"

#include <stdint.h>
#include <sys/mman.h>

#include "engine/backend/cpu/nodes.h"
#include "engine/base/checked.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14; older ones refuse it */
#endif

static void advise(void *data, size_t bytes, struct cpu_memory_policy policy)
{
    if (policy.huge_pages && bytes >= CPU_MEMORY_PIECE) {
        (void)madvise(data, bytes, MADV_HUGEPAGE);
    }
    if (policy.interleave) {
        struct cpu_nodes nodes = cpu_nodes_detect();
        if (nodes.count > 1) {
            (void)cpu_nodes_interleave(&nodes, data, bytes);
        }
    }
}

enum phid_status cpu_memory_open(size_t bytes, const char *what, struct cpu_memory_policy policy,
                                 struct cpu_memory *ret, struct phid_error *err)
{
    if (bytes == 0) {
        *ret = (struct cpu_memory){0};
        return PHID_OK;
    }
    void *data = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED) {
        return phid_fail(err, PHID_ERR_MEMORY, "no memory for %s: %zu bytes", what, bytes);
    }
    advise(data, bytes, policy);
    *ret = (struct cpu_memory){.data = data, .bytes = bytes};
    return PHID_OK;
}

void cpu_memory_close(struct cpu_memory *memory)
{
    if (memory->data != NULL) {
        (void)munmap(memory->data, memory->bytes);
    }
    *memory = (struct cpu_memory){0};
}

size_t cpu_memory_piece(const struct cpu_memory *memory, size_t byte)
{
    return ((uintptr_t)memory->data % CPU_MEMORY_PIECE + byte) / CPU_MEMORY_PIECE;
}

bool cpu_memory_warm(const struct cpu_memory *memory, size_t piece)
{
    size_t ahead = (uintptr_t)memory->data % CPU_MEMORY_PIECE; /* of the stretch in piece 0 */
    size_t begin = piece == 0 ? 0 : piece * CPU_MEMORY_PIECE - ahead;
    size_t end = (piece + 1) * CPU_MEMORY_PIECE - ahead;
    end = end < memory->bytes ? end : memory->bytes;
    return begin >= end || madvise(memory->data + begin, end - begin, MADV_POPULATE_WRITE) == 0;
}

void *cpu_layout_part(struct cpu_layout *layout, size_t count, size_t size)
{
    size_t bytes;
    size_t end;
    if (layout->failed || !checked_mul(count, size, &bytes) || bytes > SIZE_MAX - CPU_ALIGN ||
        !checked_add(layout->used, cpu_round_up(bytes, CPU_ALIGN), &end)) {
        layout->failed = 1;
        return NULL;
    }
    unsigned char *part = layout->data == NULL ? NULL : layout->data + layout->used;
    layout->used = end;
    return part;
}

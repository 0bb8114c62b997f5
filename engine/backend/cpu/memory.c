#include "engine/backend/cpu/memory.h"

#include <stdint.h>
#include <sys/mman.h>

#include "engine/base/checked.h"

#define HUGE_PAGE ((size_t)2 << 20)

enum phid_status cpu_memory_open(size_t bytes, const char *what, bool huge_pages,
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
    if (huge_pages && bytes >= HUGE_PAGE) {
        /* Only advice: without it everything works, with more misses of the TLB. */
        (void)madvise(data, bytes, MADV_HUGEPAGE);
    }
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

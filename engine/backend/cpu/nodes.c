#include "engine/backend/cpu/nodes.h"

#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

/* From linux/mempolicy.h, which not every system has. */
#define POLICY_INTERLEAVE 3

/* Takes a number below CPU_NODES_MAX from the start of the list. */
static bool take_number(struct str *list, size_t *ret)
{
    size_t n = 0;
    size_t digits = 0;
    for (; digits < list->size && list->data[digits] >= '0' && list->data[digits] <= '9';
         digits++) {
        n = n * 10 + (size_t)(list->data[digits] - '0');
        if (n >= CPU_NODES_MAX) {
            return false;
        }
    }
    list->data += digits;
    list->size -= digits;
    *ret = n;
    return digits > 0;
}

static bool take(struct str *list, char c)
{
    if (list->size == 0 || list->data[0] != c) {
        return false;
    }
    list->data++;
    list->size--;
    return true;
}

bool cpu_nodes_parse(struct str list, struct cpu_nodes *ret)
{
    struct cpu_nodes nodes = {.count = 0};
    do {
        size_t first;
        if (!take_number(&list, &first)) {
            return false;
        }
        size_t last = first;
        if (take(&list, '-') && (!take_number(&list, &last) || last < first)) {
            return false;
        }
        for (size_t i = first; i <= last; i++) {
            unsigned long bit = 1UL << i % CPU_NODE_BITS;
            nodes.count += (nodes.mask[i / CPU_NODE_BITS] & bit) == 0;
            nodes.mask[i / CPU_NODE_BITS] |= bit;
        }
    } while (take(&list, ','));
    (void)take(&list, '\n');
    if (list.size != 0) {
        return false;
    }
    *ret = nodes;
    return true;
}

struct cpu_nodes cpu_nodes_detect(void)
{
    struct cpu_nodes nodes = {.mask = {1}, .count = 1};
    FILE *file = fopen("/sys/devices/system/node/has_memory", "re");
    if (file != NULL) {
        char list[4096];
        size_t size = fread(list, 1, sizeof(list), file);
        (void)cpu_nodes_parse((struct str){.data = list, .size = size}, &nodes);
        (void)fclose(file);
    }
    return nodes;
}

bool cpu_nodes_interleave(const struct cpu_nodes *nodes, void *data, size_t bytes)
{
#ifdef SYS_mbind
    /* The system counts one more bit than it looks at. */
    return syscall(SYS_mbind, data, bytes, POLICY_INTERLEAVE, nodes->mask, CPU_NODES_MAX + 1UL,
                   0UL) == 0;
#else
    (void)nodes, (void)data, (void)bytes;
    return false;
#endif
}

/* The machine's memory nodes (NUMA). Memory that all threads read in turns is best spread over all
 * of them: whichever thread takes a task, the nodes' controllers share the reading. */
#ifndef PHID_BACKEND_CPU_NODES_H
#define PHID_BACKEND_CPU_NODES_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

#include "engine/base/str.h"

#define CPU_NODES_MAX 1024 /* what Linux is built for at most */
#define CPU_NODE_BITS (sizeof(unsigned long) * CHAR_BIT)

struct cpu_nodes {
    unsigned long mask[CPU_NODES_MAX / CPU_NODE_BITS]; /* bit i: node i has memory */
    size_t count;
};

/* A list as the kernel writes it: "0-1,4". False, with nothing written, when it is none. */
bool cpu_nodes_parse(struct str list, struct cpu_nodes *ret);

/* Those of this machine; one node 0 where the system does not say. */
struct cpu_nodes cpu_nodes_detect(void);

/* Pages of the stretch, `data` at the start of a page, will come from all nodes in turn when they
 * are first touched. False when the system refuses; nothing is lost then. */
bool cpu_nodes_interleave(const struct cpu_nodes *nodes, void *data, size_t bytes);

#endif

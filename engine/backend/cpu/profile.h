/* Where the time of a step goes: each operation's time on the step thread, the time its threads
 * were busy, and what it read and multiplied. Operations follow each other without gaps, so their
 * times add up to the time in the backend. Off unless opened with `profile`; then a few clock
 * readings for each operation and task. Written by the step thread; the numbers may be read by any
 * thread. */
#ifndef PHID_BACKEND_CPU_PROFILE_H
#define PHID_BACKEND_CPU_PROFILE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/backend/backend.h"
#include "engine/base/pool.h"

enum cpu_operation {
    CPU_OP_EMBED,
    CPU_OP_POSITIONS, /* rotary tables, where rows go */
    CPU_OP_NORM,      /* and quantizing what it gives */
    CPU_OP_QUANTIZE,
    CPU_OP_QKV,
    CPU_OP_ATTENTION,
    CPU_OP_ATTN_OUT,
    CPU_OP_GATE_UP,    /* and the activation, where all three matrices take int8 */
    CPU_OP_ACTIVATION, /* elsewhere */
    CPU_OP_DOWN,
    CPU_OP_HEAD,
    CPU_OP_WARM, /* pages of keys and values made ready */
    CPU_OPS,
};

_Static_assert((int)CPU_OPS <= (int)BACKEND_OPERATIONS_MAX, "a caller's array holds them");

/* Relaxed atomics, one writer: each number is whole, together they may be from the middle of a
 * step. */
struct cpu_profile_sums {
    _Atomic uint64_t runs, ns, busy_ns, bytes, macs;
};

struct cpu_profile {
    struct pool *pool;              /* NULL: off */
    uint64_t mark_ns, mark_busy_ns; /* the end of the last operation */
    struct cpu_profile_sums sums[CPU_OPS];
};

/* Turns it on; the pool measures its threads from now on. */
void cpu_profile_open(struct cpu_profile *p, struct pool *pool);

/* The backend is entered: what follows belongs to its first operation. */
void cpu_profile_begin(struct cpu_profile *p);

/* All since the last call was this operation. */
void cpu_profile_end(struct cpu_profile *p, enum cpu_operation operation, uint64_t bytes,
                     uint64_t macs);

/* As backend_api.profile. */
size_t cpu_profile_read(const struct cpu_profile *p, struct backend_operation *ret);

#endif

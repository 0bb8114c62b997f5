#include "engine/backend/cpu/profile.h"

#include "engine/base/clock.h"

static const char *const names[CPU_OPS] = {
    [CPU_OP_EMBED] = "embed",
    [CPU_OP_POSITIONS] = "positions",
    [CPU_OP_NORM] = "norm",
    [CPU_OP_QUANTIZE] = "quantize",
    [CPU_OP_QKV] = "qkv",
    [CPU_OP_ATTENTION] = "attention",
    [CPU_OP_ATTN_OUT] = "attn_out",
    [CPU_OP_GATE_UP] = "gate_up",
    [CPU_OP_ACTIVATION] = "activation",
    [CPU_OP_DOWN] = "down",
    [CPU_OP_HEAD] = "head",
    [CPU_OP_WARM] = "kv_warm",
};

void cpu_profile_open(struct cpu_profile *p, struct pool *pool)
{
    p->pool = pool;
    pool_measure(pool);
}

void cpu_profile_begin(struct cpu_profile *p)
{
    if (p->pool == NULL) {
        return;
    }
    p->mark_busy_ns = pool_busy_ns(p->pool);
    p->mark_ns = clock_now_ns();
}

static void add(_Atomic uint64_t *sum, uint64_t more)
{
    atomic_store_explicit(sum, atomic_load_explicit(sum, memory_order_relaxed) + more,
                          memory_order_relaxed);
}

void cpu_profile_end(struct cpu_profile *p, enum cpu_operation operation, uint64_t bytes,
                     uint64_t macs)
{
    if (p->pool == NULL) {
        return;
    }
    struct cpu_profile_sums *sums = &p->sums[operation];
    uint64_t began_ns = p->mark_ns;
    uint64_t busy_before_ns = p->mark_busy_ns;
    cpu_profile_begin(p);
    add(&sums->runs, 1);
    add(&sums->ns, p->mark_ns - began_ns);
    add(&sums->busy_ns, p->mark_busy_ns - busy_before_ns);
    add(&sums->bytes, bytes);
    add(&sums->macs, macs);
}

static uint64_t read_sum(const _Atomic uint64_t *sum)
{
    return atomic_load_explicit(sum, memory_order_relaxed);
}

size_t cpu_profile_read(const struct cpu_profile *p, struct backend_operation *ret)
{
    if (p->pool == NULL) {
        return 0;
    }
    for (int i = 0; i < CPU_OPS; i++) {
        const struct cpu_profile_sums *sums = &p->sums[i];
        uint64_t threads_ns = read_sum(&sums->ns) * pool_threads(p->pool);
        uint64_t busy_ns = read_sum(&sums->busy_ns);
        ret[i] = (struct backend_operation){
            .name = names[i],
            .runs = read_sum(&sums->runs),
            .ns = read_sum(&sums->ns),
            .wait_ns = threads_ns > busy_ns ? threads_ns - busy_ns : 0,
            .bytes = read_sum(&sums->bytes),
            .macs = read_sum(&sums->macs),
        };
    }
    return CPU_OPS;
}

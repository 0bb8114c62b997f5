#include "engine/backend/cpu/calibrate.h"

#include <unistd.h>

#include "engine/backend/cpu/choose.h"
#include "engine/backend/cpu/kernels.h"
#include "engine/backend/cpu/memory.h"
#include "engine/base/clock.h"
#include "engine/base/pool.h"

const unsigned char cpu_peak_bytes[64] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};

#define READ_BYTES  ((size_t)512 << 20) /* much more than a cache holds */
#define READ_PART   ((size_t)1 << 20)
#define READ_PASSES 8
#define SPIN_TASKS  8   /* of a thread: one that starts late does not count for much */
#define SPIN_NS     3e6 /* of a task */
#define SPIN_TRIES  8

struct spin {
    double (*run)(size_t rounds);
    size_t rounds;
};

static void spin_task(void *context, size_t task, size_t thread)
{
    (void)task;
    (void)thread;
    const struct spin *spin = context;
    (void)spin->run(spin->rounds);
}

/* Operations a nanosecond of all threads together, the best of a few tries. */
static double spin_rate(struct pool *pool, double (*run)(size_t rounds))
{
    struct spin spin = {.run = run, .rounds = 1};
    double operations = 0;
    uint64_t spent = 0;
    while ((double)spent < SPIN_NS / 2) {
        spin.rounds *= 2;
        uint64_t start = clock_now_ns();
        operations = run(spin.rounds);
        spent = clock_now_ns() - start;
    }
    size_t tasks = pool_threads(pool) * SPIN_TASKS;
    double best = 0;
    for (int i = 0; i < SPIN_TRIES; i++) {
        uint64_t start = clock_now_ns();
        pool_run(pool, spin_task, &spin, tasks);
        double rate = operations * (double)tasks / (double)(clock_now_ns() - start);
        best = rate > best ? rate : best;
    }
    return best;
}

/* What reads fastest is the processor's business: a core fetches ahead by itself, but only so far
 * in each stream. */
static const size_t read_streams[] = {1, 8};

struct reading {
    const struct cpu_kernels *kernels;
    unsigned char *data;
    bool write;
    size_t streams;
};

static void read_task(void *context, size_t task, size_t thread)
{
    (void)thread;
    const struct reading *r = context;
    unsigned char *part = r->data + task * READ_PART;
    if (r->write) {
        for (size_t i = 0; i < READ_PART; i += 4096) {
            part[i] = 1; /* a page of its own instead of the shared one of zeros */
        }
    } else {
        r->kernels->read_all(part, READ_PART, r->streams);
    }
}

static double read_rate(struct pool *pool, const struct cpu_kernels *kernels,
                        const struct cpu_memory *memory)
{
    struct reading reading = {.kernels = kernels, .data = memory->data, .write = true};
    size_t tasks = memory->bytes / READ_PART;
    pool_run(pool, read_task, &reading, tasks);
    reading.write = false;
    double best = 0;
    for (int i = 0; i < READ_PASSES; i++) {
        reading.streams = read_streams[i % 2];
        uint64_t start = clock_now_ns();
        pool_run(pool, read_task, &reading, tasks);
        double rate = (double)memory->bytes / (double)(clock_now_ns() - start);
        best = rate > best ? rate : best;
    }
    return best;
}

/* Half of what is free at most, so that a small machine is not driven out of memory. */
static size_t read_bytes(void)
{
    long pages = sysconf(_SC_AVPHYS_PAGES);
    long size = sysconf(_SC_PAGESIZE);
    if (pages <= 0 || size <= 0 || (size_t)pages > SIZE_MAX / (size_t)size) {
        return READ_BYTES;
    }
    size_t half = (size_t)pages * (size_t)size / 2 / READ_PART * READ_PART;
    half = half < READ_PART ? READ_PART : half;
    return half < READ_BYTES ? half : READ_BYTES;
}

enum phid_status cpu_calibrate(size_t threads, const char *isa, struct cpu_calibration *ret,
                               struct phid_error *err)
{
    const struct cpu_kernels *kernels;
    struct pool *pool = NULL;
    struct cpu_memory memory = {0};
    enum phid_status status = cpu_choose_kernels(isa, &kernels, err);
    if (status == PHID_OK) {
        status = pool_new(threads, &pool, err);
    }
    if (status == PHID_OK) {
        status = cpu_memory_open(read_bytes(), "the calibration",
                                 (struct cpu_memory_policy){.huge_pages = true, .interleave = true},
                                 &memory, err);
    }
    if (status == PHID_OK) {
        *ret = (struct cpu_calibration){
            .threads = pool_threads(pool),
            .isa = kernels->name,
            .read_gb_s = read_rate(pool, kernels, &memory),
            .int8_gmac_s = spin_rate(pool, kernels->spin_int8),
            .f32_gfma_s = spin_rate(pool, kernels->spin_f32),
        };
    }
    cpu_memory_close(&memory);
    pool_free(pool);
    return status;
}

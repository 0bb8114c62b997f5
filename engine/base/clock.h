/* Time for measuring and for deadlines: never goes backwards, has no relation to the calendar. Any
 * thread. */
#ifndef PHID_BASE_CLOCK_H
#define PHID_BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

#define CLOCK_NS_PER_MS 1000000u
#define CLOCK_NS_PER_S  1000000000u

static inline uint64_t clock_now_ns(void)
{
    struct timespec now;
    /* Cannot fail: the clock exists on every Linux and the pointer is valid. */
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * CLOCK_NS_PER_S + (uint64_t)now.tv_nsec;
}

static inline double clock_seconds_since(uint64_t start_ns)
{
    return (double)(clock_now_ns() - start_ns) * 1e-9;
}

#endif

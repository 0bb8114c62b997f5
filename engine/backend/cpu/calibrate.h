/* What this machine can do at most, measured: the yardsticks that `phid bench` holds its figures
 * against. Runs for at most two seconds with threads of its own; meant for an otherwise idle
 * machine. Any thread. */
#ifndef PHID_BACKEND_CPU_CALIBRATE_H
#define PHID_BACKEND_CPU_CALIBRATE_H

#include <stddef.h>

#include "engine/base/status.h"

struct cpu_calibration {
    size_t threads;
    const char *isa;    /* static */
    double read_gb_s;   /* all threads together reading a buffer much larger than the caches; 10^9
                           bytes/s */
    double int8_gmac_s; /* the best sustained int8 dot-product rate of the instruction set, from
                           registers; 10^9/s */
    double f32_gfma_s;  /* the same for f32 multiply-adds */
};

/* threads 0 and isa "auto" (or NULL) as in struct backend_options. */
enum phid_status cpu_calibrate(size_t threads, const char *isa, struct cpu_calibration *ret,
                               struct phid_error *err);

#endif

/* Which kernels run on this processor. Any thread. */
#ifndef PHID_BACKEND_CPU_CHOOSE_H
#define PHID_BACKEND_CPU_CHOOSE_H

#include "engine/backend/cpu/kernels.h"
#include "engine/base/status.h"

/* isa as in struct backend_options; NULL is "auto". PHID_ERR_ARGUMENT for a name that is none,
 * PHID_ERR_UNSUPPORTED for an instruction set this processor has not. */
enum phid_status cpu_choose_kernels(const char *isa, const struct cpu_kernels **ret,
                                    struct phid_error *err);

#endif

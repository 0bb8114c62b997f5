/* What a request's headers ask of the scheduler: X-Priority (an integer, lower goes first) and
 * X-Request-Timeout (seconds, a fraction allowed; `Timeout` means the same). Pure functions. */
#ifndef PHID_SERVER_HTTP_WISHES_H
#define PHID_SERVER_HTTP_WISHES_H

#include "server/http/head.h"

#define WISHES_TIMEOUT_MAX_MS 86400000u

struct wishes {
    int32_t priority;    /* 0: ordinary */
    uint32_t timeout_ms; /* 0: none; a longer one than a day is a day */
};

/* API_INVALID_VALUE names the header. A `Timeout` that is no number of seconds is some other
 * protocol's and ignored. */
enum api_fault wishes_read(const struct head *head, struct wishes *ret, struct api_error *err);

#endif

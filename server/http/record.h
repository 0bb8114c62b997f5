/* The record: what is kept of a request when it has ended, a line in the access log and the
 * counters of /metrics. Written once, by the I/O thread, before the exchange is freed. */
#ifndef PHID_SERVER_HTTP_RECORD_H
#define PHID_SERVER_HTTP_RECORD_H

#include "server/http/exchange.h"

void record_log(const struct exchange *x);
void record_count(const struct exchange *x);

#endif

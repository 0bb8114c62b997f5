/* The gate: who is let in by the head alone, before the body is read, parsed or tokenized: Host,
 * key, route, then whether there is room. I/O thread; takes no time worth speaking of. */
#ifndef PHID_SERVER_HTTP_GATE_H
#define PHID_SERVER_HTTP_GATE_H

#include "server/http/exchange.h"

/* May fill in the caller and the route. */
enum api_fault gate_check(struct exchange *x, struct api_error *err);

/* For a request that generates: whether there is room for one more. Fills in its wishes and enters
 * it into its key's quota. What the workers hold counts, or a burst could pile up in front of them.
 */
enum api_fault gate_check_room(struct exchange *x, struct api_error *err);

#endif

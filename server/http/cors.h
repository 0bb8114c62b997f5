/* Which browser pages may talk to the server, and the headers that tell their browsers so. Off
 * unless origins are configured. Filled at start, read-only afterwards. */
#ifndef PHID_SERVER_HTTP_CORS_H
#define PHID_SERVER_HTTP_CORS_H

#include "server/http/head.h"
#include "server/http/reply.h"

struct cors {
    char **origins; /* heap */
    size_t count;
    bool any; /* "*" is among them */
};

enum phid_status cors_init(struct cors *cors, const char *const *origins, size_t count,
                           struct phid_error *err);
void cors_fini(struct cors *cors);

bool cors_allows(const struct cors *cors, struct str origin);

/* The headers of an ordinary answer, errors included; none when the request has no allowed Origin.
 */
void cors_add_headers(const struct cors *cors, const struct head *head, struct reply *reply);

/* The answer to OPTIONS, always 204: with permissions for an allowed origin, bare otherwise. */
void cors_preflight(const struct cors *cors, const struct head *head, struct reply *reply);

/* DNS rebinding: a page may reach a loopback server under a domain that its author registered. True
 * for addresses and for names that nobody can register: without a dot, or below .localhost. */
bool cors_host_is_local(struct str host);

#endif

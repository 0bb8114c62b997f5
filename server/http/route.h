/* Which endpoint a method and a path mean. Exact matches only; repeated slashes, a trailing slash
 * and a missing /v1 are forgiven. Pure functions. */
#ifndef PHID_SERVER_HTTP_ROUTE_H
#define PHID_SERVER_HTTP_ROUTE_H

#include "server/http/head.h"

enum route_id {
    ROUTE_ROOT,
    ROUTE_HEALTH,
    ROUTE_MODELS,
    ROUTE_MODEL,
    ROUTE_COMPLETIONS,
    ROUTE_CHAT
};

struct route {
    enum route_id id;
    const char *allow; /* for a 405: "GET, HEAD" */
    struct buf model;  /* ROUTE_MODEL: the decoded name */
};

/* API_UNKNOWN_URL or API_WRONG_METHOD (ret->allow is then set). ret->model is the caller's to free,
 * always. */
enum api_fault route_find(struct str method, struct str path, struct route *ret,
                          struct api_error *err);

/* Whether this path may be asked without a key: known before the key is checked. */
bool route_is_open(struct str path);

#endif

/* Which endpoint a method and a path mean. Exact matches only; repeated slashes, a trailing slash
 * and a missing /v1 are forgiven. Pure functions. */
#ifndef PHID_SERVER_HTTP_ROUTE_H
#define PHID_SERVER_HTTP_ROUTE_H

#include "server/http/head.h"

enum route_id {
    ROUTE_NONE, /* no such path */
    ROUTE_ROOT,
    ROUTE_HEALTH,
    ROUTE_READY,
    ROUTE_METRICS,
    ROUTE_MODELS,
    ROUTE_MODEL,
    ROUTE_COMPLETIONS,
    ROUTE_CHAT
};

/* Whom a path is for: known before the key is checked. */
enum route_use {
    ROUTE_FOR_CLIENTS,
    ROUTE_FOR_PROBES,  /* never needs a key; answers at any time */
    ROUTE_FOR_WATCHERS /* answers at any time */
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

enum route_use route_use_of(struct str path);

/* The path of an endpoint as metrics name it, "other" for ROUTE_NONE; NULL past the last. */
const char *route_name(enum route_id id);

#endif

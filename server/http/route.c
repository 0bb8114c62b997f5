#include "server/http/route.h"

static const struct route_row {
    const char *path; /* below /v1 or without it */
    const char *allow;
    enum route_id id;
    enum route_use use;
} rows[] = {
    {"", "GET, HEAD", ROUTE_ROOT, ROUTE_FOR_CLIENTS},
    {"/health", "GET, HEAD", ROUTE_HEALTH, ROUTE_FOR_PROBES},
    {"/healthz", "GET, HEAD", ROUTE_HEALTH, ROUTE_FOR_PROBES},
    {"/livez", "GET, HEAD", ROUTE_HEALTH, ROUTE_FOR_PROBES},
    {"/ping", "GET, HEAD", ROUTE_HEALTH, ROUTE_FOR_PROBES},
    {"/v2/health/live", "GET, HEAD", ROUTE_HEALTH, ROUTE_FOR_PROBES},
    {"/ready", "GET, HEAD", ROUTE_READY, ROUTE_FOR_PROBES},
    {"/readyz", "GET, HEAD", ROUTE_READY, ROUTE_FOR_PROBES},
    {"/v2/health/ready", "GET, HEAD", ROUTE_READY, ROUTE_FOR_PROBES},
    {"/metrics", "GET, HEAD", ROUTE_METRICS, ROUTE_FOR_WATCHERS},
    {"/models", "GET, HEAD", ROUTE_MODELS, ROUTE_FOR_CLIENTS},
    {"/completions", "POST", ROUTE_COMPLETIONS, ROUTE_FOR_CLIENTS},
    {"/chat/completions", "POST", ROUTE_CHAT, ROUTE_FOR_CLIENTS},
};

static const struct route_row model_row = {"/models/", "GET, HEAD", ROUTE_MODEL, ROUTE_FOR_CLIENTS};

static const char *const names[] = {
    [ROUTE_NONE] = "other",
    [ROUTE_ROOT] = "/",
    [ROUTE_HEALTH] = "/health",
    [ROUTE_READY] = "/ready",
    [ROUTE_METRICS] = "/metrics",
    [ROUTE_MODELS] = "/v1/models",
    [ROUTE_MODEL] = "/v1/models/{model}",
    [ROUTE_COMPLETIONS] = "/v1/completions",
    [ROUTE_CHAT] = "/v1/chat/completions",
};

const char *route_name(enum route_id id)
{
    return (size_t)id < sizeof names / sizeof names[0] ? names[id] : NULL;
}

/* The path without doubled and trailing slashes. */
static void normalize(struct str path, struct buf *out)
{
    for (size_t i = 0; i < path.size; i++) {
        if (path.data[i] != '/' || (i + 1 < path.size && path.data[i + 1] != '/')) {
            buf_append_byte(out, path.data[i]);
        }
    }
}

static struct str without_version(struct str path)
{
    if (str_starts_with(path, STR("/v1/"))) {
        path.data += 3;
        path.size -= 3;
    }
    return path;
}

static int hex_value(char c)
{
    return c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10;
}

/* The head's parser has checked the escapes. */
static void decode(struct str text, struct buf *out)
{
    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] == '%' && i + 2 < text.size) {
            buf_append_byte(out,
                            (char)(hex_value(text.data[i + 1]) * 16 + hex_value(text.data[i + 2])));
            i += 2;
        } else {
            buf_append_byte(out, text.data[i]);
        }
    }
}

static const struct route_row *find_row(struct str path)
{
    struct str below = without_version(path);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (str_equal_c(below, rows[i].path)) {
            return &rows[i];
        }
    }
    return str_starts_with(below, STR("/models/")) ? &model_row : NULL;
}

enum route_use route_use_of(struct str path)
{
    struct buf normal;
    buf_init(&normal, HEAD_TARGET_MAX);
    normalize(path, &normal);
    const struct route_row *row = normal.failed ? NULL : find_row(buf_view(&normal));
    buf_fini(&normal);
    return row != NULL ? row->use : ROUTE_FOR_CLIENTS;
}

enum api_fault route_find(struct str method, struct str path, struct route *ret,
                          struct api_error *err)
{
    struct buf normal;
    enum api_fault fault = API_OK;
    buf_init(&normal, HEAD_TARGET_MAX);
    *ret = (struct route){0};
    buf_init(&ret->model, HEAD_TARGET_MAX);
    normalize(path, &normal);
    const struct route_row *row = normal.failed ? NULL : find_row(buf_view(&normal));
    if (row == NULL) {
        fault = api_fail(err, API_UNKNOWN_URL, NULL,
                         "Unknown request URL: %.*s %.*s. The API is under /v1.",
                         (int)(method.size < 32 ? method.size : 32), method.data,
                         (int)(path.size < 128 ? path.size : 128), path.data);
        buf_fini(&normal);
        return fault;
    }
    ret->id = row->id;
    ret->allow = row->allow;
    bool get = str_equal_c(method, "GET") || str_equal_c(method, "HEAD");
    bool post = str_equal_c(method, "POST");
    if (strcmp(row->allow, "POST") == 0 ? !post : !get) {
        fault = api_fail(err, API_WRONG_METHOD, NULL, "This URL answers %s, not %.*s.", row->allow,
                         (int)method.size, method.data);
    } else if (row->id == ROUTE_MODEL) {
        struct str below = without_version(buf_view(&normal));
        size_t prefix = strlen(model_row.path);
        decode((struct str){below.data + prefix, below.size - prefix}, &ret->model);
    }
    buf_fini(&normal);
    return fault;
}

#include "server/http/gate.h"

#include "server/http/conn.h"

enum api_fault gate_check(struct exchange *x, struct api_error *err)
{
    const struct head *head = &x->conn->head;
    enum route_use use = route_use_of(head->path);
    bool open = use == ROUTE_FOR_PROBES || (use == ROUTE_FOR_WATCHERS && x->io->metrics_open);
    if (x->io->loopback && !keys_any(&x->io->keys) && !cors_host_is_local(head->host)) {
        return api_fail(
            err, API_HOST_REFUSED, NULL,
            "This server listens on loopback only and does not answer to the name '%.*s'.",
            (int)(head->host.size < 64 ? head->host.size : 64), head->host.data);
    }
    if (!open && !keys_allow(&x->io->keys, head->authorization, head->api_key, &x->caller)) {
        return api_fail(
            err, API_INVALID_KEY, NULL, "%s",
            head->authorization.size > 0 || head->api_key.size > 0
                ? "Incorrect API key provided."
                : "You did not provide an API key. Send it as 'Authorization: Bearer KEY'.");
    }
    if (use == ROUTE_FOR_CLIENTS && io_refuses(x->io)) {
        return api_fail(err, API_DRAINING, NULL, "The server is shutting down.");
    }
    if (use == ROUTE_FOR_CLIENTS && !io_is_loaded(x->io)) {
        return api_fail(err, API_LOADING, NULL, "The model is still being loaded; try again soon.");
    }
    if (use == ROUTE_FOR_WATCHERS && !x->io->metrics_page) {
        return api_fail(err, API_UNKNOWN_URL, NULL, "This server shows no metrics.");
    }
    return route_find(head->method, head->path, &x->route, err);
}

enum api_fault gate_check_room(struct exchange *x, struct api_error *err)
{
    const struct phid_engine *engine = x->io->api.engine;
    const struct phid_engine_info *info = phid_engine_info(engine);
    struct phid_engine_load load;
    phid_engine_load(engine, &load);
    if (load.full || x->io->preparing + load.waiting >= info->queue + info->max_running) {
        return api_fail_overloaded(err, engine, "The server is busy: too many requests wait.");
    }
    enum api_fault fault = wishes_read(&x->conn->head, &x->wishes, err);
    if (fault == API_OK) {
        fault = quota_enter(&x->io->quotas, &x->caller, x->io->now_ms, &x->quota, err);
    }
    return fault;
}

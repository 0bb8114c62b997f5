#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config/keys.h"
#include "server/cli/cli.h"
#include "server/cli/log.h"
#include "server/server.h"

/* Everything `phid serve` holds, in the order of acquisition. */
struct service {
    const struct config *config;
    struct phid_model *model;
    struct phid_engine *engine;
    struct server *server;
    const char **keys;      /* borrowed from config and file_keys */
    const char **key_names; /* the same */
    size_t key_count;
    struct api_keys file_keys;
    char *model_id; /* heap */
    bool loaded;    /* all weights are there */
};

/* A model that is loaded within this time is known to be sound when the server says that it is
 * ready. The weights of a larger one keep coming while it answers. */
#define LOAD_PATIENCE_MS 300

/* ------------------------------------------------------------------ keys */

/* The keys of the file (read again) and of --api-key, as the server wants them. */
static enum phid_status load_keys(struct service *s, struct phid_error *err)
{
    struct api_keys file_keys = {0};
    const struct config_list *flags = &s->config->server.api_keys;
    if (s->config->server.api_keys_file != NULL) {
        enum phid_status status = api_keys_load(s->config->server.api_keys_file, &file_keys, err);
        if (status != PHID_OK) {
            return status;
        }
    }
    const char **keys = calloc(file_keys.count + flags->count + 1, sizeof(*keys));
    const char **names = calloc(file_keys.count + flags->count + 1, sizeof(*names));
    if (keys == NULL || names == NULL) {
        free(keys);
        free(names);
        api_keys_fini(&file_keys);
        return phid_fail(err, PHID_ERR_MEMORY, "out of memory");
    }
    size_t count = 0;
    for (size_t i = 0; i < file_keys.count; i++) {
        names[count] = file_keys.items[i].name;
        keys[count++] = file_keys.items[i].key;
    }
    for (size_t i = 0; i < flags->count; i++) {
        keys[count++] = flags->items[i];
    }
    api_keys_fini(&s->file_keys);
    free(s->keys);
    free(s->key_names);
    s->file_keys = file_keys;
    s->keys = keys;
    s->key_names = names;
    s->key_count = count;
    return PHID_OK;
}

static void reload_keys(struct service *s)
{
    struct phid_error err = {0};
    if (load_keys(s, &err) != PHID_OK ||
        server_set_api_keys(s->server, s->keys, s->key_names, s->key_count, &err) != PHID_OK) {
        log_event(SERVER_LOG_ERROR, "event=reload_failed reason=\"%s\" keys=kept", err.message);
        return;
    }
    log_event(SERVER_LOG_INFO, "event=reloaded api_keys=%zu", s->key_count);
}

static void reload_certificate(struct service *s)
{
    struct phid_error err = {0};
    if (s->config->server.tls_cert == NULL) {
        return;
    }
    if (api_keys_check_private(s->config->server.tls_key, &err) != PHID_OK ||
        server_reload_tls(s->server, &err) != PHID_OK) {
        log_event(SERVER_LOG_ERROR, "event=reload_failed reason=\"%s\" certificate=kept",
                  err.message);
        return;
    }
    log_event(SERVER_LOG_INFO, "event=reloaded certificate=new");
}

/* ----------------------------------------------------------------- start */

/* The name clients see: the first alias, else the file's name without folder, part number and
 * ending. */
static char *name_of_model(const struct config *config)
{
    if (config->model.alias.count > 0) {
        return str_dup(str_of(config->model.alias.items[0]));
    }
    const char *slash = strrchr(config->model.path, '/');
    struct str name = str_of(slash != NULL && slash[1] != 0 ? slash + 1 : config->model.path);
    if (name.size > 5 && strcmp(name.data + name.size - 5, ".gguf") == 0) {
        name.size -= 5;
        /* -00001-of-00003 */
        if (name.size > 15 && memcmp(name.data + name.size - 15, "-00001-of-", 10) == 0) {
            name.size -= 15;
        }
    }
    char *copy = str_dup(name);
    for (char *c = copy; copy != NULL && *c != 0; c++) {
        /* A file's name may hold what would break a log line. */
        *c = (unsigned char)*c <= ' ' || *c == '"' || *c == 0x7f ? '_' : *c;
    }
    return copy;
}

/* The server's options read 0 as "the default"; ours mean it. */
static uint32_t ms_or(uint64_t ms, uint32_t instead)
{
    return ms == 0 ? instead : ms > UINT32_MAX ? UINT32_MAX : (uint32_t)ms;
}

static struct server_options server_options_of(const struct service *s)
{
    const struct config *c = s->config;
    return (struct server_options){
        .host = c->server.host,
        .port = (uint16_t)c->server.port,
        .api_keys = s->keys,
        .api_key_names = s->key_names,
        .api_key_count = s->key_count,
        .cors_origins = (const char *const *)c->server.cors_origins.items,
        .cors_origin_count = c->server.cors_origins.count,
        .tls_cert = c->server.tls_cert,
        .tls_key = c->server.tls_key,
        .model_id = s->model_id,
        /* The first alias is the name itself. */
        .aliases = (const char *const *)c->model.alias.items + (c->model.alias.count > 0 ? 1 : 0),
        .alias_count = c->model.alias.count - (c->model.alias.count > 0 ? 1 : 0),
        .key_in_flight = (uint32_t)c->limits.key_in_flight,
        .key_requests_per_minute = (uint32_t)c->limits.key_requests_per_minute,
        .key_tokens_per_minute = (uint64_t)c->limits.key_tokens_per_minute,
        .max_body_bytes = (size_t)c->server.max_body_bytes,
        .sse_ping_ms = ms_or(c->server.sse_ping_ms, UINT32_MAX),
        .drain_delay_ms = (uint32_t)c->server.drain_delay_ms,
        .drain_timeout_ms = ms_or(c->server.drain_timeout_ms, 1),
        .request_timeout_ms = ms_or(c->limits.request_timeout_ms, UINT32_MAX),
        .metrics = c->server.metrics,
        .metrics_open = c->server.metrics_open,
        .log = log_from_server,
    };
}

static enum phid_status load_model(struct service *s, struct phid_error *err)
{
    struct phid_engine_options options;
    enum phid_status status = cli_open_model(s->config, false, &s->model, err);
    if (status == PHID_OK && !phid_model_info(s->model)->has_weights) {
        status = phid_fail(err, PHID_ERR_UNSUPPORTED, "%s: a vocabulary without weights",
                           s->config->model.path);
    }
    if (status == PHID_OK) {
        cli_engine_options(s->config, &options);
        options.log = log_from_engine;
        options.lazy_load = true;
        status = phid_engine_new(s->model, &options, &s->engine, err);
    }
    if (status == PHID_OK) {
        status = phid_engine_loaded(s->engine, LOAD_PATIENCE_MS, &s->loaded, err);
    }
    return status;
}

/* While the model loads there is nothing to finish: a signal ends the program at once. */
static void on_signal_while_loading(int signal)
{
    (void)signal;
    _exit(CLI_OK);
}

static void set_loading(bool loading)
{
    struct sigaction action = {.sa_handler = loading ? on_signal_while_loading : SIG_DFL};
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    if (loading) {
        sigaction(SIGTERM, &action, NULL);
        sigaction(SIGINT, &action, NULL);
        pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    } else {
        pthread_sigmask(SIG_BLOCK, &set, NULL);
        sigaction(SIGTERM, &action, NULL);
        sigaction(SIGINT, &action, NULL);
    }
}

/* Listens first, so that whoever watches sees a server that loads and not one that is dead. */
static enum phid_status start(struct service *s, struct phid_error *err)
{
    enum phid_status status = load_keys(s, err);
    if (status == PHID_OK && s->config->server.tls_key != NULL) {
        status = api_keys_check_private(s->config->server.tls_key, err);
    }
    if (status == PHID_OK && (s->model_id = name_of_model(s->config)) == NULL) {
        status = phid_fail(err, PHID_ERR_MEMORY, "out of memory");
    }
    if (status != PHID_OK) {
        return status;
    }
    const struct server_options options = server_options_of(s);
    status = server_start(&options, NULL, NULL, &s->server, err);
    if (status == PHID_OK) {
        log_event(SERVER_LOG_DEBUG, "event=loading port=%u", server_port(s->server));
        set_loading(true);
        status = load_model(s, err);
        set_loading(false);
    }
    return status == PHID_OK ? server_attach(s->server, &options, s->engine, s->model, err)
                             : status;
}

static void stop(struct service *s)
{
    server_free(s->server);
    phid_engine_free(s->engine);
    phid_model_close(s->model);
    api_keys_fini(&s->file_keys);
    free(s->keys);
    free(s->key_names);
    free(s->model_id);
}

/* --------------------------------------------------------------- signals */

static void watched_signals(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGHUP);
}

/* The rest of the weights, which come while requests may already run. False when they cannot be
 * had. */
static bool look_at_load(struct service *s, struct phid_error *err)
{
    if (phid_engine_loaded(s->engine, 0, &s->loaded, err) != PHID_OK) {
        return false;
    }
    if (s->loaded) {
        log_event(SERVER_LOG_INFO, "event=loaded");
    }
    return true;
}

/* Returns when the server has ended: the first SIGTERM or SIGINT drains it, the second ends it at
 * once. An error: the weights cannot be had, so there is nothing to serve. */
static enum phid_status wait_for_signals(struct service *s, struct phid_error *err)
{
    sigset_t set;
    bool draining = false;
    const struct timespec tick = {.tv_nsec =
                                      50 * 1000 * 1000}; /* how late the end of a drain is seen */
    watched_signals(&set);
    while (true) {
        bool watching = draining || !s->loaded;
        int got = watching ? sigtimedwait(&set, NULL, &tick) : sigwaitinfo(&set, NULL);
        if (got == SIGHUP) {
            reload_keys(s);
            reload_certificate(s);
        } else if (got > 0 && !draining) {
            draining = true;
            log_event(SERVER_LOG_INFO, "event=draining timeout_ms=%llu",
                      (unsigned long long)s->config->server.drain_timeout_ms);
            server_drain(s->server);
        } else if (got > 0) {
            log_event(SERVER_LOG_WARN, "event=stopping reason=second_signal");
            server_stop(s->server);
            server_wait(s->server, 5000);
            return PHID_OK;
        }
        if (draining && server_wait(s->server, 0)) {
            return PHID_OK;
        }
        if (!s->loaded && !look_at_load(s, err)) {
            server_stop(s->server);
            server_wait(s->server, 5000);
            return err->status;
        }
    }
}

static void announce(const struct service *s)
{
    const struct phid_engine_info *info = phid_engine_info(s->engine);
    const char *host = s->config->server.host;
    bool brackets = strchr(host, ':') != NULL;
    log_ready("event=ready url=%s://%s%s%s:%u model=%s context=%zu threads=%zu isa=%s "
              "kv_tokens=%zu memory_bytes=%llu "
              "api_keys=%zu",
              s->config->server.tls_cert != NULL ? "https" : "http", brackets ? "[" : "", host,
              brackets ? "]" : "", server_port(s->server), s->model_id, info->context,
              info->threads, info->isa, info->kv_tokens, (unsigned long long)info->memory_bytes,
              s->key_count);
}

int cli_serve(int argc, char **argv)
{
    const struct arg table[] = {{0}};
    struct args args;
    int code = args_parse(&args, cli_command("serve"), table, argc, argv);
    if (code >= 0) {
        return code;
    }
    struct service s = {.config = &args.config};
    struct phid_error err = {0};
    sigset_t set;
    log_configure(&args.config);
    /* Blocked before any thread starts, so that only wait_for_signals sees them. */
    signal(SIGPIPE, SIG_IGN);
    watched_signals(&set);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    if (args.config.model.path == NULL) {
        code = cli_usage("no model: give one with -m FILE, or model.path in the configuration");
    } else if (start(&s, &err) != PHID_OK) {
        code = cli_fail(&err);
    } else {
        announce(&s);
        code = wait_for_signals(&s, &err) == PHID_OK ? CLI_OK : cli_fail(&err);
        log_event(SERVER_LOG_INFO, "event=stopped");
    }
    stop(&s);
    args_fini(&args);
    return code;
}

#include "server/server.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

#include "engine/base/clock.h"
#include "server/http/io.h"
#include "server/http/tls.h"

#define BODY_BYTES_DEFAULT  ((size_t)64 << 20)
#define DESCRIPTORS_WANTED  65536
#define DESCRIPTORS_PER     3  /* a client and the two ends of its socketpair */
#define DESCRIPTORS_ELSE    64 /* model files, logs, epoll sets */
#define CONNECTIONS_DEFAULT 16384

struct server {
    struct io io;
    pthread_t thread;
    pthread_mutex_t mu;
    pthread_cond_t changed;
    bool finished; /* guarded by mu */
};

/* Takes the descriptors that the hard limit allows, and says how many connections fit. */
static size_t connections_that_fit(size_t wanted)
{
    struct rlimit limit;
    size_t descriptors = 1024;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        rlim_t most = limit.rlim_max < DESCRIPTORS_WANTED ? limit.rlim_max : DESCRIPTORS_WANTED;
        if (limit.rlim_cur < most) {
            limit.rlim_cur = most;
            (void)setrlimit(RLIMIT_NOFILE, &limit);
            (void)getrlimit(RLIMIT_NOFILE, &limit);
        }
        descriptors = (size_t)limit.rlim_cur;
    }
    size_t fit = descriptors > 2 * DESCRIPTORS_ELSE
                     ? (descriptors - DESCRIPTORS_ELSE) / DESCRIPTORS_PER
                     : 16;
    wanted = wanted > 0 ? wanted : CONNECTIONS_DEFAULT;
    return fit < wanted ? fit : wanted;
}

static void *run(void *user)
{
    struct server *server = user;
    io_run(&server->io);
    pthread_mutex_lock(&server->mu);
    server->finished = true;
    pthread_cond_broadcast(&server->changed);
    pthread_mutex_unlock(&server->mu);
    return NULL;
}

static void set_constants(struct io *io, const struct server_options *options)
{
    io->max_body_bytes = options->max_body_bytes > 0 ? options->max_body_bytes : BODY_BYTES_DEFAULT;
    io->max_buffered_bytes = io->max_body_bytes < SIZE_MAX / 4 ? 4 * io->max_body_bytes : SIZE_MAX;
    io->max_connections = connections_that_fit(options->max_connections);
    io->sse_ping_ms = options->sse_ping_ms;
    io->drain_delay_ms = options->drain_delay_ms;
    io->drain_timeout_ms = options->drain_timeout_ms;
    io->request_timeout_ms = options->request_timeout_ms;
    quotas_init(&io->quotas,
                &(struct quota_limits){.in_flight = options->key_in_flight,
                                       .requests_per_minute = options->key_requests_per_minute,
                                       .tokens_per_minute = options->key_tokens_per_minute});
    io->log = options->log;
    io->log_user = options->log_user;
    io->metrics_page = options->metrics;
    io->metrics_open = options->metrics_open;
}

static enum phid_status open_tls(struct io *io, const struct server_options *options,
                                 struct phid_error *err)
{
    if (options->tls_cert == NULL && options->tls_key == NULL) {
        return PHID_OK;
    }
    if (options->tls_cert == NULL || options->tls_key == NULL) {
        return phid_fail_at(err, PHID_ERR_ARGUMENT, "server.tls",
                            "server.tls needs both cert and key");
    }
    return tls_new(options->tls_cert, options->tls_key, &io->tls, err);
}

static void server_fini(struct server *server)
{
    tls_free(server->io.tls);
    keys_fini(&server->io.keys);
    quotas_fini(&server->io.quotas);
    cors_fini(&server->io.cors);
    api_fini(&server->io.api);
    pthread_cond_destroy(&server->changed);
    pthread_mutex_destroy(&server->mu);
    free(server);
}

/* Signals are the program's business, not of the threads made here. */
static int start_thread(struct server *server)
{
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int problem = pthread_create(&server->thread, NULL, run, server);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (problem == 0) {
        pthread_setname_np(server->thread, "phid-io");
    }
    return problem;
}

enum phid_status server_attach(struct server *server, const struct server_options *options,
                               struct phid_engine *engine, struct phid_model *model,
                               struct phid_error *err)
{
    struct io *io = &server->io;
    enum phid_status status = api_init(&io->api, options, engine, model, err);
    if (status == PHID_OK) {
        atomic_store_explicit(&io->loaded, true, memory_order_release);
    }
    return status;
}

enum phid_status server_start(const struct server_options *options, struct phid_engine *engine,
                              struct phid_model *model, struct server **ret_server,
                              struct phid_error *err)
{
    struct server *server = calloc(1, sizeof *server);
    if (server == NULL) {
        return phid_fail(err, PHID_ERR_MEMORY, "out of memory for the server");
    }
    struct io *io = &server->io;
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&server->mu, NULL);
    pthread_cond_init(&server->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    json_object_seed(0); /* once, before any thread parses */
    keys_init(&io->keys);
    set_constants(io, options);
    enum phid_status status = PHID_OK;
    if (engine != NULL) {
        status = server_attach(server, options, engine, model, err);
    }
    if (status == PHID_OK) {
        status = cors_init(&io->cors, options->cors_origins, options->cors_origin_count, err);
    }
    if (status == PHID_OK) {
        status = keys_set(&io->keys, options->api_keys, options->api_key_names,
                          options->api_key_count, err);
    }
    if (status == PHID_OK) {
        status = open_tls(io, options, err);
    }
    if (status == PHID_OK) {
        status =
            io_open(io, options->host != NULL ? options->host : "127.0.0.1", options->port, err);
    }
    if (status == PHID_OK && start_thread(server) != 0) {
        io_close(io);
        status = phid_fail(err, PHID_ERR_IO, "cannot start the server's thread");
    }
    if (status != PHID_OK) {
        server_fini(server);
        return status;
    }
    *ret_server = server;
    return PHID_OK;
}

uint16_t server_port(const struct server *server)
{
    return server->io.port;
}

enum phid_status server_set_api_keys(struct server *server, const char *const *api_keys,
                                     const char *const *names, size_t count, struct phid_error *err)
{
    return keys_set(&server->io.keys, api_keys, names, count, err);
}

enum phid_status server_reload_tls(struct server *server, struct phid_error *err)
{
    return server->io.tls != NULL ? tls_reload(server->io.tls, err) : PHID_OK;
}

void server_drain(struct server *server)
{
    atomic_store_explicit(&server->io.drain_asked, true, memory_order_release);
    io_poke(&server->io);
}

void server_stop(struct server *server)
{
    atomic_store_explicit(&server->io.stop_asked, true, memory_order_release);
    io_poke(&server->io);
}

bool server_wait(struct server *server, int timeout_ms)
{
    uint64_t until_ns =
        clock_now_ns() + (uint64_t)(timeout_ms > 0 ? timeout_ms : 0) * CLOCK_NS_PER_MS;
    struct timespec until = {.tv_sec = (time_t)(until_ns / CLOCK_NS_PER_S),
                             .tv_nsec = (long)(until_ns % CLOCK_NS_PER_S)};
    int problem = 0;
    pthread_mutex_lock(&server->mu);
    while (!server->finished && problem != ETIMEDOUT) {
        if (timeout_ms < 0) {
            pthread_cond_wait(&server->changed, &server->mu);
        } else {
            problem = pthread_cond_timedwait(&server->changed, &server->mu, &until);
        }
    }
    bool finished = server->finished;
    pthread_mutex_unlock(&server->mu);
    return finished;
}

void server_free(struct server *server)
{
    if (server == NULL) {
        return;
    }
    server_stop(server);
    pthread_join(server->thread, NULL);
    io_close(&server->io);
    server_fini(server);
}

/* The HTTP server: one engine and one model behind the OpenAI API.
 *
 * A struct server is one listening socket, one I/O thread that owns every connection, and two
 * workers that turn request bodies into engine requests. It borrows the engine and the model, which
 * outlive it. `phid serve` starts it, waits for a signal, drains it and frees it. The functions
 * below may be called from any thread, except server_free: by the owner, once. None is safe inside
 * a signal handler. */
#ifndef PHID_SERVER_SERVER_H
#define PHID_SERVER_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/phid.h"

enum server_log_level { SERVER_LOG_DEBUG, SERVER_LOG_INFO, SERVER_LOG_WARN, SERVER_LOG_ERROR };

/* Everything is copied by server_start. */
struct server_options {
    const char *host; /* address or name to listen on; NULL: 127.0.0.1 */
    uint16_t port;    /* 0: a free one, see server_port */

    const char *const *api_keys;      /* the keys themselves; none: every request is let in */
    const char *const *api_key_names; /* for logs, in the same order; NULL, or NULL for some */
    size_t api_key_count;
    const char *const *cors_origins; /* "https://app.example", or "*"; none: no CORS headers */
    size_t cors_origin_count;
    const char *tls_cert, *tls_key; /* PEM files, both or none */

    const char
        *model_id; /* what /v1/models lists and answers carry; NULL or "": the model's own name */
    const char *const *aliases; /* other names accepted in `model` */
    size_t alias_count;
    bool allow_special_in_prompt; /* control tokens written in a text `prompt` of /v1/completions
                                     count */

    /* What one API key may have; without keys all clients are one. 0: no limit. */
    uint32_t key_in_flight, key_requests_per_minute;
    uint64_t key_tokens_per_minute; /* prompts and answers */

    size_t max_body_bytes;   /* larger request bodies are 413; 0: 64 MiB */
    size_t max_connections;  /* more are 503; 0: what the descriptor limit allows, at most 16384 */
    uint32_t sse_ping_ms;    /* a comment line in streams silent for so long; 0: none */
    uint32_t drain_delay_ms; /* on drain: not ready, but still serving, for so long first */
    uint32_t drain_timeout_ms;   /* on drain: running requests are ended after so long */
    bool metrics;                /* GET /metrics answers */
    bool metrics_open;           /* without an API key, even if others need one */
    uint32_t request_timeout_ms; /* one request, from its last byte to its answer's; 0: no limit */

    /* One event a line, key=value, no newline, no prompt text, no keys, no time stamp. Called from
     * the server's threads, one at a time not guaranteed. May be NULL. */
    void (*log)(void *user, enum server_log_level level, const char *line);
    void *log_user;
};

struct server;

/* Binds, starts the threads and serves. Without engine and model (both NULL) only /health, /ready
 * and /metrics answer, everything else is 503, until server_attach. Errors: PHID_ERR_ARGUMENT
 * (where names the option), PHID_ERR_IO (the address cannot be bound, a certificate cannot be
 * read), PHID_ERR_MEMORY. */
enum phid_status server_start(const struct server_options *options, struct phid_engine *engine,
                              struct phid_model *model, struct server **ret_server,
                              struct phid_error *err);

/* Gives the server its engine and model, once; from then on it is ready. Of the options what is
 * about the model is read: model_id, aliases, allow_special_in_prompt. Errors: PHID_ERR_MEMORY. */
enum phid_status server_attach(struct server *server, const struct server_options *options,
                               struct phid_engine *engine, struct phid_model *model,
                               struct phid_error *err);

/* The port it listens on. */
uint16_t server_port(const struct server *server);

/* Replaces the API keys (SIGHUP); requests already let in go on. names may be NULL. */
enum phid_status server_set_api_keys(struct server *server, const char *const *api_keys,
                                     const char *const *names, size_t count,
                                     struct phid_error *err);

/* Reads the certificate and key files again (SIGHUP), for new connections. A failure changes
 * nothing; without TLS there is nothing to do. */
enum phid_status server_reload_tls(struct server *server, struct phid_error *err);

/* Begins a graceful stop and returns at once: /ready answers 503, after drain_delay_ms new
 * requests are refused with 503 and `Connection: close`, running ones may finish until
 * drain_timeout_ms, the rest end with an error. */
void server_drain(struct server *server);

/* Ends everything now: running requests get an error event. Returns at once. */
void server_stop(struct server *server);

/* Waits until a drain or stop is complete: true; or until timeout_ms passed (negative: for ever):
 * false. */
bool server_wait(struct server *server, int timeout_ms);

/* server_stop, server_wait, then gives back everything. NULL is fine. */
void server_free(struct server *server);

#endif

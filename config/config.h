/* The typed configuration: what one YAML file and the command line's flags say, with every default
 * filled in.
 *
 * One table (options.h) describes each key once; the YAML reader, `--set`, the short flags,
 * `--help` and the reference page are made from it. The caller owns the struct; config_init fills
 * the defaults, config_fini frees the strings. Written at start by one thread, read-only
 * afterwards. */
#ifndef PHID_CONFIG_CONFIG_H
#define PHID_CONFIG_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"

struct config_list {
    char **items; /* heap; each NUL-terminated */
    size_t count;
};

/* One entry of placement.layers: layers first..last run on `device`. */
struct config_layer_span {
    int64_t first, last;
    char *device; /* "cpu", "cuda:0" */
};

struct config_layers {
    struct config_layer_span *items; /* heap */
    size_t count;
};

enum config_activations {
    CONFIG_ACTIVATIONS_AUTO,
    CONFIG_ACTIVATIONS_INT8,
    CONFIG_ACTIVATIONS_INT8X2,
    CONFIG_ACTIVATIONS_BF16,
    CONFIG_ACTIVATIONS_W8A8
};
enum config_speculation {
    CONFIG_SPECULATION_AUTO,
    CONFIG_SPECULATION_ALWAYS,
    CONFIG_SPECULATION_OFF
};
enum config_longrope { CONFIG_LONGROPE_HF, CONFIG_LONGROPE_LONG, CONFIG_LONGROPE_SHORT };
extern const char *const config_isas[]; /* names of instruction sets; the first is "auto" */
enum config_numa { CONFIG_NUMA_INTERLEAVE, CONFIG_NUMA_LOCAL };
enum config_kv_type { CONFIG_KV_F16, CONFIG_KV_F32, CONFIG_KV_INT8 };
enum config_log_level { CONFIG_LOG_DEBUG, CONFIG_LOG_INFO, CONFIG_LOG_WARN, CONFIG_LOG_ERROR };
enum config_log_format { CONFIG_LOG_TEXT, CONFIG_LOG_JSON };

/* Numbers are 64-bit throughout; *_bytes and *_ms say their unit. Strings are NULL where the value
 * is null. */
struct config {
    struct {
        char *host;
        int64_t port;
        char *api_keys_file;
        struct config_list api_keys; /* from --api-key only; never in the file */
        struct config_list cors_origins;
        char *tls_cert, *tls_key;
        uint64_t max_body_bytes;
        uint64_t sse_ping_ms; /* 0: no pings */
        uint64_t drain_delay_ms, drain_timeout_ms;
        bool metrics, metrics_open;
    } server;
    struct {
        char *path;
        struct config_list alias;
        char *chat_template; /* "auto", "none" or a name */
    } model;
    struct {
        int64_t threads; /* 0: auto */
        int isa;         /* of config_isas */
        bool pin_threads;
        bool huge_pages;
        int numa;        /* enum config_numa */
        int64_t context; /* 0: auto */
        int64_t max_running;
        int64_t step_tokens;
        uint64_t itl_target_ms; /* 0: auto */
        uint64_t max_overtake_ms;
        int activations;          /* enum config_activations */
        int speculation;          /* enum config_speculation */
        int kv_type;              /* enum config_kv_type */
        uint64_t kv_memory_bytes; /* 0: auto */
        bool prefix_cache;
        int longrope; /* enum config_longrope */
    } engine;
    struct {
        int64_t gpu_layers;        /* -1: auto */
        uint64_t vram_limit_bytes; /* 0: null */
        struct config_layers layers;
    } placement;
    struct {
        int64_t queue;
        int64_t queue_tokens;
        uint64_t request_timeout_ms, max_wait_ms;                              /* 0: no limit */
        int64_t key_in_flight, key_requests_per_minute, key_tokens_per_minute; /* 0: no limit */
    } limits;
    struct {
        int level;  /* enum config_log_level */
        int format; /* enum config_log_format */
    } log;
};

/* Fills in the defaults. On failure (PHID_ERR_MEMORY) nothing is left to free. */
enum phid_status config_init(struct config *config, struct phid_error *err);
void config_fini(struct config *config);

/* Reads a YAML file over what is there. Messages are "FILE:LINE: key: what was expected, what was
 * found". Errors: PHID_ERR_NOT_FOUND, PHID_ERR_IO (not a regular file), PHID_ERR_FORMAT,
 * PHID_ERR_ARGUMENT, PHID_ERR_MEMORY. */
enum phid_status config_load_file(struct config *config, const char *path, struct phid_error *err);

/* The same from memory; `name` stands for the file in messages. */
enum phid_status config_load_memory(struct config *config, const char *name, const char *text,
                                    size_t size, struct phid_error *err);

/* One `key.path=value`, the value in YAML. */
enum phid_status config_set(struct config *config, const char *assignment, struct phid_error *err);

/* Sets `key` (must exist in the table) to a flag's text, taken literally where the option is a
 * string. `flag` names the origin in messages. */
enum phid_status config_set_text(struct config *config, const char *key, const char *flag,
                                 const char *text, struct phid_error *err);

/* Appends a key given by --api-key. */
enum phid_status config_add_api_key(struct config *config, const char *key, struct phid_error *err);

/* Contradictions between keys, and what this build cannot do. To be called once everything is set.
 */
enum phid_status config_check(const struct config *config, struct phid_error *err);

#endif

/* What the endpoints share: the engine, the model and the names it answers to.
 *
 * One struct api for the life of the server, filled before the threads start and never changed: any
 * thread reads it. The endpoints know JSON and phid.h; they know no sockets. */
#ifndef PHID_SERVER_API_API_H
#define PHID_SERVER_API_API_H

#include <jansson.h>

#include "engine/phid.h"
#include "server/api/error.h"
#include "server/server.h"

struct api {
    struct phid_engine *engine; /* borrowed */
    struct phid_model *model;   /* borrowed */
    char **names;               /* heap; names[0] is the served id, the rest are aliases */
    size_t name_count;
    bool allow_special; /* control tokens in text prompts of /v1/completions */
    int64_t created;    /* unix seconds, of the model objects */
    char
        fingerprint[16]; /* "fp_" and hex: changes with the build, the model file and the backend */
    size_t context;      /* tokens a sequence may hold */
    size_t vocab_size;
    size_t token_bytes_max; /* no token stands for more text than this */
};

enum phid_status api_init(struct api *api, const struct server_options *options,
                          struct phid_engine *engine, struct phid_model *model,
                          struct phid_error *err);
void api_fini(struct api *api);

/* Whether `name` is the served model or an alias; API_MODEL_NOT_FOUND otherwise. */
enum api_fault api_check_model(const struct api *api, struct str name, struct api_error *err);

/* A prompt of so many bytes cannot be fewer than bytes / token_bytes_max tokens: refuses hopeless
 * ones before they are tokenized. */
enum api_fault api_check_prompt_size(const struct api *api, size_t bytes, const char *param,
                                     struct api_error *err);

/* Scans and parses a body into an object the caller decrefs. */
enum api_fault api_parse_body(struct str body, json_t **ret, struct api_error *err);

/* prefix and `size` random letters and digits, NUL-terminated; false when the system has no
 * randomness. */
bool api_random_id(char *out, size_t out_size, const char *prefix, size_t size);

/* What / and /v1/models answer. */
void api_write_root(const struct api *api, struct buf *out);
void api_write_models(const struct api *api, struct buf *out);
enum api_fault api_write_model(const struct api *api, struct str name, struct buf *out,
                               struct api_error *err);

#endif

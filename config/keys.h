/* The file of API keys: one key a line, optionally `name:key`, `#` comments and empty lines.
 *
 * The file must be readable by its owner (and group) only. The caller owns the struct;
 * api_keys_fini wipes it. */
#ifndef PHID_CONFIG_KEYS_H
#define PHID_CONFIG_KEYS_H

#include <stddef.h>

#include "engine/base/status.h"

struct api_key {
    char *name; /* heap; "" when the line has none */
    char *key;  /* heap; printable ASCII, no spaces */
};

struct api_keys {
    struct api_key *items; /* heap */
    size_t count;
};

/* Errors: PHID_ERR_NOT_FOUND, PHID_ERR_IO (not a regular file), PHID_ERR_ARGUMENT (readable by
 * others, a bad line, a key twice, no key at all), PHID_ERR_MEMORY. Messages give the line and
 * never a key. */
enum phid_status api_keys_load(const char *path, struct api_keys *ret, struct phid_error *err);
void api_keys_fini(struct api_keys *keys);

/* Whether a file that holds a secret (a TLS private key) is there and closed to other users. Errors
 * as above. */
enum phid_status api_keys_check_private(const char *path, struct phid_error *err);

#endif

/* The API keys, kept as SHA-256 digests only and compared in constant time.
 * May be replaced while requests are checked: guarded by its own lock. */
#ifndef PHID_SERVER_HTTP_KEYS_H
#define PHID_SERVER_HTTP_KEYS_H

#include <pthread.h>

#include "engine/base/status.h"
#include "engine/base/str.h"

#define KEY_DIGEST_BYTES 32

struct keys {
    pthread_mutex_t mu;
    unsigned char (*digests)[KEY_DIGEST_BYTES]; /* guarded by mu */
    size_t count;                               /* guarded by mu */
};

void keys_init(struct keys *keys);
void keys_fini(struct keys *keys);

/* Replaces all of them. Empty keys are PHID_ERR_ARGUMENT. */
enum phid_status keys_set(struct keys *keys, const char *const *texts, size_t count,
                          struct phid_error *err);

/* Whether a request with these headers may come in: always when there are no keys. Every key is
 * compared. */
bool keys_allow(struct keys *keys, struct str authorization, struct str api_key);
bool keys_any(struct keys *keys);

#endif

/* The API keys, kept as SHA-256 digests only and compared in constant time, each with the name it
 * goes by in logs. May be replaced while requests are checked: guarded by its own lock. */
#ifndef PHID_SERVER_HTTP_KEYS_H
#define PHID_SERVER_HTTP_KEYS_H

#include <pthread.h>
#include <stdint.h>

#include "engine/base/status.h"
#include "engine/base/str.h"

#define KEY_DIGEST_BYTES 32
#define KEY_NAME_SIZE    64

/* Who asks: what a request's key tells about it. */
struct caller {
    uint64_t id;              /* of the key, the same after a reload; 0: no key is asked for */
    char name[KEY_NAME_SIZE]; /* printable, without blanks; "" for id 0 */
};

struct stored_key {
    unsigned char digest[KEY_DIGEST_BYTES];
    struct caller caller;
};

struct keys {
    pthread_mutex_t mu;
    struct stored_key *items; /* heap; guarded by mu */
    size_t count;             /* guarded by mu */
};

void keys_init(struct keys *keys);
void keys_fini(struct keys *keys);

/* Replaces all of them. names may be NULL, as may each of them; a key without a name goes by its
 * place, "key-1". Empty keys are PHID_ERR_ARGUMENT. */
enum phid_status keys_set(struct keys *keys, const char *const *texts, const char *const *names,
                          size_t count, struct phid_error *err);

/* Whether a request with these headers may come in: always when there are no keys. Every key is
 * compared. *ret_caller is written when it may. */
bool keys_allow(struct keys *keys, struct str authorization, struct str api_key,
                struct caller *ret_caller);
bool keys_any(struct keys *keys);

#endif

#include "server/http/keys.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <stdlib.h>
#include <strings.h>

_Static_assert(KEY_DIGEST_BYTES == SHA256_DIGEST_LENGTH, "a digest is a SHA-256");

void keys_init(struct keys *keys)
{
    *keys = (struct keys){.mu = PTHREAD_MUTEX_INITIALIZER};
}

void keys_fini(struct keys *keys)
{
    free(keys->digests);
    keys->digests = NULL;
    keys->count = 0;
    pthread_mutex_destroy(&keys->mu);
}

enum phid_status keys_set(struct keys *keys, const char *const *texts, size_t count,
                          struct phid_error *err)
{
    unsigned char(*digests)[KEY_DIGEST_BYTES] = calloc(count + 1, sizeof *digests);
    if (digests == NULL) {
        return phid_fail(err, PHID_ERR_MEMORY, "out of memory for %zu API keys", count);
    }
    for (size_t i = 0; i < count; i++) {
        if (texts[i] == NULL || texts[i][0] == '\0') {
            free(digests);
            return phid_fail_at(err, PHID_ERR_ARGUMENT, "server.api_keys", "API key %zu is empty",
                                i + 1);
        }
        SHA256((const unsigned char *)texts[i], strlen(texts[i]), digests[i]);
    }
    pthread_mutex_lock(&keys->mu);
    unsigned char(*old)[KEY_DIGEST_BYTES] = keys->digests;
    keys->digests = digests;
    keys->count = count;
    pthread_mutex_unlock(&keys->mu);
    free(old);
    return PHID_OK;
}

/* The credential behind "Bearer "; empty when the header is something else. */
static struct str bearer(struct str authorization)
{
    struct str none = {"", 0};
    if (authorization.size < 7 || strncasecmp(authorization.data, "Bearer ", 7) != 0) {
        return none;
    }
    struct str key = {authorization.data + 7, authorization.size - 7};
    while (key.size > 0 && key.data[0] == ' ') {
        key.data++;
        key.size--;
    }
    return key;
}

bool keys_allow(struct keys *keys, struct str authorization, struct str api_key)
{
    unsigned char digest[KEY_DIGEST_BYTES];
    int matches = 0;
    struct str key = authorization.size > 0 ? bearer(authorization) : api_key;
    SHA256((const unsigned char *)(key.size > 0 ? key.data : ""), key.size, digest);
    pthread_mutex_lock(&keys->mu);
    for (size_t i = 0; i < keys->count; i++) {
        matches |= CRYPTO_memcmp(digest, keys->digests[i], sizeof digest) == 0;
    }
    bool allowed = keys->count == 0 || (matches != 0 && key.size > 0);
    pthread_mutex_unlock(&keys->mu);
    return allowed;
}

bool keys_any(struct keys *keys)
{
    pthread_mutex_lock(&keys->mu);
    bool any = keys->count > 0;
    pthread_mutex_unlock(&keys->mu);
    return any;
}

#include "server/http/keys.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

_Static_assert(KEY_DIGEST_BYTES == SHA256_DIGEST_LENGTH, "a digest is a SHA-256");

void keys_init(struct keys *keys)
{
    *keys = (struct keys){.mu = PTHREAD_MUTEX_INITIALIZER};
}

void keys_fini(struct keys *keys)
{
    free(keys->items);
    keys->items = NULL;
    keys->count = 0;
    pthread_mutex_destroy(&keys->mu);
}

/* A name as it may stand in a log line. */
static void set_name(struct caller *caller, const char *name, size_t place)
{
    if (name == NULL || name[0] == '\0') {
        snprintf(caller->name, sizeof caller->name, "key-%zu", place);
        return;
    }
    snprintf(caller->name, sizeof caller->name, "%s", name);
    for (char *c = caller->name; *c != '\0'; c++) {
        *c = *c > ' ' && *c < 0x7f && *c != '"' && *c != '\\' ? *c : '_';
    }
}

static void set_key(struct stored_key *item, const char *text, const char *name, size_t place)
{
    SHA256((const unsigned char *)text, strlen(text), item->digest);
    memcpy(&item->caller.id, item->digest, sizeof item->caller.id);
    item->caller.id |= 1; /* never 0 */
    set_name(&item->caller, name, place);
}

enum phid_status keys_set(struct keys *keys, const char *const *texts, const char *const *names,
                          size_t count, struct phid_error *err)
{
    struct stored_key *items = calloc(count + 1, sizeof *items);
    if (items == NULL) {
        return phid_fail(err, PHID_ERR_MEMORY, "out of memory for %zu API keys", count);
    }
    for (size_t i = 0; i < count; i++) {
        if (texts[i] == NULL || texts[i][0] == '\0') {
            free(items);
            return phid_fail_at(err, PHID_ERR_ARGUMENT, "server.api_keys", "API key %zu is empty",
                                i + 1);
        }
        set_key(&items[i], texts[i], names != NULL ? names[i] : NULL, i + 1);
    }
    pthread_mutex_lock(&keys->mu);
    struct stored_key *old = keys->items;
    keys->items = items;
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

bool keys_allow(struct keys *keys, struct str authorization, struct str api_key,
                struct caller *ret_caller)
{
    unsigned char digest[KEY_DIGEST_BYTES];
    struct caller caller = {0};
    bool matches = false;
    struct str key = authorization.size > 0 ? bearer(authorization) : api_key;
    SHA256((const unsigned char *)(key.size > 0 ? key.data : ""), key.size, digest);
    pthread_mutex_lock(&keys->mu);
    for (size_t i = 0; i < keys->count; i++) {
        if (CRYPTO_memcmp(digest, keys->items[i].digest, sizeof digest) == 0) {
            matches = true;
            caller = keys->items[i].caller;
        }
    }
    bool allowed = keys->count == 0 || (matches && key.size > 0);
    pthread_mutex_unlock(&keys->mu);
    if (allowed) {
        *ret_caller = caller;
    }
    return allowed;
}

bool keys_any(struct keys *keys)
{
    pthread_mutex_lock(&keys->mu);
    bool any = keys->count > 0;
    pthread_mutex_unlock(&keys->mu);
    return any;
}

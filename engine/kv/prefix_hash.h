/* The key of a computed prefix: a keyed 128-bit hash chain over token ids, one link a page.
 *
 * The first link stands for everything but the tokens that the keys and values depend on, and for
 * who may share them (tenant, salt, rotary factor set); each further link for one page of tokens
 * and all before it. The secret is drawn for each engine, so that nobody outside can make two
 * prefixes collide or guess what others have computed. Pure functions; any thread. */
#ifndef PHID_KV_PREFIX_HASH_H
#define PHID_KV_PREFIX_HASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/backend/backend.h"
#include "engine/base/status.h"
#include "engine/base/str.h"

struct prefix_secret {
    uint64_t words[2];
};

struct prefix_hash {
    uint64_t words[2];
};

/* From the system's source of randomness. Errors: PHID_ERR_IO. */
enum phid_status prefix_secret_draw(struct prefix_secret *ret, struct phid_error *err);

struct prefix_scope {
    struct str tenant; /* whose request it is */
    struct str salt;   /* the request's own wish to be apart */
    enum block_rope_set rope_set;
};
struct prefix_hash prefix_hash_first(const struct prefix_secret *secret,
                                     const struct prefix_scope *scope);

/* The link of the page with these BACKEND_PAGE_TOKENS tokens, behind `before`. */
struct prefix_hash prefix_hash_next(const struct prefix_secret *secret, struct prefix_hash before,
                                    const int32_t *tokens);

/* The place of a page in the table of beginnings: a hash of its first `count` tokens, behind
 * `before`. */
uint64_t prefix_hash_beginning(const struct prefix_secret *secret, struct prefix_hash before,
                               const int32_t *tokens, size_t count);

static inline bool prefix_hash_equal(struct prefix_hash a, struct prefix_hash b)
{
    return a.words[0] == b.words[0] && a.words[1] == b.words[1];
}

#endif

/* SipHash-1-3 with 128 bits of result (Aumasson and Bernstein, "SipHash: a fast short-input PRF",
 * 2012; the long result as in their reference code). Tokens are compared on every hit, so a
 * collision costs a hit and never an answer; the fast variant is enough. */
#include "engine/kv/prefix_hash.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

struct sip {
    uint64_t v0, v1, v2, v3;
};

static inline uint64_t rotate(uint64_t x, int bits)
{
    return x << bits | x >> (64 - bits);
}

static inline void sip_round(struct sip *s)
{
    s->v0 += s->v1;
    s->v2 += s->v3;
    s->v1 = rotate(s->v1, 13) ^ s->v0;
    s->v3 = rotate(s->v3, 16) ^ s->v2;
    s->v0 = rotate(s->v0, 32);
    s->v2 += s->v1;
    s->v0 += s->v3;
    s->v1 = rotate(s->v1, 17) ^ s->v2;
    s->v3 = rotate(s->v3, 21) ^ s->v0;
    s->v2 = rotate(s->v2, 32);
}

static inline void sip_begin(struct sip *s, const struct prefix_secret *secret)
{
    *s = (struct sip){
        .v0 = secret->words[0] ^ 0x736f6d6570736575u,
        .v1 = secret->words[1] ^ 0x646f72616e646f6du ^ 0xee,
        .v2 = secret->words[0] ^ 0x6c7967656e657261u,
        .v3 = secret->words[1] ^ 0x7465646279746573u,
    };
}

static inline void sip_word(struct sip *s, uint64_t word)
{
    s->v3 ^= word;
    sip_round(s);
    s->v0 ^= word;
}

/* The bytes as little-endian words; the last one holds what is left over and the length. */
static inline void sip_bytes(struct sip *s, const void *data, size_t size, size_t total)
{
    const unsigned char *bytes = data;
    size_t at = 0;
    for (; at + 8 <= size; at += 8) {
        uint64_t word;
        memcpy(&word, bytes + at, 8);
        sip_word(s, word);
    }
    uint64_t last = 0;
    if (at < size) {
        memcpy(&last, bytes + at, size - at);
    }
    sip_word(s, last | (uint64_t)total << 56);
}

static inline struct prefix_hash sip_end(struct sip *s)
{
    struct prefix_hash hash;
    s->v2 ^= 0xee;
    for (int half = 0; half < 2; half++) {
        for (int i = 0; i < 3; i++) {
            sip_round(s);
        }
        hash.words[half] = s->v0 ^ s->v1 ^ s->v2 ^ s->v3;
        s->v1 ^= 0xdd;
    }
    return hash;
}

enum phid_status prefix_secret_draw(struct prefix_secret *ret, struct phid_error *err)
{
    struct prefix_secret secret;
    ssize_t got;
    do {
        got = getrandom(&secret, sizeof(secret), 0); /* so few bytes come whole or not at all */
    } while (got < 0 && errno == EINTR);
    if (got != (ssize_t)sizeof(secret)) {
        return phid_fail(err, PHID_ERR_IO, "the system has no source of randomness");
    }
    *ret = secret;
    return PHID_OK;
}

struct prefix_hash prefix_hash_first(const struct prefix_secret *secret,
                                     const struct prefix_scope *scope)
{
    struct sip s;
    /* Lengths first, so that no tenant and salt look like another pair. */
    sip_begin(&s, secret);
    sip_word(&s, (uint64_t)scope->tenant.size);
    sip_word(&s, (uint64_t)scope->salt.size);
    sip_word(&s, (uint64_t)scope->rope_set);
    sip_bytes(&s, scope->tenant.data, scope->tenant.size, scope->tenant.size);
    sip_bytes(&s, scope->salt.data, scope->salt.size, scope->salt.size);
    return sip_end(&s);
}

static inline struct prefix_hash hash_tokens(const struct prefix_secret *secret,
                                             struct prefix_hash before, const int32_t *tokens,
                                             size_t count)
{
    struct sip s;
    size_t size = count * sizeof(*tokens);
    sip_begin(&s, secret);
    sip_word(&s, before.words[0]);
    sip_word(&s, before.words[1]);
    sip_bytes(&s, tokens, size, size + sizeof(before));
    return sip_end(&s);
}

struct prefix_hash prefix_hash_next(const struct prefix_secret *secret, struct prefix_hash before,
                                    const int32_t *tokens)
{
    return hash_tokens(secret, before, tokens, BACKEND_PAGE_TOKENS);
}

uint64_t prefix_hash_beginning(const struct prefix_secret *secret, struct prefix_hash before,
                               const int32_t *tokens, size_t count)
{
    return hash_tokens(secret, before, tokens, count).words[0];
}

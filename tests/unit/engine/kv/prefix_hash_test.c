/* The chain's hash against a twin written from the paper, itself held by the published vector of
 * SipHash-2-4 with 128 bits. */
#include "engine/kv/prefix_hash.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static uint64_t turn(uint64_t x, int bits)
{
    return x << bits | x >> (64 - bits);
}

static void rounds(uint64_t v[4], int count)
{
    for (int i = 0; i < count; i++) {
        v[0] += v[1];
        v[1] = turn(v[1], 13);
        v[1] ^= v[0];
        v[0] = turn(v[0], 32);
        v[2] += v[3];
        v[3] = turn(v[3], 16);
        v[3] ^= v[2];
        v[0] += v[3];
        v[3] = turn(v[3], 21);
        v[3] ^= v[0];
        v[2] += v[1];
        v[1] = turn(v[1], 17);
        v[1] ^= v[2];
        v[2] = turn(v[2], 32);
    }
}

static struct prefix_hash sip(const uint64_t key[2], const unsigned char *in, size_t size, int c,
                              int d)
{
    uint64_t v[4] = {key[0] ^ 0x736f6d6570736575u, key[1] ^ 0x646f72616e646f6du ^ 0xee,
                     key[0] ^ 0x6c7967656e657261u, key[1] ^ 0x7465646279746573u};
    for (size_t at = 0; at <= size; at += 8) {
        uint64_t word = 0;
        for (size_t i = 0; i < 8 && at + i < size; i++) {
            word |= (uint64_t)in[at + i] << (8 * i);
        }
        if (at + 8 > size) {
            word |= (uint64_t)size << 56;
        }
        v[3] ^= word;
        rounds(v, c);
        v[0] ^= word;
    }
    struct prefix_hash out;
    v[2] ^= 0xee;
    rounds(v, d);
    out.words[0] = v[0] ^ v[1] ^ v[2] ^ v[3];
    v[1] ^= 0xdd;
    rounds(v, d);
    out.words[1] = v[0] ^ v[1] ^ v[2] ^ v[3];
    return out;
}

static const struct prefix_secret secret = {{0x0706050403020100u, 0x0f0e0d0c0b0a0908u}};

static void test_prefix_hash_twin_is_siphash(void **state)
{
    static const unsigned char expected[16] = {0xa3, 0x81, 0x7f, 0x04, 0xba, 0x25, 0xa8, 0xe6,
                                               0x6d, 0xf6, 0x72, 0x14, 0xc7, 0x55, 0x02, 0x93};
    struct prefix_hash hash = sip(secret.words, NULL, 0, 2, 4);
    assert_memory_equal(&hash, expected, sizeof(expected));
}

static void test_prefix_hash_next_is_the_twin(void **state)
{
    unsigned char in[sizeof(struct prefix_hash) + BACKEND_PAGE_TOKENS * sizeof(int32_t)];
    int32_t tokens[BACKEND_PAGE_TOKENS];
    struct prefix_hash before = {{77, 0xfedcba9876543210u}};
    for (int i = 0; i < BACKEND_PAGE_TOKENS; i++) {
        tokens[i] = i * 7919;
    }
    memcpy(in, &before, sizeof(before));
    memcpy(in + sizeof(before), tokens, sizeof(tokens));
    struct prefix_hash want = sip(secret.words, in, sizeof(in), 1, 3);
    struct prefix_hash have = prefix_hash_next(&secret, before, tokens);
    assert_true(prefix_hash_equal(have, want));
    want = sip(secret.words, in, sizeof(before) + 4 * sizeof(int32_t), 1, 3);
    assert_true(prefix_hash_beginning(&secret, before, tokens, 4) == want.words[0]);
}

static void test_prefix_hash_depends_on_everything(void **state)
{
    const struct prefix_scope scopes[] = {
        {.tenant = STR("a"), .salt = STR("bc")},
        {.tenant = STR("ab"), .salt = STR("c")},
        {.tenant = STR("abc")},
        {.salt = STR("abc")},
        {.tenant = STR("a"), .salt = STR("bc"), .rope_set = BLOCK_ROPE_LONG},
        {.tenant = STR("12345678"), .salt = STR("9")},
        {.tenant = STR("123456789")},
        {.rope_set = BLOCK_ROPE_LONG},
        {.rope_set = BLOCK_ROPE_SHORT},
    };
    enum { SCOPES = sizeof(scopes) / sizeof(scopes[0]) };
    struct prefix_secret other = secret;
    other.words[1]++;
    int32_t tokens[BACKEND_PAGE_TOKENS] = {1, 2, 3};
    for (size_t i = 0; i < SCOPES; i++) {
        struct prefix_hash first = prefix_hash_first(&secret, &scopes[i]);
        assert_true(prefix_hash_equal(first, prefix_hash_first(&secret, &scopes[i])));
        assert_false(prefix_hash_equal(first, prefix_hash_first(&other, &scopes[i])));
        for (size_t j = 0; j < i; j++) {
            assert_false(prefix_hash_equal(first, prefix_hash_first(&secret, &scopes[j])));
        }
        struct prefix_hash next = prefix_hash_next(&secret, first, tokens);
        assert_false(prefix_hash_equal(next, prefix_hash_next(&other, first, tokens)));
        assert_false(prefix_hash_equal(next, prefix_hash_next(&secret, next, tokens)));
        tokens[BACKEND_PAGE_TOKENS - 1]++;
        assert_false(prefix_hash_equal(next, prefix_hash_next(&secret, first, tokens)));
    }
}

static void test_prefix_secret_is_drawn(void **state)
{
    struct prefix_secret a, b;
    assert_int_equal(prefix_secret_draw(&a, NULL), PHID_OK);
    assert_int_equal(prefix_secret_draw(&b, NULL), PHID_OK);
    assert_memory_not_equal(&a, &b, sizeof(a));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_prefix_hash_twin_is_siphash),
        cmocka_unit_test(test_prefix_hash_next_is_the_twin),
        cmocka_unit_test(test_prefix_hash_depends_on_everything),
        cmocka_unit_test(test_prefix_secret_is_drawn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

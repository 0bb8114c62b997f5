/* Files that somebody broke, on purpose or not: each must be refused with one line that says what
 * and where. */
#include "engine/gguf/gguf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/base/clock.h"
#include "engine/base/rng.h"
#include "engine/base/utf8.h"
#include "tests/unit/engine/gguf/assemble.h"

struct hostile {
    const char *name;
    const char *program;
    enum phid_status status;
    const char *what; /* the message holds this: a key, a tensor, a count */
    const char *why;  /* and this */
};

/* Far more than any of them takes, far less than one that is not linear would. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SECONDS_MAX 5.0
#else
#define SECONDS_MAX 1.0
#endif

#define FORMAT      PHID_ERR_FORMAT
#define UNSUPPORTED PHID_ERR_UNSUPPORTED

/* One F32 tensor 't' of 8 weights at the start of the data. */
#define TENSOR "'t' D1 Q8 D0 Q0 "

static const struct hostile header_cases[] = {
    {"empty", "", FORMAT, "not a GGUF file", "0 bytes long"},
    {"three bytes", "=GGU", FORMAT, "not a GGUF file", "3 bytes long"},
    {"magic only", "=GGUF", FORMAT, "header", "offset 4"},
    {"other magic", "=ggml D3 Q0 Q0", FORMAT, "magic number", "67 67 6d 6c"},
    {"zip", "=PK *30", FORMAT, "magic number", "50 4b"},
    {"zeros", "*100", FORMAT, "magic number", "00 00 00 00"},
    {"version missing", "=GGUF W3", FORMAT, "header", "offset 6"},
    {"counts missing", "=GGUF D3 Q0", FORMAT, "header", "offset 16"},
    {"half a count", "=GGUF D3 Q0 D0", FORMAT, "header", "offset 20"},
    {"version 0", "=GGUF D0 Q0 Q0", FORMAT, "version 0", "offset 4"},
    {"version 1", "=GGUF D1 Q0 Q0", UNSUPPORTED, "version 1", "offset 4"},
    {"version 4", "=GGUF D4 Q0 Q0", UNSUPPORTED, "version 4", "offset 4"},
    {"version 2^32-1", "=GGUF D0xffffffff Q0 Q0", UNSUPPORTED, "4294967295", "offset 4"},
    {"big endian", "=GGUF D0x03000000 Q0 Q0", UNSUPPORTED, "big-endian", "offset 4"},
    {"big endian v2", "=GGUF D0x02000000 Q0 Q0", UNSUPPORTED, "big-endian", "offset 4"},
    {"big endian magic", "=FUGG D3 Q0 Q0", UNSUPPORTED, "big-endian", "offset 0"},
    {"n_kv 2^63", "H0,0x8000000000000000", FORMAT, "9223372036854775808 metadata", "offset 16"},
    {"n_kv 2^64-1", "H0,-1", FORMAT, "18446744073709551615 metadata", "offset 16"},
    {"n_kv 2^40", "H0,0x10000000000 *1000", FORMAT, "1099511627776 metadata", "1000 bytes follow"},
    {"n_kv one too many", "H0,72 *1000", FORMAT, "72 metadata", "1000 bytes follow"},
    {"n_kv above the limit", "H0,65537 *1000000", FORMAT, "65537 metadata", "limit is 65536"},
    {"n_tensors 2^60", "H0x1000000000000000,0", FORMAT, "1152921504606846976 tensors", "offset 8"},
    {"n_tensors 2^64-1", "H-1,0", FORMAT, "18446744073709551615 tensors", "offset 8"},
    {"n_tensors one too many", "H31,0 *1000", FORMAT, "31 tensors", "1000 bytes follow"},
    {"n_tensors above the limit", "H65537,0 *2200000", FORMAT, "65537 tensors", "65536"},
};

static const struct hostile key_cases[] = {
    {"key length 2^62", "H0,1 Q0x4000000000000000 *20", FORMAT, "key 0 at offset 24",
     "4611686018427387904"},
    {"key length past the end", "H0,1 Q21 *20", FORMAT, "key 0 at offset 24", "20 are left"},
    {"key longer than allowed", "H0,1 Q65536 ~65536 u8 B1", FORMAT, "key 0 at offset 24", "65535"},
    {"empty key", "H0,1 '' u32 D1 *10", FORMAT, "key 0 at offset 24", "empty"},
    {"second key empty", "H0,2 'a' u8 B1 '' u8 B1 *10", FORMAT, "key 1 at offset 38", "empty"},
    {"key with NUL", "H0,1 Q3 =a .00 =b u8 B1", FORMAT, "key 0 at offset 24", "printable"},
    {"key with newline", "H0,1 Q3 =a .0a =b u8 B1", FORMAT, "key 0 at offset 24", "printable"},
    {"key with bad UTF-8", "H0,1 Q3 =a .ff =b u8 B1", FORMAT, "key 0 at offset 24", "UTF-8"},
    {"key with half a character", "H0,1 Q3 =a .e4 .b8 u8 B1", FORMAT, "key 0 at offset 24",
     "UTF-8"},
    {"key with a surrogate", "H0,1 Q3 .ed .a0 .80 u8 B1", FORMAT, "key 0 at offset 24", "UTF-8"},
    {"duplicate key", "H0,2 'general.name' str 'a' 'general.name' str 'b'", FORMAT,
     "'general.name' at offset 57", "twice"},
    {"duplicate of another type", "H0,3 'a' u8 B1 'b' u8 B1 'a' u32 D1 *9", FORMAT,
     "'a' at offset 52", "twice"},
    {"no type", "H0,1 'abc.def'", FORMAT, "'abc.def' at offset 39", "wants 4 bytes"},
    {"no room for a key", "H0,1 'k'", FORMAT, "metadata keys at offset 16", "9 bytes follow"},
    {"half a type", "H0,1 'long.enough' W8", FORMAT, "'long.enough' at offset 43", "wants 4 bytes"},
    {"value type 13", "H0,1 'k' D13 *16", FORMAT, "'k' at offset 33", "unknown value type 13"},
    {"value type 99", "H0,1 'k' D99 *16", FORMAT, "'k' at offset 33", "unknown value type 99"},
    {"value type 2^32-1", "H0,1 'k' D-1 *16", FORMAT, "'k' at offset 33", "4294967295"},
    {"u8 missing", "H0,1 'long.enough' u8", FORMAT, "'long.enough' at offset 47", "wants 1 bytes"},
    {"u16 cut", "H0,1 'long.enough' u16 B1", FORMAT, "'long.enough' at offset 47", "wants 2 bytes"},
    {"u32 cut", "H0,1 'long.enough' u32 W1", FORMAT, "'long.enough' at offset 47", "wants 4 bytes"},
    {"f32 cut", "H0,1 'long.enough' f32 B1 W1", FORMAT, "'long.enough' at offset 47",
     "wants 4 bytes"},
    {"u64 cut", "H0,1 'long.enough' u64 D1", FORMAT, "'long.enough' at offset 47", "wants 8 bytes"},
    {"f64 cut", "H0,1 'long.enough' f64 D1 W1", FORMAT, "'long.enough' at offset 47",
     "wants 8 bytes"},
    {"bool 2", "H0,1 'k' bool B2", FORMAT, "'k' at offset 24", "0 or 1, found 2"},
    {"bool 7", "H0,1 'k' bool B7", FORMAT, "'k' at offset 24", "found 7"},
    {"bool 255", "H0,2 'a' bool B1 'k' bool B255", FORMAT, "'k' at offset 38", "found 255"},
};

static const struct hostile value_cases[] = {
    {"string 2^63", "H0,1 'k' str Q0x8000000000000000 =abc", FORMAT, "'k' at offset",
     "9223372036854775808"},
    {"string 2^64-1", "H0,1 'k' str Q-1 =abc", FORMAT, "'k' at offset", "18446744073709551615"},
    {"string one too long", "H0,1 'k' str Q4 =abc", FORMAT, "'k' at offset 45", "only 3 are left"},
    {"string length cut", "H0,1 'long.enough' str D1", FORMAT, "'long.enough' at offset 47",
     "wants 8 bytes"},
    {"string above the limit", "H0,1 'k' str Q16777217 ~16777217", FORMAT, "'k' at offset 37",
     "limit is 16777216"},
    {"string not UTF-8", "H0,1 'k' str Q3 =a .c0 .80", FORMAT, "'k' at offset 37",
     "not valid UTF-8"},
    {"array header cut", "H0,1 'long.enough' arr D4 D1", FORMAT, "'long.enough' at offset",
     "8 bytes"},
    {"array element type 13", "H0,1 'k' arr D13 Q0", FORMAT, "'k' at offset 37", "unknown type 13"},
    {"array element type 2^31", "H0,1 'k' arr D0x80000000 Q0", FORMAT, "'k' at offset",
     "2147483648"},
    {"array of arrays", "H0,1 'k' arr arr Q1 arr Q1", UNSUPPORTED, "'k' at offset 37",
     "array of arrays"},
    {"array of no arrays", "H0,1 'k' arr arr Q0", UNSUPPORTED, "'k' at offset 37",
     "array of arrays"},
    {"u8 array 2^61", "H0,1 'k' arr u8 Q0x2000000000000000 *99", FORMAT, "'k' at offset",
     "2305843009213693952"},
    {"u64 array 2^61 wraps to 0", "H0,1 'k' arr u64 Q0x2000000000000000 *99", FORMAT,
     "'k' at offset", "2305843009213693952"},
    {"u32 array one too many", "H0,1 'k' arr u32 Q26 *100", FORMAT, "'k' at offset",
     "100 bytes are left"},
    {"f64 array one too many", "H0,1 'k' arr f64 Q13 *100", FORMAT, "'k' at offset", "13 elements"},
    {"array above the limit", "H0,1 'k' arr u8 Q4194305 *4194305", FORMAT, "'k' at offset",
     "limit is 4194304"},
    {"bool array with 2", "H0,1 'k' arr bool Q4 B0 B1 B2 B0", FORMAT, "'k' at offset 24",
     "found 2"},
    {"string array 2^40", "H0,1 'k' arr str Q0x10000000000 *99", FORMAT, "'k' at offset",
     "1099511627776"},
    {"string array, one too many", "H0,1 'k' arr str Q3 'a' 'b'", FORMAT, "'k' at offset",
     "an array of 3 elements"},
    {"string array, third cut", "H0,1 'k' arr str Q3 'abcdefgh' 'b' Q1", FORMAT, "'k' at offset 74",
     "element 2 of 3"},
    {"string array, element 2^63", "H0,1 'k' arr str Q2 'a' Q0x8000000000000000 *9", FORMAT,
     "'k' at offset 58", "element 1 of 2"},
    {"string array, element past the end", "H0,1 'k' arr str Q2 'a' Q10 *9", FORMAT,
     "'k' at offset 58", "wants 10 bytes"},
    {"alignment 0", "H0,1 'general.alignment' u32 D0", FORMAT, "'general.alignment' at offset 24",
     "found 0"},
    {"alignment 3", "H0,1 'general.alignment' u32 D3", FORMAT, "'general.alignment' at offset 24",
     "power of two"},
    {"alignment 4", "H0,1 'general.alignment' u32 D4", FORMAT, "'general.alignment'",
     "from 8 to 65536"},
    {"alignment 48", "H0,1 'general.alignment' u32 D48", FORMAT, "'general.alignment'", "found 48"},
    {"alignment 2^17", "H0,1 'general.alignment' u32 D131072", FORMAT, "'general.alignment'",
     "65536"},
    {"alignment 2^31", "H0,1 'general.alignment' u32 D0x80000000", FORMAT, "'general.alignment'",
     "found 2147483648"},
    {"alignment 2^63", "H0,1 'general.alignment' u64 Q0x8000000000000000", FORMAT,
     "'general.alignment'", "9223372036854775808"},
    {"alignment negative", "H0,1 'general.alignment' i32 D-32", FORMAT, "'general.alignment'",
     "found -32"},
    {"alignment float", "H0,1 'general.alignment' f32 F32", FORMAT, "'general.alignment'",
     "found f32"},
    {"alignment string", "H0,1 'general.alignment' str '32'", FORMAT, "'general.alignment'",
     "found string"},
    {"alignment array", "H0,1 'general.alignment' arr u32 Q1 D32", FORMAT, "'general.alignment'",
     "array of u32"},
};

static const struct hostile tensor_cases[] = {
    {"name 2^40", "H1,0 Q0x10000000000 *40", FORMAT, "tensor 0 at offset 24", "1099511627776"},
    {"name 65 bytes", "H1,0 Q65 ~65 D1 Q8 D0 Q0 P *32", FORMAT, "tensor 0 at offset 24",
     "limit is 64"},
    {"name 200 bytes", "H1,0 Q200 ~200 D1 Q8 D0 Q0 P *32", FORMAT, "tensor 0 at offset 24",
     "200 bytes"},
    {"name past the end", "H1,0 Q60 *40", FORMAT, "tensor 0 at offset 24", "40 are left"},
    {"empty name", "H1,0 '' D1 Q8 D0 Q0 P *32", FORMAT, "tensor 0 at offset 24", "empty"},
    {"name with NUL", "H1,0 Q2 =a .00 D1 Q8 D0 Q0 P *32", FORMAT, "tensor 0 at offset 24",
     "printable"},
    {"name with bad UTF-8", "H1,0 Q2 =a .ff D1 Q8 D0 Q0 P *32", FORMAT, "tensor 0 at offset",
     "UTF-8"},
    {"duplicate name", "H2,0 " TENSOR "'t' D1 Q8 D0 Q32 P *64", FORMAT, "'t' at offset 57",
     "twice"},
    {"0 dimensions", "H1,0 't' D0 D0 Q0 P *64", FORMAT, "'t' at offset 24", "0 dimensions"},
    {"5 dimensions", "H1,0 't' D5 Q8 Q1 Q1 Q1 Q1 D0 Q0 P *64", FORMAT, "'t' at offset 24",
     "5 dimensions"},
    {"2^32-1 dimensions", "H1,0 't' D-1 Q8 D0 Q0 P *64", FORMAT, "'t' at offset 24",
     "4294967295 dim"},
    {"dimension 0", "H1,0 't' D2 Q0 Q4 D0 Q0 P *64", FORMAT, "'t' at offset 24",
     "dimension 0 is 0"},
    {"second dimension 0", "H1,0 't' D2 Q8 Q0 D0 Q0 P *64", FORMAT, "'t' at offset",
     "dimension 1 is 0"},
    {"dimension -1", "H1,0 't' D1 Q-1 D0 Q0 P *64", FORMAT, "'t' at offset 24",
     "dimension 0 is -1"},
    {"dimension 2^63", "H1,0 't' D1 Q0x8000000000000000 D0 Q0 P *64", FORMAT, "'t'",
     "dimension 0 is -92"},
    {"2^32 x 2^32 wraps to 0", "H1,0 't' D2 Q0x100000000 Q0x100000000 D0 Q0 P *64", FORMAT,
     "'t' at offset 24", "does not fit 64 bits"},
    {"2^62 x 4 wraps to 0", "H1,0 't' D2 Q0x4000000000000000 Q4 D0 Q0 P *64", FORMAT,
     "'t' at offset 24", "does not fit 64 bits"},
    {"2^16 to the fourth", "H1,0 't' D4 Q65536 Q65536 Q65536 Q65536 D0 Q0 P *64", FORMAT,
     "'t' at offset 24", "does not fit 64 bits"},
    {"2^62 f32, bytes wrap", "H1,0 't' D1 Q0x4000000000000000 D0 Q0 P *64", FORMAT,
     "'t' at offset 24", "does not fit 64 bits"},
    {"2^62 bytes in a small file", "H1,0 't' D1 Q0x1000000000000000 D0 Q0 P *64", FORMAT,
     "'t' at offset", "past the end"},
    {"type 4, removed", "H1,0 't' D1 Q32 D4 Q0 P *64", FORMAT, "'t' at offset 24", "tensor type 4"},
    {"type 5, removed", "H1,0 't' D1 Q32 D5 Q0 P *64", FORMAT, "'t' at offset 24", "tensor type 5"},
    {"type 31, removed", "H1,0 't' D1 Q32 D31 Q0 P *64", FORMAT, "'t' at offset 24",
     "tensor type 31"},
    {"type 38, removed", "H1,0 't' D1 Q32 D38 Q0 P *64", FORMAT, "'t' at offset 24",
     "tensor type 38"},
    {"type 999", "H1,0 't' D1 Q32 D999 Q0 P *64", FORMAT, "'t' at offset 24", "tensor type 999"},
    {"type 2^32-1", "H1,0 't' D1 Q32 D-1 Q0 P *64", FORMAT, "'t' at offset 24", "4294967295"},
    {"type Q8_K", "H1,0 't' D1 Q256 D15 Q0 P *999", UNSUPPORTED, "'t' at offset 24", "type Q8_K"},
    {"type F64", "H1,0 't' D1 Q32 D28 Q0 P *999", UNSUPPORTED, "'t' at offset 24", "type F64"},
    {"type I32", "H1,0 't' D1 Q32 D26 Q0 P *999", UNSUPPORTED, "'t' at offset 24", "type I32"},
    {"row not whole Q8_0 blocks", "H1,0 't' D1 Q33 D8 Q0 P *99", FORMAT, "'t' at offset 24",
     "Q8_0 blocks of 32"},
    {"row not whole Q4_K blocks", "H1,0 't' D2 Q128 Q2 D12 Q0 P *288", FORMAT, "'t' at offset 24",
     "Q4_K blocks of 256"},
    {"offset misaligned", "H1,0 't' D1 Q8 D0 Q4 P *64", FORMAT, "'t' at offset 4",
     "not aligned to 32"},
    {"offset misaligned to 64", "H1,1 'general.alignment' u32 D64 't' D1 Q8 D0 Q32 *256", FORMAT,
     "'t' at offset 32", "not aligned to 64"},
    {"offset 2^63", "H1,0 't' D1 Q8 D0 Q0x8000000000000000 P *64", FORMAT,
     "'t' at offset 9223372036854775808", "past the end"},
    {"offset -32, sum wraps", "H1,0 't' D1 Q8 D0 Q-32 P *64", FORMAT,
     "'t' at offset 18446744073709551584", "past the end"},
    {"offset past the end", "H1,0 't' D1 Q8 D0 Q64 P *64", FORMAT, "'t' at offset 64",
     "past the end"},
    {"offset ends one byte late", "H1,0 't' D1 Q8 D0 Q32 P *63", FORMAT, "'t' at offset 32",
     "past the end"},
    {"padding is not zero", "H1,0 " TENSOR "B7 P *32", FORMAT, "expected zeros",
     "found 07 at offset"},
    {"a tensor not counted", "H1,0 " TENSOR "'u' D1 Q8 D0 Q32 P *64", FORMAT, "expected zeros",
     "the 1 tensor descriptions"},
    {"no data", "H1,0 " TENSOR, FORMAT, "'t' at offset 0", "past the end"},
    {"data cut by one byte", "H1,0 " TENSOR "P *31", FORMAT, "'t' at offset 0",
     "past the end of the file at 95"},
    {"data cut by half", "H1,0 " TENSOR "P *16", FORMAT, "'t' at offset 0",
     "past the end of the file at 80"},
    {"same data twice", "H2,0 " TENSOR "'u' D1 Q8 D0 Q0 P *64", FORMAT, "at offset 96", "overlaps"},
    {"data overlaps the next", "H2,0 't' D1 Q9 D0 Q0 'u' D1 Q8 D0 Q32 P *96", FORMAT,
     "'u' at offset 128", "overlaps that of 't'"},
    {"data inside another's", "H2,0 't' D1 Q8 D0 Q64 'u' D1 Q64 D0 Q0 P *256", FORMAT,
     "'t' at offset 160", "overlaps that of 'u'"},
    {"description cut in its dimensions", "H1,0 Q20 ~20 D2 D8 *0", FORMAT, "at offset 24",
     "ends within"},
    {"description cut in its type", "H1,0 Q20 ~20 D1 Q8 W0", FORMAT, "at offset 24", "ends within"},
    {"description cut in its offset", "H1,0 't' D2 Q8 Q1 D0 D0", FORMAT, "'t' at offset 24",
     "ends within its description, at offset 61"},
    {"second description missing", "H2,0 " TENSOR "P *32", FORMAT, "tensor 1 at offset 57",
     "empty"},
};

static const struct hostile split_cases[] = {
    {"split.count 9999", "H0,1 'split.count' u16 W9999", FORMAT, "'split.count' at offset 24",
     "9999 parts"},
    {"split.count 2^63", "H0,1 'split.count' u64 Q0x8000000000000000", FORMAT, "'split.count'",
     "9223372036854775808 parts"},
    {"split.count negative", "H0,1 'split.count' i16 W-2", FORMAT, "'split.count'", "found -2"},
    {"split.count string", "H0,1 'split.count' str '2'", FORMAT, "'split.count'", "found string"},
    {"split.no without count", "H0,1 'split.no' u16 W1", FORMAT, "'split.count'", "0 parts"},
    {"split.no beyond count", "H0,2 'split.no' u16 W5 'split.count' u16 W2", FORMAT,
     "'split.no' at offset 24", "part 6 of 2"},
    {"part 2 of 3", "H0,2 'split.no' u16 W1 'split.count' u16 W3", FORMAT,
     "'split.no' at offset 24", "part 2 of 3; open part 1"},
    {"parts of a file in memory", "H0,2 'split.no' u16 W0 'split.count' u16 W3", FORMAT,
     "'split.count' at offset 46", "-00001-of-00003.gguf"},
};

/* Opens and expects to be refused; the message is left in *error. */
static void expect_refused(const struct buf *bytes, const char *name, struct phid_error *error)
{
    /* A copy of the exact size, so that the sanitizer sees a read past the end. */
    unsigned char *exact = malloc(bytes->size > 0 ? bytes->size : 1);
    assert_non_null(exact);
    if (bytes->size > 0) {
        memcpy(exact, bytes->data, bytes->size);
    }
    struct gguf_file *file = NULL;
    uint64_t start = clock_now_ns();
    if (gguf_open_memory(exact, bytes->size, &file, error) == PHID_OK) {
        gguf_close(file);
        fail_msg("%s: was opened", name);
    }
    if (clock_seconds_since(start) > SECONDS_MAX) {
        fail_msg("%s: took %g s", name, clock_seconds_since(start));
    }
    assert_null(file);
    size_t size = strlen(error->message);
    assert_true(size > 0 && size < PHID_ERROR_MESSAGE_MAX);
    assert_true(utf8_valid((struct str){.data = error->message, .size = size}));
    assert_null(strchr(error->message, '\n'));
    free(exact);
}

static void check_cases(const struct hostile *cases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct hostile *c = &cases[i];
        struct buf bytes;
        buf_init(&bytes, 64u << 20);
        assemble(&bytes, c->program);
        struct phid_error error = {.status = PHID_OK};
        expect_refused(&bytes, c->name, &error);
        if (error.status != c->status || strstr(error.message, c->what) == NULL ||
            strstr(error.message, c->why) == NULL) {
            fail_msg("%s: %s '%s', expected %s with '%s' and '%s'", c->name,
                     phid_status_name(error.status), error.message, phid_status_name(c->status),
                     c->what, c->why);
        }
        if (bytes.size >= 4 && strstr(error.message, "offset") == NULL) {
            fail_msg("%s: '%s' names no offset", c->name, error.message);
        }
        buf_fini(&bytes);
    }
}

#define COUNT(cases) (sizeof(cases) / sizeof(cases)[0])

static void test_hostile_header(void **state)
{
    check_cases(header_cases, COUNT(header_cases));
}

static void test_hostile_keys(void **state)
{
    check_cases(key_cases, COUNT(key_cases));
}

static void test_hostile_values(void **state)
{
    check_cases(value_cases, COUNT(value_cases));
}

static void test_hostile_tensors(void **state)
{
    check_cases(tensor_cases, COUNT(tensor_cases));
}

static void test_hostile_splits(void **state)
{
    check_cases(split_cases, COUNT(split_cases));
}

/* A small file with everything in it. */
#define WHOLE                                                                                      \
    "H3,8 'general.architecture' str 'phi3' 'general.alignment' u32 D32 'a.bool' bool B1 'a.i64' " \
    "i64 Q-5 "                                                                                     \
    "'a.strings' arr str Q3 'x' '' 'long string' 'a.floats' arr f32 Q2 F1.5 F-2 'a.bools' arr "    \
    "bool Q2 B0 B1 "                                                                               \
    "'a.none' arr u8 Q0 'first.weight' D2 Q32 Q2 D8 Q0 'second' D1 Q8 D0 Q96 'third' D3 Q2 Q2 Q2 " \
    "D1 Q128 P *144"

static void test_hostile_cut_at_every_byte(void **state)
{
    struct buf bytes;
    buf_init(&bytes, 1u << 20);
    assemble(&bytes, WHOLE);
    struct gguf_file *file;
    struct phid_error error;
    assert_int_equal(gguf_open_memory(bytes.data, bytes.size, &file, &error), PHID_OK);
    gguf_close(file);
    size_t whole = bytes.size;
    for (size_t size = 0; size < whole; size++) {
        bytes.size = size;
        expect_refused(&bytes, "cut", &error);
        assert_int_equal(error.status, PHID_ERR_FORMAT);
    }
    buf_fini(&bytes);
}

/* Every byte set to a few values, and runs of random damage: any answer will do, but it must be an
 * answer. */
static void test_hostile_damage(void **state)
{
    struct buf bytes;
    buf_init(&bytes, 1u << 20);
    assemble(&bytes, WHOLE);
    static const unsigned char values[] = {0x00, 0x01, 0x7f, 0x80, 0xff};
    struct rng rng;
    rng_init(&rng, 3);
    size_t opened = 0;
    for (size_t i = 0; i < bytes.size * sizeof values + 5000; i++) {
        unsigned char *copy = malloc(bytes.size);
        assert_non_null(copy);
        memcpy(copy, bytes.data, bytes.size);
        if (i < bytes.size * sizeof values) {
            copy[i / sizeof values] = values[i % sizeof values];
        } else {
            for (uint64_t n = 1 + rng_below(&rng, 6); n > 0; n--) {
                copy[rng_below(&rng, bytes.size)] = (unsigned char)rng_next(&rng);
            }
        }
        struct gguf_file *file;
        if (gguf_open_memory(copy, bytes.size, &file, NULL) == PHID_OK) {
            gguf_close(file);
            opened++;
        }
        free(copy);
    }
    assert_true(opened > 0); /* damage inside values is not always to be seen */
    buf_fini(&bytes);
}

/* What would take long if names were looked up one by one. */
static void test_hostile_many_names(void **state)
{
    struct buf bytes;
    buf_init(&bytes, 64u << 20);
    assemble(&bytes, "H60000,60000");
    char program[128];
    for (int i = 0; i < 60000; i++) {
        snprintf(program, sizeof program, "'k%05d' u8 B1", i);
        assemble(&bytes, program);
    }
    for (int i = 0; i < 60000; i++) {
        snprintf(program, sizeof program, "'t%05d' D1 Q8 D0 Q%d", i, 32 * i);
        assemble(&bytes, program);
    }
    assemble(&bytes, "P *1920000");
    struct gguf_file *file;
    struct phid_error error = {.message = ""};
    uint64_t start = clock_now_ns();
    if (gguf_open_memory(bytes.data, bytes.size, &file, &error) != PHID_OK) {
        fail_msg("%s", error.message);
    }
    assert_true(clock_seconds_since(start) < SECONDS_MAX);
    assert_int_equal(gguf_tensor_count(file), 60000);
    assert_int_equal(gguf_entry_count(file), 60000);
    assert_non_null(gguf_find(file, STR("k59999")));
    assert_int_equal(gguf_tensor_find(file, STR("t00007"))->size_bytes, 32);
    gguf_close(file);

    /* The same with the last name a duplicate. */
    char *last = memmem(bytes.data, bytes.size, "t59999", 6);
    assert_non_null(last);
    memcpy(last, "t00000", 6);
    expect_refused(&bytes, "many tensors", &error);
    assert_non_null(strstr(error.message, "twice"));
    buf_fini(&bytes);
}

static void test_hostile_metadata_limit(void **state)
{
    struct buf bytes;
    buf_init(&bytes, 128u << 20);
    assemble(&bytes, "H0,6");
    char program[64];
    for (int i = 0; i < 6; i++) {
        snprintf(program, sizeof program, "'k%d' str Q16000000 ~16000000", i);
        assemble(&bytes, program);
    }
    struct phid_error error;
    expect_refused(&bytes, "metadata", &error);
    assert_non_null(strstr(error.message, "'k4' at offset"));
    assert_non_null(strstr(error.message, "the metadata is larger than"));
    buf_fini(&bytes);
}

static void test_hostile_long_names_are_cut_in_messages(void **state)
{
    struct buf bytes;
    buf_init(&bytes, 1u << 20);
    assemble(&bytes, "H0,1 Q60000");
    for (int i = 0; i < 20000; i++) {
        assemble(&bytes, ".e4 .b8 .ad");
    }
    assemble(&bytes, "D99 *20");
    struct phid_error error;
    expect_refused(&bytes, "long key", &error);
    assert_non_null(strstr(error.message, "...' at offset 60032: unknown value type 99"));
    assert_int_equal(strlen(error.where), 78); /* 26 whole characters */
    buf_fini(&bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hostile_header),
        cmocka_unit_test(test_hostile_keys),
        cmocka_unit_test(test_hostile_values),
        cmocka_unit_test(test_hostile_tensors),
        cmocka_unit_test(test_hostile_splits),
        cmocka_unit_test(test_hostile_cut_at_every_byte),
        cmocka_unit_test(test_hostile_damage),
        cmocka_unit_test(test_hostile_many_names),
        cmocka_unit_test(test_hostile_metadata_limit),
        cmocka_unit_test(test_hostile_long_names_are_cut_in_messages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

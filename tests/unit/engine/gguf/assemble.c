#include "tests/unit/engine/gguf/assemble.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/gguf/gguf.h"

static void put(struct buf *out, uint64_t value, size_t size)
{
    buf_append(out, &value, size); /* little endian, as the machine */
}

static void put_header(struct buf *out, const char *counts)
{
    char *end;
    uint64_t tensors = strtoull(counts, &end, 0);
    assert_true(*end == ',');
    uint64_t keys = strtoull(end + 1, NULL, 0);
    buf_append_c(out, "GGUF");
    put(out, 3, 4);
    put(out, tensors, 8);
    put(out, keys, 8);
}

static void put_fill(struct buf *out, const char *count, int byte)
{
    size_t size = strtoull(count, NULL, 0);
    void *bytes = buf_extend(out, size);
    assert_non_null(bytes);
    memset(bytes, byte, size);
}

static void put_type(struct buf *out, const char *word, size_t size)
{
    for (unsigned type = 0; type <= GGUF_F64; type++) {
        const char *name = gguf_type_name((enum gguf_type)type);
        /* "str" and "arr" are enough of the long names. */
        if (strncmp(name, word, size) == 0 && (name[size] == '\0' || size == 3)) {
            put(out, type, 4);
            return;
        }
    }
    fail_msg("unknown word '%.*s'", (int)size, word);
}

static void put_float(struct buf *out, const char *number)
{
    float value = strtof(number, NULL);
    buf_append(out, &value, sizeof value);
}

static void put_double(struct buf *out, const char *number)
{
    double value = strtod(number, NULL);
    buf_append(out, &value, sizeof value);
}

static void put_word(struct buf *out, const char *word, size_t size)
{
    const char *rest = word + 1;
    switch (word[0]) {
    case 'H':
        put_header(out, rest);
        break;
    case 'B':
        put(out, strtoull(rest, NULL, 0), 1);
        break;
    case 'W':
        put(out, strtoull(rest, NULL, 0), 2);
        break;
    case 'D':
        put(out, strtoull(rest, NULL, 0), 4);
        break;
    case 'Q':
        put(out, strtoull(rest, NULL, 0), 8);
        break;
    case 'F':
        put_float(out, rest);
        break;
    case 'G':
        put_double(out, rest);
        break;
    case '=':
        buf_append(out, rest, size - 1);
        break;
    case '.':
        put(out, strtoull(rest, NULL, 16), 1);
        break;
    case '*':
        put_fill(out, rest, 0);
        break;
    case '~':
        put_fill(out, rest, 'a');
        break;
    case 'P':
        while (out->size % 32 != 0) {
            buf_append_byte(out, 0);
        }
        break;
    default:
        put_type(out, word, size);
    }
}

void assemble(struct buf *out, const char *program)
{
    const char *at = program;
    while (*at != '\0') {
        if (*at == ' ') {
            at++;
        } else if (*at == '\'') {
            const char *end = strchr(at + 1, '\'');
            assert_non_null(end);
            put(out, (uint64_t)(end - at - 1), 8);
            buf_append(out, at + 1, (size_t)(end - at - 1));
            at = end + 1;
        } else {
            size_t size = strcspn(at, " ");
            put_word(out, at, size);
            at += size;
        }
    }
    assert_false(out->failed);
}

#include "tests/unit/engine/text/vocab_file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/base/utf8.h"
#include "engine/text/byte_level.h"

#define FILE_MAX ((size_t)64 << 20)

void vocab_file_init(struct vocab_file *f)
{
    buf_init(&f->entries, FILE_MAX);
    buf_init(&f->bytes, FILE_MAX);
    f->count = 0;
}

void vocab_file_fini(struct vocab_file *f)
{
    buf_fini(&f->entries);
    buf_fini(&f->bytes);
}

static void put_u32(struct buf *b, uint32_t value)
{
    buf_append(b, &value, sizeof(value));
}

static void put_u64(struct buf *b, uint64_t value)
{
    buf_append(b, &value, sizeof(value));
}

static void put_str(struct buf *b, struct str s)
{
    put_u64(b, s.size);
    buf_append_str(b, s);
}

static void put_key(struct vocab_file *f, const char *key, enum gguf_type type)
{
    put_str(&f->entries, str_of(key));
    put_u32(&f->entries, (uint32_t)type);
    f->count++;
}

static void put_array(struct vocab_file *f, const char *key, enum gguf_type type, size_t count)
{
    put_key(f, key, GGUF_ARRAY);
    put_u32(&f->entries, (uint32_t)type);
    put_u64(&f->entries, count);
}

void vocab_file_str(struct vocab_file *f, const char *key, struct str value)
{
    put_key(f, key, GGUF_STRING);
    put_str(&f->entries, value);
}

void vocab_file_u32(struct vocab_file *f, const char *key, uint32_t value)
{
    put_key(f, key, GGUF_U32);
    put_u32(&f->entries, value);
}

void vocab_file_bool(struct vocab_file *f, const char *key, bool value)
{
    put_key(f, key, GGUF_BOOL);
    buf_append_byte(&f->entries, value ? 1 : 0);
}

void vocab_file_strs(struct vocab_file *f, const char *key, const struct str *values, size_t count)
{
    put_array(f, key, GGUF_STRING, count);
    for (size_t i = 0; i < count; i++) {
        put_str(&f->entries, values[i]);
    }
}

void vocab_file_i32s(struct vocab_file *f, const char *key, const int32_t *values, size_t count)
{
    put_array(f, key, GGUF_I32, count);
    buf_append(&f->entries, values, count * sizeof(*values));
}

void vocab_file_f32s(struct vocab_file *f, const char *key, const float *values, size_t count)
{
    put_array(f, key, GGUF_F32, count);
    buf_append(&f->entries, values, count * sizeof(*values));
}

void vocab_file_u8s(struct vocab_file *f, const char *key, const unsigned char *values,
                    size_t count)
{
    put_array(f, key, GGUF_U8, count);
    buf_append(&f->entries, values, count);
}

struct gguf_file *vocab_file_open(struct vocab_file *f)
{
    struct buf *b = &f->bytes;
    buf_clear(b);
    buf_append(b, "GGUF", 4);
    put_u32(b, 3);
    put_u64(b, 0);
    put_u64(b, f->count);
    buf_append_str(b, buf_view(&f->entries));
    while (b->size % 32 != 0) {
        buf_append_byte(b, 0);
    }
    assert_false(f->entries.failed || b->failed);
    struct gguf_file *file = NULL;
    struct phid_error err = {0};
    if (gguf_open_memory(b->data, b->size, &file, &err) != PHID_OK) {
        fail_msg("%s", err.message);
    }
    return file;
}

int32_t vocab_list_add(struct vocab_list *l, const char *text, int32_t kind, float score)
{
    assert_true(l->count < 1024);
    l->texts[l->count] = str_of(text);
    l->kinds[l->count] = kind;
    l->scores[l->count] = score;
    return (int32_t)l->count++;
}

void vocab_list_spm(struct vocab_list *l)
{
    static char bytes[256][8];
    static char printable[95][2];
    l->count = 0;
    vocab_list_add(l, "<unk>", TOKEN_UNKNOWN, 0);
    vocab_list_add(l, "<s>", TOKEN_CONTROL, 0);
    vocab_list_add(l, "</s>", TOKEN_CONTROL, 0);
    for (size_t i = 0; i < 256; i++) {
        snprintf(bytes[i], sizeof(bytes[i]), "<0x%02zX>", i);
        vocab_list_add(l, bytes[i], TOKEN_BYTE, 0);
    }
    for (size_t i = 0; i < 94; i++) {
        printable[i][0] = (char)('!' + i);
        vocab_list_add(l, printable[i], TOKEN_NORMAL, -100 - (float)i);
    }
    vocab_list_add(l, "\xE2\x96\x81", TOKEN_NORMAL, -99);
}

void vocab_list_bytes(struct vocab_list *l)
{
    static char texts[256][UTF8_MAX_BYTES + 1];
    l->count = 0;
    for (size_t i = 0; i < 256; i++) {
        texts[i][utf8_encode(byte_level_char((unsigned char)i), texts[i])] = 0;
        vocab_list_add(l, texts[i], TOKEN_NORMAL, 0);
    }
}

void vocab_file_list(struct vocab_file *f, const struct vocab_list *l)
{
    vocab_file_strs(f, "tokenizer.ggml.tokens", l->texts, l->count);
    vocab_file_f32s(f, "tokenizer.ggml.scores", l->scores, l->count);
    vocab_file_i32s(f, "tokenizer.ggml.token_type", l->kinds, l->count);
}

static void print_ids(const char *name, const int32_t *ids, size_t count)
{
    print_error("%s:", name);
    for (size_t i = 0; i < count; i++) {
        print_error(" %d", (int)ids[i]);
    }
    print_error("\n");
}

void check_encode(const struct tokenizer *t, const struct text_span *spans, size_t count,
                  const int32_t *expected)
{
    struct tokens got = {0};
    struct phid_error err = {0};
    if (tokenizer_encode(t, spans, count, false, &got, &err) != PHID_OK) {
        fail_msg("%s", err.message);
    }
    size_t n = 0;
    while (expected[n] >= 0) {
        n++;
    }
    if (n != got.count || (n > 0 && memcmp(got.ids, expected, n * sizeof(*expected)) != 0)) {
        print_ids("expected", expected, n);
        print_ids("got     ", got.ids, got.count);
        fail_msg("text of %zu spans, the first \"%.*s\"", count, (int)spans[0].text.size,
                 spans[0].text.data);
    }
    tokens_fini(&got);
}

void check_text(const struct tokenizer *t, struct str text, bool trusted, const int32_t *expected)
{
    struct text_span span = {.text = text, .trusted = trusted};
    check_encode(t, &span, 1, expected);
}

/* GGUF files made in memory for the tests of engine/text: metadata only, as odd as a test wants
 * them. */
#ifndef PHID_TEST_VOCAB_FILE_H
#define PHID_TEST_VOCAB_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/buf.h"
#include "engine/gguf/gguf.h"
#include "engine/text/tokenizer.h"

struct vocab_file {
    struct buf entries;
    uint64_t count;
    struct buf bytes; /* the whole file, once opened */
};

void vocab_file_init(struct vocab_file *f);
void vocab_file_fini(struct vocab_file *f);

void vocab_file_str(struct vocab_file *f, const char *key, struct str value);
void vocab_file_u32(struct vocab_file *f, const char *key, uint32_t value);
void vocab_file_bool(struct vocab_file *f, const char *key, bool value);
void vocab_file_strs(struct vocab_file *f, const char *key, const struct str *values, size_t count);
void vocab_file_i32s(struct vocab_file *f, const char *key, const int32_t *values, size_t count);
void vocab_file_f32s(struct vocab_file *f, const char *key, const float *values, size_t count);
void vocab_file_u8s(struct vocab_file *f, const char *key, const unsigned char *values,
                    size_t count);

/* Closes with gguf_close; `f` must live as long. Fails the test when the reader refuses the file.
 */
struct gguf_file *vocab_file_open(struct vocab_file *f);

/* A vocabulary under construction. */
struct vocab_list {
    struct str texts[1024];
    int32_t kinds[1024];
    float scores[1024];
    size_t count;
};

/* Texts are borrowed. Returns the id. */
int32_t vocab_list_add(struct vocab_list *l, const char *text, int32_t kind, float score);

/* `<unk>` `<s>` `</s>`, the 256 byte tokens (ids 3 to 258) and the printable characters. */
void vocab_list_spm(struct vocab_list *l);

/* The 256 characters of the byte-level alphabet, ids 0 to 255 in the order of the bytes. */
void vocab_list_bytes(struct vocab_list *l);

/* Writes the three arrays. */
void vocab_file_list(struct vocab_file *f, const struct vocab_list *l);

/* Encodes and compares; `expected` ends in -1. */
void check_encode(const struct tokenizer *t, const struct text_span *spans, size_t count,
                  const int32_t *expected);
void check_text(const struct tokenizer *t, struct str text, bool trusted, const int32_t *expected);

#define IDS(...) ((const int32_t[]){__VA_ARGS__, -1})

#endif

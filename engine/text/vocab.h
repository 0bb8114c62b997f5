/* The vocabulary of one model: for every id its text, its kind and the bytes it stands for, and the
 * way from a text back to an id.
 *
 * Read once from a GGUF's `tokenizer.ggml.*` arrays by vocab_read, which refuses anything
 * senseless, and constant afterwards: any thread may read it. Owned by the tokenizer; the file is
 * not needed afterwards. */
#ifndef PHID_TEXT_VOCAB_H
#define PHID_TEXT_VOCAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"
#include "engine/base/str.h"
#include "engine/gguf/gguf.h"

#define VOCAB_MAX_TOKENS      ((size_t)1 << 24)
#define VOCAB_MAX_TOKEN_BYTES ((size_t)4096)

enum vocab_family {
    VOCAB_SPM, /* `llama`: SentencePiece BPE, byte tokens `<0xHH>`, U+2581 for a space */
    VOCAB_BPE, /* `gpt2`: byte-level BPE, every byte one character of the text */
};

struct vocab {
    enum vocab_family family;
    size_t count;
    struct str *texts; /* [count] heap; views into text_bytes */
    char *text_bytes;  /* heap */
    int32_t *kinds;    /* [count] heap; enum token_kind */
    float *scores;     /* [count] heap; NULL for byte-level BPE */
    struct str
        *pieces;       /* [count] heap; the bytes in output, views into text_bytes or piece_bytes */
    char *piece_bytes; /* heap */
    uint32_t *slots;   /* heap; hash table of the ordinary tokens by text: id + 1, 0 is empty */
    size_t slot_mask;
    uint64_t hash_base;
    size_t max_ordinary_bytes; /* of the longest ordinary token's text */
    int32_t byte_ids[256];     /* the token of a single byte, -1: none */
    int32_t bos, eos, unk;     /* -1: none */
};

/* Fills a zeroed struct; vocab_fini is due even when it fails. Errors as tokenizer_new. */
enum phid_status vocab_read(const struct gguf_file *file, enum vocab_family family, struct vocab *v,
                            struct phid_error *err);
void vocab_fini(struct vocab *v);

/* Hash of a text: a polynomial modulo a prime, so that the hash of a prefix or suffix extends by
 * one byte in one step. The empty text has hash 0. */
uint64_t vocab_hash(const struct vocab *v, struct str text);
uint64_t vocab_hash_append(const struct vocab *v, uint64_t hash, unsigned char byte);
/* `power` is the base to the number of bytes in `hash`: 1 at first, then vocab_hash_power of
 * itself. */
uint64_t vocab_hash_prepend(uint64_t hash, unsigned char byte, uint64_t power);
uint64_t vocab_hash_power(const struct vocab *v, uint64_t power);

/* The id of an ordinary token (kind NORMAL) by its text, -1 when there is none. */
int32_t vocab_find(const struct vocab *v, struct str text);
int32_t vocab_find_hashed(const struct vocab *v, struct str text, uint64_t hash);

/* The printable form of a token for messages: at most `size` - 1 bytes, NUL-terminated. */
const char *vocab_quote(const struct vocab *v, int32_t id, char *out, size_t size);

#endif

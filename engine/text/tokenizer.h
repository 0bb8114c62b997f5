/* Text to token ids and back, for one model's vocabulary.
 *
 * Made once from a GGUF's `tokenizer.*` keys and immutable afterwards, so any thread may use it. It
 * does not need the file afterwards. Two families: SentencePiece-style BPE (`llama`)
 * with byte fallback and byte-level BPE (`gpt2`). Input is a list of spans: only a
 * trusted span may produce control tokens, so a user who types `<|end|>` gets the characters. */
#ifndef PHID_TEXT_TOKENIZER_H
#define PHID_TEXT_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"
#include "engine/base/str.h"
#include "engine/base/tokens.h"
#include "engine/gguf/gguf.h"

struct text_span {
    struct str text; /* UTF-8; bytes that are not are encoded as bytes */
    bool trusted;    /* control tokens written in it are control tokens */
};

enum token_kind { /* the numbers are those of `tokenizer.ggml.token_type` */
                  TOKEN_NORMAL = 1,
                  TOKEN_UNKNOWN = 2,
                  TOKEN_CONTROL = 3,
                  TOKEN_USER_DEFINED = 4,
                  TOKEN_UNUSED = 5,
                  TOKEN_BYTE = 6,
};

struct tokenizer; /* opaque */

/* Errors: PHID_ERR_FORMAT (a key missing or senseless: the message names it), PHID_ERR_UNSUPPORTED
 * (a tokenizer model or pre-tokenizer this build does not know, with the list of those it knows),
 * PHID_ERR_MEMORY. */
enum phid_status tokenizer_new(const struct gguf_file *file, struct tokenizer **ret_tokenizer,
                               struct phid_error *err);
void tokenizer_free(struct tokenizer *t);

/* Appends the ids of all spans, in order, to *ids. The spans are one text: white space after a
 * right-stripping token is eaten across a border, a space prefix goes where Hugging Face puts it.
 * add_bos puts the begin token first (only if the vocabulary has one and the text does not begin
 * with it already). Time is O(n log n) in the bytes for any input. On an error *ids is as before.
 */
enum phid_status tokenizer_encode(const struct tokenizer *t, const struct text_span *spans,
                                  size_t span_count, bool add_bos, struct tokens *ids,
                                  struct phid_error *err);

/* The same for one piece of text. */
enum phid_status tokenizer_encode_text(const struct tokenizer *t, struct str text, bool trusted,
                                       bool add_bos, struct tokens *ids, struct phid_error *err);

size_t tokenizer_vocab_size(const struct tokenizer *t);
bool tokenizer_adds_bos(
    const struct tokenizer *t); /* the key add_bos_token, or the family's default */
int32_t tokenizer_bos(const struct tokenizer *t); /* -1: none */
int32_t tokenizer_eos(const struct tokenizer *t); /* -1: none */

/* Whether the id is one of those that end an answer (Phi-3: 2, 32000, 32001, 32007). */
bool tokenizer_is_end(const struct tokenizer *t, int32_t id);

enum token_kind tokenizer_kind(const struct tokenizer *t, int32_t id);

/* The id of a control or user-defined token by its exact text, -1 when there is none. */
int32_t tokenizer_special_id(const struct tokenizer *t, struct str text);

/* The bytes a token stands for, as they appear in output (U+2581 already a space, byte tokens one
 * raw byte). May be half a UTF-8 character. Tokens that are no text (control, unknown, unused, end
 * tokens) give theirs only if `with_control`, else nothing. Borrowed until tokenizer_free. id out
 * of range: empty. */
struct str tokenizer_piece(const struct tokenizer *t, int32_t id, bool with_control);

/* SentencePiece vocabularies put a space before the first word; decoding from the start of a text
 * drops it. */
bool tokenizer_strips_first_space(const struct tokenizer *t);

#endif

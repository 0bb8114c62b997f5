/* A streaming detokenizer: token ids in, whole UTF-8 characters out. One per sequence; not
 * thread-safe. It holds back the bytes of a character that is not complete yet. */
#ifndef PHID_TEXT_DETOK_H
#define PHID_TEXT_DETOK_H

#include "engine/base/buf.h"
#include "engine/text/tokenizer.h"

struct detok {
    const struct tokenizer *tokenizer;
    unsigned char held[4]; /* bytes of an incomplete character */
    unsigned char held_count;
    bool at_start;     /* nothing decoded yet: a SentencePiece word's leading space is dropped */
    bool with_control; /* write control tokens as their text */
};

/* at_start is true for text that begins a document, false for an answer that continues a prompt
 * (its leading space is kept unless the prompt ends in a control token: pass true then). */
void detok_init(struct detok *d, const struct tokenizer *tokenizer, bool at_start,
                bool with_control);

/* Appends what can be said for certain to out (maybe nothing). Invalid bytes become U+FFFD as soon
 * as they are known to be. */
void detok_push(struct detok *d, int32_t id, struct buf *out);

/* The end: a dangling incomplete character becomes one U+FFFD. */
void detok_finish(struct detok *d, struct buf *out);

#endif

/* Log-probabilities of tokens as the two endpoints write them, collected as JSON fragments: the
 * elements of the arrays, without brackets, so that a stream can send and clear them piece by
 * piece. Owned by a choice. */
#ifndef PHID_SERVER_API_LOGPROBS_H
#define PHID_SERVER_API_LOGPROBS_H

#include "engine/base/utf8.h"
#include "server/api/api.h"

enum logprobs_form { LOGPROBS_CHAT, LOGPROBS_COMPLETION };

struct logprobs {
    enum logprobs_form form;
    int64_t alternatives; /* a token; -1: nothing is collected */
    struct buf entries;   /* chat: content[]; completion: tokens[] */
    struct buf values;    /* completion: token_logprobs[] */
    struct buf tops;      /* completion: top_logprobs[] */
    struct buf offsets;   /* completion: text_offset[], code points into the choice's text */
    /* completion: where in the choice's text the tokens are */
    size_t characters;                  /* code points of the tokens so far */
    unsigned char held[UTF8_MAX_BYTES]; /* the start of one that further bytes may complete */
    size_t held_count;
    bool in_prompt;     /* the tokens are still those of an echoed prompt */
    bool answer_begins; /* the answer begins a text, rather than continuing one */
    bool at_start;      /* the next text begins one: the tokenizer drops its first space */
};

/* echo: the prompt's tokens come first. answer_begins: the answer's text does not continue the
 * prompt's. */
void logprobs_init(struct logprobs *l, enum logprobs_form form, int64_t alternatives, bool echo,
                   bool answer_begins);
void logprobs_fini(struct logprobs *l);

/* Adds one token. Control tokens of the answer are left out: they are not part of its text. */
void logprobs_add(struct logprobs *l, const struct api *api, const struct phid_token *token);

bool logprobs_pending(const struct logprobs *l);
bool logprobs_failed(const struct logprobs *l);
void logprobs_clear(struct logprobs *l);

/* The `logprobs` object from what was collected, null when nothing is. */
void logprobs_write(const struct logprobs *l, struct buf *out);

#endif

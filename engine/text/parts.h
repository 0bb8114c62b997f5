/* What a tokenizer is made of. Private to the files that make one and encode with it. */
#ifndef PHID_TEXT_PARTS_H
#define PHID_TEXT_PARTS_H

#include "engine/text/merge.h"
#include "engine/text/pretoken.h"
#include "engine/text/special.h"
#include "engine/text/vocab.h"

struct tokenizer {
    struct vocab vocab;
    struct special_table specials;
    struct merge_table merges;
    struct pretokenizer *pretokenizer; /* NULL for SentencePiece */
    unsigned char *ends;               /* [count] heap; 1 for a token that ends an answer */
    bool add_bos;
    bool space_prefix; /* SentencePiece: a space before each stretch of ordinary text */
};

#endif

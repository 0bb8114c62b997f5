/* A model for tests of the engine: a small real vocabulary, and dimensions without weights.
 *
 * The vocabulary is SentencePiece-like: 0 <unk>, 1 <s>, 2 </s> (ends an answer), 3..258 the bytes,
 * then the pieces that fake_piece_id knows by their text, then "▁w300" and so on, named by their
 * ids; the last is very long. */
#ifndef TESTS_FAKE_MODEL_H
#define TESTS_FAKE_MODEL_H

#include "engine/engine.h"

enum {
    FAKE_VOCAB = 400,
    FAKE_END = 2,
    FAKE_BYTE = 3,
    FAKE_PIECES = 259,
    FAKE_LONG = 399,
    FAKE_LONG_BYTES = 400
};

struct fake_model {
    struct phid_model model;
    struct model description;
    double inverse_frequency[2];
    char *file; /* what model.file reads */
};

/* original_context as in struct model; context: the trained one. */
void fake_model_init(struct fake_model *m, size_t context, size_t original_context);
void fake_model_fini(struct fake_model *m);

int32_t fake_piece_id(
    const char *text); /* " ab": U+2581 is written as a space. Fails the test if there is none */

#endif

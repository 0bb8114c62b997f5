/* Pre-tokenizers: how a text is cut into the pieces that byte-level BPE merges within.
 *
 * A pre-tokenizer is a regular expression published with a model family and named by
 * `tokenizer.ggml.pre`; PCRE2 runs it. A compiled one is constant and any thread may use it, each
 * with a scan of its own. */
#ifndef PHID_TEXT_PRETOKEN_H
#define PHID_TEXT_PRETOKEN_H

#include <stdbool.h>
#include <stddef.h>

#include "engine/base/status.h"
#include "engine/base/str.h"

struct pretokenizer; /* opaque */
struct pretoken_scan;

/* PHID_ERR_UNSUPPORTED for an unknown name, with the list of the known ones. */
enum phid_status pretokenizer_new(struct str name, struct pretokenizer **ret,
                                  struct phid_error *err);
void pretokenizer_free(struct pretokenizer *p);

/* A piece that is a token as a whole is not built from merges (Llama 3). */
bool pretokenizer_ignores_merges(const struct pretokenizer *p);

/* Whether models of this family begin a text with the begin token unless the file says otherwise.
 */
bool pretokenizer_adds_bos(const struct pretokenizer *p);

struct pretoken_scan *pretoken_scan_new(const struct pretokenizer *p); /* NULL: out of memory */
void pretoken_scan_free(struct pretoken_scan *s);

/* The end of the piece of `text` that starts at `start` (< text.size). `text` is valid UTF-8. */
enum phid_status pretoken_next(struct pretoken_scan *s, struct str text, size_t start,
                               size_t *ret_end, struct phid_error *err);

#endif

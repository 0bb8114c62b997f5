/* The merges of byte pair encoding: which two tokens join into which, and in what order.
 *
 * Built once per vocabulary, constant afterwards, any thread. merge_apply joins the tokens of one
 * piece of text in O(n log n): a doubly linked list of tokens and a heap of possible merges. */
#ifndef PHID_TEXT_MERGE_H
#define PHID_TEXT_MERGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"
#include "engine/base/tokens.h"
#include "engine/gguf/gguf.h"
#include "engine/text/special.h"
#include "engine/text/vocab.h"

/* Ten times what the largest published vocabularies have. */
#define MERGE_MAX ((size_t)1 << 22)

struct merge_slot {
    int32_t left; /* -1 is an empty slot */
    int32_t right;
    int32_t joined;
    uint32_t rank; /* 0 is applied first */
};

struct merge_table {
    struct merge_slot *slots; /* heap */
    size_t mask;
    size_t count;
    uint64_t seed; /* random, so that a file's author cannot make pairs collide */
};

/* From `tokenizer.ggml.merges`, "left right" each. PHID_ERR_FORMAT for a merge of unknown tokens;
 * one that makes or takes a special token is left out. */
enum phid_status merge_table_read(struct merge_table *t, const struct gguf_file *file,
                                  const struct vocab *v, const struct special_table *specials,
                                  struct phid_error *err);

/* From the scores of a SentencePiece vocabulary: any two ordinary tokens whose joined text is a
 * third merge, the best score first, as Hugging Face's converter ranks them. */
enum phid_status merge_table_from_scores(struct merge_table *t, const struct vocab *v,
                                         struct phid_error *err);
void merge_table_fini(struct merge_table *t);

/* NULL when the two do not merge. */
const struct merge_slot *merge_find(const struct merge_table *t, int32_t left, int32_t right);

/* Memory for merge_apply, kept between the pieces of one text. Zero it first; fini at the end. */
struct merge_work {
    struct merge_node *nodes; /* heap */
    size_t count;
    size_t capacity;
    uint64_t *heap; /* heap; rank in the upper half, node in the lower */
    size_t heap_count;
    size_t heap_capacity;
};

void merge_work_fini(struct merge_work *w);
void merge_work_clear(struct merge_work *w);
bool merge_work_push(struct merge_work *w, int32_t id); /* false: out of memory */

/* Merges the pushed tokens until none is left to merge, appends the rest to *out and clears *w.
 * False: out of memory. */
bool merge_apply(const struct merge_table *t, struct merge_work *w, struct tokens *out);

#endif

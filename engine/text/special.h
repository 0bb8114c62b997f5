/* The tokens that are matched in text as they stand, before anything is split or merged: control
 * tokens such as `<|end|>`, and user-defined ones such as Phi-2's runs of spaces.
 *
 * Built once per vocabulary, constant afterwards, any thread. */
#ifndef PHID_TEXT_SPECIAL_H
#define PHID_TEXT_SPECIAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"
#include "engine/base/str.h"
#include "engine/text/vocab.h"

struct special {
    int32_t id;
    bool anywhere;    /* matches in untrusted text, too */
    bool strip_left;  /* white space before it is dropped */
    bool strip_right; /* white space after it is dropped */
    bool ends;        /* ends an answer */
};

struct special_table {
    struct special *items; /* heap; in the order of their texts' bytes */
    size_t count;
    uint32_t first[257]; /* items whose text begins with byte b: first[b] .. first[b + 1] - 1 */
};

/* Errors: PHID_ERR_MEMORY. */
enum phid_status special_table_init(struct special_table *s, const struct vocab *v,
                                    struct phid_error *err);
void special_table_fini(struct special_table *s);

/* By exact text; NULL when there is none. */
const struct special *special_find(const struct special_table *s, const struct vocab *v,
                                   struct str text);

/* The longest special token at the start of `text` whose first `trusted` bytes may hold control
 * tokens; NULL when there is none. */
const struct special *special_match(const struct special_table *s, const struct vocab *v,
                                    struct str text, size_t trusted);

#endif

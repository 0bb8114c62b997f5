/* Stop strings: finding any of a list of texts in a stream, however the stream is cut into tokens.
 *
 * A stop_set is one automaton over bytes for all of a request's stops (Aho and Corasick, "Efficient
 * string matching", 1975), so a stream costs time linear in its bytes, whatever the number of
 * stops. Made when the request is submitted, immutable after; the step thread walks it. The
 * walker's state says by itself how many of the last bytes may still become a stop and must be held
 * back. */
#ifndef PHID_SCHED_STOP_H
#define PHID_SCHED_STOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"
#include "engine/base/str.h"

#define STOP_BYTES_MAX ((size_t)1 << 20) /* of all stops of a request together */

struct stop_node;

struct stop_set {
    struct stop_node *nodes; /* NULL: there are no stops */
    size_t count;
    size_t longest; /* bytes of the longest stop */
};

/* Copies the texts. Errors: PHID_ERR_ARGUMENT (an empty text: err->where is "stop[i]"; more than
 * STOP_BYTES_MAX), PHID_ERR_MEMORY. */
enum phid_status stop_set_init(struct stop_set *set, const struct str *stops, size_t count,
                               struct phid_error *err);
void stop_set_fini(struct stop_set *set); /* a zeroed one is fine */

/* Where a stream stands. Starts at 0. */
typedef uint32_t stop_state;

/* Walks on over text. True: a stop ends at text[*ret_end - 1] and is *ret_size bytes long; it may
 * have begun in earlier text. That is the stop that ends first, the longest of those that end
 * there. */
bool stop_walk(const struct stop_set *set, stop_state *state, struct str text, size_t *ret_end,
               size_t *ret_size);

/* The number of bytes at the end of the stream that are the beginning of a stop. */
size_t stop_held(const struct stop_set *set, stop_state state);

#endif

/* White space as Unicode defines it. Pure functions, any thread. */
#ifndef PHID_TEXT_SPACE_H
#define PHID_TEXT_SPACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/str.h"

/* Whether the code point has the Unicode property White_Space. */
bool space_is(uint32_t code_point);

/* The bytes of white space at the start of `s`. */
size_t space_prefix(struct str s);

/* `s` without white space at its start or end, as Python's str.strip does it: U+001C..U+001F go
 * too. */
struct str space_strip(struct str s);

#endif

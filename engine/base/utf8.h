/* UTF-8 as RFC 3629 has it: no overlong forms, no surrogates, nothing above U+10FFFF. Stateless,
 * any thread. */
#ifndef PHID_BASE_UTF8_H
#define PHID_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/str.h"

#define UTF8_MAX_BYTES 4

bool utf8_valid(struct str s);

/* The first character of s: its length in bytes (1..4), and the code point in *ret. 0 when s is
 * empty or does not start with a whole valid character; *ret is then unchanged. */
size_t utf8_decode(struct str s, uint32_t *ret);

/* Writes the character to out (UTF8_MAX_BYTES of room) and returns its length; 0 for a surrogate or
 * a number that is no code point. */
size_t utf8_encode(uint32_t code_point, char *out);

/* Length of the longest prefix that does not end within a character that later bytes could
 * complete. Bytes that no continuation can make valid count as complete: they will not get better
 * by waiting. */
size_t utf8_complete_prefix(struct str s);

#endif

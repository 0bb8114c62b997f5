/* The alphabet of byte-level BPE: each of the 256 bytes written as one printable character, so that
 * a vocabulary is a list of words. Published with GPT-2 (`bytes_to_unicode`). Pure functions. */
#ifndef PHID_TEXT_BYTE_LEVEL_H
#define PHID_TEXT_BYTE_LEVEL_H

#include <stddef.h>
#include <stdint.h>

#include "engine/base/str.h"

/* The character a byte is written as. */
uint32_t byte_level_char(unsigned char byte);

/* The byte a character stands for, -1 when it is not in the alphabet. */
int byte_level_byte(uint32_t code_point);

/* Writes the characters of `bytes` to `out`, which has room for 2 * bytes.size + 2; returns the
 * size. */
size_t byte_level_encode(struct str bytes, char *out);

/* Writes the bytes of a token's text to `out`, which has room for text.size. Text with a character
 * outside the alphabet stands for itself and is copied. Returns the size. */
size_t byte_level_decode(struct str text, char *out);

#endif

/* GGUF bytes written as text, so that a file that no writer would write fits on one line of a
 * table.
 *
 * Words, separated by spaces:
 *     H2,3       header of version 3 with 2 tensors and 3 keys
 *     'name'     a string: its length in 64 bits, then the bytes
 *     u8 .. f64, bool, str, arr   the number of a value type, 32 bits
 *     B1 W2 D3 Q4                 an integer of 8, 16, 32, 64 bits (decimal, 0x.., or negative)
 *     F1.5 G1.5                   a float, a double
 *     =text      the bytes as they stand
 *     .ff        one byte in hexadecimal
 *     *100       that many zero bytes
 *     ~100       that many letters 'a'
 *     P          zero bytes up to a multiple of 32
 * Fails the running test on a word it does not know. */
#ifndef PHID_TESTS_GGUF_ASSEMBLE_H
#define PHID_TESTS_GGUF_ASSEMBLE_H

#include "engine/base/buf.h"

/* Appends to out, which the caller has initialised. */
void assemble(struct buf *out, const char *program);

#endif

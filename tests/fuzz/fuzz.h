/* What fuzz targets share. A target is one function that takes any bytes; libFuzzer (clang) drives
 * it, or replay.c, which runs it over the files of a corpus, whole and damaged, with any compiler.
 */
#ifndef PHID_TESTS_FUZZ_H
#define PHID_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Ends the program: to a fuzzer that is a find. */
#define FUZZ_CHECK(condition)                                                                      \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #condition);          \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

/* Keeps the compiler from leaving out what was computed. */
static inline void fuzz_use(uint64_t value)
{
    __asm__ volatile("" : : "r"(value) : "memory");
}

#endif

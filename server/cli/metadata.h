/* A GGUF file's metadata as JSON. */
#ifndef PHID_CLI_METADATA_H
#define PHID_CLI_METADATA_H

#include "engine/base/buf.h"
#include "engine/gguf/gguf.h"

/* Appends the value of one entry. Arrays of more than `array_max` elements become
 * {"type":"string","count":N,"first":[...]}. Numbers JSON cannot say are null. */
enum phid_status metadata_put(const struct gguf_file *file, const struct gguf_entry *entry,
                              size_t array_max, struct buf *out, struct phid_error *err);

#endif

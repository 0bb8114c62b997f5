/* Token ids written by people and programs: "1,2,3", lines, or a JSON array. */
#ifndef PHID_CLI_IDS_H
#define PHID_CLI_IDS_H

#include "engine/base/status.h"
#include "engine/base/str.h"
#include "engine/base/tokens.h"

/* Appends the ids in text to *ret. PHID_ERR_ARGUMENT names the place of what is not an id. */
enum phid_status ids_parse(struct str text, struct tokens *ret, struct phid_error *err);

/* The same from a file of at most 256 MiB; "-" is standard input. */
enum phid_status ids_read_file(const char *path, struct tokens *ret, struct phid_error *err);

/* Each id lies in the vocabulary. */
enum phid_status ids_check(const struct tokens *ids, size_t vocab_size, struct phid_error *err);

#endif

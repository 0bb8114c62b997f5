/* Where models come from: short names, hf:owner/repository/file and URLs, and where they lie once
 * fetched.
 *
 * A struct catalog_source is heap strings, the caller's; catalog_source_fini frees them. Any
 * thread. */
#ifndef PHID_CLI_CATALOG_H
#define PHID_CLI_CATALOG_H

#include "engine/base/status.h"

#define CATALOG_FOLDER "models" /* under the working directory */

struct catalog_source {
    char *url;
    char *file; /* the name it gets, without a folder */
};

/* PHID_ERR_NOT_FOUND when `name` is neither a URL, hf: nor a known short name (the message lists
 * these); PHID_ERR_ARGUMENT when it is malformed. */
enum phid_status catalog_resolve(const char *name, struct catalog_source *ret,
                                 struct phid_error *err);
void catalog_source_fini(struct catalog_source *source);

/* FOLDER/FILE, heap; NULL: out of memory. */
char *catalog_local_path(const struct catalog_source *source, const char *folder);

/* The short names, for listings; NULL past the end. *ret_repository may be NULL. */
const char *catalog_name_at(size_t index, const char **ret_repository);

#endif

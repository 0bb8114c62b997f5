/* Fetching one file over HTTP(S) into a folder: resumed after an interruption, checked, then
 * renamed into place.
 *
 * While it runs the bytes lie in FILE.part, with the server's entity tag in FILE.part.etag so that
 * a changed file is never mixed. One thread; blocks. */
#ifndef PHID_CLI_DOWNLOAD_H
#define PHID_CLI_DOWNLOAD_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/base/status.h"

#define SHA256_TEXT 65 /* 64 hexadecimal digits and a NUL */

struct download {
    const char *url;
    const char *path;   /* where the file goes */
    const char *sha256; /* 64 hexadecimal digits, or NULL: what the server says, if it says so */
    bool progress;      /* a line on standard error */
};

/* Fetches. An interrupted transfer is tried again twice, from where it stopped. Errors:
 * PHID_ERR_NOT_FOUND (404), PHID_ERR_IO (connection, other HTTP status, disk; the part stays),
 * PHID_ERR_FORMAT (wrong hash, or not a GGUF file: the part is removed). ret_sha256 gets the
 * digits. */
enum phid_status download_run(const struct download *download, char ret_sha256[SHA256_TEXT],
                              struct phid_error *err);

/* The SHA-256 of a file, as 64 digits. */
enum phid_status download_hash_file(const char *path, char ret_sha256[SHA256_TEXT],
                                    struct phid_error *err);

#endif

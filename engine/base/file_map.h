/* A regular file, mapped read-only. The caller owns the struct; the bytes live until file_map_close
 * and any thread may read them.
 *
 * The file must not shrink while it is mapped: reading beyond its new end kills the process
 * (SIGBUS). */
#ifndef PHID_BASE_FILE_MAP_H
#define PHID_BASE_FILE_MAP_H

#include <stddef.h>

#include "engine/base/status.h"

struct file_map {
    const unsigned char *data; /* never NULL while open, also for an empty file */
    size_t size;
    void *mapping; /* what to unmap; NULL for an empty file */
};

/* Never blocks: a directory, FIFO, device or socket is refused (PHID_ERR_IO). A missing file is
 * PHID_ERR_NOT_FOUND, anything else the system refuses PHID_ERR_IO; the message names the path. */
enum phid_status file_map_open(const char *path, struct file_map *ret_map, struct phid_error *err);

/* Safe on a zeroed struct and twice. */
void file_map_close(struct file_map *map);

/* The pages that lie wholly inside [offset, offset + size) leave the resident set; reading them
 * again reads the file. */
void file_map_release(const struct file_map *map, size_t offset, size_t size);

/* The path, or the end of a very long one, so that a message about it keeps what it has to say. */
const char *file_map_shown(const char *path);

#endif

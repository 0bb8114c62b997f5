/* A regular file, mapped read-only. The caller owns the struct; the bytes live until file_map_close
 * and any thread may read them.
 *
 * Reading the bytes of a file that has shrunk since kills the process (SIGBUS). So whatever reads a
 * file for long, or late, does it by file_map_read, which notices. */
#ifndef PHID_BASE_FILE_MAP_H
#define PHID_BASE_FILE_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"

struct file_map {
    const unsigned char *data; /* never NULL while open, also for an empty file */
    size_t size;
    void *mapping;                 /* what to unmap; NULL for an empty file */
    int fd;                        /* of the same file, when there is a mapping */
    int64_t changed_s, changed_ns; /* the file's time of change when it was opened */
};

/* Never blocks: a directory, FIFO, device or socket is refused (PHID_ERR_IO). A missing file is
 * PHID_ERR_NOT_FOUND, anything else the system refuses PHID_ERR_IO; the message names the path. */
enum phid_status file_map_open(const char *path, struct file_map *ret_map, struct phid_error *err);

/* Safe on a zeroed struct and twice. */
void file_map_close(struct file_map *map);

/* The pages that lie wholly inside [offset, offset + size) leave the resident set; reading them
 * again reads the file. */
void file_map_release(const struct file_map *map, size_t offset, size_t size);

/* Copies size bytes from offset on to `to`, out of the file and not through the mapping. False when
 * the file was written to, or cut off, since it was opened, or cannot be read. Any thread. */
bool file_map_read(const struct file_map *map, size_t offset, size_t size, void *to);

/* The path, or the end of a very long one, so that a message about it keeps what it has to say. */
const char *file_map_shown(const char *path);

#endif

#include "engine/base/file_map.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_SHOWN_BYTES = 240 };

const char *file_map_shown(const char *path)
{
    size_t size = strlen(path);
    return size > PATH_SHOWN_BYTES ? path + size - PATH_SHOWN_BYTES : path;
}

static const char *kind_name(mode_t mode)
{
    switch (mode & S_IFMT) {
    case S_IFDIR:
        return "a directory";
    case S_IFIFO:
        return "a FIFO";
    case S_IFCHR:
    case S_IFBLK:
        return "a device";
    case S_IFSOCK:
        return "a socket";
    default:
        return "a special file";
    }
}

static enum phid_status fail_errno(struct phid_error *err, const char *path, int error)
{
    /* Opening a socket by its path gives ENXIO; say what it is instead. */
    struct stat info;
    if (error == ENXIO && stat(path, &info) == 0) {
        return phid_fail(err, PHID_ERR_IO, "%s: is %s, not a regular file", file_map_shown(path),
                         kind_name(info.st_mode));
    }
    enum phid_status status =
        error == ENOENT || error == ENOTDIR ? PHID_ERR_NOT_FOUND : PHID_ERR_IO;
    char text[128];
    return phid_fail(err, status, "%s: %s", file_map_shown(path),
                     strerror_r(error, text, sizeof text));
}

enum phid_status file_map_open(const char *path, struct file_map *ret_map, struct phid_error *err)
{
    /* O_NONBLOCK: opening a FIFO without a writer would wait for one. It changes nothing for a
     * regular file. */
    int fd;
    do {
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    } while (fd < 0 && errno == EINTR);
    if (fd < 0) {
        return fail_errno(err, path, errno);
    }

    enum phid_status status = PHID_OK;
    struct file_map map = {.data = (const unsigned char *)""};
    struct stat info;
    if (fstat(fd, &info) != 0) {
        status = fail_errno(err, path, errno);
        goto done;
    }
    if (!S_ISREG(info.st_mode)) {
        status = phid_fail(err, PHID_ERR_IO, "%s: is %s, not a regular file", file_map_shown(path),
                           kind_name(info.st_mode));
        goto done;
    }
    if ((uintmax_t)info.st_size > SIZE_MAX) {
        status =
            phid_fail(err, PHID_ERR_IO, "%s: larger than the address space", file_map_shown(path));
        goto done;
    }
    map.size = (size_t)info.st_size;
    if (map.size > 0) {
        map.mapping = mmap(NULL, map.size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (map.mapping == MAP_FAILED) {
            status = fail_errno(err, path, errno);
            goto done;
        }
        map.data = map.mapping;
        map.fd = fd;
        map.changed_s = info.st_mtim.tv_sec;
        map.changed_ns = info.st_mtim.tv_nsec;
    }
    *ret_map = map;

done:
    if (status != PHID_OK || map.mapping == NULL) {
        close(fd);
    }
    return status;
}

void file_map_close(struct file_map *map)
{
    if (map->mapping != NULL) {
        munmap(map->mapping, map->size);
        close(map->fd);
    }
    *map = (struct file_map){0};
}

bool file_map_read(const struct file_map *map, size_t offset, size_t size, void *to)
{
    struct stat info;
    if (map->mapping == NULL || offset > map->size || size > map->size - offset) {
        return size == 0;
    }
    for (size_t done = 0; done < size;) {
        ssize_t got = pread(map->fd, (char *)to + done, size - done, (off_t)(offset + done));
        if (got <= 0 && !(got < 0 && errno == EINTR)) {
            return false;
        }
        done += got > 0 ? (size_t)got : 0;
    }
    /* After the reading: what was written before it would show. */
    return fstat(map->fd, &info) == 0 && (uintmax_t)info.st_size == map->size &&
           info.st_mtim.tv_sec == map->changed_s && info.st_mtim.tv_nsec == map->changed_ns;
}

void file_map_release(const struct file_map *map, size_t offset, size_t size)
{
    if (map->mapping == NULL || offset > map->size || size > map->size - offset) {
        return;
    }
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t first = (offset + page - 1) / page * page;
    size_t end = (offset + size) / page * page;
    if (first < end) {
        /* Advice only: on failure the pages simply stay. */
        (void)madvise((char *)map->mapping + first, end - first, MADV_DONTNEED);
    }
}

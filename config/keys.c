#include "config/keys.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/base/str.h"

#define KEYS_FILE_MAX ((size_t)1024 * 1024)
#define KEYS_MAX      10000
#define KEY_BYTES_MAX 512

void api_keys_fini(struct api_keys *keys)
{
    for (size_t i = 0; i < keys->count; i++) {
        if (keys->items[i].key != NULL) {
            explicit_bzero(keys->items[i].key, strlen(keys->items[i].key));
        }
        free(keys->items[i].key);
        free(keys->items[i].name);
    }
    free(keys->items);
    *keys = (struct api_keys){0};
}

static struct str trim(struct str s)
{
    while (s.size > 0 && (s.data[0] == ' ' || s.data[0] == '\t')) {
        s = (struct str){s.data + 1, s.size - 1};
    }
    while (s.size > 0 && strchr(" \t\r", s.data[s.size - 1]) != NULL && s.data[s.size - 1] != 0) {
        s.size--;
    }
    return s;
}

static enum phid_status add_line(struct api_keys *keys, struct str line, size_t number,
                                 const char *path, struct phid_error *err)
{
    struct str name = {"", 0}, key = line;
    const char *colon = memchr(line.data, ':', line.size);
    if (colon != NULL) {
        name = trim((struct str){line.data, (size_t)(colon - line.data)});
        key = trim((struct str){colon + 1, line.size - (size_t)(colon + 1 - line.data)});
    }
    if (key.size == 0 || key.size > KEY_BYTES_MAX || name.size > KEY_BYTES_MAX) {
        return phid_fail(err, PHID_ERR_ARGUMENT, "%s:%zu: expected a key of 1 to %d bytes", path,
                         number, KEY_BYTES_MAX);
    }
    for (size_t i = 0; i < line.size; i++) {
        bool of_key = line.data + i >= key.data;
        if (line.data[i] > '~' || line.data[i] < (of_key ? '!' : ' ')) {
            return phid_fail(
                err, PHID_ERR_ARGUMENT,
                "%s:%zu: expected `key` or `name:key` in printable ASCII without spaces in the key",
                path, number);
        }
    }
    for (size_t i = 0; i < keys->count; i++) {
        if (str_equal_c(key, keys->items[i].key)) {
            return phid_fail(err, PHID_ERR_ARGUMENT, "%s:%zu: this key is in the file already",
                             path, number);
        }
    }
    if (keys->count == KEYS_MAX) {
        return phid_fail(err, PHID_ERR_ARGUMENT, "%s:%zu: more than %d keys", path, number,
                         KEYS_MAX);
    }
    struct api_key *grown = realloc(keys->items, (keys->count + 1) * sizeof(*grown));
    if (grown == NULL) {
        return phid_fail(err, PHID_ERR_MEMORY, "%s: out of memory", path);
    }
    keys->items = grown;
    grown[keys->count] = (struct api_key){.name = str_dup(name), .key = str_dup(key)};
    keys->count++;
    if (grown[keys->count - 1].name == NULL || grown[keys->count - 1].key == NULL) {
        return phid_fail(err, PHID_ERR_MEMORY, "%s: out of memory", path);
    }
    return PHID_OK;
}

static enum phid_status parse_keys(struct str text, const char *path, struct api_keys *keys,
                                   struct phid_error *err)
{
    size_t number = 0;
    while (text.size > 0) {
        const char *end = memchr(text.data, '\n', text.size);
        size_t size = end != NULL ? (size_t)(end - text.data) : text.size;
        struct str line = trim((struct str){text.data, size});
        number++;
        if (line.size > 0 && line.data[0] != '#') {
            enum phid_status status = add_line(keys, line, number, path, err);
            if (status != PHID_OK) {
                return status;
            }
        }
        size_t used = size + (end != NULL ? 1 : 0);
        text = (struct str){text.data + used, text.size - used};
    }
    return keys->count > 0 ? PHID_OK
                           : phid_fail(err, PHID_ERR_ARGUMENT, "%s: no key in the file", path);
}

static enum phid_status open_secret(const char *path, int *ret_fd, size_t *ret_size,
                                    struct phid_error *err)
{
    struct stat info;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        return phid_fail(err, errno == ENOENT ? PHID_ERR_NOT_FOUND : PHID_ERR_IO,
                         "%s: cannot open: %s", path, strerror(errno));
    }
    enum phid_status status = PHID_OK;
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
        status = phid_fail(err, PHID_ERR_IO, "%s: not a regular file", path);
    } else if ((info.st_mode & S_IRWXO) != 0) {
        status =
            phid_fail(err, PHID_ERR_ARGUMENT, "%s: other users may read it; `chmod 600` it", path);
    } else if (info.st_size > (off_t)KEYS_FILE_MAX) {
        status =
            phid_fail(err, PHID_ERR_ARGUMENT, "%s: larger than %zu bytes", path, KEYS_FILE_MAX);
    }
    if (status != PHID_OK) {
        close(fd);
        return status;
    }
    *ret_fd = fd;
    *ret_size = (size_t)info.st_size;
    return PHID_OK;
}

enum phid_status api_keys_check_private(const char *path, struct phid_error *err)
{
    int fd = -1;
    size_t size = 0;
    enum phid_status status = open_secret(path, &fd, &size, err);
    if (status == PHID_OK) {
        close(fd);
    }
    return status;
}

enum phid_status api_keys_load(const char *path, struct api_keys *ret, struct phid_error *err)
{
    int fd = -1;
    size_t size = 0, used = 0;
    enum phid_status status = open_secret(path, &fd, &size, err);
    if (status != PHID_OK) {
        return status;
    }
    struct api_keys keys = {0};
    char *text = malloc(size + 1);
    if (text == NULL) {
        status = phid_fail(err, PHID_ERR_MEMORY, "%s: out of memory", path);
        goto done;
    }
    while (used < size) {
        ssize_t got = read(fd, text + used, size - used);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            status = phid_fail(err, PHID_ERR_IO, "%s: cannot read: %s", path, strerror(errno));
            goto done;
        }
        if (got == 0) {
            break;
        }
        used += (size_t)got;
    }
    status = parse_keys((struct str){text, used}, path, &keys, err);
done:
    if (text != NULL) {
        explicit_bzero(text, used);
    }
    free(text);
    close(fd);
    if (status != PHID_OK) {
        api_keys_fini(&keys);
        return status;
    }
    *ret = keys;
    return PHID_OK;
}

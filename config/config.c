#include "config/config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config/layers.h"
#include "config/load.h"
#include "config/options.h"
#include "config/scalar.h"

static void list_fini(struct config_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        free(list->items[i]);
    }
    free(list->items);
    *list = (struct config_list){0};
}

void config_fini(struct config *config)
{
    const struct option *option;
    for (size_t i = 0; (option = option_at(i)) != NULL; i++) {
        void *value = option_value(option, config);
        if (option->type == OPTION_STRING) {
            free(*(char **)value);
        } else if (option->type == OPTION_LIST) {
            list_fini(value);
        } else if (option->type == OPTION_LAYERS) {
            layers_fini(value);
        }
    }
    for (size_t i = 0; i < config->server.api_keys.count; i++) {
        explicit_bzero(config->server.api_keys.items[i], strlen(config->server.api_keys.items[i]));
    }
    list_fini(&config->server.api_keys);
    *config = (struct config){0};
}

enum phid_status config_init(struct config *config, struct phid_error *err)
{
    const struct option *option;
    *config = (struct config){0};
    for (size_t i = 0; (option = option_at(i)) != NULL; i++) {
        if (option->default_text == NULL) {
            continue;
        }
        struct scalar text = {.text = str_of(option->default_text)};
        enum phid_status status = scalar_store(option, text, config, err);
        if (status != PHID_OK) {
            config_fini(config);
            return phid_prefix(err, status, "default of %s", option->key);
        }
    }
    return PHID_OK;
}

enum phid_status config_load_memory(struct config *config, const char *name, const char *text,
                                    size_t size, struct phid_error *err)
{
    if (size > LOAD_FILE_MAX) {
        return phid_fail(err, PHID_ERR_FORMAT, "%s: %zu bytes, but a configuration has at most %zu",
                         name, size, LOAD_FILE_MAX);
    }
    if (size == 0) {
        return phid_fail(err, PHID_ERR_FORMAT, "%s: the file is empty", name);
    }
    return load_yaml(config, name, true, (struct str){NULL, 0}, (struct str){text, size}, err);
}

/* Reads up to `max` + 1 bytes, so that the caller sees a file that is too long. */
static enum phid_status read_file(int fd, const char *path, char *text, size_t max,
                                  size_t *ret_size, struct phid_error *err)
{
    size_t size = 0;
    while (size <= max) {
        ssize_t got = read(fd, text + size, max + 1 - size);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return phid_fail(err, PHID_ERR_IO, "%s: cannot read: %s", path, strerror(errno));
        }
        if (got == 0) {
            break;
        }
        size += (size_t)got;
    }
    *ret_size = size;
    return PHID_OK;
}

enum phid_status config_load_file(struct config *config, const char *path, struct phid_error *err)
{
    enum phid_status status;
    struct stat info;
    size_t size = 0;
    char *text = NULL;
    /* O_NONBLOCK: opening a FIFO must not wait for a writer. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        return phid_fail(err, errno == ENOENT ? PHID_ERR_NOT_FOUND : PHID_ERR_IO,
                         "%s: cannot open: %s", path, strerror(errno));
    }
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
        status = phid_fail(err, PHID_ERR_IO, "%s: not a regular file", path);
        goto done;
    }
    if (info.st_size > (off_t)LOAD_FILE_MAX) {
        status =
            phid_fail(err, PHID_ERR_FORMAT, "%s: %lld bytes, but a configuration has at most %zu",
                      path, (long long)info.st_size, LOAD_FILE_MAX);
        goto done;
    }
    text = malloc(LOAD_FILE_MAX + 1);
    if (text == NULL) {
        status = phid_fail(err, PHID_ERR_MEMORY, "%s: out of memory", path);
        goto done;
    }
    status = read_file(fd, path, text, LOAD_FILE_MAX, &size, err);
    if (status == PHID_OK) {
        status = config_load_memory(config, path, text, size, err);
    }
done:
    free(text);
    close(fd);
    return status;
}

enum phid_status config_set(struct config *config, const char *assignment, struct phid_error *err)
{
    const char *equals = strchr(assignment, '=');
    if (equals == NULL || equals == assignment) {
        return phid_fail(err, PHID_ERR_ARGUMENT, "--set: expected key.path=value, found %.60s",
                         assignment);
    }
    struct str key = {assignment, (size_t)(equals - assignment)};
    if (option_find(key) == NULL && !option_is_group(key)) {
        struct buf hint;
        buf_init(&hint, 1024);
        option_hint(key, &hint);
        int shown = key.size < 80 ? (int)key.size : 80;
        phid_fail(err, PHID_ERR_ARGUMENT, "--set: unknown key %.*s%s", shown, key.data,
                  hint.size > 0 ? hint.data : "");
        buf_fini(&hint);
        return PHID_ERR_ARGUMENT;
    }
    struct str value = str_of(equals + 1);
    if (value.size > LOAD_FILE_MAX) {
        return phid_fail(err, PHID_ERR_ARGUMENT, "--set: %.*s: the value is too long",
                         (int)key.size, key.data);
    }
    if (value.size == 0) {
        /* An empty document says nothing; the user wrote an empty value. */
        return phid_fail(err, PHID_ERR_ARGUMENT, "--set: %.*s: expected a value after `=`",
                         (int)key.size, key.data);
    }
    return load_yaml(config, "--set", false, key, value, err);
}

enum phid_status config_set_text(struct config *config, const char *key, const char *flag,
                                 const char *text, struct phid_error *err)
{
    const struct option *option = option_find(str_of(key));
    if (option == NULL) {
        return phid_fail(err, PHID_ERR_INTERNAL, "%s: no option %s", flag, key);
    }
    struct scalar scalar = {.text = str_of(text), .literal = true};
    enum phid_status status = scalar_store(option, scalar, config, err);
    return status == PHID_OK ? PHID_OK : phid_prefix(err, status, "%s", flag);
}

enum phid_status config_add_api_key(struct config *config, const char *key, struct phid_error *err)
{
    struct config_list *list = &config->server.api_keys;
    for (const char *c = key; *c != 0; c++) {
        if (*c <= ' ' || *c > '~') {
            return phid_fail(err, PHID_ERR_ARGUMENT,
                             "--api-key: expected printable ASCII without spaces");
        }
    }
    if (*key == 0) {
        return phid_fail(err, PHID_ERR_ARGUMENT, "--api-key: expected a key, found nothing");
    }
    char **grown = realloc(list->items, (list->count + 1) * sizeof(*grown));
    if (grown == NULL) {
        return phid_fail(err, PHID_ERR_MEMORY, "out of memory");
    }
    list->items = grown;
    grown[list->count] = str_dup(str_of(key));
    if (grown[list->count] == NULL) {
        return phid_fail(err, PHID_ERR_MEMORY, "out of memory");
    }
    list->count++;
    return PHID_OK;
}

/* ----------------------------------------------------------------- checks */

static enum phid_status check_server(const struct config *config, struct phid_error *err)
{
    if ((config->server.tls_cert == NULL) != (config->server.tls_key == NULL)) {
        return phid_fail_at(err, PHID_ERR_ARGUMENT, "server.tls",
                            "server.tls: cert and key are needed together, only one is set");
    }
    for (size_t i = 0; i < config->server.cors_origins.count; i++) {
        const char *origin = config->server.cors_origins.items[i];
        const char *scheme = strstr(origin, "://");
        if (strcmp(origin, "*") != 0 &&
            (scheme == NULL || strpbrk(scheme + 3, "/ ") != NULL || scheme[3] == 0)) {
            return phid_fail_at(
                err, PHID_ERR_ARGUMENT, "server.cors_origins",
                "server.cors_origins[%zu]: expected \"*\" or an origin such as https://example.org "
                "(no path), found %.80s",
                i, origin);
        }
    }
    return PHID_OK;
}

static enum phid_status check_placement(const struct config *config, struct phid_error *err)
{
    if (config->placement.gpu_layers > 0) {
        return phid_fail_at(
            err, PHID_ERR_UNSUPPORTED, "placement.gpu_layers",
            "placement.gpu_layers: this build has no GPU backend, so only auto or 0 will do");
    }
    if (config->placement.vram_limit_bytes > 0) {
        return phid_fail_at(
            err, PHID_ERR_UNSUPPORTED, "placement.vram_limit",
            "placement.vram_limit: this build has no GPU backend, so only null will do");
    }
    for (size_t i = 0; i < config->placement.layers.count; i++) {
        if (strcmp(config->placement.layers.items[i].device, "cpu") != 0) {
            return phid_fail_at(
                err, PHID_ERR_UNSUPPORTED, "placement.layers",
                "placement.layers[%zu]: this build has no GPU backend, so the only device is cpu",
                i);
        }
    }
    return PHID_OK;
}

enum phid_status config_check(const struct config *config, struct phid_error *err)
{
    enum phid_status status = check_server(config, err);
    return status != PHID_OK ? status : check_placement(config, err);
}

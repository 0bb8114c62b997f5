#include "server/cli/ids.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "config/scalar.h"
#include "engine/base/buf.h"

#define IDS_FILE_MAX ((size_t)64 << 20)

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static struct str skip_spaces(struct str s)
{
    while (s.size > 0 && is_space(s.data[0])) {
        s = (struct str){s.data + 1, s.size - 1};
    }
    return s;
}

enum phid_status ids_parse(struct str text, struct tokens *ret, struct phid_error *err)
{
    const char *start = text.data;
    struct str rest = skip_spaces(text);
    bool bracket = rest.size > 0 && rest.data[0] == '[', wants_id = false;
    if (bracket) {
        rest = skip_spaces((struct str){rest.data + 1, rest.size - 1});
    }
    while (rest.size > 0 && rest.data[0] != ']') {
        size_t size = 0;
        while (size < rest.size && !is_space(rest.data[size]) && rest.data[size] != ',' &&
               rest.data[size] != ']') {
            size++;
        }
        int64_t id;
        if (!scalar_parse_int((struct str){rest.data, size}, &id) || id < 0 || id > INT32_MAX) {
            return phid_fail(err, PHID_ERR_ARGUMENT,
                             "expected a token id at byte %zu, found \"%.*s\"",
                             (size_t)(rest.data - start), (int)(size < 40 ? size : 40), rest.data);
        }
        if (!tokens_push(ret, (int32_t)id)) {
            return phid_fail(err, PHID_ERR_MEMORY, "out of memory");
        }
        rest = skip_spaces((struct str){rest.data + size, rest.size - size});
        wants_id = rest.size > 0 && rest.data[0] == ',';
        if (wants_id) {
            rest = skip_spaces((struct str){rest.data + 1, rest.size - 1});
        }
    }
    struct str end = rest;
    if (bracket && rest.size > 0) {
        end = skip_spaces((struct str){rest.data + 1, rest.size - 1});
    }
    if (wants_id || end.size > 0 || (bracket && rest.size == 0)) {
        return phid_fail(err, PHID_ERR_ARGUMENT, "expected %s at byte %zu",
                         wants_id                    ? "a token id"
                         : bracket && rest.size == 0 ? "`]`"
                                                     : "the end",
                         (size_t)(end.data - start));
    }
    return PHID_OK;
}

enum phid_status ids_read_file(const char *path, struct tokens *ret, struct phid_error *err)
{
    bool standard = strcmp(path, "-") == 0;
    FILE *file = standard ? stdin : fopen(path, "rbe");
    if (file == NULL) {
        return phid_fail(err, errno == ENOENT ? PHID_ERR_NOT_FOUND : PHID_ERR_IO,
                         "%.300s: cannot open: %s", path, strerror(errno));
    }
    struct buf text;
    char piece[65536];
    size_t got;
    buf_init(&text, IDS_FILE_MAX);
    while (!text.failed && (got = fread(piece, 1, sizeof(piece), file)) > 0) {
        buf_append(&text, piece, got);
    }
    enum phid_status status = PHID_OK;
    if (ferror(file)) {
        status = phid_fail(err, PHID_ERR_IO, "%.300s: cannot read: %s", path, strerror(errno));
    } else if (text.failed) {
        status =
            phid_fail(err, PHID_ERR_MEMORY, "%.300s: larger than %zu bytes", path, IDS_FILE_MAX);
    } else if (text.size > 0) {
        status = ids_parse(buf_view(&text), ret, err);
        if (status != PHID_OK) {
            phid_prefix(err, status, "%.300s", path);
        }
    }
    buf_fini(&text);
    if (!standard) {
        fclose(file);
    }
    return status;
}

enum phid_status ids_check(const struct tokens *ids, size_t vocab_size, struct phid_error *err)
{
    for (size_t i = 0; i < ids->count; i++) {
        if ((size_t)ids->ids[i] >= vocab_size) {
            return phid_fail(err, PHID_ERR_ARGUMENT,
                             "token %zu is %d, but the vocabulary has %zu tokens", i,
                             (int)ids->ids[i], vocab_size);
        }
    }
    return PHID_OK;
}

#include "server/cli/catalog.h"

#include <stdlib.h>
#include <string.h>

#include "engine/base/buf.h"

#define HUB "https://huggingface.co/"

static const struct entry {
    const char *name;
    const char *repository;
    const char *file;
} entries[] = {
    {"phi-3.5-mini", "bartowski/Phi-3.5-mini-instruct-GGUF", "Phi-3.5-mini-instruct-Q4_K_M.gguf"},
    {"phi-3-mini", "microsoft/Phi-3-mini-4k-instruct-gguf", "Phi-3-mini-4k-instruct-q4.gguf"},
    {"phi-4", "bartowski/phi-4-GGUF", "phi-4-Q4_K_M.gguf"},
    {"smollm2-135m", "bartowski/SmolLM2-135M-Instruct-GGUF", "SmolLM2-135M-Instruct-Q4_K_M.gguf"},
};

#define ENTRY_COUNT (sizeof(entries) / sizeof(entries[0]))

const char *catalog_name_at(size_t index, const char **ret_repository)
{
    if (index >= ENTRY_COUNT) {
        return NULL;
    }
    if (ret_repository != NULL) {
        *ret_repository = entries[index].repository;
    }
    return entries[index].name;
}

void catalog_source_fini(struct catalog_source *source)
{
    free(source->url);
    free(source->file);
    *source = (struct catalog_source){0};
}

/* A file name of ours: letters, digits and `._-`, so that it stays in its folder and on its line.
 */
static bool is_file_name(struct str s)
{
    if (s.size == 0 || s.size > 200 || s.data[0] == '.') {
        return false;
    }
    for (size_t i = 0; i < s.size; i++) {
        char c = s.data[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!letter && c != '.' && c != '_' && c != '-' && c != '+') {
            return false;
        }
    }
    return true;
}

/* Takes the URL in `url` over. */
static enum phid_status make(struct buf *url, struct str file, struct catalog_source *ret,
                             struct phid_error *err)
{
    struct catalog_source source = {0};
    size_t size;
    enum phid_status status = buf_take(url, &source.url, &size, err);
    if (status == PHID_OK) {
        source.file = str_dup(file);
        status = source.file != NULL ? PHID_OK : phid_fail(err, PHID_ERR_MEMORY, "out of memory");
    }
    if (status != PHID_OK) {
        catalog_source_fini(&source);
        return status;
    }
    *ret = source;
    return PHID_OK;
}

static struct str after_last_slash(struct str s)
{
    for (size_t i = s.size; i > 0; i--) {
        if (s.data[i - 1] == '/') {
            return (struct str){s.data + i, s.size - i};
        }
    }
    return s;
}

static enum phid_status resolve_url(const char *text, struct buf *url, struct catalog_source *ret,
                                    struct phid_error *err)
{
    struct str path = {text, strcspn(text, "?#")};
    struct str file = after_last_slash(path);
    if (!is_file_name(file) || strpbrk(text, " \t\r\n") != NULL) {
        return phid_fail(err, PHID_ERR_ARGUMENT, "%.200s: expected a URL that ends in a file name",
                         text);
    }
    buf_append_c(url, text);
    return make(url, file, ret, err);
}

/* hf:owner/repository/file, the file may lie in folders. */
static enum phid_status resolve_hub(const char *text, struct buf *url, struct catalog_source *ret,
                                    struct phid_error *err)
{
    const char *rest = text + 3;
    const char *slash = strchr(rest, '/');
    const char *second = slash != NULL ? strchr(slash + 1, '/') : NULL;
    bool good = second != NULL && is_file_name((struct str){rest, (size_t)(slash - rest)}) &&
                is_file_name((struct str){slash + 1, (size_t)(second - slash - 1)});
    for (const char *part = second; good && part != NULL;) {
        size_t size = strcspn(part + 1, "/");
        good = is_file_name((struct str){part + 1, size});
        part = part[1 + size] == '/' ? part + 1 + size : NULL;
    }
    if (!good) {
        return phid_fail(err, PHID_ERR_ARGUMENT, "%.200s: expected hf:owner/repository/file.gguf",
                         text);
    }
    buf_append_c(url, HUB);
    buf_append(url, rest, (size_t)(second - rest));
    buf_append_c(url, "/resolve/main");
    buf_append_c(url, second);
    return make(url, after_last_slash(str_of(second)), ret, err);
}

enum phid_status catalog_resolve(const char *name, struct catalog_source *ret,
                                 struct phid_error *err)
{
    struct buf url;
    buf_init(&url, 4096);
    enum phid_status status;
    if (strncmp(name, "http://", 7) == 0 || strncmp(name, "https://", 8) == 0) {
        status = resolve_url(name, &url, ret, err);
        buf_fini(&url);
        return status;
    }
    if (strncmp(name, "hf:", 3) == 0) {
        status = resolve_hub(name, &url, ret, err);
        buf_fini(&url);
        return status;
    }
    for (size_t i = 0; i < ENTRY_COUNT; i++) {
        if (strcmp(name, entries[i].name) == 0) {
            buf_printf(&url, HUB "%s/resolve/main/%s", entries[i].repository, entries[i].file);
            status = make(&url, str_of(entries[i].file), ret, err);
            buf_fini(&url);
            return status;
        }
    }
    for (size_t i = 0; i < ENTRY_COUNT; i++) {
        buf_append_c(&url, i == 0 ? "" : ", ");
        buf_append_c(&url, entries[i].name);
    }
    status = phid_fail(
        err, PHID_ERR_NOT_FOUND,
        "%.200s: neither a URL nor hf:owner/repository/file.gguf nor a name known here (%s)", name,
        url.data);
    buf_fini(&url);
    return status;
}

char *catalog_local_path(const struct catalog_source *source, const char *folder)
{
    struct buf path;
    char *text = NULL;
    size_t size;
    buf_init(&path, 8192);
    buf_printf(&path, "%s/%s", folder, source->file);
    if (buf_take(&path, &text, &size, NULL) != PHID_OK) {
        text = NULL;
    }
    buf_fini(&path);
    return text;
}

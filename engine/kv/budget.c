#include "engine/kv/budget.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/kv/page_table.h"

#define RESERVE_BYTES (UINT64_C(1) << 30)

static enum phid_status too_small(const struct kv_budget *b, uint64_t have, const char *what,
                                  struct phid_error *err)
{
    uint64_t need = (uint64_t)page_table_pages(b->context) * b->page_bytes;
    return phid_fail_at(err, PHID_ERR_MEMORY, "kv_memory_bytes",
                        "one context of %zu tokens takes %llu bytes of KV memory, but %s %llu; "
                        "lower the context or "
                        "give it more",
                        b->context, (unsigned long long)need, what, (unsigned long long)have);
}

static size_t whole_contexts(size_t context_pages, size_t count)
{
    count = count > 0 ? count : 1;
    return context_pages > INT32_MAX / count ? INT32_MAX : context_pages * count;
}

enum phid_status kv_budget_pages(const struct kv_budget *b, size_t *ret_pages,
                                 struct phid_error *err)
{
    size_t context_pages = page_table_pages(b->context);
    if (b->page_bytes == 0 || context_pages == 0) {
        return phid_fail(err, PHID_ERR_INTERNAL, "a KV page of 0 bytes or a context of 0 tokens");
    }
    if (b->memory_bytes > 0) {
        uint64_t pages = b->memory_bytes / b->page_bytes;
        if (pages < context_pages) {
            return too_small(b, b->memory_bytes, "kv_memory_bytes is", err);
        }
        *ret_pages = pages < INT32_MAX ? (size_t)pages : INT32_MAX;
        return PHID_OK;
    }
    if (b->free_bytes == 0) {
        *ret_pages = whole_contexts(context_pages, b->max_running / 4);
        return PHID_OK;
    }
    uint64_t reserve = b->free_bytes / 10 > RESERVE_BYTES ? b->free_bytes / 10 : RESERVE_BYTES;
    if (b->free_bytes / b->page_bytes < context_pages) {
        return too_small(b, b->free_bytes, "free are only", err);
    }
    uint64_t pages = b->free_bytes > reserve ? (b->free_bytes - reserve) / b->page_bytes : 0;
    size_t most = whole_contexts(context_pages, b->max_running * 2);
    pages = pages < most ? pages : most;
    *ret_pages = pages > context_pages ? (size_t)pages : context_pages;
    return PHID_OK;
}

/* The decimal number behind `key` in a small text file, times `unit`. key "" is the file's start.
 */
static bool read_number(const char *path, const char *key, uint64_t unit, uint64_t *ret)
{
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return false;
    }
    bool found = false;
    char line[256];
    size_t key_size = strlen(key);
    while (!found && fgets(line, sizeof(line), file) != NULL) {
        if (strncmp(line, key, key_size) != 0) {
            continue;
        }
        char *end = NULL;
        unsigned long long value = strtoull(line + key_size, &end, 10);
        if (end == line + key_size || value > UINT64_MAX / unit) {
            break; /* "max": no limit */
        }
        *ret = value * unit;
        found = true;
    }
    fclose(file);
    return found;
}

uint64_t kv_budget_free_bytes(void)
{
    uint64_t available = 0;
    if (!read_number("/proc/meminfo", "MemAvailable:", 1024, &available)) {
        return 0;
    }
    uint64_t limit = 0, used = 0;
    if (read_number("/sys/fs/cgroup/memory.max", "", 1, &limit) &&
        read_number("/sys/fs/cgroup/memory.current", "", 1, &used)) {
        /* The file cache counts as used but is given up under pressure. */
        uint64_t cache = 0;
        read_number("/sys/fs/cgroup/memory.stat", "inactive_file ", 1, &cache);
        used = used > cache ? used - cache : 0;
        uint64_t left = limit > used ? limit - used : 0;
        available = left < available ? left : available;
    }
    return available;
}

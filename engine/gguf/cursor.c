#include "engine/gguf/cursor.h"

#include "engine/gguf/little_endian.h"

const unsigned char *cursor_take(struct cursor *c, uint64_t size)
{
    if (c->failed) {
        return NULL;
    }
    if (size > cursor_left(c)) {
        c->failed = true;
        c->failed_at = c->at;
        c->failed_need = size;
        return NULL;
    }
    const unsigned char *bytes = c->bytes + c->at;
    c->at += size;
    return bytes;
}

uint32_t cursor_u32(struct cursor *c)
{
    const unsigned char *bytes = cursor_take(c, sizeof(uint32_t));
    return bytes != NULL ? little_u32(bytes) : 0;
}

uint64_t cursor_u64(struct cursor *c)
{
    const unsigned char *bytes = cursor_take(c, sizeof(uint64_t));
    return bytes != NULL ? little_u64(bytes) : 0;
}

struct str cursor_string(struct cursor *c, uint64_t max_size)
{
    uint64_t size = cursor_u64(c);
    if (!c->failed && size > max_size) {
        c->failed = true;
        c->failed_at = c->at;
        c->failed_need = size;
    }
    const unsigned char *bytes = cursor_take(c, size);
    if (bytes == NULL) {
        return STR("");
    }
    return (struct str){.data = (const char *)bytes, .size = (size_t)size};
}
